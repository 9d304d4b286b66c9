//! What an agent runtime sleeps on: who is woken, for what, and that each wake reaches one consumer for good.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use taskyard_proto::v1::answer_task_request::Answer;
use taskyard_proto::v1::{
    AnswerTaskRequest, GroupWake, PostRequest, SessionEventType, TakeWakesRequest,
    TakeWakesResponse, TaskDefinition, TaskState, UpdateTaskRequest, Wake, WakePolicy, WakeReason,
};
use taskyard_tests::client::{Client, command, milliseconds, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::hand_worker::{HandWorker, exited, hello, item, report_all};
use taskyard_tests::played::{Played, retried, text};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, eventually, until, within};
use taskyard_tests::watcher::Watcher;
use tonic::{Code, Status};

/// Far less than the waits of the calls that must be answered within it, far more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(30);

fn waking(policy: WakePolicy) -> TaskDefinition {
    TaskDefinition {
        wake_policy: policy.into(),
        display_name: "the build".to_owned(),
        ..command(&["work"])
    }
}

fn grouped(group: &str, group_wake: GroupWake) -> TaskDefinition {
    TaskDefinition {
        group: group.to_owned(),
        group_wake: group_wake.into(),
        ..waking(WakePolicy::OnTerminal)
    }
}

/// Wakes of one session only, since the deployment is shared.
fn of(session: &str, consumer: &str) -> TakeWakesRequest {
    TakeWakesRequest {
        session_ids: vec![session.to_owned()],
        consumer: consumer.to_owned(),
        ..TakeWakesRequest::default()
    }
}

async fn try_take(client: &Client, request: TakeWakesRequest) -> Result<TakeWakesResponse, Status> {
    let mut tasks = client.tasks.clone();
    Ok(tasks.take_wakes(request).await?.into_inner())
}

async fn take(client: &Client, request: TakeWakesRequest) -> Vec<Wake> {
    let taken = try_take(client, request).await;
    taken.expect("wakes can be taken").wakes
}

/// Everything that wakes a session, gone for good afterwards.
async fn drain(client: &Client, session: &str) -> Vec<Wake> {
    let wakes = take(client, of(session, "drain")).await;
    let request = TakeWakesRequest {
        ack_ids: ids(&wakes),
        ..of(session, "drain")
    };
    let taken = try_take(client, request).await.expect("acknowledged");
    assert_eq!(taken.acknowledged as usize, wakes.len());
    assert!(taken.wakes.is_empty(), "{:?}", taken.wakes);
    wakes
}

fn ids(wakes: &[Wake]) -> Vec<i64> {
    wakes.iter().map(|wake| wake.id).collect()
}

fn reasons(wakes: &[Wake]) -> Vec<WakeReason> {
    wakes.iter().map(Wake::reason).collect()
}

async fn answer_pending(client: &mut Client, task: &str, question_id: String) {
    let request = AnswerTaskRequest {
        task: task.to_owned(),
        question_id,
        answer: Some(Answer::Text("yes".to_owned())),
        ..AnswerTaskRequest::default()
    };
    client.tasks.answer_task(request).await.expect("answered");
}

#[tokio::test]
async fn each_policy_wakes_for_its_own_reasons() {
    let mut client = Deployment::by_hand().await.client().await;
    let all = [
        WakeReason::Message,
        WakeReason::Question,
        WakeReason::Terminal,
    ];
    for (policy, expected) in [
        (WakePolicy::Unspecified, &all[..0]),
        (WakePolicy::Silent, &all[..0]),
        (WakePolicy::OnTerminal, &all[2..]),
        (WakePolicy::OnActivity, &all[..]),
    ] {
        let session = new_session("policy");
        let mut played = Played::start(&client, &session, waking(policy)).await;
        let post = PostRequest {
            parts: vec![text("half way")],
            ..PostRequest::default()
        };
        played.inside.post(post).await.expect("posted");
        let asked = played.inside.put_question("which", "Which one?").await;
        let mut wakes = drain(&client, &session).await;
        answer_pending(&mut client, played.id(), asked).await;
        played.finish(3).await;
        wakes.extend(drain(&client, &session).await);
        assert_eq!(reasons(&wakes), expected, "{policy:?}");
        for wake in &wakes {
            assert_eq!(
                (wake.session_id.as_str(), wake.ordinal),
                (session.as_str(), 1)
            );
            assert_eq!((wake.task_id.as_str(), wake.deliveries), (played.id(), 1));
            assert!(wake.created_at.is_some());
        }
        if let [message, question, end] = &wakes[..] {
            assert_eq!(
                (message.state(), message.message_number),
                (TaskState::Running, 1)
            );
            assert_eq!(message.text, "Task \"the build\" (t1) says: half way");
            assert_eq!(question.state(), TaskState::AwaitingInput);
            assert_eq!(question.text, "Task \"the build\" (t1) asks: Which one?");
            assert_eq!(question.generation, message.generation + 1);
            assert_eq!(end.state(), TaskState::Failed);
            assert!(
                end.text
                    .starts_with("Task \"the build\" (t1) finished: failed."),
                "{}",
                end.text
            );
            let ended = client.get(played.id()).await;
            assert_eq!(end.generation, ended.generation);
        }
    }
}

#[tokio::test]
async fn only_the_tasks_own_transitions_wake() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("gating");
    let definition = retried(waking(WakePolicy::OnActivity), 3);
    let mut played = Played::start(&client, &session, definition).await;
    enrich(&mut client, played.id()).await;
    let asked = played.inside.put_question("which", "Which one?").await;
    assert_eq!(
        reasons(&drain(&client, &session).await),
        [WakeReason::Question]
    );
    enrich(&mut client, played.id()).await;
    // The worker is lost, the question stays: it has woken before.
    played.lose_worker(&client).await;
    answer_pending(&mut client, played.id(), asked).await;
    played.start_again(&client).await;
    // A run that is followed by another is no end.
    played.finish(1).await;
    played.start_again(&client).await;
    assert_eq!(drain(&client, &session).await, []);
    played.finish(0).await;
    assert_eq!(
        reasons(&drain(&client, &session).await),
        [WakeReason::Terminal]
    );
    enrich(&mut client, played.id()).await;
    assert_eq!(
        drain(&client, &session).await,
        [],
        "an enriched end is no end"
    );
}

async fn enrich(client: &mut Client, task: &str) {
    let request = UpdateTaskRequest {
        task: task.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["summary".to_owned()],
        }),
        summary: new_session("summary"),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(request).await.expect("enriched");
}

#[tokio::test]
async fn a_watch_shows_wakes_and_takes_none() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("shown");
    let mut played = Played::start(&client, &session, waking(WakePolicy::OnTerminal)).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    played.finish(0).await;
    let events = watcher.events_until(|event| event.r#type() == SessionEventType::TaskWake);
    let events = events.await;
    let (ended, shown) = (&events[events.len() - 2], &events[events.len() - 1]);
    assert_eq!(ended.r#type(), SessionEventType::TaskUpdated);
    assert_eq!(shown.generation, ended.generation);
    assert_eq!(shown.seq, ended.seq + 1);
    let shown = shown.wake.clone().expect("the wake");
    assert_eq!((shown.id, shown.deliveries), (0, 0));
    let taken = drain(&client, &session).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (shown.reason(), &shown.text, shown.generation),
        (taken[0].reason(), &taken[0].text, taken[0].generation)
    );
}

#[tokio::test]
async fn a_wake_is_handed_out_again_until_its_holder_acknowledges_it() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("lease");
    let mut played = Played::start(&client, &session, waking(WakePolicy::OnTerminal)).await;
    played.finish(0).await;
    let short = |consumer: &str| TakeWakesRequest {
        lease: Some(milliseconds(1_000)),
        ..of(&session, consumer)
    };
    let taken = take(&client, short("a")).await;
    assert_eq!((taken.len(), taken[0].deliveries), (1, 1));
    let id = taken[0].id;
    // Acknowledging names another session, so that the call takes nothing.
    let foreign = TakeWakesRequest {
        ack_ids: vec![id],
        ..of("elsewhere", "b")
    };
    let answer = try_take(&client, foreign.clone()).await.expect("answered");
    assert_eq!(answer.acknowledged, 0, "it is not b's to acknowledge");
    // Its lease passes.
    let again = eventually("the wake to come again", SOON, async || {
        take(&client, short("b")).await.pop()
    });
    let again = again.await;
    assert_eq!((again.id, again.deliveries), (id, 2));
    let late = TakeWakesRequest {
        ack_ids: vec![id],
        ..of("elsewhere", "a")
    };
    let answer = try_take(&client, late).await.expect("answered");
    assert_eq!(answer.acknowledged, 0, "it is b's by now");
    let answer = try_take(&client, foreign).await.expect("answered");
    assert_eq!(answer.acknowledged, 1);
    let none = TakeWakesRequest {
        wait: Some(milliseconds(1_500)),
        ..of(&session, "c")
    };
    assert_eq!(take(&client, none).await, [], "gone for good");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let client = Deployment::by_hand().await.client().await;
    let good = of("s", "c");
    let with = |change: &dyn Fn(&mut TakeWakesRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (field, request) in [
        ("consumer", with(&|request| request.consumer.clear())),
        (
            "consumer",
            with(&|request| request.consumer = "c".repeat(129)),
        ),
        (
            "session_id",
            with(&|request| request.session_ids = vec![String::new()]),
        ),
        (
            "session_ids",
            with(&|request| request.session_ids = vec!["s".to_owned(); 1_001]),
        ),
        ("ack_ids", with(&|request| request.ack_ids = vec![1; 1_001])),
        ("max_wakes", with(&|request| request.max_wakes = 501)),
        (
            "wait",
            with(&|request| request.wait = Some(milliseconds(61_000))),
        ),
        (
            "lease",
            with(&|request| request.lease = Some(milliseconds(10))),
        ),
    ] {
        expect_bad_field(try_take(&client, request).await, field);
    }
    let request = with(&|request| request.namespace = "nobodys".to_owned());
    let refused = try_take(&client, request).await;
    expect_refused("unknown", refused, Code::NotFound, "NAMESPACE_NOT_FOUND");
    assert_eq!(
        take(&client, good).await,
        [],
        "a session that is not there has none"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wakes_outlive_a_server_span_sessions_and_come_at_once_from_another_server() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let near = deployment.client().await;
    let far = Client::connect(&deployment.endpoint_of(1)).await;
    let sessions = [new_session("one"), new_session("two")];
    let all = TakeWakesRequest {
        consumer: "runtime".to_owned(),
        wait: Some(milliseconds(60_000)),
        ..TakeWakesRequest::default()
    };
    // A runtime sleeps at each server; the far one's wakes are stored by the near one.
    for sleeper in [&near, &far] {
        let mut played = Played::start(&near, &sessions[0], waking(WakePolicy::OnTerminal)).await;
        let (sleeper, request) = (sleeper.clone(), all.clone());
        let sleeping = tokio::spawn(async move { try_take(&sleeper, request).await });
        let ended_at = Instant::now();
        played.finish(0).await;
        let woken = within("the wake", SOON, sleeping).await.expect("no panic");
        let took = ended_at.elapsed();
        let wakes = woken.expect("taken").wakes;
        assert_eq!(wakes.len(), 1);
        assert_eq!(wakes[0].task_id, played.id());
        assert!(took < PROMPTLY, "{took:?}");
        eprintln!("woken {took:?} after the end");
    }
    let mut tasks = Vec::new();
    for session in [&sessions[0], &sessions[1], &sessions[1]] {
        let mut played = Played::start(&near, session, waking(WakePolicy::OnTerminal)).await;
        played.finish(0).await;
        tasks.push(played.id().to_owned());
    }
    deployment.with_server(0, |server| server.kill());
    deployment.restart_server(0).await;
    let near = deployment.client().await;
    let second = take(&near, of(&sessions[1], "runtime")).await;
    let found: Vec<&String> = second.iter().map(|wake| &wake.task_id).collect();
    assert_eq!(
        found,
        [&tasks[1], &tasks[2]],
        "oldest first, of that session"
    );
    let rest = take(&far, all).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(
        (&rest[0].task_id, &rest[0].session_id),
        (&tasks[0], &sessions[0])
    );
    deployment.remove().await;
}

const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_take_at_once_share_the_wakes() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("many");
    let creating = (0..MANY).map(|_| {
        let (mut client, session) = (client.clone(), session.clone());
        async move {
            let held = TaskDefinition {
                hold: true,
                ..waking(WakePolicy::OnTerminal)
            };
            let task = client.create(&session, held).await.id;
            let request = taskyard_proto::v1::CancelTaskRequest {
                task,
                ..Default::default()
            };
            client.tasks.cancel_task(request).await.expect("canceled");
        }
    });
    join_all(creating).await;
    let consumers = (0..4).map(|number| {
        let (client, session) = (client.clone(), session.clone());
        tokio::spawn(async move {
            let consumer = format!("consumer-{number}");
            let mut mine: Vec<Wake> = Vec::new();
            let mut ack_ids = Vec::new();
            loop {
                let request = TakeWakesRequest {
                    max_wakes: 7,
                    ack_ids,
                    ..of(&session, &consumer)
                };
                let wakes = take(&client, request).await;
                if wakes.is_empty() {
                    return mine;
                }
                ack_ids = ids(&wakes);
                mine.extend(wakes);
            }
        })
    });
    let shares = within("all to be taken", SOON, join_all(consumers)).await;
    let mut seen = BTreeSet::new();
    for share in shares {
        for wake in share.expect("no panic") {
            assert_eq!(wake.deliveries, 1);
            assert!(seen.insert(wake.id), "{} was taken twice", wake.id);
        }
    }
    assert_eq!(seen.len(), MANY);
}

#[tokio::test]
async fn a_group_wakes_once_when_all_its_tasks_have_ended() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("group");
    let mut members = Vec::new();
    for _ in 0..3 {
        let definition = grouped("crawl", GroupWake::AllDone);
        members.push(Played::start(&client, &session, definition).await);
    }
    // Another group, and tasks of none, are no part of it.
    let mut other = Played::start(&client, &session, grouped("x", GroupWake::AllDone)).await;
    for (code, member) in [1, 0].into_iter().zip(&mut members) {
        member.finish(code).await;
    }
    assert_eq!(drain(&client, &session).await, [], "one is left");
    members[2].finish(0).await;
    let wakes = drain(&client, &session).await;
    assert_eq!(reasons(&wakes), [WakeReason::GroupDone]);
    assert_eq!(
        (wakes[0].group.as_str(), wakes[0].task_id.as_str()),
        ("crawl", members[2].id())
    );
    other.finish(0).await;
    assert_eq!(
        reasons(&drain(&client, &session).await),
        [WakeReason::GroupDone]
    );
}

#[tokio::test]
async fn a_group_wakes_by_the_word_of_any_member_whoever_ends_last() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("group");
    let silent = TaskDefinition {
        wake_policy: WakePolicy::Silent.into(),
        ..grouped("crawl", GroupWake::Each)
    };
    let mut loud = Played::start(&client, &session, grouped("crawl", GroupWake::AllDone)).await;
    let mut last = Played::start(&client, &session, silent.clone()).await;
    loud.finish(1).await;
    assert_eq!(drain(&client, &session).await, [], "one is left");
    last.finish(0).await;
    let wakes = drain(&client, &session).await;
    assert_eq!(reasons(&wakes), [WakeReason::GroupDone]);
    assert!(
        wakes[0].text.starts_with(
            "All tasks of the group \"crawl\" have ended: 1 succeeded, 1 failed, 0 canceled."
        ),
        "{}",
        wakes[0].text
    );
    // Where nobody asked, nobody is woken.
    let quiet = TaskDefinition {
        group: "quiet".to_owned(),
        ..silent
    };
    let mut quiet = Played::start(&client, &session, quiet).await;
    quiet.finish(0).await;
    assert_eq!(drain(&client, &session).await, []);
}

#[tokio::test]
async fn the_only_task_of_a_group_that_fails_wakes_for_both() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("group");
    let mut alone = Played::start(&client, &session, grouped("one", GroupWake::FirstFailed)).await;
    alone.finish(1).await;
    let wakes = drain(&client, &session).await;
    assert_eq!(
        reasons(&wakes),
        [WakeReason::GroupFailed, WakeReason::GroupDone]
    );
}

#[tokio::test]
async fn nobody_is_woken_for_a_question_that_is_answered() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("answered");
    let mut played = Played::start(&client, &session, waking(WakePolicy::OnActivity)).await;
    let first = played.inside.put_question("one", "Which one?").await;
    let taken = take(&client, of(&session, "runtime")).await;
    assert_eq!(reasons(&taken), [WakeReason::Question]);
    answer_pending(&mut client, played.id(), first).await;
    // Gone, though somebody holds it, and one that nobody has taken yet.
    let second = played.inside.put_question("two", "And now?").await;
    answer_pending(&mut client, played.id(), second).await;
    let acknowledge = TakeWakesRequest {
        ack_ids: ids(&taken),
        ..of(&session, "runtime")
    };
    let after = try_take(&client, acknowledge).await.expect("taken");
    assert_eq!((after.acknowledged, after.wakes), (0, Vec::new()));
    // One that ends while it asks.
    played.inside.put_question("three", "Still there?").await;
    played.finish(0).await;
    assert_eq!(
        reasons(&drain(&client, &session).await),
        [WakeReason::Terminal]
    );
}

#[tokio::test]
async fn a_group_wakes_for_its_first_failure_and_its_end() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("group");
    let mut members = Vec::new();
    for _ in 0..4 {
        let definition = grouped("crawl", GroupWake::FirstFailed);
        members.push(Played::start(&client, &session, definition).await);
    }
    let expected: [&[WakeReason]; 4] = [
        &[],
        &[WakeReason::GroupFailed],
        &[],
        &[WakeReason::GroupDone],
    ];
    for ((code, expected), member) in [0, 1, 1, 1].into_iter().zip(expected).zip(&mut members) {
        member.finish(code).await;
        let wakes = drain(&client, &session).await;
        assert_eq!(reasons(&wakes), expected);
        assert!(wakes.iter().all(|wake| wake.task_id == member.id()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_end_at_once_at_two_servers_make_one_wake() {
    const ROUNDS: usize = 12;
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    let session = new_session("meet");
    let mut worker = HandWorker::attach(&clients[0], hello("w", 2)).await;
    for round in 0..ROUNDS {
        let group = format!("g{round}");
        let (group_wake, code) = match round % 2 {
            0 => (GroupWake::AllDone, 0),
            _ => (GroupWake::FirstFailed, 1),
        };
        let mut leases = Vec::new();
        for _ in 0..2 {
            let definition = grouped(&group, group_wake);
            clients[0].clone().create(&session, definition).await;
            let offer = worker.offer().await;
            leases.push(worker.start(&offer).await);
        }
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
        let ends = clients.iter().zip(&leases).map(|(client, lease)| {
            let (mut client, barrier) = (client.clone(), barrier.clone());
            let report = item(lease, 2, exited(code, 0));
            tokio::spawn(async move {
                barrier.wait().await;
                report_all(&mut client, vec![report]).await
            })
        });
        for end in join_all(ends).await {
            assert_eq!(
                end.expect("no panic"),
                [taskyard_proto::v1::Verdict::Applied]
            );
        }
        let wakes = drain(&clients[0], &session).await;
        let expected = match group_wake {
            GroupWake::FirstFailed => vec![WakeReason::GroupFailed, WakeReason::GroupDone],
            GroupWake::AllDone | GroupWake::Each | GroupWake::Unspecified => {
                vec![WakeReason::GroupDone]
            }
        };
        assert_eq!(reasons(&wakes), expected, "round {round}: {wakes:?}");
        worker.set_free(2).await;
    }
    until("nothing to be left", SOON, async || {
        drain(&clients[1], &session).await.is_empty()
    })
    .await;
    deployment.remove().await;
}
