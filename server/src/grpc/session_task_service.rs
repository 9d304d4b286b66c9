//! `SessionTaskService`.

use super::{call_telemetry, deadline, inside};
use crate::{
    app::App,
    control::{
        batch_create_tasks::{self, BatchOutcome},
        cancel_task, cancel_tasks, clone_task, create_task, delete_session, get_task, get_usage,
        list_tasks,
        outbox::Outgoing,
        read_output, resize_terminal, retry_task, signal_task, tail_output, take_wakes, thread,
        update_task, wait_tasks, watch, write_input,
    },
};
use futures::{Stream, StreamExt, stream::BoxStream};
use std::sync::Arc;
use taskyard_proto::v1::{
    AnswerTaskRequest, AnswerTaskResponse, BatchCreateError, BatchCreateResult,
    BatchCreateTasksRequest, BatchCreateTasksResponse, CancelTaskRequest, CancelTaskResponse,
    CancelTasksRequest, CancelTasksResponse, CloneTaskRequest, CloneTaskResponse,
    CreateTaskRequest, CreateTaskResponse, DeleteSessionRequest, DeleteSessionResponse,
    GetTaskRequest, GetTaskResponse, GetUsageRequest, GetUsageResponse, ListMessagesRequest,
    ListMessagesResponse, ListTasksRequest, ListTasksResponse, PostMessageRequest,
    PostMessageResponse, ReadOutputRequest, ReadOutputResponse, ResizeTerminalRequest,
    ResizeTerminalResponse, RetryTaskRequest, RetryTaskResponse, SignalTaskRequest,
    SignalTaskResponse, TailOutputRequest, TailOutputResponse, TakeWakesRequest, TakeWakesResponse,
    UpdateTaskRequest, UpdateTaskResponse, WaitTasksRequest, WaitTasksResponse, WatchRequest,
    WatchResponse, WriteInputRequest, WriteInputResponse,
    session_task_service_server::SessionTaskService,
};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

/// The service.
#[derive(Clone)]
pub struct TaskService {
    app: Arc<App>,
}

impl TaskService {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl SessionTaskService for TaskService {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;
    type TailOutputStream = BoxStream<'static, Result<TailOutputResponse, Status>>;

    async fn create_task(
        &self,
        request: Request<CreateTaskRequest>,
    ) -> Result<Response<CreateTaskResponse>, Status> {
        call_telemetry::note_wait(&request, |request| request.wait.is_some());
        let confined = inside::confined(&self.app, request).await?;
        Ok(Response::new(
            create_task::create_task(&self.app, confined.request, confined.caller).await?,
        ))
    }

    async fn batch_create_tasks(
        &self,
        request: Request<BatchCreateTasksRequest>,
    ) -> Result<Response<BatchCreateTasksResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        let outcomes = batch_create_tasks::batch_create_tasks(&self.app, request).await?;
        Ok(Response::new(BatchCreateTasksResponse {
            results: outcomes.into_iter().map(batch_result).collect(),
        }))
    }

    async fn clone_task(
        &self,
        request: Request<CloneTaskRequest>,
    ) -> Result<Response<CloneTaskResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            clone_task::clone_task(&self.app, request).await?,
        ))
    }

    async fn get_task(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<GetTaskResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(get_task::get_task(&self.app, request).await?))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            list_tasks::list_tasks(&self.app, request).await?,
        ))
    }

    async fn update_task(
        &self,
        request: Request<UpdateTaskRequest>,
    ) -> Result<Response<UpdateTaskResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            update_task::update_task(&self.app, request).await?,
        ))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            cancel_task::cancel_task(&self.app, request).await?,
        ))
    }

    async fn cancel_tasks(
        &self,
        request: Request<CancelTasksRequest>,
    ) -> Result<Response<CancelTasksResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            cancel_tasks::cancel_tasks(&self.app, request).await?,
        ))
    }

    async fn retry_task(
        &self,
        request: Request<RetryTaskRequest>,
    ) -> Result<Response<RetryTaskResponse>, Status> {
        let confined = inside::confined(&self.app, request).await?;
        Ok(Response::new(
            retry_task::retry_task(&self.app, confined.request, confined.caller).await?,
        ))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        let outgoing = watch::watch(&self.app, request).await?;
        Ok(Response::new(statuses(outgoing)))
    }

    async fn wait_tasks(
        &self,
        request: Request<WaitTasksRequest>,
    ) -> Result<Response<WaitTasksResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            wait_tasks::wait_tasks(&self.app, request, deadline).await?,
        ))
    }

    async fn tail_output(
        &self,
        request: Request<TailOutputRequest>,
    ) -> Result<Response<Self::TailOutputStream>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        let outgoing = tail_output::tail_output(&self.app, request).await?;
        Ok(Response::new(statuses(outgoing)))
    }

    async fn read_output(
        &self,
        request: Request<ReadOutputRequest>,
    ) -> Result<Response<ReadOutputResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            read_output::read_output(&self.app, request).await?,
        ))
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            get_usage::get_usage(&self.app, request).await?,
        ))
    }

    async fn write_input(
        &self,
        request: Request<WriteInputRequest>,
    ) -> Result<Response<WriteInputResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            write_input::write_input(&self.app, request).await?,
        ))
    }

    async fn signal_task(
        &self,
        request: Request<SignalTaskRequest>,
    ) -> Result<Response<SignalTaskResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            signal_task::signal_task(&self.app, request).await?,
        ))
    }

    async fn resize_terminal(
        &self,
        request: Request<ResizeTerminalRequest>,
    ) -> Result<Response<ResizeTerminalResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            resize_terminal::resize_terminal(&self.app, request).await?,
        ))
    }

    async fn post_message(
        &self,
        request: Request<PostMessageRequest>,
    ) -> Result<Response<PostMessageResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            thread::post_message(&self.app, request).await?,
        ))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        call_telemetry::note_wait(&request, |request| request.wait.is_some());
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            thread::list_messages(&self.app, request).await?,
        ))
    }

    async fn answer_task(
        &self,
        request: Request<AnswerTaskRequest>,
    ) -> Result<Response<AnswerTaskResponse>, Status> {
        let identity = inside::caller_identity(request.extensions())?;
        let confined = inside::confined(&self.app, request).await?;
        // an administrator's worker is known as an approver; what runs inside a task never is
        let is_approver = identity.is_approver && confined.caller.is_none();
        Ok(Response::new(
            thread::answer_task(&self.app, confined.request, is_approver).await?,
        ))
    }

    async fn take_wakes(
        &self,
        request: Request<TakeWakesRequest>,
    ) -> Result<Response<TakeWakesResponse>, Status> {
        let identity = inside::caller_identity(request.extensions())?;
        let request = inside::confined(&self.app, request).await?.request;
        let is_confined = !identity.reach.sessions.is_all();
        Ok(Response::new(
            take_wakes::take_wakes(&self.app, request, is_confined).await?,
        ))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let request = inside::confined(&self.app, request).await?.request;
        Ok(Response::new(
            delete_session::delete_session(&self.app, request).await?,
        ))
    }
}

/// What became of one task of a batch; a refusal is told as if the task had come alone.
fn batch_result(outcome: BatchOutcome) -> BatchCreateResult {
    match outcome {
        Ok(created) => BatchCreateResult {
            task: Some(created.task),
            created: created.is_new,
            error: None,
        },
        Err(refusal) => {
            let status = Status::from(refusal);
            let info = status.get_details_error_info();
            BatchCreateResult {
                task: None,
                created: false,
                error: Some(BatchCreateError {
                    code: status.code() as i32,
                    reason: info.map(|info| info.reason).unwrap_or_default(),
                    message: status.message().to_owned(),
                }),
            }
        }
    }
}

fn statuses<T: Send + 'static>(outgoing: Outgoing<T>) -> BoxStream<'static, Result<T, Status>>
where
    Outgoing<T>: Stream<Item = Result<T, crate::control::refusal::Refusal>>,
{
    outgoing.map(|item| item.map_err(Status::from)).boxed()
}
