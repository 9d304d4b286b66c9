//! Output as text within a budget: what is shown, what is counted, and going on where the last view ended.

use taskyard_proto::v1::text_pattern::Pattern;
use taskyard_proto::v1::{
    CancelTaskRequest, OutputGrep, OutputLimits, OutputLines, OutputStream, OutputView,
    ReadOutputRequest, ReadOutputResponse, RetryPolicy, TaskDefinition, TaskState, TextPattern,
};
use taskyard_tests::client::{Client, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, eventually};
use tonic::{Code, Status};

/// A thousand lines of eight bytes, with a failure in the middle.
const LOG: &str = "i=0; while [ $i -lt 1000 ]; do printf 'l %05d\\n' $i; \
    if [ $i = 500 ]; then echo 'error: it broke'; fi; i=$((i+1)); done";
const LOG_BYTES: i64 = 8_016;

#[tokio::test]
async fn a_tail_keeps_its_budget_and_counts_what_it_leaves_out() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("tail"), shell(LOG)).await.id;
    let shown = view(&mut client, &task, OutputView::Tail, 100).await;
    assert!(
        shown.text.len() <= 100 && shown.text.ends_with("l 00999\n"),
        "{}",
        shown.text
    );
    assert_eq!(shown.text.lines().count(), 12);
    assert_eq!(shown.omitted_lines, 1_001 - 12);
    assert_adds_up(&shown, 12 * 8);
    assert_eq!((shown.total_bytes, shown.end_of_stream), (LOG_BYTES, true));
    let whole = view(&mut client, &task, OutputView::Tail, 1 << 20).await;
    assert_eq!(
        (whole.text.len() as i64, whole.omitted_bytes),
        (LOG_BYTES, 0)
    );
}

#[tokio::test]
async fn errors_are_picked_out_of_a_long_log() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("errors"), shell(LOG)).await.id;
    let shown = view(&mut client, &task, OutputView::Errors, 1_000).await;
    let expected = "[499 lines left out]\nl 00499\nl 00500\nerror: it broke\nl 00501\nl 00502\nl 00503\nl 00504\n\
                    [475 lines left out]\nl 00980\n";
    assert!(shown.text.starts_with(expected), "{}", shown.text);
    assert!(shown.text.ends_with("l 00999\n"));
    assert_eq!((shown.matched_lines, shown.omitted_lines), (1, 499 + 475));
    assert_adds_up(&shown, 26 * 8 + 16);
}

#[tokio::test]
async fn lines_that_fit_are_shown_with_context_and_counted() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("grep"), shell(LOG)).await.id;
    let request = ReadOutputRequest {
        grep: Some(OutputGrep {
            pattern: Some(regex("00$")),
            before: 1,
            after: 0,
            max_matches: 2,
        }),
        ..ask(&task, OutputView::Grep, 1_000)
    };
    let shown = read(&mut client, request).await.expect("shown");
    let expected = "l 00000\n[98 lines left out]\nl 00099\nl 00100\n[900 lines left out]\n";
    assert_eq!(shown.text, expected);
    assert_eq!((shown.matched_lines, shown.omitted_lines), (10, 998));
    assert_adds_up(&shown, 3 * 8);
}

#[tokio::test]
async fn text_is_clean_and_never_larger_than_the_bytes() {
    let mut client = Deployment::shared().await.client().await;
    // Octal: escapes, a title, a progress bar, an umlaut in two writes, a byte that is no UTF-8.
    let script = r"printf '\033[1;31mred\033[0m\033]0;title\007\r\n'; printf '1%%\r2%%\r3%%\n'; printf 'gr\303'; sleep 0.2;
        printf '\274n \377\n'";
    let task = client.run(&new_session("clean"), shell(script)).await.id;
    for kind in [OutputView::Tail, OutputView::SinceLast, OutputView::Errors] {
        let shown = view(&mut client, &task, kind, 0).await;
        assert_eq!(shown.text, "red\n3%\ngr\u{fc}n ?\n", "{kind:?}");
        assert_eq!((shown.omitted_bytes, shown.omitted_lines), (0, 0));
    }
    let raw = read(&mut client, ask(&task, OutputView::Raw, 0))
        .await
        .expect("read");
    assert!(raw.data.len() > 30 && raw.text.is_empty() && raw.cursor.is_empty());
    let binary = client
        .run(&new_session("clean"), shell("head -c 100000 /dev/urandom"))
        .await
        .id;
    for max_bytes in [64, 1_000, 1 << 20] {
        let shown = view(&mut client, &binary, OutputView::Tail, max_bytes).await;
        assert!(shown.text.len() <= usize::try_from(max_bytes).unwrap_or(0).min(100_000));
        let looked_at = shown.next_offset - shown.offset;
        assert_eq!((looked_at, shown.unavailable_bytes), (100_000, 0));
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_is_told_what_is_new() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let folder = deployment.folder().join(new_session("signals"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let flag = folder.join("go on");
    // Half a character is left hanging until it is told to go on.
    let script = format!(
        "echo one; printf 'two gr\\303'; until [ -e '{}' ]; do sleep 0.05; done; printf '\\274n\\nthree\\n'",
        flag.display()
    );
    let task = client
        .create(&new_session("since"), shell(&script))
        .await
        .id;
    let first = eventually("the first half", SOON, async || {
        let shown = view(&mut client, &task, OutputView::SinceLast, 0).await;
        (shown.text == "one\ntwo gr").then_some(shown)
    })
    .await;
    assert!(!first.end_of_stream);
    let nothing = since(&mut client, &task, &first.cursor, 0).await;
    assert_eq!((nothing.text.as_str(), nothing.omitted_bytes), ("", 0));
    std::fs::write(&flag, "").expect("written");
    client.ended(&task).await;
    let rest = since(&mut client, &task, &nothing.cursor, 0).await;
    assert_eq!(rest.text, "\u{fc}n\nthree\n");
    assert!(rest.end_of_stream && rest.offset == nothing.next_offset);
    let end = since(&mut client, &task, &rest.cursor, 0).await;
    assert_eq!((end.text.as_str(), end.end_of_stream), ("", true));
}

#[tokio::test]
async fn what_is_new_and_too_much_is_shown_from_its_end() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("flood"), shell(LOG)).await.id;
    let first = since(&mut client, &task, "", 64).await;
    assert_eq!(first.text.lines().last(), Some("l 00999"));
    assert_adds_up(&first, 8 * 8);
    assert_eq!(first.omitted_lines, 993);
}

#[tokio::test]
async fn a_cursor_belongs_to_its_stream_and_a_new_run_begins_anew() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("cursor");
    let retried = TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(milliseconds(1)),
            ..RetryPolicy::default()
        }),
        ..shell("echo again; exit 1")
    };
    let task = client.run(&session, retried).await.id;
    let of_run = async |client: &mut Client, run, cursor: &str| {
        let request = ReadOutputRequest {
            run,
            cursor: cursor.to_owned(),
            ..ask(&task, OutputView::SinceLast, 0)
        };
        read(client, request).await
    };
    let first = of_run(&mut client, 1, "").await.expect("shown");
    assert_eq!((first.run, first.text.as_str()), (1, "again\n"));
    let second = of_run(&mut client, 0, &first.cursor).await.expect("shown");
    assert_eq!((second.run, second.text.as_str()), (2, "again\n"));
    let answer = of_run(&mut client, 2, &first.cursor).await;
    expect_refused("of another run", answer, Code::InvalidArgument, "BAD_TOKEN");
    let another = client.run(&session, shell("echo x")).await.id;
    let foreign = ReadOutputRequest {
        cursor: first.cursor.clone(),
        ..ask(&another, OutputView::SinceLast, 0)
    };
    let on_stderr = ReadOutputRequest {
        stream: OutputStream::Stderr.into(),
        cursor: second.cursor.clone(),
        ..ask(&task, OutputView::SinceLast, 0)
    };
    let nonsense = ReadOutputRequest {
        cursor: "nonsense".to_owned(),
        ..ask(&task, OutputView::SinceLast, 0)
    };
    for request in [foreign, on_stderr, nonsense] {
        let answer = read(&mut client, request).await;
        expect_refused("a bad cursor", answer, Code::InvalidArgument, "BAD_TOKEN");
    }
}

#[tokio::test]
async fn bytes_that_were_not_kept_are_told_apart() {
    let mut client = Deployment::shared().await.client().await;
    let mut task = shell(LOG);
    task.spec.get_or_insert_default().output_limits = Some(OutputLimits {
        max_bytes_per_stream: 3_000,
    });
    let task = client.run(&new_session("gap"), task).await.id;
    let shown = view(&mut client, &task, OutputView::Tail, 1 << 20).await;
    assert!(shown.unavailable_bytes > 0 && shown.unavailable_bytes <= LOG_BYTES - 3_000);
    assert!(shown.text.starts_with("l 00000\n") && shown.text.ends_with("l 00999\n"));
    assert_eq!((shown.next_offset, shown.omitted_bytes), (LOG_BYTES, 0));
    let gap = format!("\n[... {} bytes not kept ...]\n", shown.unavailable_bytes);
    assert!(shown.text.contains(&gap), "{}", shown.text);
    assert!(shown.last_exact_line.is_some_and(|line| line < 1_001));
    let beyond = ReadOutputRequest {
        lines: Some(OutputLines {
            first: 5_000,
            last: 0,
        }),
        ..ask(&task, OutputView::Lines, 0)
    };
    let beyond = read(&mut client, beyond).await.expect("shown");
    let kept = i64::try_from(shown.text.lines().count() - 1).ok();
    assert_eq!((beyond.text.as_str(), beyond.kept_lines), ("", kept));
}

#[tokio::test]
async fn of_a_run_of_tests_what_failed_is_shown() {
    let mut client = Deployment::shared().await.client().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo \"a.py::test_error_$i PASSED\"; i=$((i+1)); done; \
        echo 'a.py::test_div FAILED'; echo '=== 1 failed, 400 passed in 1.00s ==='";
    let task = client.run(&new_session("tests"), shell(script)).await.id;
    let shown = view(&mut client, &task, OutputView::Tests, 1_000).await;
    let expected =
        "[400 lines left out]\na.py::test_div FAILED\n=== 1 failed, 400 passed in 1.00s ===\n";
    assert_eq!(shown.text, expected);
    assert_eq!((shown.matched_lines, shown.omitted_lines), (2, 400));
    assert_adds_up(&shown, 22 + 38);
}

#[tokio::test]
async fn a_task_that_has_not_run_shows_nothing() {
    let mut client = Deployment::shared().await.client().await;
    let held = TaskDefinition {
        hold: true,
        ..shell("echo x")
    };
    let task = client.create(&new_session("held"), held).await.id;
    let kinds = [OutputView::Errors, OutputView::SinceLast, OutputView::Raw];
    for kind in kinds {
        let shown = view(&mut client, &task, kind, 0).await;
        assert_eq!(
            (shown.run, shown.text.as_str(), shown.next_offset),
            (0, "", 0)
        );
        assert!(!shown.end_of_stream, "{kind:?}: all of it is to come");
    }
    let cancel = CancelTaskRequest {
        task: task.clone(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    client.ended(&task).await;
    for kind in kinds {
        let shown = view(&mut client, &task, kind, 0).await;
        assert!(shown.end_of_stream, "{kind:?}: it ended without a run");
    }
    let beyond = ReadOutputRequest {
        offset: 1,
        ..ask(&task, OutputView::Raw, 0)
    };
    let refusal = read(&mut client, beyond).await;
    let refusal = refusal.expect_err("there is no byte 1");
    assert_eq!(refusal.code(), Code::OutOfRange);
    assert!(refusal.message().contains("without a run"), "{refusal:?}");
}

#[tokio::test]
async fn views_see_output_while_it_is_written() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .create(
            &new_session("live"),
            shell("echo 'error: early'; exec sleep 100"),
        )
        .await
        .id;
    let shown = eventually("the error", SOON, async || {
        let shown = view(&mut client, &task, OutputView::Errors, 0).await;
        (shown.matched_lines == 1).then_some(shown)
    })
    .await;
    assert_eq!(
        (shown.text.as_str(), shown.end_of_stream),
        ("error: early\n", false)
    );
    assert_eq!(client.get(&task).await.state(), TaskState::Running);
    let request = CancelTaskRequest {
        task,
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

#[tokio::test]
async fn bad_views_are_refused_by_name() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .run(&new_session("refused"), shell("echo x"))
        .await
        .id;
    let grep = |grep: OutputGrep| ReadOutputRequest {
        grep: Some(grep),
        ..ask(&task, OutputView::Grep, 0)
    };
    let fits = || OutputGrep {
        pattern: Some(regex("x")),
        ..OutputGrep::default()
    };
    let cases = [
        (
            "view",
            ReadOutputRequest {
                view: 99,
                ..ask(&task, OutputView::Raw, 0)
            },
        ),
        ("max_bytes", ask(&task, OutputView::Tail, 63)),
        ("max_bytes", ask(&task, OutputView::Tail, (1 << 20) + 1)),
        ("max_bytes", ask(&task, OutputView::Raw, -1)),
        ("grep", ask(&task, OutputView::Grep, 0)),
        (
            "grep",
            ReadOutputRequest {
                grep: Some(fits()),
                ..ask(&task, OutputView::Tail, 0)
            },
        ),
        (
            "grep",
            ReadOutputRequest {
                grep: Some(fits()),
                ..ask(&task, OutputView::Raw, 0)
            },
        ),
        ("grep.pattern", grep(OutputGrep::default())),
        (
            "grep.pattern",
            grep(OutputGrep {
                pattern: Some(regex("[")),
                ..fits()
            }),
        ),
        (
            "grep.pattern",
            grep(OutputGrep {
                pattern: Some(regex(r"(\w{100}){100}")),
                ..fits()
            }),
        ),
        (
            "grep.before",
            grep(OutputGrep {
                before: 21,
                ..fits()
            }),
        ),
        (
            "grep.after",
            grep(OutputGrep {
                after: -1,
                ..fits()
            }),
        ),
        (
            "grep.max_matches",
            grep(OutputGrep {
                max_matches: 1_001,
                ..fits()
            }),
        ),
        (
            "cursor",
            ReadOutputRequest {
                cursor: "x".to_owned(),
                ..ask(&task, OutputView::Tail, 0)
            },
        ),
        (
            "cursor",
            ReadOutputRequest {
                cursor: "x".to_owned(),
                ..ask(&task, OutputView::Raw, 0)
            },
        ),
    ];
    for (field, request) in cases {
        expect_bad_field(read(&mut client, request).await, field);
    }
}

#[tokio::test]
async fn the_command_line_shows_views() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let script = format!("{LOG}; echo oops >&2");
    let task = client.run(&new_session("cli"), shell(&script)).await.id;
    let cli = deployment.command_line();
    let logs = async |flags: &[&str]| {
        let mut words = vec!["logs", &task];
        words.extend(flags);
        cli.run(&words).await
    };
    let shown = logs(&["--view", "tail", "--max-bytes", "64"])
        .await
        .expect_code(0);
    assert_eq!(shown.text().lines().count(), 8);
    assert!(shown.stderr.contains("oops") && shown.stderr.contains("993 lines"));
    let shown = logs(&["--grep", "broke", "-C", "1", "--stream", "stdout"])
        .await
        .expect_code(0);
    assert!(
        shown.text().contains("l 00500\nerror: it broke\nl 00501\n"),
        "{}",
        shown.text()
    );
    let shown = logs(&["--view", "errors", "--stream", "stdout"])
        .await
        .expect_code(0);
    assert!(shown.text().contains("error: it broke"));
    for bad in [
        &["--view", "grep"][..],
        &["--max-bytes", "4KiB"],
        &["--view", "tail", "--grep", "x"],
        &["--view", "tail", "--follow"],
    ] {
        logs(bad).await.expect_code(2);
    }
    logs(&["--grep", "("]).await.expect_code(2);
}

fn ask(task: &str, view: OutputView, max_bytes: i32) -> ReadOutputRequest {
    ReadOutputRequest {
        task: task.to_owned(),
        view: view.into(),
        max_bytes,
        ..ReadOutputRequest::default()
    }
}

async fn view(
    client: &mut Client,
    task: &str,
    view: OutputView,
    max_bytes: i32,
) -> ReadOutputResponse {
    let shown = read(client, ask(task, view, max_bytes)).await;
    shown.unwrap_or_else(|status| panic!("the view was refused: {status:?}"))
}

async fn since(
    client: &mut Client,
    task: &str,
    cursor: &str,
    max_bytes: i32,
) -> ReadOutputResponse {
    let request = ReadOutputRequest {
        cursor: cursor.to_owned(),
        ..ask(task, OutputView::SinceLast, max_bytes)
    };
    read(client, request).await.expect("shown")
}

async fn read(
    client: &mut Client,
    request: ReadOutputRequest,
) -> Result<ReadOutputResponse, Status> {
    let answer = client.tasks.read_output(request).await;
    answer.map(tonic::Response::into_inner)
}

/// What is shown, what is left out and what is missing make up what was looked at.
#[track_caller]
fn assert_adds_up(shown: &ReadOutputResponse, shown_bytes: i64) {
    assert_eq!(
        shown_bytes + shown.omitted_bytes + shown.unavailable_bytes,
        shown.next_offset - shown.offset
    );
}

fn regex(text: &str) -> TextPattern {
    TextPattern {
        pattern: Some(Pattern::Regex(text.to_owned())),
        ignore_case: false,
    }
}
