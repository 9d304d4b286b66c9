//! How a cron expression is to be written. The parser behind it knows more than what is documented, and takes what is
//! certainly a mistake; whoever means something else by such a word should hear of it at the creation.

/// Names of the values of a field that has some.
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// Names of the five fields, in their order, each with the names of its values.
const FIELDS: [(&str, &[&str]); 5] = [
    ("minute", &[]),
    ("hour", &[]),
    ("day of month", &[]),
    ("month", &MONTHS),
    ("day of week", &WEEKDAYS),
];

/// Says which field is not written as documented; whether its numbers make sense is left to the parser.
///
/// # Errors
/// A sentence about the first one.
pub fn check(expression: &str) -> Result<(), String> {
    for (field, (name, words)) in expression.split_whitespace().zip(FIELDS) {
        if let Some(bad) = field.split(',').find(|item| !is_item(item, words)) {
            return Err(format!(
                "{bad:?} in the {name} is none of `*`, `5`, `1-5`, `*/15` and `0-30/10`"
            ));
        }
    }
    Ok(())
}

fn is_item(item: &str, words: &[&str]) -> bool {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let is_range = match range.split_once('-') {
        Some((from, to)) => is_value(from, words) && is_value(to, words),
        // a step goes with what has several values
        None => range == "*" || (step.is_none() && is_value(range, words)),
    };
    is_range && step.is_none_or(is_number)
}

fn is_value(value: &str, words: &[&str]) -> bool {
    is_number(value) || words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_documented_passes_and_nothing_else() {
        for good in [
            "* * * * *",
            "*/15 8-18 * * MON-FRI",
            "0,30 0-12/3 1,15 jan,JUL-sep 0,7",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, item) in [
            ("1,2,3,,4 * * * *", "\"\" in the minute"),
            ("0 0 L * *", "\"L\" in the day of month"),
            ("0 0 15W * *", "\"15W\""),
            ("0 0 ? * *", "\"?\""),
            ("0 0 * * 5#2", "\"5#2\" in the day of week"),
            ("0 0 * * FRIL", "\"FRIL\""),
            ("0 0 * MON *", "\"MON\" in the month"),
            ("5/15 * * * *", "\"5/15\""),
            ("*/ * * * *", "\"*/\""),
            ("1- * * * *", "\"1-\""),
            ("+1 * * * *", "\"+1\""),
        ] {
            let problem = check(bad).err().unwrap_or_default();
            assert!(problem.contains(item), "{bad}: {problem}");
        }
    }
}
