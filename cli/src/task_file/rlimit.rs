//! Limits on resources as people write them: `nofile: 256`, `as: 2GiB`, `core: {soft: 0, hard: unlimited}`.

use serde::Deserialize;
use taskyard_proto::v1::ResourceLimit;

use crate::quantity::parse_size;

/// One limit for both, or each for itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a limit such as 256, 2GiB, unlimited or {soft: 64, hard: 256}"
)]
pub enum Rlimit {
    Both(Amount),
    Each(Pair),
}

/// Soft and hard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    soft: Option<Amount>,
    hard: Option<Amount>,
}

/// A number, a size, or `unlimited`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Written")]
pub struct Amount(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Amount {
    type Error = String;

    fn try_from(written: Written) -> Result<Amount, String> {
        match written {
            Written::Number(number) => Ok(Amount(number)),
            Written::Text(text) => parse_amount(&text).map(Amount),
        }
    }
}

impl Rlimit {
    /// For the server.
    pub fn to_wire(&self) -> ResourceLimit {
        let (soft, hard) = match self {
            Rlimit::Both(amount) => (Some(*amount), Some(*amount)),
            Rlimit::Each(pair) => (pair.soft, pair.hard),
        };
        ResourceLimit {
            soft: soft.map(|amount| amount.0),
            hard: hard.map(|amount| amount.0),
        }
    }
}

/// Reads `NAME=LIMIT` or `NAME=SOFT:HARD`, as on the command line.
pub fn parse_rlimit(text: &str) -> Result<(String, ResourceLimit), String> {
    let (name, limit) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("`{text}` is not of the form NAME=LIMIT or NAME=SOFT:HARD"))?;
    let (soft, hard) = limit.split_once(':').unwrap_or((limit, limit));
    let limit = ResourceLimit {
        soft: Some(parse_amount(soft)?),
        hard: Some(parse_amount(hard)?),
    };
    Ok((name.to_owned(), limit))
}

/// Soft and hard as they are written on the command line.
pub fn rlimit(limit: &ResourceLimit) -> String {
    let word = |limit: Option<u64>| match limit {
        None => String::new(),
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(limit) => limit.to_string(),
    };
    if limit.soft == limit.hard || limit.hard.is_none() {
        word(limit.soft)
    } else {
        format!("{}:{}", word(limit.soft), word(limit.hard))
    }
}

fn parse_amount(text: &str) -> Result<u64, String> {
    match text {
        "unlimited" => Ok(u64::MAX),
        text => parse_size(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["nofile=256", "core=0:unlimited", "as=unlimited"] {
            let (name, limit) = parse_rlimit(text).expect("it is sound");
            assert_eq!(format!("{name}={}", rlimit(&limit)), text);
        }
        for text in ["nofile", "=3", "as=much", "as=1:"] {
            assert!(parse_rlimit(text).is_err(), "{text}");
        }
    }
}
