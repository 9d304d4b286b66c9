//! A task whose work the test itself does: a worker by hand, and the calls that come from inside a task.

use prost::Message as _;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::{
    AskRequest, AskResponse, HeldLease, HeldStatus, Hello, Lease, MessagePart, PostRequest,
    PostResponse, ReceiveMessagesRequest, ReceiveMessagesResponse, RetryPolicy, SessionTask,
    TaskDefinition, message_part::Part,
};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::client::{Client, milliseconds, new_session};
use crate::hand_worker::{HandWorker, exited, hello, random_id};
use crate::wait::{SOON, within};

/// Metadata under which a worker names the lease of a call from inside a task.
const LEASE: &str = "taskyard-lease-bin";

/// A started task in the hands of a test.
pub struct Played {
    /// The task as it was created.
    pub task: SessionTask,
    /// What runs inside it.
    pub inside: Inside,
    worker: HandWorker,
    hello: Hello,
    item_no: i64,
}

impl Played {
    /// Creates the task, in a queue of its own, and starts it.
    pub async fn start(client: &Client, session: &str, task: TaskDefinition) -> Played {
        let queue = new_session("q");
        let hello = Hello {
            queues: vec![queue.clone()],
            ..hello(&queue, 1)
        };
        let mut worker = HandWorker::attach(client, hello.clone()).await;
        let task = TaskDefinition { queue, ..task };
        let task = client.clone().create(session, task).await;
        let lease = start_next(&mut worker).await;
        Played {
            task,
            inside: Inside::new(client, lease),
            worker,
            hello,
            item_no: 1,
        }
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.task.id
    }

    /// Ends the run with an exit code, which must be accepted.
    pub async fn finish(&mut self, code: i32) {
        self.finish_as(exited(code, 0)).await;
    }

    /// Ends the run with a report, which must be accepted.
    pub async fn finish_as(&mut self, report: Report) {
        self.item_no += 1;
        let lease = self.inside.lease.clone();
        let verdict = self.worker.report(&lease, self.item_no, report).await;
        assert_eq!(verdict, taskyard_proto::v1::Verdict::Applied);
        self.worker.set_free(1).await;
    }

    /// The worker dies and comes back at once without knowing what became of the work. Answers with what ran inside.
    pub async fn lose_worker(&mut self, client: &Client) -> Inside {
        let held = HeldLease {
            lease: Some(self.inside.lease.clone()),
            status: HeldStatus::Unknown.into(),
            ..HeldLease::default()
        };
        self.hello.instance_id = random_id();
        let hello = Hello {
            held: vec![held],
            ..self.hello.clone()
        };
        self.worker = HandWorker::attach(client, hello).await;
        self.inside.clone()
    }

    /// Starts the next run.
    pub async fn start_again(&mut self, client: &Client) {
        let lease = start_next(&mut self.worker).await;
        self.inside = Inside::new(client, lease);
        self.item_no = 1;
    }
}

async fn start_next(worker: &mut HandWorker) -> Lease {
    let offer = within("an offer", SOON, worker.offer()).await;
    worker.start(&offer).await
}

/// What runs inside a task, as its worker passes its calls on.
#[derive(Debug, Clone)]
pub struct Inside {
    /// The lease that every call names.
    pub lease: Lease,
    /// The service, for calls that have no method here; see [`Inside::request`].
    pub agent: TaskAgentServiceClient<Channel>,
}

impl Inside {
    /// What runs under a lease; the calls go to the client's server.
    pub fn new(client: &Client, lease: Lease) -> Inside {
        Inside {
            lease,
            agent: TaskAgentServiceClient::new(client.channel.clone()),
        }
    }

    /// A request that names the lease.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let lease = MetadataValue::from_bytes(&self.lease.encode_to_vec());
        request.metadata_mut().insert_bin(LEASE, lease);
        request
    }

    /// Asks and waits for the answer as long as the request says.
    pub async fn ask(&self, request: AskRequest) -> Result<AskResponse, Status> {
        let answer = self.agent.clone().ask(self.request(request)).await?;
        Ok(answer.into_inner())
    }

    /// Asks, without waiting for the answer; the id of the question.
    pub async fn put_question(&self, key: &str, prompt: &str) -> String {
        let asked = self.ask(question(key, prompt)).await;
        let asked = asked.unwrap_or_else(|status| panic!("the question was refused: {status:?}"));
        asked.question_id
    }

    /// Sends the owner a message.
    pub async fn post(&self, request: PostRequest) -> Result<PostResponse, Status> {
        let answer = self.agent.clone().post(self.request(request)).await?;
        Ok(answer.into_inner())
    }

    /// Takes messages of the owner.
    pub async fn receive(
        &self,
        request: ReceiveMessagesRequest,
    ) -> Result<ReceiveMessagesResponse, Status> {
        let request = self.request(request);
        let answer = self.agent.clone().receive_messages(request).await?;
        Ok(answer.into_inner())
    }
}

/// A question that may have any answer, for which nobody waits.
pub fn question(key: &str, prompt: &str) -> AskRequest {
    AskRequest {
        key: key.to_owned(),
        prompt: prompt.to_owned(),
        wait: Some(milliseconds(0)),
        ..AskRequest::default()
    }
}

/// A part that is text.
pub fn text(text: &str) -> MessagePart {
    MessagePart {
        part: Some(Part::Text(text.to_owned())),
    }
}

/// A part that is JSON.
pub fn data(json: &str) -> MessagePart {
    MessagePart {
        part: Some(Part::DataJson(json.to_owned())),
    }
}

/// A task of which so many runs may be started, soon one after the other.
pub fn retried(task: TaskDefinition, max_runs: i32) -> TaskDefinition {
    TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs,
            initial_backoff: Some(milliseconds(10)),
            ..RetryPolicy::default()
        }),
        ..task
    }
}
