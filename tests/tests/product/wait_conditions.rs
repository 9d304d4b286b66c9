//! Waits for more than the end of named tasks: groups and labels, changes, lines of output; and what they refuse.

use taskyard_proto::v1::text_pattern::Pattern;
use taskyard_proto::v1::{
    CancelTaskRequest, OutputCondition, OutputGrep, OutputStream, OutputView, ReadOutputRequest,
    SessionTask, TaskDefinition, TaskState, TextPattern, UpdateTaskRequest, WaitMode,
    WaitTasksRequest, WaitTasksResponse, WaitUntil, WaitedTask,
};
use taskyard_tests::client::{
    Client, command, is_terminal, milliseconds, new_session, pairs, shell,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, within};
use tonic::{Code, Status};

#[tokio::test]
async fn a_wait_for_a_group_takes_in_who_joins_it() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("group");
    let first = create(&client, &session, held_in("g")).await;
    let second = create(&client, &session, held_in("g")).await;
    create(&client, &session, held_in("another")).await;
    let waiting = tokio::spawn(wait(client.clone(), by_group(&session, "g")));
    cancel(&client, &first.id).await;
    // There before the last of the others ends, so the wait cannot be over before it is.
    let third = create(&client, &session, held_in("g")).await;
    cancel(&client, &second.id).await;
    cancel(&client, &third.id).await;
    let answer = expect_answer(waiting.await.expect("no panic"));
    assert!(!answer.timed_out);
    let ids: Vec<&str> = answer.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, [&first.id, &second.id, &third.id]);
    assert!(answer.tasks.iter().all(is_terminal));
}

#[tokio::test]
async fn labels_choose_tasks_and_one_of_them_may_be_enough() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("labels");
    let labelled = |script: &str, labels: &[(&str, &str)]| TaskDefinition {
        labels: pairs(labels),
        ..shell(script)
    };
    let quick = labelled("true", &[("env", "prod"), ("tier", "1")]);
    let quick = create(&client, &session, quick).await;
    let slow = labelled("exec sleep 100", &[("env", "prod")]);
    let slow = create(&client, &session, slow).await;
    create(&client, &session, shell("true")).await;
    let any = WaitTasksRequest {
        labels: pairs(&[("env", "prod")]),
        mode: WaitMode::Any.into(),
        ..by_group(&session, "")
    };
    let answer = expect_answer(wait(client.clone(), any.clone()).await);
    assert_eq!((answer.timed_out, answer.tasks.len()), (false, 2));
    let both = WaitTasksRequest {
        labels: pairs(&[("env", "prod"), ("tier", "1")]),
        mode: WaitMode::All.into(),
        ..any
    };
    let answer = expect_answer(wait(client.clone(), both).await);
    assert_eq!(answer.tasks.len(), 1);
    assert_eq!((&answer.tasks[0].id, answer.timed_out), (&quick.id, false));
    cancel(&client, &slow.id).await;
}

#[tokio::test]
async fn an_empty_group_is_waited_for_and_an_expired_wait_touches_nothing() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("empty");
    let bystander = create(&client, &session, held_in("another")).await;
    let soon = WaitTasksRequest {
        timeout: Some(milliseconds(200)),
        ..by_group(&session, "g")
    };
    let answer = expect_answer(wait(client.clone(), soon.clone()).await);
    assert_eq!((answer.timed_out, answer.tasks.len()), (true, 0));
    let waiting = tokio::spawn(wait(client.clone(), by_group(&session, "g")));
    let joined = TaskDefinition {
        group: "g".to_owned(),
        ..command(&["true"])
    };
    let joined = create(&client, &session, joined).await;
    let answer = expect_answer(waiting.await.expect("no panic"));
    assert_eq!(answer.tasks.len(), 1);
    assert_eq!((&answer.tasks[0].id, answer.timed_out), (&joined.id, false));
    let unheard = WaitTasksRequest {
        group: "another".to_owned(),
        ..soon
    };
    let answer = expect_answer(wait(client.clone(), unheard).await);
    assert!(answer.timed_out && !is_terminal(&answer.tasks[0]));
    assert_eq!(client.clone().get(&bystander.id).await.generation, 1);
}

#[tokio::test]
async fn a_group_can_be_waited_for_before_its_session_exists() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("later");
    let soon = WaitTasksRequest {
        timeout: Some(milliseconds(200)),
        ..by_group(&session, "g")
    };
    let answer = expect_answer(wait(client.clone(), soon).await);
    assert_eq!((answer.timed_out, answer.tasks.len()), (true, 0));
    let session = new_session("later");
    let waiting = tokio::spawn(wait(client.clone(), by_group(&session, "g")));
    let joined = TaskDefinition {
        group: "g".to_owned(),
        ..command(&["true"])
    };
    let joined = create(&client, &session, joined).await;
    let answer = expect_answer(waiting.await.expect("no panic"));
    assert_eq!(answer.tasks.len(), 1);
    assert_eq!((&answer.tasks[0].id, answer.timed_out), (&joined.id, false));
    // Whoever comes after the first look has changed.
    let session = new_session("later");
    let changed = WaitTasksRequest {
        mode: WaitMode::Any.into(),
        until: WaitUntil::Changed.into(),
        ..by_group(&session, "g")
    };
    let answer = while_changing(wait(client.clone(), changed), async |_| {
        create(&client, &session, held_in("g")).await;
    })
    .await;
    assert!(!answer.timed_out && !answer.tasks.is_empty());
}

#[tokio::test]
async fn a_change_in_a_group_and_a_task_that_joins_it_end_a_wait_for_changes() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("changed");
    let task = create(&client, &session, held_in("g")).await;
    create(&client, &session, held_in("h")).await;
    let changed = |group| WaitTasksRequest {
        mode: WaitMode::Any.into(),
        until: WaitUntil::Changed.into(),
        ..by_group(&session, group)
    };
    // The wait counts from its first look, which nobody can see: so changes are made until it is over.
    let answer = while_changing(wait(client.clone(), changed("g")), async |number| {
        let request = UpdateTaskRequest {
            task: task.id.clone(),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["summary".to_owned()],
            }),
            summary: number.to_string(),
            ..UpdateTaskRequest::default()
        };
        client
            .clone()
            .tasks
            .update_task(request)
            .await
            .expect("updated");
    })
    .await;
    assert!(!answer.timed_out);
    let answer = while_changing(wait(client.clone(), changed("h")), async |_| {
        create(&client, &session, held_in("h")).await;
    })
    .await;
    assert!(!answer.timed_out && answer.tasks.len() > 1);
}

#[tokio::test]
async fn a_line_that_was_printed_long_ago_is_found_with_its_place() {
    let mut client = Deployment::shared().await.client().await;
    let script = "echo one; echo server ready on 8275; echo oops >&2; echo ready again";
    let task = client.run(&new_session("kept"), shell(script)).await;
    let answer = expect_answer(
        wait(
            client.clone(),
            for_line(&[&task], regex("ready on [0-9]+$")),
        )
        .await,
    );
    assert!(!answer.timed_out);
    assert_eq!(answer.matches.len(), 1);
    let found = &answer.matches[0];
    assert_eq!(
        (&found.task_id, found.run, found.stream()),
        (&task.id, 1, OutputStream::Stdout)
    );
    assert_eq!(
        (found.offset, found.line.as_str()),
        (11, "server ready on 8275")
    );
    let on_stderr = WaitTasksRequest {
        output: Some(OutputCondition {
            pattern: Some(literal("OOPS", true)),
            streams: vec![OutputStream::Stderr.into()],
        }),
        ..for_line(&[&task], regex("x"))
    };
    let answer = expect_answer(wait(client.clone(), on_stderr).await);
    assert_eq!(answer.matches[0].line, "oops");
    assert_eq!(answer.matches[0].stream(), OutputStream::Stderr);
}

#[tokio::test]
async fn a_line_is_found_while_it_comes_in_pieces_and_before_it_ends() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("live");
    let script = "echo begin; printf 'server rea'; sleep 0.3; printf 'dy 42\\n'; sleep 0.3; printf 'name? '; exec sleep 100";
    let task = create(&client, &session, shell(script)).await;
    let answer =
        expect_answer(wait(client.clone(), for_line(&[&task], regex("ready [0-9]+"))).await);
    assert_eq!((answer.timed_out, answer.matches.len()), (false, 1));
    assert_eq!(answer.matches[0].line, "server ready 42");
    assert_eq!(answer.matches[0].offset, 13);
    let answer =
        expect_answer(wait(client.clone(), for_line(&[&task], literal("name?", false))).await);
    assert_eq!(answer.matches[0].line, "name? ");
    assert_eq!(client.get(&task.id).await.state(), TaskState::Running);
    cancel(&client, &task.id).await;
}

#[tokio::test]
async fn a_pattern_means_the_same_to_a_wait_as_to_a_view() {
    let mut client = Deployment::shared().await.client().await;
    let script = r"printf '\033[31mERROR\033[0m: it \033[1mbroke\033[0m\n10%%\r50%%\rdone\n'";
    let task = client.run(&new_session("colors"), shell(script)).await;
    for (pattern, line, offset) in [
        ("^ERROR: it broke$", "ERROR: it broke", 5),
        ("broke", "ERROR: it broke", 23),
        ("^done$", "done", 41),
    ] {
        let answer = expect_answer(wait(client.clone(), for_line(&[&task], regex(pattern))).await);
        let found = answer.matches.first().cloned().unwrap_or_default();
        assert_eq!((found.line.as_str(), found.offset), (line, offset));
        let request = ReadOutputRequest {
            task: task.id.clone(),
            view: OutputView::Grep.into(),
            grep: Some(OutputGrep {
                pattern: Some(regex(pattern)),
                ..OutputGrep::default()
            }),
            ..ReadOutputRequest::default()
        };
        let shown = client.tasks.read_output(request).await.expect("shown");
        assert!(shown.into_inner().text.contains(line), "{pattern}");
    }
    let answer = expect_answer(wait(client.clone(), for_line(&[&task], regex("50%|\x1b"))).await);
    assert_eq!(answer.matches, [], "overwritten, or not shown");
}

#[tokio::test]
async fn output_that_another_server_stores_is_found() {
    let deployment = Deployment::builder().servers(2).start().await;
    let client = deployment.client().await;
    let session = new_session("elsewhere");
    let elsewhere = Client::connect(&deployment.endpoint_of(1)).await;
    let task = create(
        &client,
        &session,
        shell("sleep 0.5; echo ready; exec sleep 100"),
    )
    .await;
    let answer = expect_answer(wait(elsewhere, for_line(&[&task], literal("ready", false))).await);
    assert_eq!((answer.timed_out, answer.matches.len()), (false, 1));
    cancel(&client, &task.id).await;
    deployment.remove().await;
}

#[tokio::test]
async fn tasks_that_end_without_the_line_end_the_wait() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("never");
    let silent = client.run(&session, command(&["true"])).await;
    let loud = client.run(&session, shell("echo ready")).await;
    let other = client.run(&session, shell("echo ready >&2; exit 1")).await;
    let request = for_line(&[&silent, &loud, &other], literal("ready", false));
    let answer = expect_answer(wait(client.clone(), request.clone()).await);
    assert!(!answer.timed_out);
    let found: Vec<&str> = answer
        .matches
        .iter()
        .map(|found| found.task_id.as_str())
        .collect();
    assert_eq!(found, [&loud.id, &other.id]);
    let nothing = for_line(&[&silent, &loud], literal("absent", false));
    for mode in [WaitMode::All, WaitMode::Any] {
        let request = WaitTasksRequest {
            mode: mode.into(),
            ..nothing.clone()
        };
        let answer = expect_answer(wait(client.clone(), request).await);
        assert_eq!(
            (answer.timed_out, answer.matches.len()),
            (false, 0),
            "{mode:?}"
        );
    }
    // A task that goes on may still print it.
    let running = create(&client, &session, shell("exec sleep 100")).await;
    let request = WaitTasksRequest {
        timeout: Some(milliseconds(200)),
        ..for_line(&[&silent, &running], literal("ready", false))
    };
    let answer = expect_answer(wait(client.clone(), request.clone()).await);
    assert_eq!((answer.timed_out, answer.matches.len()), (true, 0));
    let any = WaitTasksRequest {
        mode: WaitMode::Any.into(),
        ..for_line(&[&running, &loud], literal("ready", false))
    };
    let answer = expect_answer(wait(client.clone(), any).await);
    assert_eq!((answer.timed_out, answer.matches.len()), (false, 1));
    cancel(&client, &running.id).await;
}

#[tokio::test]
async fn bad_waits_are_refused_by_name() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("refused");
    let task = create(&client, &session, held_in("g")).await;
    let line = |pattern: TextPattern| for_line(&[&task], pattern);
    let group = |change: fn(&mut WaitTasksRequest)| {
        let mut request = by_group(&session, "g");
        change(&mut request);
        request
    };
    let cases = [
        ("output.pattern", line(regex("("))),
        ("output.pattern", line(regex(r"(?:a{1000}){1000}"))),
        ("output.pattern", line(regex(""))),
        ("output.pattern", line(literal("a\nb", false))),
        ("output.pattern", line(literal(&"x".repeat(1_025), false))),
        ("output.pattern", line(TextPattern::default())),
        (
            "output",
            group(|request| request.until = WaitUntil::OutputMatch.into()),
        ),
        (
            "output",
            group(|request| request.output = Some(OutputCondition::default())),
        ),
        (
            "tasks",
            group(|request| request.tasks = vec![WaitedTask::default()]),
        ),
        ("tasks", group(|request| request.group = String::new())),
        ("group", group(|request| request.group = "x".repeat(257))),
        (
            "labels",
            group(|request| request.labels = pairs(&[("a", "\0")])),
        ),
        (
            "session_id",
            group(|request| request.session_id = String::new()),
        ),
        ("until", group(|request| request.until = 77)),
    ];
    for (field, request) in cases {
        expect_bad_field(wait(client.clone(), request).await, field);
    }
    let mut request = for_line(&[&task], regex("x"));
    let streams = [OutputStream::Unspecified.into()];
    request.output.get_or_insert_default().streams = streams.to_vec();
    expect_bad_field(wait(client.clone(), request).await, "output.streams");
    let request = WaitTasksRequest {
        namespace: "nobodys".to_owned(),
        ..by_group(&new_session("unknown"), "g")
    };
    let answer = wait(client.clone(), request).await;
    expect_refused(
        "an unknown namespace",
        answer,
        Code::NotFound,
        "NAMESPACE_NOT_FOUND",
    );
}

#[tokio::test]
async fn more_tasks_than_one_wait_can_search_are_refused() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("crowd");
    let creates = (0..65).map(|_| create(&client, &session, held_in("g")));
    let tasks = futures::future::join_all(creates).await;
    let by_group = WaitTasksRequest {
        until: WaitUntil::OutputMatch.into(),
        output: for_line(&[], regex("x")).output,
        ..by_group(&session, "g")
    };
    let answer = wait(client.clone(), by_group).await;
    expect_refused(
        "too many",
        answer,
        Code::ResourceExhausted,
        "TOO_MANY_TASKS",
    );
    let tasks: Vec<&SessionTask> = tasks.iter().collect();
    let named = for_line(&tasks, regex("x"));
    expect_bad_field(wait(client.clone(), named).await, "tasks");
}

#[tokio::test]
async fn the_command_line_waits_for_groups_labels_and_lines() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("cli");
    let task = TaskDefinition {
        group: "g".to_owned(),
        labels: pairs(&[("env", "prod")]),
        ..shell("echo one; echo ready on 8275; exit 3")
    };
    let task = client.run(&session, task).await;
    let cli = deployment.command_line();
    let run = async |words: &[&str]| {
        let mut all = vec!["wait", "--session", &session];
        all.extend(words);
        cli.run(&all).await
    };
    let listed = run(&["--group", "g", "-o", "name"]).await.expect_code(1);
    assert_eq!(listed.text(), format!("{}\n", task.id));
    let listed = run(&["--label", "env=prod", "-o", "name"])
        .await
        .expect_code(1);
    assert_eq!(listed.text(), format!("{}\n", task.id));
    let found = run(&["--group", "g", "--match", "ready on [0-9]+"])
        .await
        .expect_code(0);
    assert_eq!(found.text(), "ready on 8275\n");
    let found = run(&[&task.id, "--match", "ready", "-o", "json"])
        .await
        .expect_code(0);
    assert_eq!(found.json()[0]["offset"], 4);
    let none = run(&[&task.id, "--match", "ready", "--stream", "stderr"]).await;
    assert_eq!(none.expect_code(1).text(), "");
    run(&["--group", "nobody", "--timeout", "200ms"])
        .await
        .expect_code(4);
    run(&[&task.id, "--match", "("]).await.expect_code(2);
    run(&[]).await.expect_code(2);
    run(&[&task.id, "--group", "g"]).await.expect_code(2);
}

fn by_group(session: &str, group: &str) -> WaitTasksRequest {
    WaitTasksRequest {
        session_id: session.to_owned(),
        group: group.to_owned(),
        timeout: Some(milliseconds(25_000)),
        ..WaitTasksRequest::default()
    }
}

fn for_line(tasks: &[&SessionTask], pattern: TextPattern) -> WaitTasksRequest {
    WaitTasksRequest {
        tasks: tasks
            .iter()
            .map(|task| WaitedTask {
                task: task.id.clone(),
                seen_generation: 0,
            })
            .collect(),
        until: WaitUntil::OutputMatch.into(),
        output: Some(OutputCondition {
            pattern: Some(pattern),
            streams: Vec::new(),
        }),
        timeout: Some(milliseconds(25_000)),
        ..WaitTasksRequest::default()
    }
}

fn regex(text: &str) -> TextPattern {
    TextPattern {
        pattern: Some(Pattern::Regex(text.to_owned())),
        ignore_case: false,
    }
}

fn literal(text: &str, ignore_case: bool) -> TextPattern {
    TextPattern {
        pattern: Some(Pattern::Literal(text.to_owned())),
        ignore_case,
    }
}

async fn wait(mut client: Client, request: WaitTasksRequest) -> Result<WaitTasksResponse, Status> {
    let answer = within("a wait", SOON, client.tasks.wait_tasks(request)).await;
    answer.map(tonic::Response::into_inner)
}

#[track_caller]
fn expect_answer(answer: Result<WaitTasksResponse, Status>) -> WaitTasksResponse {
    answer.unwrap_or_else(|status| panic!("the wait was refused: {status:?}"))
}

/// The answer of a wait during which changes are made again and again.
async fn while_changing(
    waiting: impl Future<Output = Result<WaitTasksResponse, Status>>,
    mut change: impl AsyncFnMut(usize),
) -> WaitTasksResponse {
    tokio::pin!(waiting);
    let mut changes = 0;
    loop {
        tokio::select! {
            answer = &mut waiting => return expect_answer(answer),
            () = change(changes) => changes += 1,
        }
    }
}

fn held_in(group: &str) -> TaskDefinition {
    TaskDefinition {
        group: group.to_owned(),
        hold: true,
        ..command(&["true"])
    }
}

async fn create(client: &Client, session: &str, task: TaskDefinition) -> SessionTask {
    client.clone().create(session, task).await
}

async fn cancel(client: &Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    let canceled = client.clone().tasks.cancel_task(request).await;
    canceled.expect("canceled");
}
