use super::*;
use std::time::Duration;

fn search(pattern: &str, context_lines: usize, matches: usize, bytes: u64) -> GrepSearch {
    let bounds = GrepBounds {
        context_lines,
        matches,
        bytes,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    GrepSearch::new(Regex::new(pattern).expect("a pattern"), bounds)
}

fn place() -> WalkPlace {
    WalkPlace {
        ordinal: 0,
        path: "/f".to_owned(),
    }
}

/// Searches all of a text, going on as often as it stops; says how often that was.
fn search_all(text: &[u8], step: usize, new: impl Fn() -> GrepSearch) -> (Vec<GrepMatch>, usize) {
    let mut all = Vec::new();
    let mut position = GrepPosition::start_of(place(), 0);
    for calls in 1..10_000 {
        let mut search = new();
        search.begin_file(position.clone());
        for part in text[position.offset as usize..].chunks(step) {
            search.feed(part);
        }
        search.end_file();
        let outcome = search.finish();
        all.extend(outcome.found);
        match outcome.stop {
            None => return (all, calls),
            Some((_, next, _)) => {
                assert!(next != position, "no progress at {next:?}");
                position = next;
            }
        }
    }
    panic!("there is no end");
}

const TEXT: &[u8] = b"one\ntwo x\r\nthree\nx four\nx five\n\nseven x";

#[test]
fn lines_are_found_with_number_place_and_context() {
    let (found, calls) = search_all(TEXT, 3, || search("x", 1, 100, 1_000));
    assert_eq!(calls, 1);
    let lines: Vec<(i64, &str)> = found
        .iter()
        .map(|found| (found.line_number, found.line.as_str()))
        .collect();
    assert_eq!(
        lines,
        [(2, "two x"), (4, "x four"), (5, "x five"), (7, "seven x")]
    );
    assert_eq!(
        (found[0].before[0].as_str(), found[0].after[0].as_str()),
        ("one", "three")
    );
    assert_eq!(
        (found[1].before[0].as_str(), found[1].after[0].as_str()),
        ("three", "x five")
    );
    assert!(found[3].after.is_empty());
    for one in &found {
        let at = one.offset as usize;
        assert!(TEXT[at..].starts_with(one.line.as_bytes()), "{one:?}");
    }
}

#[test]
fn going_on_finds_what_one_search_finds_whatever_the_bounds() {
    for context in [0, 1, 3] {
        let (whole, _) = search_all(TEXT, 64, || search("x|^$", context, 100, 1_000));
        for (matches, bytes, step) in [(1, 1_000, 64), (2, 1_000, 1), (100, 1, 5), (100, 7, 2)] {
            let (found, calls) = search_all(TEXT, step, || search("x|^$", context, matches, bytes));
            assert!(calls > 1);
            let places = |found: &[GrepMatch]| -> Vec<(i64, i64, Vec<String>)> {
                found
                    .iter()
                    .map(|one| (one.line_number, one.offset, one.before.clone()))
                    .collect()
            };
            if bytes > 100 {
                assert_eq!(found, whole, "{matches} {bytes} {step}");
            } else {
                assert_eq!(places(&found), places(&whole), "{matches} {bytes} {step}");
            }
        }
    }
}

#[test]
fn a_long_line_is_searched_at_its_start_and_shown_around_the_match() {
    let mut text = vec![b'-'; MAX_LINE_BYTES];
    text[40_000] = b'x';
    text.extend_from_slice(&vec![b'x'; MAX_LINE_BYTES]);
    text.extend_from_slice(b"\nx end");
    let (found, _) = search_all(&text, 10_000, || search("x", 0, 10, 1 << 20));
    assert_eq!(found.len(), 2);
    assert!(found[0].is_cut && found[0].line.contains('x') && found[0].line.len() == 1_000);
    assert_eq!((found[1].line_number, found[1].line.as_str()), (2, "x end"));
    // stopped within the long line, too
    let (again, calls) = search_all(&text, 10_000, || search("x", 2, 10, 1_000));
    assert!(calls > 1);
    assert_eq!(again.len(), 2);
    assert_eq!(again[1].line_number, 2);
}

#[test]
fn an_answer_has_its_size_and_the_largest_match_fits() {
    let line = format!("{}\n", "\u{fffd}x".repeat(600));
    let text = line.repeat(100);
    let mut one = search("x", 20, 1_000, 1 << 30);
    one.begin_file(GrepPosition::start_of(place(), 0));
    one.feed(text.as_bytes());
    one.end_file();
    let outcome = one.finish();
    let size: usize = outcome
        .found
        .iter()
        .flat_map(|found| found.before.iter().chain(&found.after).chain([&found.line]))
        .map(String::len)
        .sum();
    assert!(
        !outcome.found.is_empty() && size <= MAX_ANSWER_BYTES,
        "{size}"
    );
    assert!(matches!(outcome.stop, Some((GrepStop::Answer, _, _))));
    let (all, _) = search_all(text.as_bytes(), 1_000, || search("x", 20, 1_000, 1 << 30));
    assert_eq!(all.len(), 100);
}

#[test]
fn what_is_no_text_is_shown_as_well_as_can_be() {
    let (text, is_cut) = shown(&[0xff; 900], 0);
    assert!(is_cut && text.len() <= MAX_SHOWN_BYTES);
}
