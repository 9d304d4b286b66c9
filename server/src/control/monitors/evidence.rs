//! What a firing printed, as far as its judgement looks at it.

use super::verdict::WakeOn;
use crate::{
    app::App,
    control::refusal::Refusal,
    store::{monitors::EndedFiring, output_read},
};
use sha2::{Digest, Sha256};
use std::ops::Range;
use taskyard_core::output::Retention;

/// Most bytes of standard output that are compared: of more, head and tail as they are kept where a task says nothing.
const MAX_COMPARED: u64 = Retention::DEFAULT_BYTES;
/// Most bytes of standard output in which a pattern is looked for: the last kept ones.
const MAX_SEARCHED: u64 = 1 << 20;
/// Bytes of one read.
const PAGE_BYTES: i64 = 1 << 20;
/// Standard output, as it is stored.
const STDOUT: i16 = 1;

/// What is known of a firing's standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// SHA-256 of what is compared; none: nothing is.
    pub compared: Option<[u8; 32]>,
    /// What is searched.
    pub searched: Vec<u8>,
}

/// Reads what a condition looks at; nothing for those that look at the end only.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn read(app: &App, firing: &EndedFiring, wake_on: &WakeOn) -> Result<Evidence, Refusal> {
    let mut evidence = Evidence::default();
    let limits = firing
        .definition
        .spec
        .as_ref()
        .and_then(|spec| spec.output_limits);
    let kept = limits.map_or(Retention::DEFAULT_BYTES, |limits| {
        u64::try_from(limits.max_bytes_per_stream).unwrap_or(0)
    });
    let stdout = firing.run_end.stdout.as_ref();
    let total = u64::try_from(stdout.map_or(0, |stdout| stdout.total_bytes)).unwrap_or(0);
    match wake_on {
        WakeOn::Failed | WakeOn::Always => {}
        WakeOn::Changed => {
            let mut hash = Sha256::new();
            for range in Retention::of(kept.min(MAX_COMPARED)).kept(total) {
                read_range(app, firing, range, |bytes| hash.update(bytes)).await?;
            }
            evidence.compared = Some(hash.finalize().into());
        }
        WakeOn::Match(_) => {
            for range in last_of(Retention::of(kept).kept(total), MAX_SEARCHED) {
                if !evidence.searched.is_empty() {
                    // what is not kept between two ranges holds nothing together
                    evidence.searched.push(b'\n');
                }
                let searched = &mut evidence.searched;
                read_range(app, firing, range, |bytes| {
                    searched.extend_from_slice(bytes);
                })
                .await?;
            }
        }
    }
    Ok(evidence)
}

/// The last `limit` bytes of ranges, in order.
fn last_of(ranges: Vec<Range<u64>>, mut limit: u64) -> Vec<Range<u64>> {
    let mut last = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().rev() {
        let start = range.start.max(range.end.saturating_sub(limit));
        limit -= range.end - start;
        if start < range.end {
            last.push(start..range.end);
        }
    }
    last.reverse();
    last
}

/// Hands over the stored bytes of a range, in order; what is missing is passed over.
async fn read_range(
    app: &App,
    firing: &EndedFiring,
    range: Range<u64>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Refusal> {
    let offset = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    let (mut next, end) = (offset(range.start), offset(range.end));
    while next < end {
        let from = [(STDOUT, next)];
        let chunks = output_read::read_chunks(
            app.store.pool(),
            firing.firing,
            firing.run,
            &from,
            PAGE_BYTES.min(end - next),
        )
        .await?;
        let before = next;
        for chunk in chunks {
            let chunk_end = chunk.start + i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
            let (from, to) = (next.max(chunk.start), end.min(chunk_end));
            if from >= to {
                continue;
            }
            let inside = |at: i64| usize::try_from(at - chunk.start).unwrap_or(usize::MAX);
            take(chunk.data.get(inside(from)..inside(to)).unwrap_or_default());
            next = to;
        }
        if next == before {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_those_of_the_last_ranges() {
        assert_eq!(last_of(vec![0..10], 100), vec![0..10]);
        assert_eq!(last_of(vec![0..10], 3), vec![7..10]);
        assert_eq!(last_of(vec![0..10, 20..25], 8), vec![7..10, 20..25]);
        assert_eq!(last_of(vec![0..10, 20..25], 5), vec![20..25]);
        assert_eq!(last_of(vec![0..10], 0), Vec::<Range<u64>>::new());
        assert_eq!(last_of(Vec::new(), 5), Vec::<Range<u64>>::new());
    }
}
