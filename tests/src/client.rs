//! The gRPC services, and how tests say what is to be run.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use taskyard_proto::v1::admin_service_client::AdminServiceClient;
use taskyard_proto::v1::session_file_service_client::SessionFileServiceClient;
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::webhook_service_client::WebhookServiceClient;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use taskyard_proto::v1::{
    CommandSpec, CreateTaskRequest, GetTaskRequest, ReadRequest, SessionTask, TaskDefinition,
    TaskSpec, TaskState, WriteHeader, WriteRequest,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::binaries;
use crate::wait::{SOON, eventually};

/// No call of a test takes longer, so that nothing hangs; streams included.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// One client for each service, over one connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub tasks: SessionTaskServiceClient<Channel>,
    pub files: SessionFileServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub worker: WorkerServiceClient<Channel>,
    pub webhooks: WebhookServiceClient<Channel>,
    pub channel: Channel,
}

impl Client {
    /// Connects to a server.
    pub async fn connect(endpoint: &str) -> Client {
        let connected = Client::try_connect(endpoint).await;
        connected.unwrap_or_else(|error| panic!("cannot connect to {endpoint}: {error}"))
    }

    /// Connects to a server that may not be there.
    pub async fn try_connect(endpoint: &str) -> Result<Client, tonic::transport::Error> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .timeout(CALL_LIMIT)
            .connect()
            .await?;
        Ok(Client {
            tasks: SessionTaskServiceClient::new(channel.clone()),
            files: SessionFileServiceClient::new(channel.clone()),
            admin: AdminServiceClient::new(channel.clone()),
            worker: WorkerServiceClient::new(channel.clone()),
            webhooks: WebhookServiceClient::new(channel.clone()),
            channel,
        })
    }

    /// Creates a task that must be accepted.
    pub async fn create(&mut self, session: &str, task: TaskDefinition) -> SessionTask {
        let created = self.try_create(session, task).await;
        created.unwrap_or_else(|status| panic!("the task was refused: {status:?}"))
    }

    /// Creates a task.
    pub async fn try_create(
        &mut self,
        session: &str,
        task: TaskDefinition,
    ) -> Result<SessionTask, Status> {
        let request = CreateTaskRequest {
            session_id: session.to_owned(),
            task: Some(task),
            ..CreateTaskRequest::default()
        };
        let answer = self.tasks.create_task(request).await?.into_inner();
        Ok(answer.task.unwrap_or_default())
    }

    /// The task as it stands; `id` is a whole id.
    pub async fn get(&mut self, id: &str) -> SessionTask {
        let request = GetTaskRequest {
            task: id.to_owned(),
            ..GetTaskRequest::default()
        };
        let answer = self.tasks.get_task(request).await;
        let answer = answer.unwrap_or_else(|status| panic!("no task {id}: {status:?}"));
        answer.into_inner().task.unwrap_or_default()
    }

    /// The parsed result.json of a terminal task.
    pub async fn result(&mut self, id: &str) -> serde_json::Value {
        let request = GetTaskRequest {
            task: id.to_owned(),
            include_result: true,
            ..GetTaskRequest::default()
        };
        let answer = self.tasks.get_task(request).await;
        let answer = answer.unwrap_or_else(|status| panic!("no task {id}: {status:?}"));
        let text = answer.into_inner().result_json;
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("result.json of {id} is no JSON ({error}): {text:?}"))
    }

    /// Waits until the task has ended.
    pub async fn ended(&mut self, id: &str) -> SessionTask {
        self.reached(id, is_terminal).await
    }

    /// Waits until the task is as `is_there` wants it.
    pub async fn reached(
        &mut self,
        id: &str,
        is_there: impl Fn(&SessionTask) -> bool,
    ) -> SessionTask {
        let what = format!("{id} to get there");
        eventually(&what, SOON, async || {
            let task = self.get(id).await;
            is_there(&task).then_some(task)
        })
        .await
    }

    /// Creates a task and waits until it has ended.
    pub async fn run(&mut self, session: &str, task: TaskDefinition) -> SessionTask {
        let task = self.create(session, task).await;
        self.ended(&task.id).await
    }

    /// All bytes of a file, or a range of it.
    pub async fn read_file(&mut self, request: ReadRequest) -> Result<Vec<u8>, Status> {
        let mut parts = self.files.read(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            bytes.extend_from_slice(&part.data);
        }
        Ok(bytes)
    }

    /// Writes a file in parts of 256 KiB; answers with its version.
    pub async fn write_file(&mut self, header: WriteHeader, bytes: &[u8]) -> Result<i64, Status> {
        let first = WriteRequest {
            header: Some(header),
            data: Vec::new().into(),
        };
        let rest = bytes.chunks(256 * 1024).map(|part| WriteRequest {
            header: None,
            data: part.to_vec().into(),
        });
        let requests: Vec<WriteRequest> = std::iter::once(first).chain(rest).collect();
        let answer = self.files.write(tokio_stream::iter(requests)).await?;
        Ok(answer.into_inner().file.unwrap_or_default().version)
    }
}

/// A task that runs a program with arguments.
pub fn command(argv: &[&str]) -> TaskDefinition {
    let command = CommandSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..CommandSpec::default()
    };
    let spec = TaskSpec {
        command: Some(command),
        ..TaskSpec::default()
    };
    TaskDefinition {
        spec: Some(spec),
        ..TaskDefinition::default()
    }
}

/// A task that runs a shell script.
pub fn shell(script: &str) -> TaskDefinition {
    command(&["sh", "-c", script])
}

/// A task that runs the probe; `words` are separated by blanks.
pub fn probe(words: &str) -> TaskDefinition {
    let program = binaries::probe();
    let argv: Vec<&str> = std::iter::once(program.as_str())
        .chain(words.split_whitespace())
        .collect();
    command(&argv)
}

/// Changes what a definition runs.
pub fn with_command(
    mut task: TaskDefinition,
    change: impl FnOnce(&mut CommandSpec),
) -> TaskDefinition {
    change(
        task.spec
            .get_or_insert_default()
            .command
            .get_or_insert_default(),
    );
    task
}

/// A session id that no other test uses.
pub fn new_session(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// One of the three states that are final.
pub fn is_terminal(task: &SessionTask) -> bool {
    match task.state() {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}

/// Labels and the like from pairs.
pub fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

/// A duration for a request.
pub fn milliseconds(milliseconds: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: milliseconds / 1000,
        nanos: i32::try_from(milliseconds % 1000).unwrap_or(0) * 1_000_000,
    }
}

/// The exit code of the last run's process.
pub fn exit_code(task: &SessionTask) -> Option<i32> {
    task.exit.as_ref().and_then(|exit| exit.exit_code)
}

/// The signal that ended the last run's process.
pub fn exit_signal(task: &SessionTask) -> Option<i32> {
    task.exit.as_ref().and_then(|exit| exit.signal)
}

/// The word for programs that says why a task failed; empty where it has not.
pub fn error_kind(task: &SessionTask) -> &str {
    task.error.as_ref().map_or("", |error| error.kind.as_str())
}

/// A time that must be there, for comparing.
pub fn moment(at: Option<prost_types::Timestamp>) -> SystemTime {
    let moment = at.and_then(|at| SystemTime::try_from(at).ok());
    moment.unwrap_or_else(|| panic!("no time, or one that no clock shows"))
}
