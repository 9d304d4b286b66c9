//! Whose things a credential reaches: namespaces, sessions in them, pools of workers.

use std::fmt;

/// Most patterns in one list, and the longest one, in bytes.
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN_BYTES: usize = 256;

/// Names, each whole or, with a `*` at its end, a beginning. Without any, as of [`Patterns::all`], everything gets
/// through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

/// What a credential reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Namespaces.
    pub namespaces: Patterns,
    /// Sessions in them.
    pub sessions: Patterns,
    /// Pools that a worker may attach to.
    pub pools: Patterns,
}

/// A list of patterns that makes no sense.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadPattern {
    /// None at all, which could be taken for nothing as well as for everything.
    #[error("an empty list reaches nothing; leave it out, or say \"*\", where everything is meant")]
    Empty,
    /// Too many.
    #[error("at most {MAX_PATTERNS} names are allowed")]
    TooMany,
    /// Empty, too long, or with a `*` that is not the end.
    #[error(
        "{0:?} is no name: it must have 1 to {MAX_PATTERN_BYTES} bytes, and a `*` at its end only"
    )]
    Name(String),
}

impl Patterns {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// # Errors
    /// [`BadPattern`].
    pub fn parse(patterns: Vec<String>) -> Result<Self, BadPattern> {
        if patterns.is_empty() {
            return Err(BadPattern::Empty);
        }
        if patterns.len() > MAX_PATTERNS {
            return Err(BadPattern::TooMany);
        }
        for pattern in &patterns {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES || name.contains('*') {
                return Err(BadPattern::Name(pattern.clone()));
            }
        }
        Ok(Self(patterns))
    }

    /// Whether everything gets through, whatever it is called.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern == "*")
    }

    /// The same as patterns of SQL's `like`; none: everything.
    #[must_use]
    pub fn to_like(&self) -> Option<Vec<String>> {
        if self.is_all() {
            return None;
        }
        let escape = |name: &str| {
            name.replace('\\', "\\\\")
                .replace('%', "\\%")
                .replace('_', "\\_")
        };
        let like = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => format!("{}%", escape(start)),
            None => escape(pattern),
        };
        Some(self.0.iter().map(like).collect())
    }

    /// Whether a name gets through.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == pattern,
                })
    }
}

impl Reach {
    /// Whether no namespace and no session is out of reach.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.namespaces.is_all() && self.sessions.is_all()
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("*");
        }
        formatter.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(names: &[&str]) -> Patterns {
        Patterns::parse(names.iter().map(|name| (*name).to_owned()).collect()).expect("patterns")
    }

    #[test]
    fn a_name_is_whole_unless_it_ends_with_a_star() {
        let some = patterns(&["team-a", "ci-*"]);
        for name in ["team-a", "ci-", "ci-7"] {
            assert!(some.allow(name), "{name}");
        }
        for name in ["team-ab", "team", "ci", "", "Team-a", "xci-7"] {
            assert!(!some.allow(name), "{name}");
        }
        assert!(!some.is_all());
    }

    #[test]
    fn nothing_said_is_everything() {
        assert!(Patterns::all().allow("x") && Patterns::all().is_all());
        assert!(patterns(&["*"]).allow("x") && patterns(&["a", "*"]).is_all());
    }

    #[test]
    fn a_star_stands_at_the_end_or_nowhere() {
        for bad in ["", "*a", "a*b", "a**"] {
            assert!(Patterns::parse(vec![bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(Patterns::parse(vec!["a".to_owned(); 101]).is_err());
        assert_eq!(Patterns::parse(Vec::new()), Err(BadPattern::Empty));
    }
}
