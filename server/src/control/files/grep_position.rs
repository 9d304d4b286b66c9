//! Where a search stopped, as it is kept in its page token.

use super::file_walk::WalkPlace;
use crate::control::refusal::Refusal;

/// Where a search goes on. Offsets hold for one version of the file; another one is searched from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrepPosition {
    /// The file.
    pub place: WalkPlace,
    /// Its version.
    pub version: i64,
    /// Where to read from: lines before `from_line` are context only.
    pub offset: u64,
    /// Number of the line at `offset`, from 1.
    pub line: i64,
    /// First line to search.
    pub from_line: i64,
    /// Whether `offset` lies in the rest of a long line, which is passed over.
    pub in_long_line: bool,
}

impl GrepPosition {
    /// The start of a file.
    #[must_use]
    pub fn start_of(place: WalkPlace, version: i64) -> Self {
        Self {
            place,
            version,
            offset: 0,
            line: 1,
            from_line: 1,
            in_long_line: false,
        }
    }

    /// As text for a token.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.place.ordinal,
            self.version,
            self.offset,
            self.line,
            self.from_line,
            u8::from(self.in_long_line),
            self.place.path
        )
    }

    /// From a token's text.
    ///
    /// # Errors
    /// [`Refusal::BadToken`].
    pub fn from_text(text: &str) -> Result<Self, Refusal> {
        Self::parse(text).ok_or(Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(7, ' ');
        Some(Self {
            place: WalkPlace {
                ordinal: words.next()?.parse().ok()?,
                path: String::new(),
            },
            version: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            line: words.next()?.parse().ok().filter(|line| *line >= 1)?,
            from_line: words.next()?.parse().ok().filter(|line| *line >= 1)?,
            in_long_line: words.next()? == "1",
        })
        .and_then(|mut position| {
            position.place.path = words.next()?.to_owned();
            Some(position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_token() {
        let position = GrepPosition {
            place: WalkPlace {
                ordinal: 3,
                path: "/a b/c d".to_owned(),
            },
            version: 7,
            offset: 1_000,
            line: 12,
            from_line: 14,
            in_long_line: true,
        };
        let text = position.to_text();
        assert_eq!(GrepPosition::from_text(&text).ok(), Some(position));
        for other in ["", "1 2 3", "a b c d e f /x", "0 0 0 0 1 0 /x"] {
            assert!(GrepPosition::from_text(other).is_err(), "{other:?}");
        }
    }
}
