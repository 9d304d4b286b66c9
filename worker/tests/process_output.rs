//! Capture: every byte is counted, the right ones are kept, and the first is told at once.

mod process_support;

use std::path::PathBuf;
use std::time::Duration;

use process_support::{SEED, World, next_event, pattern, read_range, wait_until};
use taskyard_worker::output::spool::{ReadOutcome, SpoolReader};
use taskyard_worker::process::{Capture, ExitStatus, ProcessEvent};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn a_firehose_is_counted_exactly_and_kept_at_both_ends() {
    let total = 64 * MIB + 12_345;
    let mut world = World::probe(&[
        "spew",
        "--seed",
        &SEED.to_string(),
        "--stdout",
        &total.to_string(),
    ]);
    world.push_arguments(&["--stderr", &(3 * MIB + 1).to_string()]);
    world.launch.stdout.head_cap = 200_001;
    world.launch.stdout.tail_cap = 100_003;
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(
        (story.end.stdout.total, story.end.stderr.total),
        (total, 3 * MIB + 1)
    );
    assert_eq!(
        (story.end.stdout.capture, story.end.stderr.capture),
        (Capture::Drained, Capture::Drained)
    );
    assert_eq!(story.end.stdout.spool_failure, None);

    let stdout = world.stdout();
    check_ends(&stdout, SEED, total);
    check_ends(&world.stderr(), SEED + 1, 3 * MIB + 1);
    let gap = stdout
        .read(200_001, 10, total)
        .expect("the spool is readable");
    assert_eq!(
        gap,
        ReadOutcome::Gap {
            resume_at: total - 100_003
        }
    );
    let file_bytes = std::fs::metadata(&world.launch.stdout.path)
        .expect("the spool")
        .len();
    assert!(
        file_bytes <= 200_001 + 100_003 + 64,
        "the file grew to {file_bytes} bytes"
    );
}

#[tokio::test]
async fn a_stream_within_its_caps_is_kept_whole() {
    for total in [1, 8191, 8192, 8193, 12_287, 12_288] {
        let world = World::probe(&[
            "spew",
            "--seed",
            &SEED.to_string(),
            "--stdout",
            &total.to_string(),
        ]);
        let story = world.run().await;
        assert_eq!(story.end.stdout.total, total);
        let bytes = read_range(&world.stdout(), 0, total, total);
        assert!(pattern::matches(SEED, 0, &bytes), "all {total} bytes");
    }
}

#[tokio::test]
async fn without_caps_bytes_are_only_counted() {
    let mut world = World::probe(&["spew", "--stdout", &MIB.to_string()]);
    world.launch.stdout.head_cap = 0;
    world.launch.stdout.tail_cap = 0;
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, MIB);
    assert_eq!(
        world.stdout().retained(MIB).expect("readable"),
        [0..0, MIB..MIB]
    );
    assert_eq!(
        world.stdout().read(0, 10, MIB).expect("readable"),
        ReadOutcome::Gap { resume_at: MIB }
    );
}

#[tokio::test]
async fn the_last_bytes_before_an_exit_are_all_there() {
    for _ in 0..20 {
        let world = World::command(&["sh", "-c", "printf out; printf err >&2; exit 7"]);
        let story = world.run().await;
        assert_eq!(story.exited, Some(ExitStatus::Code(7)));
        assert_eq!((story.end.stdout.total, story.end.stderr.total), (3, 3));
        assert_eq!(
            (world.stdout_text(), world.stderr_text()),
            ("out".to_owned(), "err".to_owned())
        );
    }
}

#[tokio::test]
async fn a_long_line_and_raw_bytes_are_like_any_other() {
    let world = World::probe(&["long-line", &(100 * MIB).to_string()]);
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, 100 * MIB);
    let world = World::probe(&["binary"]);
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, 4096);
    let expected: Vec<u8> = (0..16).flat_map(|_| 0..=255).collect();
    assert_eq!(read_range(&world.stdout(), 0, 4096, 4096), expected);
}

#[tokio::test]
async fn the_first_byte_is_told_while_the_process_runs() {
    let world = World::command(&["sh", "-c", "printf x; exec sleep 100"]);
    let mut process = world.spawn().await;
    assert!(matches!(
        next_event(&mut process).await,
        Ok(ProcessEvent::Started { .. })
    ));
    let first = next_event(&mut process).await.expect("an event");
    assert_eq!(
        first,
        ProcessEvent::Output {
            stdout_total: 1,
            stderr_total: 0
        }
    );
    assert_eq!(read_range(&world.stdout(), 0, 1, 1), b"x");
}

#[tokio::test]
async fn much_output_makes_few_events() {
    let world = World::probe(&["spew", "--stdout", &(4 * MIB).to_string(), "--chunk", "512"]);
    let begin = std::time::Instant::now();
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, 4 * MIB);
    let most = begin.elapsed().as_millis() / 5 + 2;
    assert!(
        story.n_outputs as u128 <= most,
        "{} events, at most {most} fit",
        story.n_outputs
    );
}

#[tokio::test]
async fn a_worker_that_reads_no_events_blocks_nothing() {
    let world = World::probe(&[
        "spew",
        "--stdout",
        &(64 * MIB).to_string(),
        "--chunk",
        "4096",
    ]);
    let mut process = world.spawn().await;
    let stdout = world.stdout();
    wait_until("all output", || {
        (stdout.committed().expect("marks") == 64 * MIB).then_some(())
    })
    .await;
    let story = process_support::Story::of(&mut process).await;
    assert_eq!(story.end.stdout.total, 64 * MIB);
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn a_follower_of_the_ring_sees_right_bytes_or_honest_gaps() {
    let total = 16 * MIB;
    let mut world = World::probe(&[
        "spew",
        "--seed",
        &SEED.to_string(),
        "--stdout",
        &total.to_string(),
    ]);
    world.launch.stdout.head_cap = 10_000;
    world.launch.stdout.tail_cap = 300_000;
    let mut process = world.spawn().await;
    let stdout = world.stdout();
    let mut offset = 0;
    let mut known = 0;
    while offset < total {
        match stdout
            .read(offset, 64 * 1024, known)
            .expect("the spool is readable")
        {
            ReadOutcome::Bytes(bytes) => {
                assert!(pattern::matches(SEED, offset, &bytes), "bytes at {offset}");
                offset += bytes.len() as u64;
            }
            ReadOutcome::Gap { resume_at } => {
                assert!(resume_at > offset);
                offset = resume_at;
            }
            ReadOutcome::Nothing => match next_event(&mut process).await.expect("an event") {
                ProcessEvent::Output { stdout_total, .. } => known = stdout_total,
                ProcessEvent::Ended(end) => known = end.stdout.total,
                ProcessEvent::Started { .. }
                | ProcessEvent::InputTaken { .. }
                | ProcessEvent::Exited(_) => {}
            },
        }
    }
    assert_eq!(offset, total);
}

#[tokio::test]
async fn a_spool_that_cannot_grow_is_reported_and_counting_goes_on() {
    let mut world = World::probe(&["spew", "--stdout", &MIB.to_string()]);
    world.launch.stdout.head_cap = 2 * MIB;
    // The spool lies on a file system of half the size that it needs.
    let disk = SmallDisk::mount(world.path("disk"), 512 * 1024);
    let Some(disk) = disk else {
        eprintln!("skipped: this user may not mount");
        return;
    };
    world.launch.stdout.path = disk.0.join("spool");
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, MIB);
    assert_eq!(story.end.stdout.capture, Capture::Drained);
    let failure = story.end.stdout.spool_failure.expect("the disk is full");
    assert_eq!(failure.errno, libc::ENOSPC);
    assert!(failure.offset < 512 * 1024);
    assert_eq!(story.end.stderr.spool_failure, None);
}

#[tokio::test]
async fn lines_with_pauses_are_told_one_by_one() {
    let world = World::probe(&["lines", "3", "--every", "60"]);
    let story = world.run().await;
    assert!(
        (2..=3).contains(&story.n_outputs),
        "{} events",
        story.n_outputs
    );
    assert_eq!(world.stdout_text(), "line 0\nline 1\nline 2\n");
    assert!(world.launch.drain > Duration::ZERO);
}

fn check_ends(reader: &SpoolReader, seed: u64, total: u64) {
    let retained = reader.retained(total).expect("the spool is readable");
    assert_eq!(retained, reader.layout().retained(total));
    for range in retained {
        let bytes = read_range(reader, range.start, range.end, total);
        assert!(
            pattern::matches(seed, range.start, &bytes),
            "bytes of {range:?}"
        );
    }
}

/// A file system in memory with room for a few bytes only.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing when this user may not mount.
    fn mount(at: PathBuf, bytes: u64) -> Option<SmallDisk> {
        std::fs::create_dir(&at).expect("a directory");
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
