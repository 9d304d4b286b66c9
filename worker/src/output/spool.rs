//! One output stream on disk: the first bytes, the last bytes, and honest counts of all of them.
//!
//! A spool is one file: a header of 64 bytes, then `head_cap` bytes for the start of the stream, then a ring of
//! `tail_cap` bytes for its end. The byte with stream offset `o` lies, counted from the end of the header, at
//!
//! ```text
//! o                                        where o < head_cap
//! head_cap + ((o - head_cap) % tail_cap)   elsewhere
//! ```
//!
//! The shim writes while the worker reads, in two processes, with nothing shared but the file. Two marks in the header
//! make that safe, also when the shim dies at any point:
//!
//! - `reserved` is raised **before** ring bytes are overwritten: what lies more than `tail_cap` behind it may be damaged;
//! - `committed` is raised **after** the bytes were written: everything before it was kept, if it was not overwritten.
//!
//! A reader copies the bytes first and reads `reserved` again afterwards, so bytes that were overwritten under it are
//! reported as a gap and never handed out. Each mark is stored beside its complement, so that a mark torn by a concurrent
//! write is seen and read again. The file is not synced: it outlives processes, not the machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use crate::process::SpoolFailure;

const MAGIC: [u8; 8] = *b"TYSPOOL1";
const HEADER_BYTES: u64 = 64;
const MARKS_AT: u64 = 24;
/// How often a torn mark is read again before the file counts as damaged.
const MARK_READS_MAX: u32 = 1000;

/// Which bytes of a stream are kept: the first `head_cap` and, beyond them, the last `tail_cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLayout {
    pub head_cap: u64,
    pub tail_cap: u64,
}

/// What a read found at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// At least one byte, from exactly the offset that was asked for.
    Bytes(Bytes),
    /// The byte at the offset is not kept, nor is any other before `resume_at`.
    Gap { resume_at: u64 },
    /// The stream has not come this far.
    Nothing,
}

/// The writing end. It belongs to the shim and never fails: after the first failed write it goes on counting.
#[derive(Debug)]
pub struct SpoolWriter {
    file: File,
    layout: SpoolLayout,
    total: u64,
    failure: Option<SpoolFailure>,
}

/// The reading end. Any number of them may read while the writer writes.
#[derive(Debug)]
pub struct SpoolReader {
    file: File,
    layout: SpoolLayout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    reserved: u64,
    committed: u64,
}

impl SpoolLayout {
    /// The ranges of stream offsets that are kept when `total` bytes were written: head and tail, either may be empty.
    /// Where nothing is missing they meet.
    pub fn retained(&self, total: u64) -> [Range<u64>; 2] {
        let head_end = total.min(self.head_cap);
        [0..head_end, self.tail_start(total).min(total)..total]
    }

    fn tail_start(&self, total: u64) -> u64 {
        self.head_cap.max(total.saturating_sub(self.tail_cap))
    }

    /// The place of a stream offset in the file and how many bytes lie there in a row. Beyond the head it needs a ring.
    fn place(&self, offset: u64) -> (u64, u64) {
        if offset < self.head_cap {
            return (HEADER_BYTES + offset, self.head_cap - offset);
        }
        let in_ring = (offset - self.head_cap) % self.tail_cap;
        (
            HEADER_BYTES + self.head_cap + in_ring,
            self.tail_cap - in_ring,
        )
    }
}

impl SpoolWriter {
    /// Creates the file, readable by its owner only, or empties the one that is there.
    pub fn create(path: &Path, layout: SpoolLayout) -> io::Result<SpoolWriter> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let mut header = [0; HEADER_BYTES as usize];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&layout.head_cap.to_le_bytes());
        header[16..24].copy_from_slice(&layout.tail_cap.to_le_bytes());
        header[MARKS_AT as usize..56].copy_from_slice(&encode_marks(Marks {
            reserved: 0,
            committed: 0,
        }));
        file.write_all_at(&header, 0)?;
        Ok(SpoolWriter {
            file,
            layout,
            total: 0,
            failure: None,
        })
    }

    /// Counts the next bytes of the stream and keeps them as far as the layout asks for.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let offset = self.total;
        self.total += bytes.len() as u64;
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = self.keep(offset, bytes) {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.failure = Some(SpoolFailure { offset, errno });
        }
    }

    /// All bytes of the stream so far, kept or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first write that failed.
    pub fn failure(&self) -> Option<SpoolFailure> {
        self.failure
    }

    fn keep(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let overwrites = end > self.layout.head_cap + self.layout.tail_cap;
        if overwrites && self.layout.tail_cap > 0 {
            self.mark(Marks {
                reserved: end,
                committed: offset,
            })?;
        }
        for kept in self.layout.retained(end) {
            let mut at = kept.start.max(offset);
            while at < kept.end {
                let (place, in_a_row) = self.layout.place(at);
                let stop = kept.end.min(at + in_a_row);
                let slice = &bytes[(at - offset) as usize..(stop - offset) as usize];
                self.file.write_all_at(slice, place)?;
                at = stop;
            }
        }
        self.mark(Marks {
            reserved: end,
            committed: end,
        })
    }

    fn mark(&self, marks: Marks) -> io::Result<()> {
        self.file.write_all_at(&encode_marks(marks), MARKS_AT)
    }
}

impl SpoolReader {
    /// Opens a spool that a writer has created.
    ///
    /// # Errors
    /// `InvalidData` when the file is not a spool, else what opening and reading say.
    pub fn open(path: &Path) -> io::Result<SpoolReader> {
        let file = File::open(path)?;
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0)?;
        if header[0..8] != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a spool file",
            ));
        }
        let layout = SpoolLayout {
            head_cap: u64_at(&header, 8),
            tail_cap: u64_at(&header, 16),
        };
        Ok(SpoolReader { file, layout })
    }

    pub fn layout(&self) -> SpoolLayout {
        self.layout
    }

    /// Bytes that are safely in the file's books. After the shim is gone this is the total, unless a write had failed.
    pub fn committed(&self) -> io::Result<u64> {
        Ok(self.marks()?.committed)
    }

    /// The ranges that can be read now, given that the stream has `total` bytes: head and tail, either may be empty.
    pub fn retained(&self, total: u64) -> io::Result<[Range<u64>; 2]> {
        let marks = self.marks()?;
        let end = total.min(marks.committed);
        let tail_start = self.layout.tail_start(marks.reserved).min(end);
        Ok([0..end.min(self.layout.head_cap), tail_start..end])
    }

    /// Up to `max` bytes from `offset` on, never beyond `total`, the newest total that the caller knows. Fewer than
    /// `max` bytes do not mean that there are no more.
    ///
    /// # Errors
    /// What reading the file says; `InvalidData` when the header is damaged.
    pub fn read(&self, offset: u64, max: usize, total: u64) -> io::Result<ReadOutcome> {
        if offset >= total || max == 0 {
            return Ok(ReadOutcome::Nothing);
        }
        let marks = self.marks()?;
        if let Some(gap) = self.overwritten(offset, marks) {
            return Ok(gap);
        }
        let end = total.min(marks.committed);
        if offset >= end {
            // A total is told only after its bytes were committed: these were lost to a failed write.
            return Ok(ReadOutcome::Gap { resume_at: total });
        }
        let (place, in_a_row) = self.layout.place(offset);
        let wanted = (end - offset).min(in_a_row).min(max as u64);
        let mut buffer = vec![0; wanted as usize];
        self.file.read_exact_at(&mut buffer, place)?;
        if let Some(gap) = self.overwritten(offset, self.marks()?) {
            return Ok(gap);
        }
        Ok(ReadOutcome::Bytes(Bytes::from(buffer)))
    }

    fn overwritten(&self, offset: u64, marks: Marks) -> Option<ReadOutcome> {
        let resume_at = self.layout.tail_start(marks.reserved);
        (offset >= self.layout.head_cap && offset < resume_at)
            .then_some(ReadOutcome::Gap { resume_at })
    }

    fn marks(&self) -> io::Result<Marks> {
        for _ in 0..MARK_READS_MAX {
            let mut raw = [0; 32];
            self.file.read_exact_at(&mut raw, MARKS_AT)?;
            if let Some(marks) = decode_marks(&raw) {
                return Ok(marks);
            }
            std::thread::yield_now();
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the spool's header is damaged",
        ))
    }
}

fn encode_marks(marks: Marks) -> [u8; 32] {
    let mut raw = [0; 32];
    raw[0..8].copy_from_slice(&marks.reserved.to_le_bytes());
    raw[8..16].copy_from_slice(&(!marks.reserved).to_le_bytes());
    raw[16..24].copy_from_slice(&marks.committed.to_le_bytes());
    raw[24..32].copy_from_slice(&(!marks.committed).to_le_bytes());
    raw
}

fn decode_marks(raw: &[u8; 32]) -> Option<Marks> {
    let marks = Marks {
        reserved: u64_at(raw, 0),
        committed: u64_at(raw, 16),
    };
    let whole = u64_at(raw, 8) == !marks.reserved && u64_at(raw, 24) == !marks.committed;
    whole.then_some(marks)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests;
