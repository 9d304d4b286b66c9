//! What the view of test runs shows of the logs of the common runners.

use super::*;

fn tests(data: &str) -> Shown {
    show(ViewKind::Tests, 8 << 10, data.as_bytes())
}

/// Lines of a pytest run in which one of 400 fails.
fn pytest() -> String {
    let passed: String = (0..399)
        .map(|number| format!("tests/test_all.py::test_error_handling_{number} PASSED   [ 50%]\n"))
        .collect();
    format!(
        "=== test session starts ===\nplatform linux\n\n{passed}tests/test_all.py::test_div FAILED [100%]\n\n\
         === FAILURES ===\n____ test_div ____\n\n    def test_div():\n>       assert 1 / 2 == 1\nE       assert 0.5 == 1\n\n\
         tests/test_all.py:3: AssertionError\n=== short test summary info ===\n\
         FAILED tests/test_all.py::test_div - assert 0.5 == 1\n=== 1 failed, 399 passed in 3.21s ===\n"
    )
}

#[test]
fn of_pytest_the_failure_its_report_and_the_counts_are_shown() {
    let log = pytest();
    let shown = tests(&log);
    let expected = "[402 lines left out]\ntests/test_all.py::test_div FAILED [100%]\n=== FAILURES ===\n\
                    ____ test_div ____\n\n    def test_div():\n>       assert 1 / 2 == 1\nE       assert 0.5 == 1\n\n\
                    tests/test_all.py:3: AssertionError\n[1 line left out]\n\
                    FAILED tests/test_all.py::test_div - assert 0.5 == 1\n=== 1 failed, 399 passed in 3.21s ===\n";
    assert_eq!(shown.text, expected);
    let left_out = log.lines().count() as u64 - shown.omitted_lines;
    let markers = shown
        .text
        .lines()
        .filter(|line| line.contains("left out"))
        .count() as u64;
    assert_eq!(left_out, shown.text.lines().count() as u64 - markers);
    assert!(log.len() as u64 - shown.omitted_bytes <= shown.text.len() as u64);
}

#[test]
fn names_and_counts_are_kept_where_reports_fill_the_budget() {
    let report = "    a line of a long report\n".repeat(60);
    let reports: String = (0..40)
        .map(|number| format!("____ test_{number} ____\n{report}E   assert {number}\n"))
        .collect();
    let names: String = (0..40)
        .map(|number| format!("FAILED a.py::test_{number}\n"))
        .collect();
    let log = format!(
        "=== FAILURES ===\n{reports}=== short test summary info ===\n{names}=== 40 failed in 1s ===\n"
    );
    let shown = tests(&log);
    assert!(
        shown
            .text
            .ends_with(&format!("{names}=== 40 failed in 1s ===\n")),
        "{}",
        shown.text
    );
    assert!(
        shown.text.contains("E   assert 0\n"),
        "a reason is shown, however long its report"
    );
    let little = show(ViewKind::Tests, 64, log.as_bytes());
    assert!(
        little.text.ends_with("=== 40 failed in 1s ===\n"),
        "{}",
        little.text
    );
}

#[test]
fn of_cargo_the_reports_the_names_and_every_bad_result_are_shown() {
    let log = "running 2 tests\ntest error::tests::is_shown ... ok\ntest div ... FAILED\n\nfailures:\n\n\
               ---- div stdout ----\n\nthread 'div' panicked at src/lib.rs:3:5:\nassertion failed\nnote: run with\n\n\n\
               failures:\n    div\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\n\
               error: test failed, to rerun pass `--lib`\n\nCompiling something else\n";
    let shown = tests(log);
    for part in [
        "test div ... FAILED\n",
        "---- div stdout ----\n\nthread 'div' panicked at src/lib.rs:3:5:\nassertion failed\n",
        "    div\n",
        "test result: FAILED. 1 passed; 1 failed; 0 ignored\n",
        "error: test failed",
    ] {
        assert!(shown.text.contains(part), "{part:?} in {}", shown.text);
    }
    assert!(
        !shown.text.contains("is_shown") && !shown.text.contains("Compiling"),
        "{}",
        shown.text
    );
}

#[test]
fn of_other_runners_too() {
    for (log, shown, hidden) in [
        (
            "=== RUN   TestDiv\n    div_test.go:9: got 0\n--- FAIL: TestDiv (0.00s)\n=== RUN   TestErr\n    a log\n--- PASS: TestErr (0.00s)\nFAIL\nFAIL\tx/div\t0.1s\nok  \tx/error\t0.1s\n",
            "    div_test.go:9: got 0\n--- FAIL: TestDiv (0.00s)\n",
            "a log",
        ),
        (
            "--- FAIL: TestDiv (0.00s)\n    div_test.go:9: got 0\nFAIL\nFAIL\tx/div\t0.1s\nexit status 1\n",
            "    div_test.go:9: got 0\nFAIL\nFAIL\tx/div\t0.1s\n",
            "exit",
        ),
        (
            "FAIL src/div.test.js\n  div\n    \u{2713} fails with an error (2 ms)\n    \u{2715} divides (3 ms)\n\n  \u{25cf} div \u{203a} divides\n\n    expect(0.5).toBe(1)\n\nTests:       1 failed, 1 passed, 2 total\nTime: 1 s\n",
            "  \u{25cf} div \u{203a} divides\n\n    expect(0.5).toBe(1)\n\nTests:       1 failed, 1 passed, 2 total\n",
            "fails with",
        ),
        (
            "1..3\nok 1 - error told\nnot ok 2 - divides\n  ---\n  message: no\n  ...\nok 3 - x\n# tests 3\n# pass 2\n# fail 1\n",
            "not ok 2 - divides\n  ---\n  message: no\n  ...\n",
            "error told",
        ),
        (
            ".F\n======\nFAIL: test_div (a.Div)\n------\nTraceback (most recent call last):\n  x\nAssertionError: no\n\n------\nRan 2 tests in 0.1s\n\nFAILED (failures=1)\n",
            "FAIL: test_div (a.Div)\n------\nTraceback (most recent call last):\n  x\nAssertionError: no\n",
            ".F",
        ),
    ] {
        let found = tests(log).text;
        assert!(found.contains(shown), "{shown:?} in {found}");
        assert!(!found.contains(hidden), "{hidden:?} in {found}");
    }
}

#[test]
fn where_all_passed_the_counts_are_shown() {
    let log = format!("{}=== 2 passed in 1.00s ===\n", numbered(90));
    let shown = tests(&log);
    assert_eq!(
        shown.text,
        "[90 lines left out]\n=== 2 passed in 1.00s ===\n"
    );
    assert_eq!(
        (
            shown.omitted_lines,
            shown.omitted_bytes,
            shown.matched_lines
        ),
        (90, 810, 0)
    );
}

#[test]
fn what_is_no_run_of_tests_is_shown_as_errors() {
    let log = format!("{}error: it broke\n{}", numbered(50), numbered(50));
    let errors = show(ViewKind::Errors, 500, log.as_bytes());
    assert_eq!(show(ViewKind::Tests, 500, log.as_bytes()), errors);
}
