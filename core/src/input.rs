//! What is accepted of a run's live input.

/// Most bytes that may be accepted and not delivered.
pub const MAX_PENDING: u64 = 256 << 10;

/// Bytes before the end of what was accepted that are kept even when the process has them: a repeated call is told from
/// another one by what it says. As many as one call may bring.
pub const KEPT: u64 = 64 << 10;

/// The input of one run, as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Bytes that were brought.
    pub accepted: u64,
    /// Of these, bytes that the process was given.
    pub delivered: u64,
    /// Nothing follows.
    pub ended: bool,
}

/// Bytes that somebody brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where they begin; none: behind what was accepted.
    pub offset: Option<u64>,
    /// How many they are.
    pub length: u64,
    /// The end follows them.
    pub ends: bool,
}

/// What is new of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Bytes at its beginning that were accepted before.
    pub skip: u64,
    /// The input with the rest.
    pub after: Input,
}

/// Why a write is refused; nothing of it is accepted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Bytes between what was accepted and its beginning are missing.
    Gap,
    /// The end was accepted, and it goes on behind that.
    Ended,
    /// It ends before what was accepted.
    EndsEarly,
    /// Too much is waiting for the process; it may be written again later.
    Full,
}

impl Input {
    /// Judges a write. A repeated one is admitted, and changes nothing. Whether what it repeats is the same is for
    /// [`is_repeat`] to say, before this.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(self, write: Write) -> Result<Admitted, NotAdmitted> {
        let offset = write.offset.unwrap_or(self.accepted);
        let skip = self
            .accepted
            .checked_sub(offset)
            .ok_or(NotAdmitted::Gap)?
            .min(write.length);
        let new = write.length - skip;
        if write.ends && offset.saturating_add(write.length) < self.accepted {
            return Err(NotAdmitted::EndsEarly);
        }
        if self.ended && new > 0 {
            return Err(NotAdmitted::Ended);
        }
        let pending = self.accepted.saturating_sub(self.delivered);
        if new > 0 && pending.saturating_add(new) > MAX_PENDING {
            return Err(NotAdmitted::Full);
        }
        let after = Self {
            accepted: self.accepted.saturating_add(new),
            ended: self.ended || write.ends,
            ..self
        };
        Ok(Admitted { skip, after })
    }
}

/// Whether `repeated`, which begins at `offset`, is what was accepted there. `kept` are chunks with the offsets of their
/// first bytes, in order. What is no longer kept is not known to be the same, and so is no repeat.
#[must_use]
pub fn is_repeat<T: AsRef<[u8]>>(offset: u64, repeated: &[u8], kept: &[(u64, T)]) -> bool {
    let mut at = offset;
    let mut rest = repeated;
    for (start, chunk) in kept {
        let Some(before) = at.checked_sub(*start) else {
            break;
        };
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        let here = chunk.as_ref().get(before..).unwrap_or_default();
        let shared = here.len().min(rest.len());
        let (same, behind) = rest.split_at(shared);
        if !here.starts_with(same) {
            return false;
        }
        at = at.saturating_add(shared as u64);
        rest = behind;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Input = Input {
        accepted: 10,
        delivered: 4,
        ended: false,
    };

    fn write(offset: u64, length: u64, ends: bool) -> Write {
        Write {
            offset: Some(offset),
            length,
            ends,
        }
    }

    fn admitted(input: Input, asked: Write) -> (u64, u64, bool) {
        let admitted = input.admit(asked).expect("admitted");
        assert_eq!(admitted.after.delivered, input.delivered);
        (admitted.skip, admitted.after.accepted, admitted.after.ended)
    }

    #[test]
    fn what_overlaps_is_left_out() {
        assert_eq!(admitted(TEN, write(10, 5, false)), (0, 15, false));
        assert_eq!(admitted(TEN, write(7, 5, false)), (3, 12, false));
        assert_eq!(admitted(TEN, write(0, 10, false)), (10, 10, false));
        assert_eq!(admitted(TEN, write(2, 3, false)), (3, 10, false));
        let append = Write {
            offset: None,
            length: 2,
            ends: true,
        };
        assert_eq!(admitted(TEN, append), (0, 12, true));
    }

    #[test]
    fn only_the_same_bytes_are_a_repeat() {
        let kept = [(4, "efgh"), (8, "i"), (9, "jkl")];
        for (offset, bytes) in [
            (4, "efgh"),
            (5, "fg"),
            (6, "ghijk"),
            (11, "l"),
            (4, "efghijkl"),
        ] {
            assert!(is_repeat(offset, bytes.as_bytes(), &kept), "{bytes}");
        }
        for (offset, bytes) in [
            (4, "efgH"),
            (6, "ghIjk"),
            (3, "defgh"),
            (5, "efgh"),
            (11, "lm"),
            (40, "x"),
        ] {
            assert!(!is_repeat(offset, bytes.as_bytes(), &kept), "{bytes}");
        }
        assert!(!is_repeat(2, b"cdefgh", &[(0, "ab"), (4, "efgh")]));
        assert!(is_repeat::<&[u8]>(7, b"", &[]));
        assert!(!is_repeat::<&[u8]>(7, b"x", &[]));
    }

    #[test]
    fn a_gap_is_refused() {
        assert_eq!(TEN.admit(write(11, 1, false)), Err(NotAdmitted::Gap));
        assert_eq!(
            TEN.admit(write(u64::MAX, u64::MAX, true)),
            Err(NotAdmitted::Gap)
        );
    }

    #[test]
    fn the_end_is_one_place() {
        assert_eq!(admitted(TEN, write(8, 2, true)), (2, 10, true));
        assert_eq!(TEN.admit(write(8, 1, true)), Err(NotAdmitted::EndsEarly));
        let ended = Input { ended: true, ..TEN };
        assert_eq!(admitted(ended, write(8, 2, true)), (2, 10, true));
        assert_eq!(admitted(ended, write(8, 2, false)), (2, 10, true));
        assert_eq!(ended.admit(write(10, 1, false)), Err(NotAdmitted::Ended));
    }

    #[test]
    fn what_waits_is_bounded_and_a_repeated_write_fits_always() {
        let full = Input {
            accepted: MAX_PENDING + 4,
            delivered: 4,
            ended: false,
        };
        assert_eq!(
            full.admit(write(full.accepted, 1, false)),
            Err(NotAdmitted::Full)
        );
        assert_eq!(
            admitted(full, write(full.accepted, 0, true)),
            (0, full.accepted, true)
        );
        assert_eq!(
            admitted(full, write(0, full.accepted, false)),
            (full.accepted, full.accepted, false)
        );
        let drained = Input {
            delivered: 5,
            ..full
        };
        assert_eq!(
            admitted(drained, write(full.accepted, 1, false)),
            (0, full.accepted + 1, false)
        );
    }
}
