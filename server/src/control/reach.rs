//! What a credential reaches, held against what a request names. A request that is about something out of reach is
//! refused as if that did not exist, before anything is looked up, so that nothing can be learnt of it.
//!
//! Each type of request says by [`Reached`] what it names; `inside` asks for it, so that no verb has to.

use super::{
    namespace::{check_session_id, name_or_default, valid_namespace},
    refusal::{Refusal, Resource},
    resolve,
};
use crate::{app::App, identity::Identity, store::sessions};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use taskyard_proto::v1::{
    AnswerTaskRequest, BatchCreateTasksRequest, CancelTaskRequest, CancelTasksRequest,
    CloneTaskRequest, CreateTaskRequest, CreateWebhookRequest, DeleteRequest, DeleteSessionRequest,
    DeleteWebhookRequest, GetRetentionRequest, GetTaskRequest, GetUsageRequest, GrepRequest,
    ListAuditEventsRequest, ListMessagesRequest, ListMonitorsRequest, ListRequest,
    ListSessionsRequest, ListTasksRequest, ListWebhookDeliveriesRequest, ListWebhooksRequest,
    PostMessageRequest, ReadOutputRequest, ReadRequest, RedeliverWebhookRequest,
    ResizeTerminalRequest, RetryTaskRequest, RunRetentionRequest, SetRetentionRequest,
    SignalTaskRequest, StatRequest, TailOutputRequest, TakeWakesRequest, UpdateTaskRequest,
    WaitTasksRequest, WatchRequest, WriteHeader, WriteInputRequest,
};

/// What a request is about, for the audit log. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    named: Arc<Mutex<Named>>,
    is_out_of_reach: Arc<AtomicBool>,
}

/// The names in a request.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its session.
    pub session_id: String,
    /// Its task.
    pub task: String,
    /// Its own id.
    pub request_id: String,
    /// The worker that it attaches.
    pub worker: String,
    /// The pool that this worker says it is of.
    pub pool: String,
}

impl Subject {
    /// Says what a request is about.
    pub fn name(&self, namespace: &str, session_id: &str, task: &str, request_id: &str) {
        let named = Named {
            namespace: clip(namespace),
            session_id: clip(session_id),
            task: clip(task),
            request_id: clip(request_id),
            ..Named::default()
        };
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }

    /// Says which worker a request attaches, and of which pool.
    pub fn attaches(&self, worker: &str, pool: &str) {
        let named = Named {
            worker: clip(worker),
            pool: clip(pool),
            ..Named::default()
        };
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }

    /// Notes that the caller does not reach what the request names.
    pub fn put_out_of_reach(&self) {
        self.is_out_of_reach.store(true, Ordering::Relaxed);
    }

    /// What was said.
    #[must_use]
    pub fn read(&self) -> Named {
        self.named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the request was refused because the caller does not reach what it names.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        self.is_out_of_reach.load(Ordering::Relaxed)
    }
}

/// A name as it is kept: of bounded length, and without the control characters that a log cannot show and the database
/// does not take.
fn clip(text: &str) -> String {
    text.chars()
        .take(256)
        .map(|letter| {
            if letter.is_control() {
                '\u{FFFD}'
            } else {
                letter
            }
        })
        .collect()
}

/// The caller of a request, and what the request is about.
pub struct Limits<'a> {
    /// The server.
    pub app: &'a App,
    /// The caller.
    pub identity: &'a Identity,
    /// What the request is about.
    pub subject: &'a Subject,
}

/// A request whose names are held against the reach of its caller.
pub trait Reached {
    /// Notes what the request is about, and refuses what its caller does not reach.
    fn reach(&mut self, limits: &Limits<'_>) -> impl Future<Output = Result<(), Refusal>> + Send;
}

impl Limits<'_> {
    fn refuse(&self, resource: Resource, name: &str) -> Refusal {
        self.subject.put_out_of_reach();
        Refusal::NotFound {
            resource,
            name: name.to_owned(),
        }
    }

    fn namespace(&self, namespace: &str) -> Result<(), Refusal> {
        if self.identity.reach.namespaces.is_all() {
            return Ok(());
        }
        let name = valid_namespace(namespace)?;
        if self.identity.reach.namespaces.allow(name) {
            return Ok(());
        }
        Err(self.refuse(Resource::Namespace, name))
    }

    fn session(&self, namespace: &str, session_id: &str) -> Result<(), Refusal> {
        self.namespace(namespace)?;
        if self.identity.reach.sessions.is_all() {
            return Ok(());
        }
        check_session_id(session_id)?;
        if self.identity.reach.sessions.allow(session_id) {
            return Ok(());
        }
        Err(self.refuse(Resource::Session, session_id))
    }

    /// One session, or all of a namespace.
    fn maybe_session(&self, namespace: &str, session_id: &str) -> Result<(), Refusal> {
        if session_id.is_empty() {
            self.namespace(namespace)?;
            return self.all_sessions();
        }
        self.session(namespace, session_id)
    }

    fn all_sessions(&self) -> Result<(), Refusal> {
        let sessions = &self.identity.reach.sessions;
        if sessions.is_all() {
            return Ok(());
        }
        Err(Refusal::SessionNeeded {
            allowed: sessions.to_string(),
        })
    }

    /// One task; where its session is left out, that is looked up.
    async fn task(&self, namespace: &str, session_id: &str, task: &str) -> Result<(), Refusal> {
        if !session_id.is_empty() || self.identity.reach.sessions.is_all() {
            return if session_id.is_empty() {
                self.namespace(namespace)
            } else {
                self.session(namespace, session_id)
            };
        }
        self.namespace(namespace)?;
        let found = resolve::resolve(self.app, namespace, "", task).await?;
        let session = sessions::name_of(self.app.store.pool(), found.session).await?;
        if session.is_some_and(|session| self.identity.reach.sessions.allow(&session)) {
            return Ok(());
        }
        Err(self.refuse(Resource::Task, task))
    }
}

/// Requests that name one task.
macro_rules! reach_one_task {
    ($($request:ty $(: $request_id:ident)?),* $(,)?) => {$(
        impl Reached for $request {
            async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
                let (namespace, session, task) = (&self.namespace, &self.session_id, &self.task);
                let request_id = "" $(; let _ = request_id; let request_id = self.$request_id.as_str())?;
                limits.subject.name(name_or_default(namespace), session, task, request_id);
                limits.task(namespace, session, task).await
            }
        }
    )*};
}

reach_one_task!(
    GetTaskRequest,
    UpdateTaskRequest,
    CancelTaskRequest,
    RetryTaskRequest: request_id,
    CloneTaskRequest: request_id,
    PostMessageRequest: request_id,
    ListMessagesRequest,
    AnswerTaskRequest: request_id,
    TailOutputRequest,
    ReadOutputRequest,
    WriteInputRequest,
    SignalTaskRequest,
    ResizeTerminalRequest,
);

/// Requests that name one session.
macro_rules! reach_one_session {
    ($($request:ty $(: $request_id:ident)?),* $(,)?) => {$(
        impl Reached for $request {
            async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
                let request_id = "" $(; let _ = request_id; let request_id = self.$request_id.as_str())?;
                let namespace = name_or_default(&self.namespace);
                limits.subject.name(namespace, &self.session_id, "", request_id);
                limits.session(&self.namespace, &self.session_id)
            }
        }
    )*};
}

reach_one_session!(
    CreateTaskRequest: request_id,
    BatchCreateTasksRequest: request_id,
    CancelTasksRequest,
    DeleteSessionRequest,
    WriteHeader,
    ReadRequest,
    StatRequest,
    ListRequest,
    DeleteRequest,
    GrepRequest,
);

/// Requests that name one session, or mean all of a namespace.
macro_rules! reach_maybe_session {
    ($($request:ty),* $(,)?) => {$(
        impl Reached for $request {
            async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
                limits.subject.name(name_or_default(&self.namespace), &self.session_id, "", "");
                limits.maybe_session(&self.namespace, &self.session_id)
            }
        }
    )*};
}

reach_maybe_session!(
    ListTasksRequest,
    ListMonitorsRequest,
    SetRetentionRequest,
    GetRetentionRequest,
    RunRetentionRequest,
    ListWebhooksRequest,
);

/// Requests that name a thing of a namespace, of whichever session.
macro_rules! reach_namespace {
    ($($request:ty),* $(,)?) => {$(
        impl Reached for $request {
            async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
                limits.subject.name(name_or_default(&self.namespace), "", "", "");
                limits.namespace(&self.namespace)?;
                limits.all_sessions()
            }
        }
    )*};
}

reach_namespace!(
    DeleteWebhookRequest,
    ListWebhookDeliveriesRequest,
    RedeliverWebhookRequest,
);

impl Reached for CreateWebhookRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        let (namespace, session, task) = (&self.namespace, &self.session_id, &self.task);
        limits
            .subject
            .name(name_or_default(namespace), session, task, "");
        if task.is_empty() {
            limits.maybe_session(namespace, session)
        } else {
            limits.task(namespace, session, task).await
        }
    }
}

/// Without a task the sums of the session are meant.
impl Reached for GetUsageRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        let (namespace, session, task) = (&self.namespace, &self.session_id, &self.task);
        limits
            .subject
            .name(name_or_default(namespace), session, task, "");
        if task.is_empty() {
            limits.session(namespace, session)
        } else {
            limits.task(namespace, session, task).await
        }
    }
}

/// Sessions out of reach are left out of the answer, by `list_sessions`.
impl Reached for ListSessionsRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        limits
            .subject
            .name(name_or_default(&self.namespace), "", "", "");
        limits.namespace(&self.namespace)
    }
}

impl Reached for ListAuditEventsRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        limits
            .subject
            .name(&self.namespace, &self.session_id, "", "");
        if !self.namespace.is_empty() {
            limits.namespace(&self.namespace)?;
        }
        let sessions = &limits.identity.reach.sessions;
        if self.session_id.is_empty() {
            return limits.all_sessions();
        }
        if sessions.allow(&self.session_id) {
            return Ok(());
        }
        Err(limits.refuse(Resource::Session, &self.session_id))
    }
}

impl Reached for WatchRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        let first = self.sessions.first();
        let first = first.map_or("", |session| &session.session_id);
        limits
            .subject
            .name(name_or_default(&self.namespace), first, "", "");
        limits.namespace(&self.namespace)?;
        for session in &self.sessions {
            limits.session(&self.namespace, &session.session_id)?;
        }
        Ok(())
    }
}

impl Reached for TakeWakesRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        let first = self.session_ids.first().map_or("", String::as_str);
        limits
            .subject
            .name(name_or_default(&self.namespace), first, "", "");
        limits.maybe_session(&self.namespace, first)?;
        for session_id in &self.session_ids {
            limits.session(&self.namespace, session_id)?;
        }
        Ok(())
    }
}

impl Reached for WaitTasksRequest {
    async fn reach(&mut self, limits: &Limits<'_>) -> Result<(), Refusal> {
        let first = self.tasks.first().map_or("", |waited| &waited.task);
        let namespace = name_or_default(&self.namespace);
        limits.subject.name(namespace, &self.session_id, first, "");
        if !self.session_id.is_empty() || self.tasks.is_empty() {
            return limits.maybe_session(&self.namespace, &self.session_id);
        }
        limits.namespace(&self.namespace)?;
        for waited in &self.tasks {
            limits.task(&self.namespace, "", &waited.task).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_short_and_without_control_characters() {
        let subject = Subject::default();
        subject.name("a\0b", "s\n", &"ü".repeat(300), "\u{7f}\u{85}");
        let named = subject.read();
        assert_eq!(named.namespace, "a\u{FFFD}b");
        assert_eq!(named.session_id, "s\u{FFFD}");
        assert_eq!(named.task, "ü".repeat(256));
        assert_eq!(named.request_id, "\u{FFFD}\u{FFFD}");
    }
}
