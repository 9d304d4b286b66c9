use super::*;
use taskyard_proto::storage::v1::{EndedStream, RunEnd};

fn both() -> OutputCourse {
    OutputCourse {
        positions: vec![(1, 0), (2, 0)],
    }
}

fn chunk(stream: i16, start: i64, data: &'static [u8], order: i64) -> StoredChunk {
    StoredChunk {
        stream,
        start,
        data: Bytes::from_static(data),
        at: DateTime::UNIX_EPOCH,
        order,
    }
}

fn standing(state: TaskState, latest_run: i32, durable: (i64, i64)) -> RunStanding {
    let stream = |durable_end| StoredStream {
        durable_end,
        contiguous_from: 0,
        total: durable_end,
    };
    RunStanding {
        state,
        latest_run,
        is_session_deleted: false,
        is_held: false,
        run_end: None,
        last_exit: None,
        stdout: stream(durable.0),
        stderr: stream(durable.1),
    }
}

fn show(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| match item {
            Item::Chunk(chunk) => format!(
                "{}@{}:{}",
                chunk.stream,
                chunk.offset,
                String::from_utf8_lossy(&chunk.data)
            ),
            Item::Gap(gap) => format!("{}@{}..{}", gap.stream, gap.from_offset, gap.to_offset),
            Item::RunStarted(_) | Item::End(_) | Item::Keepalive(_) => "other".to_owned(),
        })
        .collect()
}

#[test]
fn chunks_of_both_streams_come_in_their_order_and_from_the_asked_byte_on() {
    let mut course = OutputCourse {
        positions: vec![(1, 2), (2, 0)],
    };
    let standing = standing(TaskState::Running, 1, (6, 3));
    let behind = course.behind(&standing);
    let chunks = vec![
        chunk(1, 0, b"abc", 1),
        chunk(2, 0, b"xyz", 2),
        chunk(1, 3, b"def", 3),
    ];
    let items = course.take_stored(chunks, &behind, &standing, 100);
    assert_eq!(show(&items), ["1@2:c", "2@0:xyz", "1@3:def"]);
    assert_eq!(course.positions, [(1, 6), (2, 3)]);
    assert_eq!(course.behind(&standing), []);
}

#[test]
fn a_stream_that_was_cut_holds_the_other_back() {
    let mut course = both();
    let standing = standing(TaskState::Running, 1, (6, 3));
    let behind = course.behind(&standing);
    let chunks = vec![chunk(1, 0, b"abc", 1), chunk(2, 0, b"xyz", 9)];
    let items = course.take_stored(chunks, &behind, &standing, 3);
    assert_eq!(show(&items), ["1@0:abc"]);
    assert_eq!(course.behind(&standing), [(1, 3), (2, 0)]);
}

#[test]
fn missing_bytes_are_gaps_between_and_at_the_end() {
    let mut course = both();
    let mut standing = standing(TaskState::Failed, 1, (10, 4));
    standing.run_end = Some(RunEnd {
        stdout: Some(EndedStream {
            total_bytes: 12,
            ..EndedStream::default()
        }),
        ..RunEnd::default()
    });
    let behind = course.behind(&standing);
    let items = course.take_stored(vec![chunk(1, 7, b"xyz", 1)], &behind, &standing, 100);
    assert_eq!(show(&items), ["2@0..4", "1@0..7", "1@7:xyz"]);
    assert_eq!(show(&course.finish(&standing, 1)), ["1@10..12"]);
    assert_eq!(course.positions, [(1, 12), (2, 4)]);
}

#[test]
fn live_bytes_join_only_where_they_touch() {
    let mut course = both();
    let mut take = |start, data: &'static [u8]| {
        course.take(1, start, &Bytes::from_static(data), DateTime::UNIX_EPOCH, 1)
    };
    assert_eq!(take(1, b"b"), Joint::Apart);
    assert!(matches!(take(0, b"ab"), Joint::Joined(items) if show(&items) == ["1@0:ab"]));
    assert!(matches!(take(0, b"ab"), Joint::Joined(items) if items.is_empty()));
    assert!(matches!(take(1, b"bc"), Joint::Joined(items) if show(&items) == ["1@2:c"]));
}

#[test]
fn large_chunks_are_cut_to_the_size_of_an_item() {
    let mut course = both();
    let data = Bytes::from(vec![b'x'; MAX_ITEM_BYTES + 1]);
    let Joint::Joined(items) = course.take(2, 0, &data, DateTime::UNIX_EPOCH, 1) else {
        panic!("the bytes touch the beginning")
    };
    assert_eq!(items.len(), 2);
    assert_eq!(
        course.positions[1].1,
        i64::try_from(data.len()).unwrap_or(0)
    );
}

#[test]
fn a_run_has_ended_when_nothing_can_append_to_it() {
    for (state, latest_run, ended) in [
        (TaskState::Queued, 0, false),
        (TaskState::Queued, 1, true),
        (TaskState::Running, 1, false),
        (TaskState::Running, 2, true),
        (TaskState::AwaitingInput, 1, true),
        (TaskState::Failed, 1, true),
        (TaskState::Canceled, 0, true),
    ] {
        assert_eq!(
            has_ended(&standing(state, latest_run, (0, 0)), 1),
            ended,
            "{state:?} {latest_run}"
        );
    }
    let attended = RunStanding {
        is_session_deleted: false,
        is_held: true,
        ..standing(TaskState::AwaitingInput, 1, (0, 0))
    };
    assert!(!has_ended(&attended, 1));
}

#[test]
fn a_task_that_has_not_run_has_all_to_come_until_it_ends() {
    for (state, ended) in [
        (TaskState::Queued, false),
        (TaskState::AwaitingInput, false),
        (TaskState::Canceled, true),
        (TaskState::Failed, true),
    ] {
        assert_eq!(
            has_ended(&standing(state, 0, (0, 0)), 0),
            ended,
            "{state:?}"
        );
    }
}

#[test]
fn positions_of_a_request_are_checked() {
    let position = |stream, offset| OutputPosition { stream, offset };
    assert_eq!(OutputCourse::from_request(&[]).ok(), Some(both()));
    for positions in [
        vec![position(0, 0)],
        vec![position(3, 0)],
        vec![position(1, -1)],
        vec![position(1, 0), position(1, 5)],
    ] {
        assert!(
            OutputCourse::from_request(&positions).is_err(),
            "{positions:?}"
        );
    }
    let ended = standing(TaskState::Failed, 1, (5, 0));
    let course = OutputCourse::from_request(&[position(1, 6)]);
    assert!(matches!(
        course.map(|course| course.check_within(&ended, 1)),
        Ok(Err(Refusal::OutOfRange { .. }))
    ));
}
