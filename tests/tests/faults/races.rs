//! Calls that meet, at two servers at once and over connections that break.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use taskyard_proto::v1::{
    CancelOutcome, CancelTaskRequest, CreateTaskRequest, TaskDefinition, TaskState, Verdict,
};
use taskyard_tests::client::{Client, command, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::meeting::meet;
use taskyard_tests::refusal::reason_of;
use taskyard_tests::wait::{SOON, until};
use tokio::sync::Barrier;
use tonic::{Code, Status};

use crate::hand_worker::{HandWorker, exited, hello, item, lease_of, report_all};
use crate::journal::Journal;

const ROUNDS: usize = 15;

const CUT_ALL: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()";

/// Runs calls truly at once; their outcomes in order.
async fn spawn_all<T: Send + 'static>(
    calls: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let running: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let outcomes = join_all(running).await;
    outcomes
        .into_iter()
        .map(|outcome| outcome.expect("a call does not panic"))
        .collect()
}

async fn create_once(
    mut client: Client,
    request: CreateTaskRequest,
) -> Result<(String, bool), Status> {
    let answer = client.tasks.create_task(request).await?.into_inner();
    Ok((answer.task.unwrap_or_default().id, answer.created))
}

fn request(session: &str, task: TaskDefinition, request_id: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        session_id: session.to_owned(),
        task: Some(task),
        request_id: request_id.to_owned(),
        ..CreateTaskRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_that_meet_make_one_task() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    for round in 0..ROUNDS {
        // In a session that is new as well.
        let session = new_session("meet");
        let race = |requests: Vec<CreateTaskRequest>| {
            let clients = clients.clone();
            let calls = requests.into_iter().enumerate();
            spawn_all(
                calls
                    .map(|(index, request)| create_once(clients[index % 2].clone(), request))
                    .collect(),
            )
        };
        let keyed = |word: &str| TaskDefinition {
            key: "k".to_owned(),
            ..command(&["echo", word])
        };
        let same = race(vec![request(&session, keyed("a"), ""); 6]).await;
        expect_one_task(round, "the same key", same);

        let by_request = request(&session, command(&["true"]), &format!("r-{session}"));
        expect_one_task(
            round,
            "the same request_id",
            race(vec![by_request; 6]).await,
        );

        // Two payloads under one key: one of them wins, the other is told so.
        let other_key = |word: &str| TaskDefinition {
            key: "k2".to_owned(),
            ..command(&["echo", word])
        };
        let outcomes = race(vec![
            request(&session, other_key("x"), ""),
            request(&session, other_key("y"), ""),
        ])
        .await;
        expect_one_conflict(round, "another payload", outcomes);

        let named = |word: &str| TaskDefinition {
            name: "n".to_owned(),
            ..command(&["echo", word])
        };
        let outcomes = race(vec![
            request(&session, named("x"), ""),
            request(&session, named("x"), ""),
        ])
        .await;
        expect_one_conflict(round, "the same name", outcomes);
    }
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_uses_of_a_namespace_that_meet_all_succeed() {
    const CALLERS: usize = 8;
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    for round in 0..ROUNDS {
        let session = new_session("first");
        let barrier = Arc::new(Barrier::new(CALLERS));
        let calls = (0..CALLERS).map(|caller| {
            let (client, barrier) = (clients[caller % 2].clone(), barrier.clone());
            let request = CreateTaskRequest {
                namespace: format!("ns-{round}"),
                ..request(&session, command(&["true"]), "")
            };
            async move {
                barrier.wait().await;
                create_once(client, request).await
            }
        });
        let made = spawn_all(calls.collect()).await;
        let refused: Vec<_> = made.iter().filter_map(|made| made.as_ref().err()).collect();
        assert!(refused.is_empty(), "round {round}: {refused:?}");
    }
    deployment.remove().await;
}

fn expect_one_task(round: usize, what: &str, outcomes: Vec<Result<(String, bool), Status>>) {
    let made: Vec<(String, bool)> = outcomes
        .into_iter()
        .map(|outcome| outcome.expect(what))
        .collect();
    let ids: HashSet<&String> = made.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 1, "{what}, round {round}: {made:?}");
    let created = made.iter().filter(|(_, created)| *created).count();
    assert_eq!(created, 1, "{what}, round {round}: {made:?}");
}

fn expect_one_conflict(round: usize, what: &str, outcomes: Vec<Result<(String, bool), Status>>) {
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(
        (made.len(), refused.len()),
        (1, 1),
        "{what}, round {round}: {made:?} {refused:?}"
    );
    for refusal in refused.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code(), Code::AlreadyExists, "{what}: {refusal:?}");
        assert!(!reason_of(&refusal).is_empty(), "{what}: {refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_a_finish_that_meet_make_one_end() {
    let lease = Duration::from_secs(300);
    let deployment = Deployment::builder()
        .lease(lease)
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    let session = new_session("meet");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut worker = HandWorker::attach(&clients[0], hello("racer", 1)).await;
    let mut tasks = Vec::new();
    for round in 0..2 * ROUNDS {
        let mut client = clients[0].clone();
        let id = client.create(&session, shell("true")).await.id;
        let offer = worker.offer().await;
        let lease = lease_of(&offer);
        // Every other round the cancel meets the start instead.
        let is_started = round % 2 == 0;
        let report = if is_started {
            worker.start(&offer).await;
            item(&lease, 2, exited(0, 0))
        } else {
            item(
                &lease,
                1,
                taskyard_proto::v1::report_item::Report::Start(taskyard_proto::v1::StartReport {}),
            )
        };
        let (mut reporting, mut canceling) = (clients[0].clone(), clients[1].clone());
        let cancel = CancelTaskRequest {
            task: id.clone(),
            ..CancelTaskRequest::default()
        };
        let (verdict, canceled) = meet(
            async move { report_all(&mut reporting, vec![report]).await[0] },
            async move { canceling.tasks.cancel_task(cancel).await },
        )
        .await;
        let answer = canceled.expect("a cancel is answered").into_inner();
        let told = answer.task.clone().unwrap_or_default();
        if is_started {
            assert_eq!(verdict, Verdict::Applied);
            let task = client.ended(&id).await;
            assert_eq!(
                task.state(),
                TaskState::Succeeded,
                "the run had ended well: {task:?}"
            );
            // The record that comes with the answer may be newer than the outcome.
            match answer.outcome() {
                CancelOutcome::AlreadyTerminal => assert_eq!(told.state(), TaskState::Succeeded),
                CancelOutcome::Requested => assert!(told.cancel_requested_at.is_some(), "{told:?}"),
                other => panic!("round {round}: {other:?}"),
            }
        } else {
            match (verdict, answer.outcome()) {
                (Verdict::Applied, CancelOutcome::Requested) => {
                    assert!(told.cancel_requested_at.is_some(), "{told:?}");
                    assert_eq!(
                        report_all(&mut client, vec![item(&lease, 2, exited(0, 0))]).await,
                        [Verdict::Applied]
                    );
                }
                (Verdict::Terminal | Verdict::Canceled, CancelOutcome::Canceled) => {
                    assert_eq!(told.state(), TaskState::Canceled);
                    assert_eq!(client.get(&id).await.state(), TaskState::Canceled);
                }
                other => panic!("round {round}: {other:?}"),
            }
        }
        tasks.push(id);
        worker.set_free(1).await;
    }
    journal.ended(&tasks).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_under_load_change_no_outcome() {
    let worker = WorkerPlan::new("w1").flags(&["--slots=16"]);
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let session = new_session("cut");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let client = deployment.client().await;
    let creators: Vec<_> = (0..8usize)
        .map(|creator| {
            let (mut client, session) = (client.clone(), session.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0..10 {
                    let code = (creator + number) % 7;
                    let task = shell(&format!("echo {creator}.{number}; exit {code}"));
                    let request = request(&session, task, &format!("{session}-{creator}-{number}"));
                    ids.push((accepted(&mut client, request).await, code as i32));
                }
                ids
            })
        })
        .collect();
    let mut database = deployment.database().connect().await;
    for _ in 0..8 {
        sqlx::query(CUT_ALL)
            .execute(&mut database)
            .await
            .expect("connections can be ended");
        // The pace of the cuts is what the test is about.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let mut ids = Vec::new();
    for made in join_all(creators).await {
        for (id, code) in made.expect("creators do not panic") {
            let task = client.clone().ended(&id).await;
            assert_eq!(
                task.exit.clone().unwrap_or_default().exit_code,
                Some(code),
                "{task:?}"
            );
            assert_eq!((task.attempt, task.run), (1, 1), "{task:?}");
            ids.push(id);
        }
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 80);
    let events = journal.ended(&ids).await;
    assert_eq!(
        events.len(),
        240,
        "each was created, started and ended once"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_broke_while_nobody_read_cost_no_read() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let id = client.run(&new_session("rest"), shell("true")).await.id;
    let reads = |client: &Client| {
        spawn_all(
            (0..24)
                .map(|_| {
                    let (mut client, id) = (client.clone(), id.clone());
                    async move { client.get(&id).await.state() }
                })
                .collect(),
        )
    };
    let mut database = deployment.database().connect().await;
    for _ in 0..3 {
        reads(&client).await;
        sqlx::query(CUT_ALL)
            .execute(&mut database)
            .await
            .expect("connections can be ended");
        // That the broken connections rest for a while is what the test is about.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let states = reads(&client).await;
        assert_eq!(states, vec![TaskState::Succeeded; 24]);
    }
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_go_away_leave_no_transaction_open() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let client = deployment.client().await;
    let session = new_session("away");
    for _ in 0..20 {
        client.clone().create(&session, shell("true")).await;
    }
    for round in 0..40u64 {
        let calls = (0..16u64).map(|number| {
            let (mut client, session) = (client.clone(), session.clone());
            async move {
                let patience = Duration::from_micros(200 + 137 * ((round * 16 + number) % 40));
                let watching =
                    taskyard_tests::watcher::Watcher::try_start(&mut client, &session, "");
                // That the call is given up somewhere on its way is what the test is about.
                drop(tokio::time::timeout(patience, watching).await);
            }
        });
        spawn_all(calls.collect()).await;
    }
    let mut database = deployment.database().connect().await;
    until("no connection to be in a transaction", SOON, async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and state like 'idle in transaction%'",
        )
        .fetch_one(&mut database)
        .await
        .expect("activity can be read");
        open == 0
    })
    .await;
    deployment.remove().await;
}

/// Asks with the same request_id until the task is accepted.
async fn accepted(client: &mut Client, request: CreateTaskRequest) -> String {
    for _ in 0..200 {
        match client.tasks.create_task(request.clone()).await {
            Ok(answer) => return answer.into_inner().task.unwrap_or_default().id,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    panic!("the task was never accepted")
}
