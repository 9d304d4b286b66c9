//! JSON that a person or a script gives on the command line.

use serde::de::IgnoredAny;

use crate::failure::Failure;
use crate::file_transfer::read_whole;

/// The value as it came: the argument itself, standard input for `-`, a file for `@FILE`. `what` names it in complaints.
pub async fn read_json(what: &str, argument: &str) -> Result<String, Failure> {
    let text = match argument.strip_prefix('@') {
        Some(file) => read_text(what, file).await?,
        None if argument == "-" => read_text(what, "-").await?,
        None => argument.to_owned(),
    };
    check_json(what, &text)?;
    Ok(text)
}

/// Refuses what is not one JSON value.
pub fn check_json(what: &str, text: &str) -> Result<(), Failure> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| {
            Failure::Usage(format!(
                "{what} is not JSON: {error}; a text needs quotes of its own, such as '\"text\"'"
            ))
        })
}

async fn read_text(what: &str, file: &str) -> Result<String, Failure> {
    String::from_utf8(read_whole(file).await?)
        .map_err(|_| Failure::Usage(format!("{what} is not valid UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_before_it_is_sent() {
        assert!(check_json("x", "{\"a\": [1.0]}").is_ok());
        assert!(check_json("x", "word").is_err());
        assert!(check_json("x", "1 2").is_err());
        assert!(check_json("x", "").is_err());
    }
}
