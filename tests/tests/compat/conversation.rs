//! A client and a worker of a recorded release, word for word, with the server of now.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Once;

use prost::Message;
use serde_json::{Value, json};
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    Artifact, ArtifactReport, Capture, CommandSpec, CreateTaskRequest, Exit, FinishReport, Hello,
    Lease, OutputChunk, OutputStream, Progress, ProgressReport, PushOutputRequest, ReportItem,
    ReportRequest, StartReport, StreamReport, TaskDefinition, TaskSpec, TaskState, Usage, Verdict,
};
use taskyard_tests::client::Client;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::hand_worker::{HandWorker, hello, lease_of, random_id};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::wait::{SOON, within};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::releases::{Release, own, releases};

const CONVERSATION: &str = "conversation.jsonl";

/// A lease that is not known before it is offered: each of these is replaced by the one that is.
const PLACE_OF_LEASE: i64 = 424_242;

/// What was said, by the name of the step.
struct Conversation(BTreeMap<String, Vec<u8>>);

impl Conversation {
    /// What this version says, with all that its worker and its clients can say of an ordinary run.
    fn of_this_version() -> Vec<(&'static str, Vec<u8>)> {
        let lease = || {
            Some(Lease {
                task_id: String::new(),
                epoch: PLACE_OF_LEASE,
                lease_id: vec![0; 16].into(),
            })
        };
        let reports = |items: Vec<(i64, Report)>| {
            let item = |(item_no, report)| ReportItem {
                lease: lease(),
                item_no,
                report: Some(report),
            };
            let items = items.into_iter().map(item).collect();
            ReportRequest { items }.encode_to_vec()
        };
        let create = CreateTaskRequest {
            session_id: "recorded".to_owned(),
            request_id: "once".to_owned(),
            task: Some(TaskDefinition {
                key: "the build".to_owned(),
                display_name: "the build".to_owned(),
                labels: [("team".to_owned(), "yard".to_owned())].into(),
                spec: Some(TaskSpec {
                    command: Some(CommandSpec {
                        argv: vec!["make".to_owned(), "all".to_owned()],
                        env: [("LANG".to_owned(), "C".to_owned())].into(),
                        ..CommandSpec::default()
                    }),
                    ..TaskSpec::default()
                }),
                ..TaskDefinition::default()
            }),
            ..CreateTaskRequest::default()
        };
        let hello = Hello {
            features: vec!["reattach".to_owned()],
            labels: [("arch".to_owned(), "arm64".to_owned())].into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: vec![1; 16].into(),
            state_id: vec![2; 16].into(),
            ..hello("recorded", 4)
        };
        let output = PushOutputRequest {
            lease: lease(),
            run: 1,
            chunks: vec![OutputChunk {
                stream: OutputStream::Stdout.into(),
                offset: 0,
                data: b"made\n"[..].into(),
                at: Some(prost_types::Timestamp {
                    seconds: 1_763_740_800,
                    nanos: 0,
                }),
                order: 0,
            }],
            head_bytes: 1 << 20,
            tail_bytes: 1 << 20,
            totals: Vec::new(),
        };
        let progress = Progress {
            current: Some(1.0),
            total: Some(2.0),
            unit: "files".to_owned(),
            label: "making".to_owned(),
            ..Progress::default()
        };
        let artifact = Artifact {
            name: "site".to_owned(),
            r#type: "url".to_owned(),
            url: "https://example.com/".to_owned(),
            ..Artifact::default()
        };
        let stream = |total_bytes, tail: &'static [u8]| {
            Some(StreamReport {
                total_bytes,
                capture: Capture::Drained.into(),
                tail: tail.into(),
            })
        };
        let finish = FinishReport {
            exit: Some(Exit {
                exit_code: Some(0),
                ..Exit::default()
            }),
            usage: Some(Usage {
                cpu_ms: 12,
                max_rss_bytes: 1 << 20,
                ..Usage::default()
            }),
            output_json: r#"{"files": 2}"#.to_owned(),
            stdout: stream(5, b"made\n"),
            stderr: stream(0, b""),
            ..FinishReport::default()
        };
        let progress = Report::Progress(ProgressReport {
            progress: Some(progress),
            ..ProgressReport::default()
        });
        let artifact = Report::Artifact(ArtifactReport {
            artifact: Some(artifact),
        });
        vec![
            ("create", create.encode_to_vec()),
            ("hello", hello.encode_to_vec()),
            ("start", reports(vec![(1, Report::Start(StartReport {}))])),
            ("progress", reports(vec![(2, progress), (3, artifact)])),
            ("output", output.encode_to_vec()),
            ("finish", reports(vec![(4, Report::Finish(finish))])),
        ]
    }

    fn read(release: &Release) -> Conversation {
        let text = String::from_utf8(release.read(CONVERSATION)).expect("a text");
        let steps = text.lines().map(|line| {
            let step: Value = serde_json::from_str(line).expect("JSON");
            let digits = step["bytes"].as_str().expect("bytes");
            let bytes = (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"));
            (
                step["step"].as_str().expect("a name").to_owned(),
                bytes.collect(),
            )
        });
        Conversation(steps.collect())
    }

    fn step<M: Message + Default>(&self, name: &str) -> M {
        M::decode(self.0[name].as_slice()).expect("it can be read")
    }

    /// The reports of a step, under the lease that was offered.
    fn reports(&self, name: &str, lease: &Lease) -> Vec<ReportItem> {
        let mut items = self.step::<ReportRequest>(name).items;
        for item in &mut items {
            put(lease, &mut item.lease);
        }
        items
    }
}

fn put(lease: &Lease, place: &mut Option<Lease>) {
    let epoch = place.as_ref().map(|place| place.epoch);
    assert_eq!(epoch, Some(PLACE_OF_LEASE));
    *place = Some(lease.clone());
}

fn recorded() -> Vec<Release> {
    static RECORDED: Once = Once::new();
    releases(&RECORDED, |release| {
        let lines = Conversation::of_this_version()
            .into_iter()
            .map(|(step, bytes)| {
                let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{}\n", json!({ "step": step, "bytes": bytes }))
            });
        fs::write(release.path(CONVERSATION), lines.collect::<String>()).expect("written");
    })
}

#[test]
fn this_version_is_recorded() {
    assert!(own(&recorded()).path(CONVERSATION).is_file());
}

#[tokio::test]
async fn clients_and_workers_of_a_recorded_release_are_served() {
    for release in recorded() {
        let conversation = Conversation::read(&release);
        let deployment = Deployment::builder().workers(Vec::new()).start().await;
        let mut client = deployment.client().await;
        let created = client
            .tasks
            .create_task(conversation.step::<CreateTaskRequest>("create"));
        let task = created
            .await
            .expect("it is created")
            .into_inner()
            .task
            .unwrap_or_default();

        let (mut worker, welcome) =
            HandWorker::attach_welcomed(&client, conversation.step("hello")).await;
        let said: Hello = conversation.step("hello");
        assert!((said.protocol_min..=said.protocol_max).contains(&welcome.protocol));
        let offer = worker.offer().await;
        let lease = lease_of(&offer);
        assert_eq!(lease.task_id, task.id);
        for step in ["start", "progress"] {
            let items = conversation.reports(step, &lease);
            let verdicts = worker.report_all(items).await;
            assert!(
                verdicts.iter().all(|verdict| *verdict == Verdict::Applied),
                "{verdicts:?}"
            );
        }
        push(&mut client, conversation.step("output"), &lease).await;
        let verdicts = worker
            .report_all(conversation.reports("finish", &lease))
            .await;
        assert_eq!(verdicts, [Verdict::Applied]);

        let task = client.get(&task.id).await;
        assert_eq!(task.state(), TaskState::Succeeded);
        assert_eq!(
            (task.display_name.as_str(), task.artifacts.len()),
            ("the build", 1)
        );
        let result = client.result(&task.id).await;
        assert_eq!(result["output"], json!({ "files": 2 }));
        assert_eq!(result["stdout"]["stored_bytes"], 5);
        // the same create again, as a client repeats it that saw no answer
        let repeated = client
            .tasks
            .create_task(conversation.step::<CreateTaskRequest>("create"));
        let repeated = repeated.await.expect("it is answered").into_inner();
        assert!(!repeated.created);
        deployment.remove().await;
    }
}

#[tokio::test]
async fn a_worker_of_another_protocol_is_told_what_to_upgrade() {
    let deployment = Deployment::by_hand().await;
    let client = deployment.client().await;
    let said = |protocol_min, protocol_max| Hello {
        protocol_min,
        protocol_max,
        queues: vec!["other-protocol".to_owned()],
        ..hello("other", 1)
    };
    for (refused, advice) in [
        (said(-1, 0), "upgrade the worker"),
        (said(1_000, 1_001), "upgrade the servers"),
    ] {
        let (up, requests) = tokio::sync::mpsc::channel(1);
        let hello = taskyard_proto::v1::AttachRequest {
            message: Some(taskyard_proto::v1::attach_request::Message::Hello(refused)),
        };
        up.send(hello).await.expect("there is room");
        let mut client = client.clone();
        let opened = client.worker.attach(ReceiverStream::new(requests));
        let answer = within("an answer to the hello", SOON, opened).await;
        let answer = match answer {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let first = within("the first message", SOON, stream.message()).await;
                first.map(|_| ())
            }
            Err(status) => Err(status),
        };
        let status = expect_refused(
            advice,
            answer,
            Code::FailedPrecondition,
            "PROTOCOL_MISMATCH",
        );
        assert!(status.message().contains(advice), "{}", status.message());
    }
    // a newer worker that still speaks ours is served
    let newer = Hello {
        state_id: random_id(),
        ..said(1, 1_000)
    };
    let (_, welcome) = HandWorker::attach_welcomed(&client, newer).await;
    assert_eq!(welcome.protocol, 1);
}

async fn push(client: &mut Client, mut request: PushOutputRequest, lease: &Lease) {
    put(lease, &mut request.lease);
    let answers = client
        .worker
        .push_output(tokio_stream::iter([request]))
        .await;
    let mut answers = answers.expect("the stream opens").into_inner();
    within("an answer to the push", SOON, answers.message())
        .await
        .expect("pushes are judged")
        .expect("each push has an answer");
}
