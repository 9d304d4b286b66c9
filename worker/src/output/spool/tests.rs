use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes_of(range: Range<u64>) -> Vec<u8> {
    range.map(byte_at).collect()
}

/// The model: one flag per byte, kept when it is among the first or, beyond them, among the last.
fn model_keeps(layout: SpoolLayout, total: u64, offset: u64) -> bool {
    offset < total && (offset < layout.head_cap || total - offset <= layout.tail_cap)
}

fn read_everything(reader: &SpoolReader, total: u64, max: usize) -> Vec<Option<u8>> {
    let mut seen = Vec::new();
    loop {
        let offset = seen.len() as u64;
        match reader
            .read(offset, max, total)
            .expect("the spool is readable")
        {
            ReadOutcome::Bytes(bytes) => seen.extend(bytes.iter().map(|byte| Some(*byte))),
            ReadOutcome::Gap { resume_at } => {
                assert!(resume_at > offset);
                seen.resize(resume_at as usize, None);
            }
            ReadOutcome::Nothing => return seen,
        }
    }
}

proptest! {
    #[test]
    fn retained_ranges_agree_with_the_model(head_cap in 0u64..40, tail_cap in 0u64..40, total in 0u64..200) {
        let layout = SpoolLayout { head_cap, tail_cap };
        let [head, tail] = layout.retained(total);
        prop_assert!(head.start <= head.end && head.end <= tail.start && tail.start <= tail.end);
        for offset in 0..total + 5 {
            let kept = head.contains(&offset) || tail.contains(&offset);
            prop_assert_eq!(kept, model_keeps(layout, total, offset), "offset {}", offset);
        }
    }

    #[test]
    fn what_is_read_is_what_the_model_keeps(
        head_cap in 0u64..50,
        tail_cap in 0u64..50,
        chunks in proptest::collection::vec(1u64..90, 0..12),
        max in 1usize..70,
    ) {
        let layout = SpoolLayout { head_cap, tail_cap };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("spool");
        let mut writer = SpoolWriter::create(&path, layout).expect("the spool is created");
        let reader = SpoolReader::open(&path).expect("the spool opens");
        prop_assert_eq!(reader.layout(), layout);
        for chunk in chunks {
            let from = writer.total();
            writer.append(&bytes_of(from..from + chunk));
            let total = writer.total();
            prop_assert_eq!(reader.committed().expect("marks"), total);
            prop_assert_eq!(reader.retained(total).expect("marks"), layout.retained(total));
            let seen = read_everything(&reader, total, max);
            prop_assert_eq!(seen.len() as u64, total);
            for (offset, byte) in (0..).zip(seen) {
                let expected = model_keeps(layout, total, offset).then(|| byte_at(offset));
                prop_assert_eq!(byte, expected, "offset {}", offset);
            }
        }
        prop_assert_eq!(writer.failure(), None);
    }
}

#[test]
fn a_reader_beside_a_fast_writer_gets_right_bytes_or_a_gap() {
    let layout = SpoolLayout {
        head_cap: 1000,
        tail_cap: 5000,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("spool");
    let mut writer = SpoolWriter::create(&path, layout).expect("the spool is created");
    let reader = SpoolReader::open(&path).expect("the spool opens");
    let total = AtomicU64::new(0);
    let end = 4_000_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while writer.total() < end {
                let from = writer.total();
                writer.append(&bytes_of(from..(from + 1 + from % 1777).min(end)));
                total.store(writer.total(), Ordering::Release);
            }
        });
        let mut offset = 0;
        while offset < end {
            match reader
                .read(offset, 3000, total.load(Ordering::Acquire))
                .expect("the spool is readable")
            {
                ReadOutcome::Bytes(bytes) => {
                    assert_eq!(bytes, bytes_of(offset..offset + bytes.len() as u64));
                    offset += bytes.len() as u64;
                }
                ReadOutcome::Gap { resume_at } => offset = resume_at,
                ReadOutcome::Nothing => std::thread::yield_now(),
            }
        }
        assert_eq!(offset, end);
    });
}

#[test]
fn a_writer_that_died_while_overwriting_leaves_only_right_bytes() {
    let layout = SpoolLayout {
        head_cap: 4,
        tail_cap: 8,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("spool");
    let mut writer = SpoolWriter::create(&path, layout).expect("the spool is created");
    writer.append(&bytes_of(0..20));
    // It dies after the mark and some of the bytes of 20..25.
    writer
        .mark(Marks {
            reserved: 25,
            committed: 20,
        })
        .expect("the mark is written");
    let (place, _) = layout.place(20);
    writer
        .file
        .write_all_at(b"??", place)
        .expect("the bytes are written");
    drop(writer);
    let reader = SpoolReader::open(&path).expect("the spool opens");
    let total = reader.committed().expect("marks");
    assert_eq!(total, 20);
    assert_eq!(reader.retained(total).expect("marks"), [0..4, 17..20]);
    let seen = read_everything(&reader, total, 100);
    let expected: Vec<Option<u8>> = (0..20)
        .map(|offset| (!(4..17).contains(&offset)).then(|| byte_at(offset)))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_failed_write_is_remembered_once_and_counting_goes_on() {
    let layout = SpoolLayout {
        head_cap: 10,
        tail_cap: 10,
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("spool");
    let mut writer = SpoolWriter::create(&path, layout).expect("the spool is created");
    writer.append(&bytes_of(0..7));
    // From here on the file cannot be written.
    writer.file = File::open(&path).expect("the spool opens read-only");
    writer.append(&bytes_of(7..12));
    writer.append(&bytes_of(12..40));
    assert_eq!(writer.total(), 40);
    assert_eq!(
        writer.failure(),
        Some(SpoolFailure {
            offset: 7,
            errno: libc::EBADF
        })
    );
    let reader = SpoolReader::open(&path).expect("the spool opens");
    assert_eq!(
        reader.read(0, 100, 40).expect("readable"),
        ReadOutcome::Bytes(bytes_of(0..7).into())
    );
    assert_eq!(
        reader.read(7, 100, 40).expect("readable"),
        ReadOutcome::Gap { resume_at: 40 }
    );
    assert_eq!(
        reader.read(40, 100, 40).expect("readable"),
        ReadOutcome::Nothing
    );
}

#[test]
fn a_full_disk_is_reported_with_its_error_number() {
    let layout = SpoolLayout {
        head_cap: 10,
        tail_cap: 10,
    };
    let mut writer = SpoolWriter {
        file: OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("the full device opens"),
        layout,
        total: 0,
        failure: None,
    };
    writer.append(b"hello");
    assert_eq!(
        writer.failure(),
        Some(SpoolFailure {
            offset: 0,
            errno: libc::ENOSPC
        })
    );
    assert_eq!(writer.total(), 5);
}

#[test]
fn a_file_that_is_no_spool_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("other");
    std::fs::write(&path, [b'x'; 100]).expect("the file is written");
    let error = SpoolReader::open(&path).expect_err("it is no spool");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
