//! Whose things a credential reaches: namespaces, sessions in them, pools of workers.

use std::fmt;

/// Most patterns in one list, and the longest one, in bytes.
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN_BYTES: usize = 256;

/// Names, each whole or, with a `*` at its end, a beginning. Without any, as of [`Patterns::all`], everything gets
/// through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

/// Names for a database that looks them up in an index of their bytes: whole ones, and ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRanges {
    /// Whole names.
    pub names: Vec<String>,
    /// Beginnings: the least name of each range.
    pub starts: Vec<String>,
    /// What is greater than all names with that beginning; none: nothing is.
    pub ends: Vec<Option<String>>,
}

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

    /// The only name that gets through, where there is just one.
    #[must_use]
    pub fn only_name(&self) -> Option<&str> {
        match &self.0[..] {
            [name] if !name.ends_with('*') => Some(name),
            _ => None,
        }
    }

    /// The same as ranges of names in the order of their bytes, which may overlap; none: everything.
    #[must_use]
    pub fn to_ranges(&self) -> Option<NameRanges> {
        if self.is_all() {
            return None;
        }
        let mut ranges = NameRanges::default();
        for pattern in &self.0 {
            match pattern.strip_suffix('*') {
                Some(start) => {
                    ranges.starts.push(start.to_owned());
                    ranges.ends.push(end_of(start));
                }
                None => ranges.names.push(pattern.clone()),
            }
        }
        Some(ranges)
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

/// The least text, in the order of its bytes, that is greater than all that begin with `start`; none: there is no such.
fn end_of(start: &str) -> Option<String> {
    let mut letters: Vec<char> = start.chars().collect();
    while let Some(last) = letters.pop() {
        // UTF-8 has the order of its letters' numbers
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
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
    fn ranges_hold_what_the_patterns_allow() {
        let some = patterns(&["one", "ci-*", "x\u{D7FF}*", "\u{10FFFF}*"]);
        let ranges = some.to_ranges().expect("not everything");
        assert_eq!(ranges.names, ["one"]);
        let holds = |name: &str| {
            ranges.names.iter().any(|whole| whole == name)
                || ranges.starts.iter().zip(&ranges.ends).any(|(start, end)| {
                    name >= start.as_str() && end.as_ref().is_none_or(|end| name < end.as_str())
                })
        };
        for name in [
            "one",
            "one-",
            "ci-",
            "ci-\u{10FFFF}z",
            "ci.",
            "ci",
            "x\u{D7FF}",
            "x\u{D7FF}y",
            "x\u{E000}",
            "x",
            "\u{10FFFF}",
            "\u{10FFFF}a",
            "\u{10FFFE}",
            "",
        ] {
            assert_eq!(holds(name), some.allow(name), "{name:?}");
        }
        assert_eq!(patterns(&["a", "*"]).to_ranges(), None);
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
