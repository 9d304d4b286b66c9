//! Definitions of tasks that make no sense: the field is named, and nothing is stored.

use std::time::{Duration, SystemTime};

use taskyard_proto::v1::{
    CommandSpec, ListTasksRequest, OutputLimits, RetryPolicy, TaskDefinition, TaskSpec,
};
use taskyard_tests::client::{command, milliseconds, new_session, pairs, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::Code;

const UNKNOWN: &str = "task_0190aaaabbbb7ccc8dddeeeeffff0001";

#[tokio::test]
async fn each_bad_field_of_a_definition_is_named() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bad");
    let argv = "task.spec.command.argv";
    for (field, task) in [
        ("task.spec", TaskDefinition::default()),
        (argv, command(&[])),
        (argv, command(&[""])),
        (argv, command(&["sh", "a\0b"])),
        (argv, command(&vec!["x"; 5000])),
        (
            "task.spec.command",
            command(&["sh", &"x".repeat(1_100_000)]),
        ),
        (
            "task.spec.command.env",
            with(|command| command.env = pairs(&[("A=B", "x")])),
        ),
        (
            "task.spec.command.env",
            with(|command| command.env = pairs(&[("", "x")])),
        ),
        (
            "task.spec.command.env",
            with(|command| command.env = pairs(&[("A", "x\0y")])),
        ),
        (
            "task.spec.command.env",
            with(|command| command.env = pairs(&[("TASKYARD_X", "x")])),
        ),
        (
            "task.spec.command.inherit_env",
            with(|command| command.inherit_env = vec!["TASKYARD_TOKEN".to_owned()]),
        ),
        (
            "task.spec.command.cwd",
            with(|command| command.cwd = "a/../..".to_owned()),
        ),
        (
            "task.spec.command.cwd",
            with(|command| command.cwd = "/a\0b".to_owned()),
        ),
        (
            "task.spec.command.umask",
            with(|command| command.umask = Some(0o1000)),
        ),
        (
            "task.spec.command.stdin",
            with(|command| command.stdin = Some(vec![0; 300_000].into())),
        ),
        (
            "task.spec.command.success_exit_codes",
            with(|command| command.success_exit_codes = vec![256]),
        ),
        (
            "task.spec.command.grace",
            with(|command| command.grace = Some(milliseconds(601_000))),
        ),
        (
            "task.spec.input_json",
            spec(|spec| spec.input_json = "{".to_owned()),
        ),
        (
            "task.spec.input_json",
            spec(|spec| spec.input_json = format!("\"{}\"", "x".repeat(270_000))),
        ),
        (
            "task.spec.payload_json",
            spec(|spec| spec.payload_json = "{}".to_owned()),
        ),
        (
            "task.spec.result_source",
            spec(|spec| spec.result_source = 77),
        ),
        (
            "task.spec.output_limits.max_bytes_per_stream",
            spec(|spec| {
                spec.output_limits = Some(OutputLimits {
                    max_bytes_per_stream: -1,
                });
            }),
        ),
        ("task.name", of(|task| task.name = "t12".to_owned())),
        ("task.name", of(|task| task.name = "task_x".to_owned())),
        ("task.name", of(|task| task.name = "two words".to_owned())),
        ("task.name", of(|task| task.name = "x".repeat(65))),
        ("task.key", of(|task| task.key = "x".repeat(129))),
        ("task.key", of(|task| task.key = "a\0b".to_owned())),
        ("task.kind", of(|task| task.kind = "a\nb".to_owned())),
        (
            "task.display_name",
            of(|task| task.display_name = "\u{1b}[31m".to_owned()),
        ),
        ("task.group", of(|task| task.group = "a\0b".to_owned())),
        (
            "task.labels",
            of(|task| task.labels = pairs(&[("a", "b\0c")])),
        ),
        ("task.labels", of(|task| task.labels = pairs(&[("", "b")]))),
        ("task.tags", of(|task| task.tags = vec!["a..b".to_owned()])),
        ("task.tags", of(|task| task.tags = vec!["a".to_owned(); 33])),
        ("task.queue", of(|task| task.queue = "a b".to_owned())),
        ("task.executor", of(|task| task.executor = "a/b".to_owned())),
        (
            "task.spec.command",
            of(|task| task.executor = "other".to_owned()),
        ),
        ("task.priority", of(|task| task.priority = 101)),
        (
            "task.timeout",
            of(|task| task.timeout = Some(milliseconds(0))),
        ),
        (
            "task.timeout",
            of(|task| task.timeout = Some(milliseconds(-5))),
        ),
        (
            "task.timeout",
            of(|task| task.timeout = Some(milliseconds(31 * 86_400_000))),
        ),
        (
            "task.retry.max_runs",
            of(|task| task.retry = Some(retry(101, 2.0))),
        ),
        (
            "task.retry.max_runs",
            of(|task| task.retry = Some(retry(-1, 2.0))),
        ),
        (
            "task.retry.multiplier",
            of(|task| task.retry = Some(retry(2, 0.5))),
        ),
        (
            "task.retry.multiplier",
            of(|task| task.retry = Some(retry(2, f64::NAN))),
        ),
        ("task.wake_policy", of(|task| task.wake_policy = 77)),
        (
            "task.start_deadline",
            of(|task| {
                let now = SystemTime::now();
                task.not_before = Some((now + Duration::from_secs(60)).into());
                task.start_deadline = Some((now + Duration::from_secs(30)).into());
            }),
        ),
        (
            "task.not_before",
            of(|task| {
                task.not_before = Some(prost_types::Timestamp {
                    seconds: i64::MAX,
                    nanos: -1,
                });
            }),
        ),
    ] {
        let answer = client.try_create(&session, task).await;
        expect_bad_field(answer, field);
    }
    let parentless = of(|task| task.parent_task_id = UNKNOWN.to_owned());
    let answer = client.try_create(&session, parentless).await;
    expect_refused(
        "an unknown parent",
        answer,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );
    let request = ListTasksRequest {
        session_id: session,
        ..ListTasksRequest::default()
    };
    let answer = client.tasks.list_tasks(request).await;
    if let Ok(answer) = answer {
        assert!(
            answer.into_inner().tasks.is_empty(),
            "a refused create leaves nothing"
        );
    }
}

fn with(change: impl FnOnce(&mut CommandSpec)) -> TaskDefinition {
    with_command(command(&["true"]), change)
}

fn spec(change: impl FnOnce(&mut TaskSpec)) -> TaskDefinition {
    let mut task = command(&["true"]);
    change(task.spec.get_or_insert_default());
    task
}

fn of(change: impl FnOnce(&mut TaskDefinition)) -> TaskDefinition {
    let mut task = command(&["true"]);
    change(&mut task);
    task
}

fn retry(max_runs: i32, multiplier: f64) -> RetryPolicy {
    RetryPolicy {
        max_runs,
        multiplier,
        ..RetryPolicy::default()
    }
}
