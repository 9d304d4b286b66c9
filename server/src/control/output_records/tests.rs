use super::*;
use bytes::Bytes;

fn cursor() -> RecordsCursor {
    RecordsCursor {
        task: TaskId(7),
        run: 2,
        places: vec![(1, 42), (2, 0)],
    }
}

fn chunk(stream: i32, offset: i64, data: &'static [u8]) -> Item {
    Item::Chunk(OutputChunk {
        stream,
        offset,
        data: Bytes::from_static(data),
        at: None,
        order: 1,
    })
}

fn page(room: usize) -> Page {
    Page {
        places: vec![(1, 0), (2, 0)],
        room,
        records: Vec::new(),
    }
}

#[test]
fn a_cursor_comes_back_as_it_went_and_others_are_refused() {
    let text = cursor().encode();
    assert_eq!(RecordsCursor::decode(&text).ok(), Some(cursor()));
    let negative = RecordsCursor {
        places: vec![(1, -1), (2, 0)],
        ..cursor()
    };
    for other in [
        "x",
        "%%",
        &text[1..],
        &format!("{text}AAAA"),
        &negative.encode(),
    ] {
        assert!(RecordsCursor::decode(other).is_err(), "{other:?}");
    }
    let is_fine = |task, run, streams: &[i16]| cursor().check(TaskId(task), run, streams).is_ok();
    assert!(is_fine(7, 0, &[1, 2]) && is_fine(7, 2, &[1, 2]));
    assert!(!is_fine(8, 0, &[1, 2]) && !is_fine(7, 1, &[1, 2]) && !is_fine(7, 0, &[1]));
}

#[test]
fn a_page_is_filled_to_its_last_byte_and_says_where_it_ends() {
    let items = || vec![chunk(1, 0, b"abcdef"), chunk(2, 0, b"xyz")];
    let mut whole = page(2 * RECORD_BYTES + 9);
    assert!(whole.take_all(items()));
    assert_eq!(
        (whole.room, whole.places.as_slice()),
        (0, &[(1, 6), (2, 3)][..])
    );
    let mut cut = page(2 * RECORD_BYTES + 8);
    assert!(!cut.take_all(items()));
    assert_eq!(
        (cut.room, cut.places.as_slice()),
        (0, &[(1, 6), (2, 2)][..])
    );
    let mut one = page(RECORD_BYTES + 6);
    assert!(!one.take_all(items()));
    assert_eq!((one.records.len(), one.places[1].1), (1, 0));
    let gap = Item::Gap(OutputGap {
        stream: 2,
        from_offset: 0,
        to_offset: 9,
    });
    let mut gaps = page(RECORD_BYTES);
    assert!(gaps.take_all(vec![gap.clone()]) && !gaps.take_all(vec![gap]));
    assert_eq!(gaps.places, [(1, 0), (2, 9)]);
}
