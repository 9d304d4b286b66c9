//! What callers ask of the group commit, and what they are told.

use crate::store::{
    StoreError,
    creates::RequestKey,
    monitors::Judgement,
    new_tasks::{NewTask, Placement},
    run_reports::RunReport,
    task_row::TaskRow,
};
use taskyard_core::{
    Timestamp,
    id::TaskId,
    task::{Event, Fence, NoSpawn, Rejected, Task},
};
use taskyard_proto::v1::{
    Artifact, Capture, Exit, InputRequest, Links, MessageDirection, MessagePart, Progress,
    TaskMessage, Usage,
};

/// A task to create.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The task.
    pub task: NewTask,
    /// The caller's `request_id`, if it gave one, with the fingerprint of its request.
    pub request: Option<(RequestKey, [u8; 32])>,
    /// The lease of what runs inside the parent, if that is who creates it.
    pub spawner: Option<Fence>,
    /// How many live tasks its namespace may have, if it has them: then it is refused, unless it repeats an earlier one.
    pub full_namespace: Option<u64>,
}

/// What became of a creation.
#[derive(Clone, Copy, Debug)]
pub enum Created {
    /// It was stored.
    New(Placement),
    /// The same was stored before, as this task.
    Earlier(TaskId),
}

/// Why none of several creations was stored.
#[derive(Debug)]
pub struct RefusedCreation {
    /// Which of them is to blame, from 0; none: none in particular.
    pub position: Option<usize>,
    /// Why.
    pub error: CommitError,
}

/// Something that happened to a task, with what it carries.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task.
    pub task: TaskId,
    /// What happened.
    pub event: Event,
    /// What it carries.
    pub content: Content,
    /// Refuse unless the task's generation is this.
    pub if_generation: Option<u64>,
    /// Moot if the worker that holds the task was heard at or after this time.
    pub if_renewed_before: Option<Timestamp>,
}

impl Change {
    /// A change without a condition.
    #[must_use]
    pub fn new(task: TaskId, event: Event, content: Content) -> Self {
        Self {
            task,
            event,
            content,
            if_generation: None,
            if_renewed_before: None,
        }
    }
}

/// What a change carries beside its event.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing.
    None,
    /// How far the work is, and a few words; none: unchanged.
    Progress(Option<Progress>, Option<String>),
    /// Something that the work produced.
    Artifact(Artifact),
    /// A question of the work; its time is filled in.
    Question(Box<InputRequest>),
    /// A message, either way; an answer is one.
    Message(Box<Post>),
    /// The work has handled the messages up to this number.
    Received(i64),
    /// What the work says its end is to be judged by.
    Report(Box<RunReport>),
    /// The end of a run.
    Finish(Box<FinishContent>),
    /// A client's enrichment.
    Patch(Box<Patch>),
    /// The task that repeats this one.
    RetriedAs(TaskId),
    /// Name of the worker that holds the task from now on.
    Holder(String),
    /// How a firing of this monitor ended.
    Judged(Box<Judged>),
}

impl Content {
    /// How far the work is, where this says so; cleared progress is empty.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        match self {
            Self::Progress(progress, _) => progress.clone(),
            Self::Patch(patch) => patch.progress.clone().map(Option::unwrap_or_default),
            Self::None
            | Self::Artifact(_)
            | Self::Question(_)
            | Self::Message(_)
            | Self::Received(_)
            | Self::Report(_)
            | Self::Finish(_)
            | Self::RetriedAs(_)
            | Self::Holder(_)
            | Self::Judged(_) => None,
        }
    }
}

/// How a firing ended, and what its owner is told.
#[derive(Clone, Debug)]
pub struct Judged {
    /// How it ended.
    pub judgement: Judgement,
    /// What the wake says; none: there is none.
    pub wake: Option<String>,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct Post {
    /// Its id.
    pub id: u128,
    /// Which way it goes.
    pub direction: MessageDirection,
    /// What it says.
    pub parts: Vec<MessagePart>,
    /// What it answers, as shown; empty: nothing.
    pub in_reply_to: String,
    /// The poster's own name for it, by which a repeated post is recognised.
    pub request_id: Option<String>,
}

/// The end of a run, beside the facts on which it is judged.
#[derive(Clone, Debug, Default)]
pub struct FinishContent {
    /// How the process ended.
    pub exit: Option<Exit>,
    /// From launch to exit.
    pub duration_ms: Option<i64>,
    /// The structured result; empty: none, or in a file.
    pub output_json: String,
    /// The structured result is in `output.json`.
    pub output_in_file: bool,
    /// One line from the work; empty: none.
    pub summary: String,
    /// What the run used.
    pub usage: Option<Usage>,
    /// Isolation that was applied.
    pub isolation: String,
    /// Standard output and standard error.
    pub streams: [StreamFacts; 2],
    /// The worker's sentence about what went wrong; empty: none.
    pub error_message: String,
    /// Its word for what exactly went wrong; empty: none.
    pub error_reason: String,
    /// Accept that retained output is missing.
    pub accept_incomplete: bool,
}

/// One stream at the end of a run, as the worker saw it.
#[derive(Clone, Debug, Default)]
pub struct StreamFacts {
    /// Bytes that were written.
    pub total: u64,
    /// How surely it was captured.
    pub capture: Capture,
    /// Its last bytes.
    pub tail: Vec<u8>,
}

/// A client's enrichment; none: unchanged.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// A few words about the state.
    pub state_detail: Option<String>,
    /// One line about the outcome.
    pub summary: Option<String>,
    /// Progress; the inner none clears it.
    pub progress: Option<Option<Progress>>,
    /// Replaces the links.
    pub links: Option<Links>,
    /// Merged into the links.
    pub merge_links: Option<Links>,
    /// Replaces the artifacts.
    pub artifacts: Option<Vec<Artifact>>,
    /// Added to the artifacts.
    pub append_artifacts: Vec<Artifact>,
}

impl Patch {
    /// Whether it says how far the work is and nothing else, which is no change of the record.
    #[must_use]
    pub fn is_progress_only(&self) -> bool {
        let Self {
            state_detail: None,
            summary: None,
            progress: Some(_),
            links: None,
            merge_links: None,
            artifacts: None,
            append_artifacts,
        } = self
        else {
            return false;
        };
        append_artifacts.is_empty()
    }
}

/// What became of a change.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The task before it.
    pub before: Task,
    /// The task after it.
    pub after: TaskRow,
    /// The message that was stored, by this change or an earlier one that it repeats.
    pub message: Option<TaskMessage>,
    /// Whether this one changed nothing: that was an earlier one, or all is as it asks for.
    pub is_repeated: bool,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The state machine refused the event.
    #[error("{rejected}")]
    Rejected {
        /// Why.
        rejected: Rejected,
        /// The task's state.
        state: &'static str,
    },
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// The run's retained output is not durable yet.
    #[error("the run's output is not stored yet")]
    OutputPending,
    /// The generation is not the expected one.
    #[error("the task has generation {found}, not {expected}")]
    GenerationMismatch {
        /// Expected.
        expected: u64,
        /// Found.
        found: u64,
    },
    /// A live task of the session has the name.
    #[error("a live task has this name")]
    NameTaken,
    /// The key was used with another definition.
    #[error("the key was used with another definition")]
    KeyConflict,
    /// The request id was used with another request.
    #[error("the request_id was used with another request")]
    RequestIdConflict,
    /// The parent may not get a child.
    #[error("{0}")]
    NoSpawn(NoSpawn),
    /// The parent is gone.
    #[error("there is no such parent")]
    NoParent,
    /// What runs inside the parent holds it no more.
    #[error("the lease is lost")]
    SpawnerLost,
    /// The session was deleted meanwhile.
    #[error("the session was deleted")]
    SessionDeleted,
    /// The thread is full.
    #[error("a task's thread has at most {limit} messages")]
    TooManyMessages {
        /// The limit.
        limit: i64,
    },
    /// There are as many live tasks as there may be.
    #[error("the {scope} has {limit} live tasks, which is the most")]
    TooManyLiveTasks {
        /// `session` or `namespace`.
        scope: &'static str,
        /// The limit.
        limit: u64,
    },
    /// There are more artifacts than a task may have.
    #[error("a task has at most {limit} artifacts")]
    TooManyArtifacts {
        /// The limit.
        limit: usize,
    },
    /// The store could not do it.
    #[error("the store could not do it")]
    Store(#[source] StoreError),
    /// The database could not be reached for as long as one waits for it.
    #[error("the database is not reachable")]
    Unreachable,
    /// Too many intents are waiting.
    #[error("too many changes are waiting")]
    Overloaded,
    /// The committers have stopped.
    #[error("the server is shutting down")]
    ShuttingDown,
}
