//! What becomes of attempts: from the start report to the acknowledged finish.

mod control_support;

use std::time::Duration;

use control_support::{World, command, command_of, lease, offer, script, to_wire};
use taskyard_proto::v1;
use taskyard_proto::v1::report_item::Report;

#[tokio::test]
async fn a_script_runs_prints_and_is_reported() {
    let world = World::new().await;
    let worker = world.start_worker();
    let mut offer = script(
        1,
        "echo hello; echo oops >&2; echo '{\"n\": 1}' > \"$TASKYARD_RESULT\"; exit 3",
    );
    command_of(&mut offer).success_exit_codes = vec![3];
    world.plane.offer(offer).await;

    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(
        finish.exit.as_ref().and_then(|exit| exit.exit_code),
        Some(3)
    );
    assert_eq!(finish.stop_cause(), v1::StopCause::Unspecified);
    assert_eq!(finish.error, None);
    assert_eq!(finish.output_json, "{\"n\": 1}");
    assert_eq!(finish.isolation, "none");
    let stdout = finish.stdout.expect("there is a report on stdout");
    assert_eq!(stdout.total_bytes, 6);
    assert_eq!(stdout.tail, "hello\n");
    assert_eq!(stdout.capture(), v1::Capture::Drained);
    let stored = world
        .plane
        .output_of(&lease(1, 1), v1::OutputStream::Stderr)
        .await;
    assert_eq!(stored.text(), "oops\n");
    {
        let state = world.plane.state();
        let numbers: Vec<i64> = state.reports.iter().map(|item| item.item_no).collect();
        assert_eq!(numbers, [1, 2]);
        assert!(matches!(state.reports[0].report, Some(Report::Start(_))));
    }
    worker.stop().await;
    assert!(
        world.is_clean(),
        "an acknowledged finish leaves nothing behind"
    );
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for_and_nothing_else() {
    let world = World::new().await;
    let worker = world.start_worker();
    let mut offer = script(
        1,
        "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; pwd; cat \"$TASKYARD_INPUT\"; cat",
    );
    command_of(&mut offer)
        .env
        .insert("MINE".to_owned(), "yes".to_owned());
    command_of(&mut offer).inherit_env = vec![
        "CARGO_MANIFEST_DIR".to_owned(),
        "NOT_SET_ANYWHERE".to_owned(),
    ];
    command_of(&mut offer).stdin = Some("from stdin".into());
    command_of(&mut offer).cwd = "sub".to_owned();
    offer.spec.as_mut().expect("a spec").input_json = "{\"in\":1}".to_owned();
    world.plane.offer(offer).await;
    world.plane.finish_of(&lease(1, 1)).await;
    let text = world
        .plane
        .output_of(&lease(1, 1), v1::OutputStream::Stdout)
        .await
        .text();
    let mut lines = text.lines();
    let names = lines.next().expect("the names");
    let expected = "CARGO_MANIFEST_DIR HOME LANG MINE PATH PWD TASKYARD_ARTIFACTS TASKYARD_ATTEMPT TASKYARD_INPUT \
                    TASKYARD_LEASE_EPOCH TASKYARD_NAMESPACE TASKYARD_RESULT TASKYARD_RUN TASKYARD_SESSION_ID \
                    TASKYARD_SOCKET TASKYARD_TASK_ID TMPDIR ";
    let names: Vec<&str> = names
        .split(' ')
        .filter(|name| !["_", "OLDPWD", "SHLVL"].contains(name))
        .collect();
    assert_eq!(names.join(" "), expected);
    assert!(lines.next().expect("the directory").ends_with("/work/sub"));
    assert_eq!(lines.next(), Some("{\"in\":1}from stdin"));
    worker.stop().await;
}

#[tokio::test]
async fn what_cannot_start_is_told_with_its_reason() {
    let world = World::new().await;
    let worker = world.start_worker();
    world
        .plane
        .offer(command(1, &["no-such-program-anywhere"]))
        .await;
    let mut bad_directory = script(2, "true");
    command_of(&mut bad_directory).cwd = "/no/such/directory".to_owned();
    world.plane.offer(bad_directory).await;
    let mut leaving = script(3, "true");
    command_of(&mut leaving).cwd = "../elsewhere".to_owned();
    world.plane.offer(leaving).await;
    world.plane.offer(offer(4, v1::TaskSpec::default())).await;
    for (number, word) in [
        (1, "no-such-program-anywhere"),
        (2, "/no/such/directory"),
        (3, "../elsewhere"),
        (4, "command"),
    ] {
        let finish = world.plane.finish_of(&lease(number, 1)).await;
        let error = finish.error.expect("there is an error");
        assert_eq!(
            (error.kind.as_str(), error.retryable),
            ("start_failed", false),
            "{error:?}"
        );
        assert!(error.message.contains(word), "{error:?}");
        assert_eq!(finish.exit, None);
    }
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_bad_result_is_an_error_and_stdout_can_be_the_result() {
    let world = World::new().await;
    let worker = world.start_worker();
    world
        .plane
        .offer(script(1, "echo '{' > \"$TASKYARD_RESULT\""))
        .await;
    let mut from_stdout = script(2, "echo '[1, 2]'");
    from_stdout.spec.as_mut().expect("a spec").result_source = v1::ResultSource::Stdout.into();
    world.plane.offer(from_stdout).await;
    let mut no_json = script(3, "echo well");
    no_json.spec.as_mut().expect("a spec").result_source = v1::ResultSource::Stdout.into();
    world.plane.offer(no_json).await;
    assert_eq!(
        world
            .plane
            .finish_of(&lease(1, 1))
            .await
            .error
            .map(|error| error.kind),
        Some("bad_output".to_owned())
    );
    assert_eq!(
        world.plane.finish_of(&lease(2, 1)).await.output_json,
        "[1, 2]"
    );
    assert_eq!(
        world
            .plane
            .finish_of(&lease(3, 1))
            .await
            .error
            .map(|error| error.kind),
        Some("bad_output".to_owned())
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_large_result_and_artifacts_go_up_as_files() {
    let world = World::new().await;
    let worker = world.start_worker();
    let text = "cd \"$TASKYARD_ARTIFACTS\"; mkdir sub; echo one > a.txt; echo two > sub/b.txt; ln -s /etc/passwd link; \
                { printf '\"'; head -c 300000 /dev/zero | tr '\\0' x; printf '\"'; } > \"$TASKYARD_RESULT\"";
    world.plane.offer(script(1, text)).await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert!(finish.output_in_file, "{:?}", finish.error);
    {
        let state = world.plane.state();
        let task_id = lease(1, 1).task_id;
        let file = |name: &str| {
            state
                .files
                .get(&(task_id.clone(), name.to_owned()))
                .cloned()
        };
        assert_eq!(
            file("output.json").map(|content| content.len()),
            Some(300_002)
        );
        assert_eq!(file("artifacts/a.txt"), Some(b"one\n".to_vec()));
        assert_eq!(file("artifacts/sub/b.txt"), Some(b"two\n".to_vec()));
        assert_eq!(state.files.len(), 3);
        let artifacts: Vec<_> = state
            .reports
            .iter()
            .filter_map(|item| match &item.report {
                Some(Report::Artifact(report)) => report
                    .artifact
                    .clone()
                    .map(|artifact| (item.item_no, artifact.path)),
                _ => None,
            })
            .collect();
        let path = |name: &str| format!("/.tasks/{task_id}/artifacts/{name}");
        assert_eq!(artifacts, [(2, path("a.txt")), (3, path("sub/b.txt"))]);
        assert_eq!(state.reports.last().map(|item| item.item_no), Some(4));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_cancel_gives_its_grace_and_a_second_one_shortens_it() {
    let world = World::new().await;
    let worker = world.start_worker();
    let stubborn = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done";
    world.plane.offer(script(1, stubborn)).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    world
        .plane
        .cancel(lease(1, 1), Some(Duration::from_secs(600)))
        .await;
    world.plane.printed(&lease(1, 1), "told").await;
    world.plane.cancel(lease(1, 1), Some(Duration::ZERO)).await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.stop_cause(), v1::StopCause::Canceled);
    assert_eq!(
        finish.exit.map(|exit| exit.signal_name),
        Some("SIGKILL".to_owned())
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_timeout_terminates_and_is_told() {
    let world = World::new().await;
    let worker = world.start_worker();
    let mut offer = script(1, "sleep 600");
    offer.timeout = Some(to_wire(Duration::from_millis(300)));
    world.plane.offer(offer).await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.stop_cause(), v1::StopCause::TimedOut);
    let exit = finish.exit.expect("there is an exit");
    assert!(exit.timed_out);
    assert_eq!(exit.signal_name, "SIGTERM");
    worker.stop().await;
}

#[tokio::test]
async fn output_that_is_not_durable_yet_is_pushed_again() {
    let world = World::new().await;
    world
        .plane
        .state()
        .finish_verdicts
        .push_back(v1::Verdict::OutputPending);
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo hello")).await;
    let lease = lease(1, 1);
    let finishes = world
        .plane
        .wait_for("two finishes", |state| {
            let finishes = state.finishes(&lease);
            (finishes.len() == 2).then_some(finishes)
        })
        .await;
    assert!(!finishes[1].accept_incomplete);
    assert_eq!(
        world
            .plane
            .output_of(&lease, v1::OutputStream::Stdout)
            .await
            .text(),
        "hello\n"
    );
    worker.stop().await;
}
