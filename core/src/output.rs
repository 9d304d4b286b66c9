//! Which bytes of a stream are kept: the first ones up to a head, the last ones up to a tail.

use std::ops::Range;

/// How much of one stream is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes kept from the head.
    pub head: u64,
    /// Bytes kept from the tail.
    pub tail: u64,
}

/// What the store holds of one stream. `[0, first_gap)` and `[contiguous_from, durable_end)` are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Everything retained before this offset is stored.
    pub durable_end: u64,
    /// Everything from here to `durable_end` is stored.
    pub contiguous_from: u64,
}

impl Retention {
    /// Bytes kept of each stream where a task does not say: 16 MiB.
    pub const DEFAULT_BYTES: u64 = 16 << 20;

    /// Two thirds of `bytes` for the head, one third for the tail.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let tail = bytes / 3;
        Self {
            head: bytes - tail,
            tail,
        }
    }

    /// First kept byte of the tail of a stream of this length; its head's end where nothing is missing between.
    #[must_use]
    pub fn tail_start(&self, total: u64) -> u64 {
        total.saturating_sub(self.tail).max(self.head.min(total))
    }

    /// The kept ranges of a stream of this length, in order, without empty ones.
    #[must_use]
    pub fn kept(&self, total: u64) -> Vec<Range<u64>> {
        let head_end = self.head.min(total);
        let tail_start = self.tail_start(total);
        let ranges = if tail_start == head_end {
            [0..total, total..total]
        } else {
            [0..head_end, tail_start..total]
        };
        ranges
            .into_iter()
            .filter(|range| !range.is_empty())
            .collect()
    }

    /// Whether a chunk that starts at `offset` may follow what is stored: it overlaps or touches it, or the gap that
    /// it leaves lies beyond the head.
    #[must_use]
    pub fn may_follow(&self, stored: Stored, offset: u64) -> bool {
        offset <= stored.durable_end || (offset >= self.head && stored.durable_end >= self.head)
    }
}

impl Stored {
    /// Nothing yet.
    pub const NONE: Self = Self {
        durable_end: 0,
        contiguous_from: 0,
    };

    /// What is stored once `[offset, end)` is added.
    #[must_use]
    pub fn extended(self, offset: u64, end: u64) -> Self {
        Self {
            durable_end: self.durable_end.max(end),
            contiguous_from: if offset > self.durable_end {
                offset
            } else {
                self.contiguous_from
            },
        }
    }

    /// Whether every kept byte of a stream of this length is stored.
    #[must_use]
    pub fn covers(&self, retention: Retention, total: u64) -> bool {
        let last_kept = retention.kept(total).last().map_or(0, |range| range.end);
        self.durable_end >= last_kept && self.contiguous_from <= retention.tail_start(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_fits_is_kept_whole() {
        let retention = Retention::of(30);
        assert_eq!(retention, Retention { head: 20, tail: 10 });
        assert_eq!(retention.kept(0), vec![]);
        assert_eq!(retention.kept(20), vec![0..20]);
        assert_eq!(retention.kept(30), vec![0..30]);
    }

    #[test]
    fn a_longer_one_keeps_head_and_tail() {
        assert_eq!(Retention::of(30).kept(31), vec![0..20, 21..31]);
        assert_eq!(Retention::of(30).kept(1_000), vec![0..20, 990..1_000]);
        assert_eq!(Retention::of(0).kept(5), vec![]);
    }

    #[test]
    fn gaps_are_allowed_beyond_the_head_only() {
        let retention = Retention::of(30);
        let half = Stored::NONE.extended(0, 10);
        assert!(retention.may_follow(half, 10));
        assert!(!retention.may_follow(half, 11));
        assert!(!retention.may_follow(half, 50));
        let head = half.extended(10, 20);
        assert!(retention.may_follow(head, 50));
    }

    #[test]
    fn a_cap_without_a_tail_is_covered_by_its_head() {
        for cap in 0..3 {
            let retention = Retention::of(cap);
            assert_eq!(retention.tail, 0);
            assert!(Stored::NONE.extended(0, cap).covers(retention, 1_000));
            assert_eq!(Stored::NONE.covers(retention, 1_000), cap == 0);
        }
    }

    #[test]
    fn the_tail_must_be_whole_to_be_covered() {
        let retention = Retention::of(30);
        let head = Stored::NONE.extended(0, 20);
        assert!(head.covers(retention, 20));
        assert!(!head.covers(retention, 21));
        assert!(head.extended(90, 100).covers(retention, 100));
        assert!(!head.extended(91, 100).covers(retention, 100));
        assert!(
            !head
                .extended(80, 95)
                .extended(96, 100)
                .covers(retention, 100)
        );
    }
}
