//! How far one stream was read from its spool, and how far it is durable at the other end.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::spool::{ReadOutcome, SpoolReader};
use super::upload::CHUNK_BYTES_MAX;

/// Where a stream's upload stands.
pub(super) struct StreamCursor {
    path: PathBuf,
    pub(super) reader: Option<SpoolReader>,
    pub(super) head_cap: u64,
    tail_cap: u64,
    /// Everything before it was pushed or is gone.
    pub(super) next: u64,
    pub(super) durable: u64,
    /// End of the last byte that was pushed.
    pub(super) pushed_end: u64,
    /// Bytes that should be retained are gone from the spool.
    missing: bool,
    /// Where the last gap ended.
    gap_end: u64,
    pub(super) failure: Option<String>,
}

impl StreamCursor {
    pub(super) fn new(path: PathBuf) -> StreamCursor {
        StreamCursor {
            path,
            reader: None,
            head_cap: 0,
            tail_cap: 0,
            next: 0,
            durable: 0,
            pushed_end: 0,
            missing: false,
            gap_end: 0,
            failure: None,
        }
    }

    /// The next bytes to push and their offset. Gaps are jumped over.
    pub(super) fn read(&mut self, total: u64) -> Option<(u64, Bytes)> {
        const JUMPS_MAX: usize = 4;
        for _ in 0..JUMPS_MAX {
            if self.next >= total {
                return None;
            }
            match self.read_spool(total) {
                Ok(ReadOutcome::Bytes(data)) => {
                    let offset = self.next;
                    self.next += data.len() as u64;
                    self.pushed_end = self.next;
                    return Some((offset, data));
                }
                Ok(ReadOutcome::Gap { resume_at }) => self.jump(resume_at),
                Ok(ReadOutcome::Nothing) => return None,
                Err(error) => {
                    self.failure.get_or_insert_with(|| {
                        format!("cannot read {}: {error}", self.path.display())
                    });
                    self.missing = true;
                    self.jump(total);
                }
            }
        }
        None
    }

    /// Everything that was pushed is durable and there is no more.
    pub(super) fn is_done(&self, total: u64) -> bool {
        self.next >= total && self.durable >= self.pushed_end
    }

    /// Bytes of the head or of the tail could not be read.
    pub(super) fn is_missing_bytes(&self, total: u64) -> bool {
        let tail_start = total
            .saturating_sub(self.tail_cap)
            .max(self.head_cap.min(total));
        self.missing || self.gap_end > tail_start
    }

    fn jump(&mut self, resume_at: u64) {
        self.missing |= self.next < self.head_cap;
        self.gap_end = resume_at;
        self.next = resume_at;
    }

    fn read_spool(&mut self, total: u64) -> io::Result<ReadOutcome> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => SpoolReader::open(&self.path)?,
        };
        self.head_cap = reader.layout().head_cap;
        self.tail_cap = reader.layout().tail_cap;
        self.reader
            .insert(reader)
            .read(self.next, CHUNK_BYTES_MAX, total)
    }
}
