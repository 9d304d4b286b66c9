//! Answers, posts, cancels and ends that meet at two servers: one outcome each, and everybody is told the same.

use std::time::Duration;

use taskyard_proto::v1::answer_task_request::Answer;
use taskyard_proto::v1::{
    AnswerTaskRequest, AnswerTaskResponse, CancelOutcome, CancelTaskRequest, Lease,
    ListMessagesRequest, PostMessageRequest, SessionEventType, TaskState, Verdict,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::meeting::meet;
use taskyard_tests::played::{Inside, text};
use taskyard_tests::refusal::reason_of;
use tonic::Status;

use crate::hand_worker::{HandWorker, exited, hello, item, report_all};
use crate::journal::Journal;

const ROUNDS: usize = 15;

/// Two servers and the one session whose tasks race.
struct Arena {
    deployment: Deployment,
    clients: [Client; 2],
    session: String,
    journal: Journal,
    worker: HandWorker,
    tasks: Vec<String>,
}

/// One task that runs, and whose moment has come.
struct Racer {
    id: String,
    lease: Lease,
    question_id: String,
}

impl Arena {
    async fn open() -> Arena {
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
        let journal = Journal::begin(&deployment.endpoint(), &session).await;
        let worker = HandWorker::attach(&clients[0], hello("racer", 1)).await;
        Arena {
            deployment,
            clients,
            session,
            journal,
            worker,
            tasks: Vec::new(),
        }
    }

    /// A task that asks its owner a question.
    async fn asking(&mut self) -> Racer {
        let mut racer = self.running().await;
        let inside = Inside::new(&self.clients[0], racer.lease.clone());
        racer.question_id = inside.put_question("which", "Which one?").await;
        racer
    }

    async fn running(&mut self) -> Racer {
        let id = self.clients[0]
            .create(&self.session, command(&["work"]))
            .await
            .id;
        let offer = self.worker.offer().await;
        let lease = self.worker.start(&offer).await;
        self.tasks.push(id.clone());
        Racer {
            id,
            lease,
            question_id: String::new(),
        }
    }

    /// Ends the round's task if it has not ended.
    async fn end(&mut self, racer: &Racer) {
        let report = item(&racer.lease, 2, exited(0, 0));
        let verdict = report_all(&mut self.clients[0], vec![report]).await[0];
        assert!(
            matches!(verdict, Verdict::Applied | Verdict::AlreadyApplied),
            "{verdict:?}"
        );
        self.worker.set_free(1).await;
    }

    /// The events of the session are contiguous, and each task ended once; answers with all of them.
    async fn close(self) -> Vec<taskyard_proto::v1::SessionEvent> {
        let events = self.journal.ended(&self.tasks).await;
        self.deployment.remove().await;
        events
    }
}

async fn answer(
    mut client: Client,
    task: String,
    question_id: String,
    words: &'static str,
) -> Result<AnswerTaskResponse, Status> {
    let request = AnswerTaskRequest {
        task,
        question_id,
        answer: Some(Answer::Text(words.to_owned())),
        ..AnswerTaskRequest::default()
    };
    Ok(client.tasks.answer_task(request).await?.into_inner())
}

/// How many messages a task's thread has; their numbers must be without gaps.
async fn thread_length(client: &mut Client, task: &str) -> usize {
    let request = ListMessagesRequest {
        task: task.to_owned(),
        ..ListMessagesRequest::default()
    };
    let answer = client.tasks.list_messages(request).await;
    let messages = answer.expect("listed").into_inner().messages;
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message.number, index as i64 + 1);
    }
    messages.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_answers_that_meet_one_is_the_answer() {
    let mut arena = Arena::open().await;
    for round in 0..ROUNDS {
        let racer = arena.asking().await;
        let [near, far] = arena.clients.clone();
        let (blue, red) = meet(
            answer(near, racer.id.clone(), racer.question_id.clone(), "blue"),
            answer(far, racer.id.clone(), racer.question_id.clone(), "red"),
        )
        .await;
        let (good, bad): (Vec<_>, Vec<_>) = [blue, red].into_iter().partition(Result::is_ok);
        assert_eq!(
            (good.len(), bad.len()),
            (1, 1),
            "round {round}: {good:?} {bad:?}"
        );
        let refusal = bad
            .into_iter()
            .find_map(Result::err)
            .expect("one is refused");
        assert_eq!(reason_of(&refusal), "ALREADY_ANSWERED", "{refusal:?}");
        let kept = good.into_iter().find_map(Result::ok).unwrap_or_default();
        let inside = Inside::new(&arena.clients[1], racer.lease.clone());
        let question = taskyard_tests::played::question("which", "Which one?");
        let told = inside.ask(question).await.expect("told").answer;
        assert_eq!(told, kept.message, "the work is told the same");
        assert_eq!(thread_length(&mut arena.clients[0], &racer.id).await, 1);
        arena.end(&racer).await;
    }
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_and_a_cancel_that_meet_agree_on_who_came_first() {
    let mut arena = Arena::open().await;
    for round in 0..ROUNDS {
        let racer = arena.asking().await;
        let [near, mut far] = arena.clients.clone();
        let request = CancelTaskRequest {
            task: racer.id.clone(),
            ..CancelTaskRequest::default()
        };
        let (answered, canceled) = meet(
            answer(near, racer.id.clone(), racer.question_id.clone(), "blue"),
            async move { far.tasks.cancel_task(request).await },
        )
        .await;
        let canceled = canceled.expect("a cancel is answered").into_inner();
        assert_eq!(canceled.outcome(), CancelOutcome::Requested);
        let task = arena.clients[0].get(&racer.id).await;
        assert!(task.cancel_requested_at.is_some());
        let messages = thread_length(&mut arena.clients[0], &racer.id).await;
        match answered {
            Ok(_) => assert_eq!((task.state(), messages), (TaskState::Running, 1)),
            Err(refusal) => {
                assert_eq!(reason_of(&refusal), "CANCEL_REQUESTED", "round {round}");
                assert_eq!((task.state(), messages), (TaskState::AwaitingInput, 0));
            }
        }
        arena.end(&racer).await;
    }
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_and_an_end_that_meet_agree_on_who_came_first() {
    let mut arena = Arena::open().await;
    for round in 0..ROUNDS {
        let racer = arena.asking().await;
        let [mut near, far] = arena.clients.clone();
        let report = item(&racer.lease, 2, exited(0, 0));
        let (verdicts, answered) = meet(
            async move { report_all(&mut near, vec![report]).await },
            answer(far, racer.id.clone(), racer.question_id.clone(), "blue"),
        )
        .await;
        assert_eq!(verdicts, [Verdict::Applied], "round {round}");
        let task = arena.clients[0].get(&racer.id).await;
        assert_eq!(
            (task.state(), &task.input_request),
            (TaskState::Succeeded, &None)
        );
        let messages = thread_length(&mut arena.clients[0], &racer.id).await;
        match answered {
            Ok(_) => assert_eq!(messages, 1),
            Err(refusal) => {
                assert_eq!(
                    reason_of(&refusal),
                    "TERMINAL",
                    "round {round}: {refusal:?}"
                );
                assert_eq!(messages, 0);
            }
        }
        arena.end(&racer).await;
    }
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_and_an_end_that_meet_leave_no_message_after_the_end() {
    let mut arena = Arena::open().await;
    let mut stored = 0;
    for round in 0..ROUNDS {
        let racer = arena.running().await;
        let [mut near, mut far] = arena.clients.clone();
        let report = item(&racer.lease, 2, exited(0, 0));
        let request = PostMessageRequest {
            task: racer.id.clone(),
            parts: vec![text("go on")],
            ..PostMessageRequest::default()
        };
        let (verdicts, posted) = meet(
            async move { report_all(&mut near, vec![report]).await },
            async move { far.tasks.post_message(request).await },
        )
        .await;
        assert_eq!(verdicts, [Verdict::Applied], "round {round}");
        let messages = thread_length(&mut arena.clients[0], &racer.id).await;
        match posted {
            Ok(_) => assert_eq!(messages, 1),
            Err(refusal) => {
                assert_eq!(
                    reason_of(&refusal),
                    "TERMINAL",
                    "round {round}: {refusal:?}"
                );
                assert_eq!(messages, 0);
            }
        }
        stored += messages;
        arena.end(&racer).await;
    }
    let events = arena.close().await;
    let shown = events
        .iter()
        .filter(|event| event.r#type() == SessionEventType::TaskMessage);
    assert_eq!(shown.count(), stored);
    for (index, event) in events.iter().enumerate() {
        if event.r#type() == SessionEventType::TaskMessage {
            let later = &events[index + 1..];
            assert!(
                later.iter().any(|later| later.task_id == event.task_id),
                "a message after the end: {event:?}"
            );
        }
    }
}
