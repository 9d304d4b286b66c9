use super::*;
use proptest::prelude::*;

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

#[test]
fn missing_bytes_are_counted_apart() {
    let mut view = View::new(ViewKind::Tail, 1_000);
    view.feed(b"head\nha");
    view.skip(500);
    view.feed(b"lf\ntail\n");
    let shown = view.finish(true);
    assert_eq!(shown.text, "head\nha\nlf\ntail\n");
    assert_eq!((shown.unavailable_bytes, shown.omitted_bytes), (500, 0));
    assert_eq!(shown.looked_at, 7 + 500 + 8);
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{0,30}\n".prop_map(String::into_bytes),
        1 => Just(b"error: no\n".to_vec()),
        1 => Just(b"Traceback (most recent call last):\n  a\n  b\n".to_vec()),
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
        (0_usize..4, 0_usize..4, 1_usize..6)
            .prop_map(|(before, after, most)| grep("[ae]", before, after, most)),
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
}
