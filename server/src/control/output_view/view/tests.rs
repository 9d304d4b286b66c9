use super::*;
use proptest::prelude::*;

#[path = "test_runs.rs"]
mod test_runs;

fn grep(pattern: &str, before: usize, after: usize, most: usize) -> ViewKind {
    ViewKind::Grep {
        pattern: Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")),
        before,
        after,
        most,
    }
}

fn show(kind: ViewKind, budget: usize, data: &[u8]) -> Shown {
    let mut view = View::new(kind, budget);
    view.feed(data);
    view.finish(true)
}

fn numbered(lines: usize) -> String {
    (1..=lines)
        .map(|number| format!("line {number:03}\n"))
        .collect()
}

#[test]
fn a_tail_is_the_last_whole_lines() {
    let shown = show(ViewKind::Tail, 100, numbered(50).as_bytes());
    assert_eq!(shown.text, numbered(50)[39 * 9..]);
    assert_eq!((shown.omitted_lines, shown.omitted_bytes), (39, 39 * 9));
    let whole = show(ViewKind::Tail, 1_000, b"a\nb");
    assert_eq!(
        (
            whole.text.as_str(),
            whole.omitted_lines,
            whole.omitted_bytes
        ),
        ("a\nb", 0, 0)
    );
    let nothing = show(ViewKind::Tail, 100, b"");
    assert_eq!(nothing, Shown::default());
}

#[test]
fn the_end_of_a_line_that_is_too_long_is_shown() {
    let shown = show(ViewKind::Tail, 64, &[b'x'; 1_000]);
    // In pieces of a quarter of the budget, the last of which has 8 bytes.
    assert_eq!(shown.text, "x".repeat(3 * 16 + 8));
    assert_eq!(shown.omitted_bytes + shown.text.len() as u64, 1_000);
    assert_eq!(shown.omitted_lines, 0, "its end is shown");
}

#[test]
fn lines_that_fit_come_with_their_neighbours() {
    let text = numbered(60);
    let shown = show(grep("0[25]0$", 1, 2, 10), 1_000, text.as_bytes());
    let expected = "[18 lines left out]\nline 019\nline 020\nline 021\nline 022\n[26 lines left out]\nline 049\n\
                    line 050\nline 051\nline 052\n[8 lines left out]\n";
    assert_eq!(shown.text, expected);
    assert_eq!((shown.matched_lines, shown.omitted_lines), (2, 52));
    assert_eq!(shown.omitted_bytes, 52 * 9);
    let first = show(grep("line", 0, 0, 1), 1_000, text.as_bytes());
    assert_eq!(first.text, "line 001\n[59 lines left out]\n");
    assert_eq!(first.matched_lines, 60, "all of them are counted");
    let none = show(grep("absent", 1, 1, 10), 1_000, text.as_bytes());
    assert_eq!((none.text.as_str(), none.omitted_lines), ("", 60));
}

#[test]
fn what_is_left_out_is_not_told_where_that_would_be_longer() {
    let shown = show(grep("b", 0, 0, 10), 1_000, b"b\na\nb\n");
    assert_eq!(shown.text, "b\nb\n");
    assert_eq!((shown.omitted_lines, shown.omitted_bytes), (1, 2));
}

#[test]
fn what_fits_is_shown_to_the_last_byte() {
    // No marker is printed, so none takes room.
    let text = numbered(8);
    for kind in [grep("line", 0, 0, 10), ViewKind::Tail] {
        let shown = show(kind, text.len(), text.as_bytes());
        assert_eq!((shown.text.as_str(), shown.omitted_bytes), (&*text, 0));
    }
    // What is left out is told of, unless that would be longer than it; then some lines make room for it.
    let shown = show(grep("line", 0, 0, 10), text.len() - 1, text.as_bytes());
    assert_eq!((shown.text, shown.omitted_bytes), (numbered(7), 9));
    let shown = show(grep("line", 0, 0, 100), text.len(), numbered(60).as_bytes());
    let expected = format!("{}[55 lines left out]\n", numbered(5));
    assert_eq!((shown.text, shown.omitted_lines), (expected, 55));
    let errors = "error: 1\n".repeat(7);
    let shown = show(ViewKind::Errors, 96, errors.as_bytes());
    assert_eq!((shown.text.as_str(), shown.omitted_bytes), (&*errors, 0));
}

#[test]
fn a_line_that_is_cut_at_the_end_gets_no_line_break() {
    let shown = show(grep("x", 0, 0, 1), 64, &[b'x'; 70]);
    assert_eq!(shown.text, "x".repeat(64));
    assert_eq!((shown.looked_at, shown.omitted_bytes), (70, 6));
}

#[test]
fn errors_are_shown_with_their_report_and_the_last_lines() {
    let mut text = numbered(100);
    text.push_str("Traceback (most recent call last):\n  File \"a.py\", line 1\n    boom()\nValueError: bad\n");
    text.push_str(&numbered(100));
    let shown = show(ViewKind::Errors, 2_000, text.as_bytes());
    let expected_start = "[98 lines left out]\nline 099\nline 100\nTraceback (most recent call last):\n  File \"a.py\", \
                          line 1\n    boom()\nValueError: bad\nline 001\nline 002\nline 003\nline 004\n[76 lines left out]\n";
    assert!(shown.text.starts_with(expected_start), "{}", shown.text);
    assert!(shown.text.ends_with("line 099\nline 100\n"));
    assert_eq!((shown.matched_lines, shown.omitted_lines), (2, 174));
    let calm = show(ViewKind::Errors, 2_000, numbered(30).as_bytes());
    assert_eq!(calm.text, numbered(30)[10 * 9..], "the last lines only");
}

/// A stream of which a piece is missing after the third line.
fn with_a_gap(kind: ViewKind, budget: usize, is_numbered: bool) -> Shown {
    let mut view = View::new(kind, budget);
    if is_numbered {
        view = view.numbered();
    }
    view.feed(b"head\none\nha");
    view.skip(500);
    view.feed(b"lf\none\ntail\n");
    view.finish(true)
}

#[test]
fn missing_bytes_are_counted_apart_and_a_line_stands_for_them() {
    let shown = with_a_gap(ViewKind::Tail, 1_000, false);
    let gap = "[... 500 bytes not kept ...]\n";
    assert_eq!(shown.text, format!("head\none\nha\n{gap}lf\none\ntail\n"));
    assert_eq!(
        (
            shown.unavailable_bytes,
            shown.omitted_bytes,
            shown.omitted_lines
        ),
        (500, 0, 0)
    );
    assert_eq!(shown.looked_at, 11 + 500 + 12);
    let found = with_a_gap(grep("one", 0, 0, 10), 1_000, false);
    assert_eq!(found.text, format!("one\n{gap}one\n"));
    let near = with_a_gap(grep("ha", 0, 3, 10), 1_000, false);
    assert_eq!(
        near.text,
        format!("ha\n{gap}"),
        "what is behind a gap is not near"
    );
    let none = with_a_gap(grep("absent", 0, 0, 10), 1_000, false);
    assert_eq!(none.text, "");
    let few = show_gap_of(3);
    assert_eq!(
        few.text, "a\nb\n",
        "not where it would be longer than they are"
    );
}

fn show_gap_of(bytes: u64) -> Shown {
    let mut view = View::new(ViewKind::Tail, 64);
    view.feed(b"a\n");
    view.skip(bytes);
    view.feed(b"b\n");
    view.finish(true)
}

#[test]
fn a_missing_end_is_told_of() {
    let mut view = View::new(ViewKind::Tail, 64);
    view.feed(numbered(20).as_bytes());
    view.skip(100);
    let shown = view.finish(true);
    assert_eq!(
        shown.text,
        "line 018\nline 019\nline 020\n[... 100 bytes not kept ...]\n"
    );
    assert_eq!((shown.omitted_lines, shown.last_exact_line), (17, None));
}

#[test]
fn lines_behind_a_gap_have_no_exact_number() {
    let gap = "[... 500 bytes not kept ...]\n";
    let shown = with_a_gap(ViewKind::Tail, 1_000, true);
    let expected = format!("1:head\n2:one\n3:ha\n{gap}?:lf\n?:one\n?:tail\n");
    assert_eq!((shown.text, shown.last_exact_line), (expected, Some(3)));
    let found = with_a_gap(grep("one", 1, 0, 10), 1_000, true);
    assert_eq!(found.text, format!("1-head\n2:one\n{gap}?-lf\n?:one\n"));
    let asked = with_a_gap(lines(3, 4), 1_000, false);
    assert_eq!(
        (asked.text, asked.kept_lines),
        (format!("ha\n{gap}lf\n"), None)
    );
    assert_eq!(asked.last_exact_line, Some(3));
    let before = with_a_gap(lines(1, 3), 1_000, false);
    assert_eq!(before.text, "head\none\nha\n");
    let beyond = with_a_gap(lines(7, 9), 1_000, false);
    assert_eq!((beyond.text.as_str(), beyond.kept_lines), ("", Some(6)));
    // Page by page the gap is told once, with the line behind it.
    let log = numbered(6);
    let page = |first: u64| {
        let mut view = View::new(lines(first, u64::MAX), 64);
        view.feed(log.as_bytes());
        view.skip(500);
        view.feed(b"tail\n");
        view.finish(true)
    };
    assert_eq!((page(1).text, page(1).next_line), (log.clone(), Some(7)));
    assert_eq!(page(7).text, format!("{gap}tail\n"));
}

fn lines(first: u64, last: u64) -> ViewKind {
    ViewKind::Lines { first, last }
}

#[test]
fn lines_are_shown_by_their_numbers() {
    let text = numbered(50);
    let shown = show(lines(10, 12), 1_000, text.as_bytes());
    assert_eq!(shown.text, "line 010\nline 011\nline 012\n");
    assert_eq!((shown.omitted_lines, shown.next_line), (47, None));
    assert_eq!(shown.omitted_bytes, 47 * 9);
    let full = show(lines(1, u64::MAX), 64, text.as_bytes());
    assert_eq!(
        (full.text.as_str(), full.next_line),
        (&numbered(7)[..], Some(8))
    );
    let beyond = show(lines(51, 60), 64, text.as_bytes());
    assert_eq!((beyond.text.as_str(), beyond.next_line), ("", None));
    assert_eq!((beyond.kept_lines, shown.kept_lines), (Some(50), None));
    let unfinished = show(lines(2, 2), 64, b"a\nb");
    assert_eq!(
        (unfinished.text.as_str(), unfinished.omitted_lines),
        ("b", 1)
    );
    let before = show(lines(1, 1), 64, b"a\nb");
    assert_eq!((before.text.as_str(), before.omitted_lines), ("a\n", 1));
}

#[test]
fn of_a_line_that_is_longer_than_the_budget_the_beginning_is_shown() {
    let mut text = vec![b'x'; 100];
    text.extend_from_slice(b"\nshort\n");
    let shown = show(lines(1, 9), 64, &text);
    assert_eq!(
        (shown.text.as_str(), shown.next_line),
        (&*"x".repeat(64), Some(2))
    );
    assert_eq!(shown.omitted_bytes, 37 + 6);
    let rest = show(lines(2, 9), 64, &text);
    assert_eq!((rest.text.as_str(), rest.next_line), ("short\n", None));
    let alone = show(lines(1, 1), 64, &text);
    assert_eq!((alone.text.len(), alone.next_line), (64, None));
}

#[test]
fn a_range_is_done_when_nothing_can_change_it() {
    let mut view = View::new(lines(2, 3), 64);
    view.feed(b"a\nb\n");
    assert!(!view.is_done());
    view.feed(b"c\n");
    assert!(view.is_done());
    let mut full = View::new(lines(1, 9), 64);
    full.feed(numbered(8).as_bytes());
    assert!(full.is_done());
}

#[test]
fn numbers_stand_before_lines_as_rg_has_them() {
    let show = |kind, data: &[u8]| {
        let mut view = View::new(kind, 1_000).numbered();
        view.feed(data);
        view.finish(true)
    };
    let text = numbered(40);
    let shown = show(grep("0[25]0$", 1, 1, 10), text.as_bytes());
    let expected =
        "[18 lines left out]\n19-line 019\n20:line 020\n21-line 021\n[19 lines left out]\n";
    assert_eq!(shown.text, expected);
    assert_eq!(
        show(lines(39, 99), text.as_bytes()).text,
        "39:line 039\n40:line 040\n"
    );
    assert_eq!(show(ViewKind::Tail, b"a\nb").text, "1:a\n2:b");
    let long = show(ViewKind::Tail, &[b'x'; 700]);
    assert_eq!(
        long.text,
        format!("1:{}", "x".repeat(700)),
        "once, whatever the pieces"
    );
    assert_eq!(long.omitted_bytes, 0);
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{0,30}\n".prop_map(String::into_bytes),
        1 => Just(b"error: no\n".to_vec()),
        1 => Just(b"Traceback (most recent call last):\n  a\n  b\n".to_vec()),
        1 => Just(b"test a ... FAILED\n".to_vec()),
        1 => Just(b"---- a stdout ----\npanicked at\nE   no\n".to_vec()),
        1 => Just(b"test result: FAILED. 0 passed; 1 failed\n".to_vec()),
        1 => Just(b"=== RUN   TestA\n  a.go:1: b\n--- FAIL: TestA\n    c\n".to_vec()),
        1 => Just(b"== 1 failed, 2 passed in 1s ==\nok  \tx\t1s\nfailures:\n    a\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\x1b[1m".to_vec()),
        1 => Just("\u{65e5}\u{672c}".as_bytes().to_vec()),
        1 => "[x]{0,300}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn kinds() -> impl Strategy<Value = ViewKind> {
    prop_oneof![
        Just(ViewKind::Tail),
        Just(ViewKind::Errors),
        Just(ViewKind::Tests),
        (0_usize..4, 0_usize..4, 1_usize..6)
            .prop_map(|(before, after, most)| grep("[ae]", before, after, most)),
        (1_u64..9, 0_u64..9).prop_map(|(first, more)| ViewKind::Lines {
            first,
            last: first + more
        }),
    ]
}

proptest! {
    #[test]
    fn a_view_keeps_its_budget_and_its_counts(
        data in output(),
        kind in kinds(),
        budget in 64_usize..600,
        lengths in proptest::collection::vec(1_usize..40, 1..6),
        is_complete in any::<bool>(),
    ) {
        let mut whole = View::new(kind.clone(), budget);
        whole.feed(&data);
        let whole = whole.finish(is_complete);
        prop_assert!(whole.text.len() <= budget, "{} bytes in {budget}", whole.text.len());
        prop_assert!(whole.text.len() <= data.len(), "never larger than the bytes behind it");
        prop_assert!(whole.omitted_bytes <= whole.looked_at && whole.looked_at <= data.len() as u64);
        if is_complete {
            prop_assert_eq!(whole.looked_at, data.len() as u64);
        }
        prop_assert_eq!(whole.omitted_bytes == 0 && whole.omitted_lines > 0, false);
        let mut pieces = View::new(kind, budget);
        let mut rest = &data[..];
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            pieces.feed(piece);
            rest = behind;
        }
        prop_assert_eq!(pieces.finish(is_complete), whole, "however the bytes come");
    }
    #[test]
    fn with_missing_pieces_a_view_keeps_its_budget_and_its_counts(
        pieces in proptest::collection::vec((output(), 0_u64..300), 1..5),
        kind in kinds(),
        budget in 64_usize..600,
        is_numbered in any::<bool>(),
    ) {
        let mut view = View::new(kind, budget);
        if is_numbered {
            view = view.numbered();
        }
        let (mut kept, mut missing) = (0, 0);
        for (data, gap) in &pieces {
            view.feed(data);
            view.skip(*gap);
            kept += data.len() as u64;
            missing += gap;
        }
        let shown = view.finish(true);
        prop_assert!(shown.text.len() <= budget, "{} bytes in {budget}", shown.text.len());
        prop_assert!(is_numbered || shown.text.len() as u64 <= kept + missing);
        prop_assert_eq!((shown.unavailable_bytes, shown.looked_at), (missing, kept + missing));
        prop_assert!(shown.omitted_bytes <= kept);
    }

    #[test]
    fn numbered_views_keep_their_budget_and_their_counts(
        data in output(),
        kind in kinds(),
        budget in 64_usize..600,
    ) {
        let mut view = View::new(kind, budget).numbered();
        view.feed(&data);
        let shown = view.finish(true);
        prop_assert!(shown.text.len() <= budget, "{} bytes in {budget}", shown.text.len());
        prop_assert_eq!(shown.looked_at, data.len() as u64);
        prop_assert!(shown.omitted_bytes <= shown.looked_at);
    }

    #[test]
    fn pages_of_lines_are_the_whole_text(data in output(), budget in 400_usize..900) {
        let mut whole = View::new(ViewKind::Tail, 1 << 20);
        whole.feed(&data);
        let whole = whole.finish(true).text;
        let mut pages = String::new();
        let mut first = 1;
        loop {
            let mut view = View::new(ViewKind::Lines { first, last: u64::MAX }, budget);
            view.feed(&data);
            let page = view.finish(true);
            prop_assert!(page.text.len() <= budget);
            pages.push_str(&page.text);
            let Some(next) = page.next_line else { break };
            prop_assert!(next > first, "it goes on");
            first = next;
        }
        // A line that is longer than a page is cut, and only such a one.
        if whole.lines().all(|line| line.len() < budget) {
            prop_assert_eq!(pages, whole);
        }
    }
}
