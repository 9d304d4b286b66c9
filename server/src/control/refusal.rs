//! Why a call is refused. One variant for each thing that a caller can do something about; `grpc::status` turns them
//! into statuses with error details.

pub use crate::{
    identity::{authenticator::NotAuthentic, decide::Denied},
    limits::{callers::Exceeded, turns::NoTurn},
    objects::ObjectError,
    store::{StoreError, file_usage::QuotaExceeded},
};
use taskyard_core::{
    task::{NoSpawn, Rejected},
    vfs::PathError,
};

/// A refused call.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field of the request is not valid.
    #[error("{field}: {problem}")]
    InvalidField {
        /// Path of the field, such as `task.spec.command.argv`.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A path is not clean.
    #[error("path {path:?}: {problem}")]
    InvalidPath {
        /// The path as it came.
        path: String,
        /// What is wrong with it.
        problem: PathError,
    },
    /// There is no such thing.
    #[error("there is no {resource} {name:?}")]
    NotFound {
        /// What was looked for.
        resource: Resource,
        /// What it was called.
        name: String,
    },
    /// An id prefix fits several tasks.
    #[error("{prefix:?} fits several tasks: {}", .candidates.join(", "))]
    AmbiguousTask {
        /// The prefix.
        prefix: String,
        /// Some that fit, at most 20.
        candidates: Vec<String>,
    },
    /// A live task of the session has this name.
    #[error(
        "the session has a live task named {name:?}; choose another name, or wait until that one has ended"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Two tasks of a batch that is stored whole have this name.
    #[error("an earlier task of the batch is named {name:?}, too; give each a name of its own")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// The key was used with another definition.
    #[error("the key {key:?} was used before with another definition")]
    KeyConflict {
        /// The key.
        key: String,
    },
    /// The request id was used with another request.
    #[error("the request_id {request_id:?} was used before with another request")]
    RequestIdConflict {
        /// The request id.
        request_id: String,
    },
    /// The task that this call, or an earlier one with the same request id, created was deleted since.
    #[error(
        "the task {task} that this call created was deleted; to run the work again, call with a new request_id"
    )]
    RequestTaskDeleted {
        /// The task.
        task: String,
    },
    /// The session was deleted while something for it was on its way.
    #[error(
        "the session {session_id:?} was deleted while {what} was on its way; send it again for a new session"
    )]
    SessionDeleted {
        /// The session.
        session_id: String,
        /// What was on its way.
        what: &'static str,
    },
    /// One of several things in a request is refused, such as a task of a batch.
    #[error("{field}: {refusal}")]
    Within {
        /// What of which of them, such as `tasks[3].name`.
        field: String,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The task has ended, and the call is for one that has not.
    #[error("the task has ended")]
    TaskTerminal,
    /// The task has not ended, and the call is for one that has.
    #[error("the task has not ended; cancel it first, or wait")]
    TaskNotTerminal,
    /// The call makes no sense in the task's state.
    #[error("the task is {state}: {problem}")]
    WrongState {
        /// Its state.
        state: &'static str,
        /// Why that is in the way.
        problem: &'static str,
    },
    /// A message for the work of a monitor, which has none.
    #[error(
        "a monitor never runs itself, so nothing would take the message; post to a live task below it, or create the \
         monitor again with other words"
    )]
    MonitorNeverRuns,
    /// The task takes no live input.
    #[error("the task takes no live input; create it with `stdin_live`")]
    InputNotLive,
    /// The task has no terminal.
    #[error("the task has no terminal; create it with `pty`")]
    NoPty,
    /// The run that is meant is not the current one.
    #[error(
        "run {run} is not the current one, which is {current}; each run has an input of its own"
    )]
    WrongRun {
        /// The run that was named.
        run: i32,
        /// The current one, or the next one of a queued task.
        current: i32,
    },
    /// Input does not go on where it was accepted to.
    #[error("offset {offset} does not fit: {accepted} bytes were accepted; go on from there")]
    InputGap {
        /// Where it begins.
        offset: i64,
        /// Bytes that were accepted.
        accepted: i64,
    },
    /// Other bytes were accepted where input begins.
    #[error(
        "other bytes were accepted at offset {offset}, or it cannot be told any more; {accepted} were accepted in all: go on from there, or write without an offset"
    )]
    InputConflict {
        /// Where it begins.
        offset: i64,
        /// Bytes that were accepted.
        accepted: i64,
    },
    /// The end of the input was accepted.
    #[error("the input has ended after {accepted} bytes")]
    InputEnded {
        /// Bytes that were accepted.
        accepted: i64,
    },
    /// The process takes its input too slowly.
    #[error("{limit} bytes wait for the process, which is the most; write again in a moment")]
    InputFull {
        /// The limit.
        limit: u64,
    },
    /// The worker did not say what became of a signal.
    #[error(
        "the worker did not confirm the signal within 10 s; it was withdrawn, but may have been sent"
    )]
    SignalNotDelivered,
    /// No such question is pending.
    #[error("no such question is pending; read the task again")]
    QuestionNotPending,
    /// The question was answered before.
    #[error("the question was answered before, by the message {message_id}")]
    QuestionAnswered {
        /// The first answer.
        message_id: String,
    },
    /// The question's time is up.
    #[error("the question's time is up")]
    QuestionExpired,
    /// A cancel of the task was asked for.
    #[error("a cancel of the task was asked for; it takes no answers any more")]
    CancelRequested,
    /// What was given does not satisfy a schema.
    #[error("{field} does not satisfy the schema: {problem}")]
    SchemaMismatch {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The parent may not get a child.
    #[error("no task can be created below the parent: {0}")]
    NoSpawn(NoSpawn),
    /// The parent of a task of a batch, a task of the same batch, was refused.
    #[error("its parent, tasks[{item}], was refused; send both again when that one is mended")]
    ParentRefused {
        /// Position of the parent in the batch, from 0.
        item: usize,
    },
    /// There is more of something than there may be.
    #[error("{what}: at most {limit} are allowed")]
    LimitReached {
        /// What.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// What runs inside a task may not do this.
    #[error("what runs inside a task may not call this: {problem}")]
    NotFromInside {
        /// Why, or what to do in its place.
        problem: &'static str,
    },
    /// The caller is not known.
    #[error("{0}")]
    NotAuthentic(NotAuthentic),
    /// The caller may not do this.
    #[error("{}", describe_denied(.0))]
    Denied(Denied),
    /// The credential that opened a stream is good no more.
    #[error(
        "the credential that opened this stream has expired or was revoked; call again with a new one, and go on from the last cursor"
    )]
    CredentialEnded,
    /// A worker attaches to a pool that its credential does not reach.
    #[error(
        "the credential is for workers of the pools {allowed}, and this one is of {pool:?}; start it with --pool"
    )]
    PoolDenied {
        /// The pool that the worker says.
        pool: String,
        /// The pools that it may say.
        allowed: String,
    },
    /// A worker attaches as a boot that another credential opened.
    #[error("this boot of the worker was attached with another credential; restart the worker")]
    BootDenied,
    /// Only an approver may answer the question.
    #[error(
        "only an approver may answer this question: a credential with the role approver or admin, or with `approver: true`"
    )]
    ApproverNeeded,
    /// A call that is about all sessions, by a credential that reaches some.
    #[error("the credential reaches the sessions {allowed} only; name one of them (--session)")]
    SessionNeeded {
        /// What it reaches.
        allowed: String,
    },
    /// The task's generation is not the expected one.
    #[error("the task has generation {found}, not {expected}; read it again")]
    GenerationMismatch {
        /// What the caller expected.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// The lease is not the one that is held.
    #[error("the lease is lost; kill the work and forget the lease")]
    LeaseLost,
    /// The worker session was given up by the control plane.
    #[error("the worker session is over; attach again")]
    WorkerSessionLost,
    /// The value of a secret was given, and there is no key to keep it under.
    #[error(
        "this server has no key under which the values of secrets could be kept; start it with --secret-key-file, or give references to variables or files of the worker"
    )]
    SecretKeyMissing,
    /// The value of a secret is kept under a key that this server does not have.
    #[error(
        "a secret of the task is kept under the key {key}, which this server does not have; add that key to its --secret-key-file"
    )]
    SecretKeyUnknown {
        /// The key's id.
        key: String,
    },
    /// The value of a secret cannot be decrypted.
    #[error("the secret {name} of the task is damaged; create the task again")]
    SecretDamaged {
        /// The secret.
        name: String,
    },
    /// A task is to be repeated whose secrets' values are gone.
    #[error(
        "give the values of these secrets again: {}; they are erased when a task ends, and never copied", .names.join(", ")
    )]
    SecretValuesNeeded {
        /// The secrets.
        names: Vec<String>,
    },
    /// The protocol versions do not meet.
    #[error(
        "this server speaks protocol {ours}, the worker {min} to {max}: upgrade the {}",
        if max < ours { "worker" } else { "servers" }
    )]
    ProtocolMismatch {
        /// The one that the server speaks.
        ours: i32,
        /// The worker's oldest.
        min: i32,
        /// The worker's newest.
        max: i32,
    },
    /// The path belongs to the system.
    #[error("{path:?} is the system's: it can be read, not written")]
    SystemPath {
        /// The path.
        path: String,
    },
    /// A worker writes what its task's `collect` does not allow.
    #[error("the task's `collect` does not allow to write {path:?}")]
    CollectNotAllowed {
        /// The path.
        path: String,
    },
    /// There is a folder where a file is meant, or a file where a folder is meant.
    #[error("{path:?} is {what}")]
    WrongFileType {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A folder is to be deleted without `recursive`.
    #[error("{path:?} is a folder, and recursive is not set")]
    FolderNeedsRecursive {
        /// The path.
        path: String,
    },
    /// The file's version is not the expected one.
    #[error("{path:?} has version {found}, not {expected} (0: no file); read it again")]
    FileVersionMismatch {
        /// The path.
        path: String,
        /// What the caller expected.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// The file was overwritten or deleted while it was being read.
    #[error("{path:?} changed while it was being read; read it again")]
    FileChanged {
        /// The path.
        path: String,
    },
    /// More tasks fit than one call can be about.
    #[error(
        "more than {limit} tasks of the session fit; choose fewer by a narrower group or more labels"
    )]
    TooManyTasks {
        /// The limit.
        limit: usize,
    },
    /// Something is larger than allowed.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A quota of files would be exceeded.
    #[error(
        "the {} may have {} {} of files, has {} and would have {}; delete some, or ask for a larger quota",
        .0.scope, .0.limit, .0.what, .0.used, .0.wanted
    )]
    QuotaExceeded(QuotaExceeded),
    /// The object store does not answer, or this server has none.
    #[error("the object store is not available; try again in a moment")]
    ObjectStoreUnavailable(#[source] ObjectError),
    /// A whole request is larger than any may be.
    #[error(
        "the request has more than {limit} bytes; send less at once, and large content as a file"
    )]
    MessageTooLarge {
        /// The limit.
        limit: usize,
    },
    /// What came is no message of the method's type.
    #[error("the request cannot be read: {problem}")]
    BadMessage {
        /// What is wrong with it.
        problem: String,
    },
    /// A sender stopped sending, or sends too slowly.
    #[error("{what} did not come in time; send it again")]
    TooSlow {
        /// What was to come.
        what: &'static str,
    },
    /// An offset lies where nothing can be.
    #[error("{what} {offset} is out of range: {problem}")]
    OutOfRange {
        /// What.
        what: &'static str,
        /// The offset.
        offset: i64,
        /// Why.
        problem: String,
    },
    /// A cursor or page token was not made by this store, or not for this request.
    #[error("{field}: {problem}")]
    BadToken {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The caller takes more of the server than it may.
    #[error("{0}")]
    CallLimit(Exceeded),
    /// There are as many live tasks as there may be.
    #[error(
        "the {scope} has {limit} tasks that have not ended, which is the most; create more when some have ended"
    )]
    TooManyLiveTasks {
        /// `session` or `namespace`.
        scope: &'static str,
        /// The limit.
        limit: u64,
    },
    /// There are as many sessions as there may be.
    #[error(
        "the namespace has {limit} sessions, which is the most; delete some, or use one that is there"
    )]
    TooManySessions {
        /// The limit.
        limit: u64,
    },
    /// There is too much to do at the moment.
    #[error("too many {what} are waiting; try again in a moment")]
    Overloaded {
        /// What.
        what: &'static str,
    },
    /// The reader of a stream took nothing for too long.
    #[error(
        "the reader took nothing for 60 s; call again and go on after the last item that was read, or begin again where \
         none of them said where to go on"
    )]
    ReaderStalled,
    /// The database could not be reached for as long as one waits for it.
    #[error("the database is not reachable; try again in a moment")]
    Unreachable,
    /// The server is shutting down.
    #[error(
        "the server is shutting down; call again, it or another one will answer; a stream goes on from its last cursor"
    )]
    ShuttingDown,
    /// The connection under a stream is older than connections may become.
    #[error(
        "the connection has reached its age; call again on a new one; a stream goes on from its last cursor"
    )]
    ConnectionAged,
    /// The store could not do it.
    #[error("the store could not do it")]
    Store(#[from] StoreError),
}

impl From<NoTurn> for Refusal {
    fn from(refused: NoTurn) -> Self {
        Self::Overloaded { what: refused.what }
    }
}

/// Why a call is denied, and what to do.
fn describe_denied(denied: &Denied) -> String {
    match denied {
        Denied::Unknown => NotAuthentic::Nothing.to_string(),
        Denied::Role(role) => {
            let role = role.as_str();
            format!("this needs a credential with the role {role}, or one that includes it")
        }
        Denied::FromInside => "this is not for what runs inside a task".to_owned(),
        Denied::FromOutside => {
            "this is only for what runs inside a task, over its socket $TASKYARD_SOCKET".to_owned()
        }
        Denied::Narrow => {
            "this is about all tenants, and the credential reaches some namespaces or sessions only"
                .to_owned()
        }
    }
}

/// Things that can be looked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A namespace.
    Namespace,
    /// A session.
    Session,
    /// A task.
    Task,
    /// A run of a task.
    Run,
    /// A file or folder.
    File,
    /// A question of a task.
    Question,
    /// A webhook.
    Webhook,
    /// A delivery of a webhook.
    WebhookDelivery,
    /// A live task of a group, or below one.
    Group,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Namespace => "namespace",
            Self::Session => "session",
            Self::Task => "task",
            Self::Run => "run",
            Self::File => "file",
            Self::Question => "question",
            Self::Webhook => "webhook",
            Self::WebhookDelivery => "delivery",
            Self::Group => "live task of the group",
        })
    }
}

impl Refusal {
    /// A field that is not valid.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same refusal of a field that stands below `to` in the request, and not below `from`.
    #[must_use]
    pub fn moved(self, from: &str, to: &str) -> Self {
        match self {
            Self::InvalidField { field, problem } => {
                let rest = field
                    .strip_prefix(from)
                    .filter(|rest| rest.is_empty() || rest.starts_with('.'));
                let field = rest.map_or_else(|| field.clone(), |rest| format!("{to}{rest}"));
                Self::InvalidField { field, problem }
            }
            other => other,
        }
    }

    /// What the state machine's refusal of a client's event means to the client; `state` is the task's.
    #[must_use]
    pub fn from_rejected(rejected: Rejected, state: &'static str) -> Self {
        match rejected {
            Rejected::Terminal => Self::TaskTerminal,
            Rejected::LeaseLost | Rejected::AlreadyApplied => Self::LeaseLost,
            Rejected::NotPending => Self::QuestionNotPending,
            Rejected::Expired => Self::QuestionExpired,
            Rejected::CancelRequested => Self::CancelRequested,
            Rejected::WrongState => Self::WrongState {
                state,
                problem: "that is not possible now",
            },
            Rejected::Moot => Self::WrongState {
                state,
                problem: "there is nothing to change",
            },
            Rejected::NeverRuns => Self::MonitorNeverRuns,
        }
    }
}
