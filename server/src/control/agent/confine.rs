//! Calls of `SessionTaskService` from inside a task: they reach what is below that task, and nothing else.

use super::Caller;
use crate::{
    app::App,
    control::{
        get_task, isolation,
        refusal::{Refusal, Resource},
        resolve,
    },
    store::resolve::find_descendants,
};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    AnswerTaskRequest, BatchCreateTasksRequest, CancelTaskRequest, CancelTasksRequest,
    CloneTaskRequest, CreateTaskRequest, DeleteSessionRequest, GetTaskRequest, GetUsageRequest,
    ListMessagesRequest, ListTasksRequest, PostMessageRequest, ReadOutputRequest,
    ResizeTerminalRequest, RetryTaskRequest, SignalTaskRequest, TailOutputRequest,
    TakeWakesRequest, TaskSpec, UpdateTaskRequest, WaitTasksRequest, WatchRequest,
    WriteInputRequest,
};

/// What a caller from inside may reach.
pub struct Scope<'a> {
    app: &'a App,
    caller: Caller,
    namespace: String,
    session_id: String,
    /// What the caller's task runs.
    spec: TaskSpec,
}

/// A request that can come from inside a task.
pub trait Confined {
    /// Bends the request to what is below the caller's task.
    fn confine(&mut self, scope: &Scope<'_>) -> impl Future<Output = Result<(), Refusal>> + Send;
}

impl<'a> Scope<'a> {
    /// The scope of a caller.
    ///
    /// # Errors
    /// [`Refusal::Store`].
    pub async fn enter(app: &'a App, caller: Caller) -> Result<Self, Refusal> {
        let task = get_task::read_task(app, caller.task()).await?.task;
        Ok(Self {
            app,
            caller,
            namespace: task.namespace,
            session_id: task.session_id,
            spec: task.spec.unwrap_or_default(),
        })
    }

    /// Namespace and session are the caller's own; they may be left out, and nothing else.
    fn own_session(&self, namespace: &mut String, session_id: &mut String) -> Result<(), Refusal> {
        for (field, given, own) in [
            ("namespace", namespace, &self.namespace),
            ("session_id", session_id, &self.session_id),
        ] {
            if !given.is_empty() && given != own {
                return Err(Refusal::invalid(
                    field,
                    "from inside a task only its own; leave it empty",
                ));
            }
            given.clone_from(own);
        }
        Ok(())
    }

    /// One task below the caller; written back as its whole id.
    async fn one(
        &self,
        namespace: &mut String,
        session_id: &mut String,
        task: &mut String,
    ) -> Result<(), Refusal> {
        self.own_session(namespace, session_id)?;
        self.descendants(&mut [task]).await
    }

    async fn descendants(&self, tasks: &mut [&mut String]) -> Result<(), Refusal> {
        let names: Vec<&str> = tasks.iter().map(|task| task.as_str()).collect();
        let found =
            resolve::resolve_all(self.app, &self.namespace, &self.session_id, "task", &names)
                .await?;
        let ids: Vec<TaskId> = found.iter().map(|found| found.id).collect();
        let below = find_descendants(self.app.store.pool(), self.caller.task(), &ids).await?;
        for (name, id) in tasks.iter_mut().zip(ids) {
            if !below.contains(&id) {
                return Err(Refusal::NotFound {
                    resource: Resource::Task,
                    name: (**name).clone(),
                });
            }
            **name = id.to_string();
        }
        Ok(())
    }
}

/// Requests that name one task.
macro_rules! confine_to_one_task {
    ($($request:ty),*) => {$(
        impl Confined for $request {
            async fn confine(&mut self, scope: &Scope<'_>) -> Result<(), Refusal> {
                scope.one(&mut self.namespace, &mut self.session_id, &mut self.task).await
            }
        }
    )*};
}

confine_to_one_task!(
    GetTaskRequest,
    CancelTaskRequest,
    RetryTaskRequest,
    AnswerTaskRequest,
    PostMessageRequest,
    ListMessagesRequest,
    TailOutputRequest,
    ReadOutputRequest,
    WriteInputRequest,
    SignalTaskRequest,
    ResizeTerminalRequest
);

/// Requests that are the owner's.
macro_rules! refuse_from_inside {
    ($($request:ty: $problem:literal),*) => {$(
        impl Confined for $request {
            async fn confine(&mut self, _scope: &Scope<'_>) -> Result<(), Refusal> {
                Err(Refusal::NotFromInside { problem: $problem })
            }
        }
    )*};
}

refuse_from_inside!(
    UpdateTaskRequest: "use ReportProgress and PublishArtifact for the task itself",
    WatchRequest: "wait for tasks with WaitTasks",
    TakeWakesRequest: "wakes are the owner's",
    BatchCreateTasksRequest: "create children one by one",
    CloneTaskRequest: "create a child with CreateTask",
    CancelTasksRequest: "cancel a child with its tree",
    DeleteSessionRequest: "the session is the owner's"
);

impl Confined for CreateTaskRequest {
    async fn confine(&mut self, scope: &Scope<'_>) -> Result<(), Refusal> {
        scope.own_session(&mut self.namespace, &mut self.session_id)?;
        let own = scope.caller.task().to_string();
        if let Some(task) = &mut self.task {
            if !task.parent_task_id.is_empty() && task.parent_task_id != own {
                return Err(Refusal::invalid(
                    "task.parent_task_id",
                    "from inside a task only the task itself; leave it empty",
                ));
            }
            task.parent_task_id = own;
            if let Some(spec) = &mut task.spec {
                isolation::inherit(&scope.spec, spec)?;
                spec.approver_only |= scope.spec.approver_only;
            }
            isolation::check_secrets(&scope.spec, &task.secrets)?;
        }
        Ok(())
    }
}

impl Confined for ListTasksRequest {
    async fn confine(&mut self, scope: &Scope<'_>) -> Result<(), Refusal> {
        scope.own_session(&mut self.namespace, &mut self.session_id)?;
        let own = scope.caller.task().to_string();
        if self.parent_task_id.is_empty() || self.parent_task_id == own {
            self.parent_task_id = own;
            return Ok(());
        }
        scope.descendants(&mut [&mut self.parent_task_id]).await
    }
}

/// Also the caller's own task, whose tree it is; without a name that one is meant.
impl Confined for GetUsageRequest {
    async fn confine(&mut self, scope: &Scope<'_>) -> Result<(), Refusal> {
        scope.own_session(&mut self.namespace, &mut self.session_id)?;
        let own = scope.caller.task().to_string();
        if self.task.is_empty() || self.task == own {
            self.task = own;
            return Ok(());
        }
        scope.descendants(&mut [&mut self.task]).await
    }
}

impl Confined for WaitTasksRequest {
    async fn confine(&mut self, scope: &Scope<'_>) -> Result<(), Refusal> {
        if !self.group.is_empty() || !self.labels.is_empty() {
            return Err(Refusal::NotFromInside {
                problem: "name the tasks in place of a group or labels",
            });
        }
        scope.own_session(&mut self.namespace, &mut self.session_id)?;
        let mut names: Vec<&mut String> = self
            .tasks
            .iter_mut()
            .map(|waited| &mut waited.task)
            .collect();
        scope.descendants(&mut names).await
    }
}
