//! Somebody who has one of everything, and calls of any method by its path.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use std::collections::BTreeMap;
use std::time::Duration;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::*;
use taskyard_tests::client::{Client, milliseconds, shell, with_command};
use taskyard_tests::hand_worker::{hello, item, lease_of};
use taskyard_tests::played::{question, text};
use taskyard_tests::refusal::reason_of;
use taskyard_tests::secured::with_token;
use taskyard_tests::wait::{SOON, eventually};
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::fields::{Kind, Value};

/// Metadata under which a worker names the lease of a call from inside a task.
const LEASE: &str = "taskyard-lease-bin";
/// After this a call that was let in counts as answered: it waits for something.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// What somebody has, by its names.
#[derive(Clone, Debug)]
pub struct Names {
    pub namespace: String,
    pub session: String,
    /// One that runs, and asks.
    pub task: String,
    pub held: String,
    pub ended: String,
    pub question: String,
    pub message: String,
    pub webhook: String,
    pub delivery: i64,
    pub wake: i64,
    pub lease: Lease,
    pub group: String,
    pub key: String,
    pub name: String,
    pub request_id: String,
    pub path: String,
    pub consumer: String,
    pub worker: String,
    pub token: String,
    /// Bytes of its standard output.
    pub pushed: i64,
}

impl Names {
    /// Names that nobody has, of the same forms.
    pub fn made_up(like: &Names) -> Names {
        let task = "task_00000000000070008000000000000000".to_owned();
        let uuid = |text: &str| {
            let (prefix, _) = text.rsplit_once('_').unwrap_or_default();
            format!("{prefix}_00000000000070008000000000000000")
        };
        Names {
            namespace: like.namespace.clone(),
            session: "of-0".to_owned(),
            held: task.clone(),
            ended: task.clone(),
            lease: Lease {
                task_id: task.clone(),
                epoch: 1,
                lease_id: vec![7; 16].into(),
            },
            task,
            question: uuid(&like.question),
            message: uuid(&like.message),
            webhook: uuid(&like.webhook),
            delivery: i64::MAX,
            wake: i64::MAX,
            group: "group-0".to_owned(),
            key: "key-0".to_owned(),
            name: "name-0".to_owned(),
            request_id: "request-0".to_owned(),
            path: "/of-0.txt".to_owned(),
            consumer: "consumer-0".to_owned(),
            worker: "worker-0".to_owned(),
            token: String::new(),
            pushed: like.pushed,
        }
    }

    /// The name of a kind.
    pub fn value(&self, kind: Kind) -> Value {
        let text: &str = match kind {
            Kind::Delivery => return Value::Number(self.delivery),
            Kind::Wake => return Value::Number(self.wake),
            Kind::Lease => return Value::Bytes(self.lease.encode_to_vec()),
            Kind::Namespace => &self.namespace,
            Kind::Session => &self.session,
            Kind::Task => &self.task,
            Kind::Question => &self.question,
            Kind::Message => &self.message,
            Kind::Webhook => &self.webhook,
            Kind::Group => &self.group,
            Kind::Key => &self.key,
            Kind::TaskName => &self.name,
            Kind::RequestId => &self.request_id,
            Kind::Path => &self.path,
            Kind::Consumer => &self.consumer,
            Kind::Worker => &self.worker,
            Kind::Token => &self.token,
        };
        text.into()
    }

    /// A text of a server without these names, so that two can be compared that tell the same of different things.
    pub fn strike_from(&self, text: &str) -> String {
        let mut struck = text.to_owned();
        let numbers = [self.delivery.to_string(), self.wake.to_string()];
        for name in [
            &self.task,
            &self.held,
            &self.ended,
            &self.question,
            &self.message,
            &self.webhook,
            &self.request_id,
            &self.group,
            &self.key,
            &self.name,
            &self.path,
            &self.consumer,
            &self.worker,
            &self.session,
            &self.namespace,
        ]
        .into_iter()
        .chain(&numbers)
        {
            struck = struck.replace(name.as_str(), "…");
        }
        struck
    }
}

/// Gives the holder of `token` one of everything in its session. What is in it says `mark`. `whole` is a token for all of
/// the namespace.
pub async fn furnish(
    client: &Client,
    token: &str,
    whole: &str,
    namespace: &str,
    session: &str,
    mark: &str,
) -> Names {
    let (mut tasks, mut worker) = (client.tasks.clone(), client.worker.clone());
    let mut webhooks = client.webhooks.clone();
    let (group, key) = (format!("group-{token}"), format!("key-{token}"));
    let (name, request_id) = (format!("name-{token}"), format!("request-{token}"));
    let (path, worker_name) = (format!("/of-{token}.txt"), format!("worker-{token}"));
    let consumer = format!("consumer-{token}");
    let definition = |task: TaskDefinition| CreateTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        task: Some(TaskDefinition {
            group: group.clone(),
            display_name: mark.to_owned(),
            labels: BTreeMap::from([("mark".to_owned(), mark.to_owned())]),
            ..task
        }),
        ..CreateTaskRequest::default()
    };

    let webhook = webhooks
        .create_webhook(with_token(
            token,
            CreateWebhookRequest {
                namespace: namespace.to_owned(),
                session_id: session.to_owned(),
                url: format!("https://receiver.invalid/{mark}"),
                events: vec![WebhookEvent::Terminal.into()],
                ..CreateWebhookRequest::default()
            },
        ))
        .await
        .expect("a webhook")
        .into_inner()
        .webhook
        .unwrap_or_default()
        .id;

    let running = TaskDefinition {
        key: key.clone(),
        name: name.clone(),
        queue: format!("queue-{token}"),
        ..with_command(shell("true"), |command| command.stdin_live = true)
    };
    let created = tasks
        .create_task(with_token(
            token,
            CreateTaskRequest {
                request_id: request_id.clone(),
                ..definition(running)
            },
        ))
        .await;
    let task = created
        .expect("a task")
        .into_inner()
        .task
        .unwrap_or_default()
        .id;
    let acquiring = AcquireLeasesRequest {
        hello: Some(Hello {
            queues: vec![format!("queue-{token}")],
            ..hello(&worker_name, 1)
        }),
        max_offers: 1,
        wait: Some(milliseconds(30_000)),
        ..AcquireLeasesRequest::default()
    };
    let acquired = worker.acquire_leases(with_token(token, acquiring)).await;
    let lease = lease_of(
        acquired
            .expect("attached")
            .into_inner()
            .offers
            .first()
            .expect("an offer"),
    );
    let started = ReportRequest {
        items: vec![item(&lease, 1, Report::Start(StartReport::default()))],
    };
    worker
        .report(with_token(token, started))
        .await
        .expect("started");
    let pushed = i64::try_from(mark.len()).expect("short");
    let push = PushOutputRequest {
        lease: Some(lease.clone()),
        run: 1,
        chunks: vec![OutputChunk {
            stream: OutputStream::Stdout.into(),
            data: mark.as_bytes().to_vec().into(),
            at: Some(std::time::SystemTime::now().into()),
            ..OutputChunk::default()
        }],
        head_bytes: 1 << 20,
        tail_bytes: 1 << 20,
        ..PushOutputRequest::default()
    };
    let answers = worker
        .push_output(with_token(token, tokio_stream::iter([push])))
        .await;
    let mut answers = answers.expect("opened").into_inner();
    answers.message().await.expect("pushed");

    let mut asking = with_token(token, question("asked", mark));
    let value = MetadataValue::from_bytes(&lease.encode_to_vec());
    asking.metadata_mut().insert_bin(LEASE, value);
    let asked = TaskAgentServiceClient::new(client.channel.clone())
        .ask(asking)
        .await;
    let question = asked.expect("asked").into_inner().question_id;
    let posted = PostMessageRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        task: task.clone(),
        parts: vec![text(mark)],
        ..PostMessageRequest::default()
    };
    let posted = tasks.post_message(with_token(token, posted)).await;
    let message = posted
        .expect("posted")
        .into_inner()
        .message
        .unwrap_or_default()
        .id;

    let mut held = Vec::new();
    for _ in 0..2 {
        let definition = definition(TaskDefinition {
            hold: true,
            wake_policy: WakePolicy::OnTerminal.into(),
            ..shell("true")
        });
        let created = tasks.create_task(with_token(token, definition)).await;
        let created = created.expect("a held task").into_inner();
        held.push(created.task.unwrap_or_default().id);
    }
    let cancel = CancelTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        task: held[1].clone(),
        ..CancelTaskRequest::default()
    };
    tasks
        .cancel_task(with_token(token, cancel))
        .await
        .expect("canceled");
    let taking = TakeWakesRequest {
        namespace: namespace.to_owned(),
        session_ids: vec![session.to_owned()],
        consumer: consumer.clone(),
        wait: Some(milliseconds(30_000)),
        lease: Some(milliseconds(3_600_000)),
        ..TakeWakesRequest::default()
    };
    let taken = tasks.take_wakes(with_token(token, taking)).await;
    let wake = taken
        .expect("taken")
        .into_inner()
        .wakes
        .first()
        .expect("a wake")
        .id;
    let delivery = eventually("a delivery", SOON, async || {
        let listing = ListWebhookDeliveriesRequest {
            namespace: namespace.to_owned(),
            webhook_id: webhook.clone(),
            ..ListWebhookDeliveriesRequest::default()
        };
        let listed = webhooks
            .list_webhook_deliveries(with_token(whole, listing))
            .await;
        let listed = listed.expect("listed").into_inner();
        listed.deliveries.first().map(|delivery| delivery.id)
    })
    .await;

    let monitor = definition(TaskDefinition {
        schedule: Some(MonitorSchedule {
            when: Some(monitor_schedule::When::At(prost_types::Timestamp {
                seconds: 4_000_000_000,
                nanos: 0,
            })),
            ..MonitorSchedule::default()
        }),
        ..shell("true")
    });
    tasks
        .create_task(with_token(token, monitor))
        .await
        .expect("a monitor");
    let retention = SetRetentionRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        limits: Some(RetentionLimits {
            max_ended_tasks: Some(1_000_000),
            ..RetentionLimits::default()
        }),
    };
    let mut admin = client.admin.clone();
    admin
        .set_retention(with_token(token, retention))
        .await
        .expect("a retention");
    let file = WriteRequest {
        header: Some(WriteHeader {
            namespace: namespace.to_owned(),
            session_id: session.to_owned(),
            path: path.clone(),
            ..WriteHeader::default()
        }),
        data: mark.as_bytes().to_vec().into(),
    };
    let mut files = client.files.clone();
    files
        .write(with_token(token, tokio_stream::iter([file])))
        .await
        .expect("a file");
    let listing = ListTasksRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        page_size: 1,
        ..ListTasksRequest::default()
    };
    let listed = tasks.list_tasks(with_token(token, listing)).await;
    let token = listed.expect("listed").into_inner().next_page_token;
    Names {
        namespace: namespace.to_owned(),
        session: session.to_owned(),
        task,
        ended: held.remove(1),
        held: held.remove(0),
        question,
        message,
        webhook,
        delivery,
        wake,
        lease,
        group,
        key,
        name,
        request_id,
        path,
        consumer,
        worker: worker_name,
        token,
        pushed,
    }
}

/// What a call was answered with.
#[derive(Debug)]
pub struct Answer {
    pub code: Code,
    pub reason: String,
    pub text: String,
    /// The message, or what a refusal tells programs.
    pub bytes: Vec<u8>,
}

/// Calls a method by its path, with messages that are encoded already, and takes the first message of the answer.
pub async fn call(
    client: &Client,
    token: &str,
    path: &str,
    lease: Option<&Lease>,
    messages: Vec<Vec<u8>>,
) -> Answer {
    let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
    // the stream stays open, as that of a worker does
    let messages = futures::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::empty());
    let mut request = with_token(token, messages);
    if let Some(lease) = lease {
        let value = MetadataValue::from_bytes(&lease.encode_to_vec());
        request.metadata_mut().insert_bin(LEASE, value);
    }
    let path: PathAndQuery = path.parse().expect("a path");
    let asking = async {
        let mut grpc = tonic::client::Grpc::new(client.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        answers.message().await
    };
    match timeout(LONG_ENOUGH, asking).await {
        Ok(Ok(first)) => Answer {
            code: Code::Ok,
            reason: String::new(),
            text: String::new(),
            bytes: first.map(|first: Bytes| first.to_vec()).unwrap_or_default(),
        },
        Ok(Err(status)) => Answer {
            code: status.code(),
            reason: reason_of(&status),
            text: status.message().to_owned(),
            bytes: status.details().to_vec(),
        },
        Err(_) => Answer {
            code: Code::Ok,
            reason: String::new(),
            text: String::new(),
            bytes: Vec::new(),
        },
    }
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
