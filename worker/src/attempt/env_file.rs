//! Files with variables, one `KEY=VALUE` in each line.

/// Reads the variables of a file, in their order. Blank lines and lines that begin with `#` are passed over; a value is taken
/// as it is, but for one pair of quotes around it.
///
/// # Errors
/// What is wrong and in which line; never what the line says, which may be a secret.
pub fn read_variables(content: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not valid UTF-8".to_owned())?;
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {number} {what}");
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("is not of the form KEY=VALUE"))?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong("has no name of a variable before its `=`"));
        }
        if name.starts_with("TASKYARD_") {
            return Err(wrong(
                "names a variable of the system; those begin with TASKYARD_",
            ));
        }
        if line.contains('\0') {
            return Err(wrong("holds a NUL byte"));
        }
        variables.push((name.to_owned(), unquoted(value).to_owned()));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are() {
        let content =
            b"# a comment\n\nA=1\r\n  B = two words \nC=\"quoted # text\"\nD='x=y'\nE=\nF=\"\nA=2";
        let variables = read_variables(content).expect("it is sound");
        let expected = [
            ("A", "1"),
            ("B", " two words "),
            ("C", "quoted # text"),
            ("D", "x=y"),
            ("E", ""),
            ("F", "\""),
            ("A", "2"),
        ];
        let found: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_alone() {
        for (content, line) in [
            ("A=1\nsecret", "line 2 "),
            ("=secret", "line 1 "),
            ("a b=secret", "line 1 "),
            ("TASKYARD_TASK_ID=secret", "line 1 "),
            ("\nA=secret\0", "line 2 "),
        ] {
            let problem = read_variables(content.as_bytes()).expect_err("it is wrong");
            assert!(problem.starts_with(line), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        assert!(read_variables(b"A=\xff").is_err());
    }
}
