//! A good request for each method, about what somebody has.

#![expect(
    clippy::needless_update,
    reason = "the macros also fill in requests that have nothing but names"
)]

use prost::Message;
use taskyard_proto::v1::attach_request::Message as Up;
use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::*;
use taskyard_tests::client::{milliseconds, shell};
use taskyard_tests::hand_worker::{hello, item};

use super::world::Names;

/// The messages of a good call of `path` about `own`; none: nobody has said how it is called.
pub fn about(path: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    let (service, method) = path.rsplit_once('/')?;
    match service.rsplit_once('.')?.1 {
        "SessionTaskService" => tasks(method, own),
        "SessionFileService" => files(method, own),
        "TaskAgentService" => agent(method),
        "WorkerService" => worker(method, own),
        "WebhookService" => webhooks(method, own),
        "AdminService" => admin(method, own),
        // all of it is about everybody
        "ExternalScaler" => Some(vec![Vec::new()]),
        _ => None,
    }
}

fn one(message: &impl Message) -> Option<Vec<Vec<u8>>> {
    Some(vec![message.encode_to_vec()])
}

/// A request whose first fields say which task is meant.
macro_rules! about_task {
    ($own:ident, $task:expr, $request:ident $({ $($field:ident: $value:expr),* $(,)? })?) => {
        one(&$request {
            namespace: $own.namespace.clone(),
            session_id: $own.session.clone(),
            task: $task.clone(),
            $($($field: $value,)*)?
            ..$request::default()
        })
    };
}

/// A request whose first fields say which session is meant.
macro_rules! about_session {
    ($own:ident, $request:ident $({ $($field:ident: $value:expr),* $(,)? })?) => {
        one(&$request {
            namespace: $own.namespace.clone(),
            session_id: $own.session.clone(),
            $($($field: $value,)*)?
            ..$request::default()
        })
    };
}

fn tasks(method: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    let held = || TaskDefinition {
        hold: true,
        parent_task_id: own.task.clone(),
        ..shell("true")
    };
    let text = || {
        vec![MessagePart {
            part: Some(Part::Text("a word".to_owned())),
        }]
    };
    match method {
        "CreateTask" => about_session!(own, CreateTaskRequest { task: Some(held()) }),
        "BatchCreateTasks" => about_session!(
            own,
            BatchCreateTasksRequest {
                tasks: vec![held()],
                atomic: true,
            }
        ),
        "GetTask" => about_task!(
            own,
            own.task,
            GetTaskRequest {
                include_result: true
            }
        ),
        "ListTasks" => about_session!(own, ListTasksRequest { include_spec: true }),
        "UpdateTask" => about_task!(
            own,
            own.task,
            UpdateTaskRequest {
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["state_detail".to_owned()],
                }),
                state_detail: "changed".to_owned(),
            }
        ),
        "CancelTask" => about_task!(own, own.held, CancelTaskRequest),
        "CancelTasks" => about_session!(
            own,
            CancelTasksRequest {
                group: own.group.clone()
            }
        ),
        "RetryTask" => about_task!(own, own.ended, RetryTaskRequest),
        "CloneTask" => about_task!(own, own.ended, CloneTaskRequest),
        "Watch" => one(&WatchRequest {
            namespace: own.namespace.clone(),
            sessions: vec![WatchedSession {
                session_id: own.session.clone(),
                ..WatchedSession::default()
            }],
            ..WatchRequest::default()
        }),
        "WaitTasks" => one(&WaitTasksRequest {
            namespace: own.namespace.clone(),
            session_id: own.session.clone(),
            tasks: vec![WaitedTask {
                task: own.task.clone(),
                ..WaitedTask::default()
            }],
            timeout: Some(milliseconds(0)),
            ..WaitTasksRequest::default()
        }),
        "TailOutput" => about_task!(own, own.task, TailOutputRequest),
        "ReadOutput" => about_task!(
            own,
            own.task,
            ReadOutputRequest {
                stream: OutputStream::Stdout.into()
            }
        ),
        "WriteInput" => about_task!(
            own,
            own.task,
            WriteInputRequest {
                data: b"in"[..].into()
            }
        ),
        "SignalTask" => about_task!(
            own,
            own.task,
            SignalTaskRequest {
                signal: "USR1".to_owned()
            }
        ),
        "ResizeTerminal" => about_task!(
            own,
            own.task,
            ResizeTerminalRequest {
                rows: 24,
                columns: 80
            }
        ),
        "GetUsage" => about_task!(own, own.task, GetUsageRequest),
        "PostMessage" => about_task!(own, own.task, PostMessageRequest { parts: text() }),
        "ListMessages" => about_task!(own, own.task, ListMessagesRequest),
        "AnswerTask" => about_task!(
            own,
            own.task,
            AnswerTaskRequest {
                question_id: own.question.clone(),
                answer: Some(answer_task_request::Answer::Text("yes".to_owned())),
            }
        ),
        "TakeWakes" => one(&TakeWakesRequest {
            namespace: own.namespace.clone(),
            session_ids: vec![own.session.clone()],
            consumer: own.consumer.clone(),
            ack_ids: vec![own.wake],
            ..TakeWakesRequest::default()
        }),
        "DeleteSession" => about_session!(own, DeleteSessionRequest),
        _ => None,
    }
}

fn files(method: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    match method {
        "Write" => one(&WriteRequest {
            header: Some(WriteHeader {
                namespace: own.namespace.clone(),
                session_id: own.session.clone(),
                path: own.path.clone(),
                ..WriteHeader::default()
            }),
            data: b"other words"[..].into(),
        }),
        "Read" => about_session!(
            own,
            ReadRequest {
                path: own.path.clone()
            }
        ),
        "Stat" => about_session!(
            own,
            StatRequest {
                path: own.path.clone()
            }
        ),
        "List" => about_session!(
            own,
            ListRequest {
                path: "/".to_owned(),
                recursive: true
            }
        ),
        "Delete" => about_session!(
            own,
            DeleteRequest {
                path: own.path.clone()
            }
        ),
        "Grep" => about_session!(
            own,
            GrepRequest {
                path: "/".to_owned(),
                pattern: ".".to_owned()
            }
        ),
        _ => None,
    }
}

/// Whose task it is, is said by the lease that goes with the call.
fn agent(method: &str) -> Option<Vec<Vec<u8>>> {
    match method {
        "GetSelf" => one(&GetSelfRequest::default()),
        "ReportProgress" => one(&ReportProgressRequest {
            progress: Some(Progress {
                label: "changed".to_owned(),
                ..Progress::default()
            }),
            ..ReportProgressRequest::default()
        }),
        "Ask" => one(&AskRequest {
            prompt: "more?".to_owned(),
            wait: Some(milliseconds(0)),
            ..AskRequest::default()
        }),
        "Post" => one(&PostRequest {
            parts: vec![MessagePart {
                part: Some(Part::Text("a word".to_owned())),
            }],
            ..PostRequest::default()
        }),
        "ReceiveMessages" => one(&ReceiveMessagesRequest::default()),
        "PublishArtifact" => one(&PublishArtifactRequest {
            artifact: Some(Artifact {
                name: "found".to_owned(),
                url: "https://found.example".to_owned(),
                ..Artifact::default()
            }),
            ..PublishArtifactRequest::default()
        }),
        "SetResult" => one(&SetResultRequest {
            output_json: "7".to_owned(),
        }),
        "ReportUsage" => one(&ReportUsageRequest {
            usage_json: "{}".to_owned(),
        }),
        _ => None,
    }
}

fn worker(method: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    let lease = Some(own.lease.clone());
    match method {
        "Attach" => one(&AttachRequest {
            message: Some(Up::Hello(hello("matrix", 1))),
        }),
        "AcquireLeases" => one(&AcquireLeasesRequest {
            hello: Some(hello("matrix", 1)),
            ..AcquireLeasesRequest::default()
        }),
        "Report" => one(&ReportRequest {
            items: vec![item(
                &own.lease,
                2,
                Report::Progress(ProgressReport {
                    state_detail: "changed".to_owned(),
                    ..ProgressReport::default()
                }),
            )],
        }),
        "PushOutput" => one(&PushOutputRequest {
            lease,
            run: 1,
            chunks: vec![OutputChunk {
                stream: OutputStream::Stdout.into(),
                offset: own.pushed,
                data: b"more"[..].into(),
                at: Some(std::time::SystemTime::now().into()),
                ..OutputChunk::default()
            }],
            head_bytes: 1 << 20,
            tail_bytes: 1 << 20,
            ..PushOutputRequest::default()
        }),
        "GetLeaseSpec" => one(&GetLeaseSpecRequest { lease }),
        "GetLeaseSecrets" => one(&GetLeaseSecretsRequest { lease }),
        "ReadInput" => one(&ReadInputRequest {
            lease,
            run: 1,
            ..ReadInputRequest::default()
        }),
        "ReadTerminalSize" => one(&ReadTerminalSizeRequest {
            lease,
            run: 1,
            ..ReadTerminalSizeRequest::default()
        }),
        "ConfirmSignal" => one(&ConfirmSignalRequest {
            lease,
            number: 1,
            outcome: SignalOutcome::Delivered.into(),
        }),
        "ReadFile" => one(&ReadFileRequest {
            lease,
            path: own.path.clone(),
            ..ReadFileRequest::default()
        }),
        "ListFiles" => one(&ListFilesRequest {
            lease,
            path: "/".to_owned(),
            ..ListFilesRequest::default()
        }),
        "WriteFile" => one(&WriteFileRequest {
            lease,
            name: "artifacts/late.txt".to_owned(),
            data: b"late"[..].into(),
        }),
        _ => None,
    }
}

fn webhooks(method: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    match method {
        "CreateWebhook" => about_task!(
            own,
            own.task,
            CreateWebhookRequest {
                url: "https://receiver.example/more".to_owned(),
                events: vec![WebhookEvent::Terminal.into()],
            }
        ),
        "ListWebhooks" => about_session!(own, ListWebhooksRequest),
        "DeleteWebhook" => one(&DeleteWebhookRequest {
            namespace: own.namespace.clone(),
            webhook_id: own.webhook.clone(),
        }),
        "ListWebhookDeliveries" => one(&ListWebhookDeliveriesRequest {
            namespace: own.namespace.clone(),
            webhook_id: own.webhook.clone(),
            ..ListWebhookDeliveriesRequest::default()
        }),
        "RedeliverWebhook" => one(&RedeliverWebhookRequest {
            namespace: own.namespace.clone(),
            webhook_id: own.webhook.clone(),
            delivery_id: own.delivery,
        }),
        _ => None,
    }
}

fn admin(method: &str, own: &Names) -> Option<Vec<Vec<u8>>> {
    match method {
        "ListWorkers" => one(&ListWorkersRequest::default()),
        "ListSessions" => one(&ListSessionsRequest {
            namespace: own.namespace.clone(),
            ..ListSessionsRequest::default()
        }),
        "ListQueues" => one(&ListQueuesRequest::default()),
        "ListMonitors" => about_session!(own, ListMonitorsRequest),
        "SetRetention" => about_session!(
            own,
            SetRetentionRequest {
                limits: Some(RetentionLimits {
                    max_ended_tasks: Some(100_000),
                    ..RetentionLimits::default()
                }),
            }
        ),
        "GetRetention" => about_session!(own, GetRetentionRequest),
        "RunRetention" => about_session!(own, RunRetentionRequest { dry_run: true }),
        "ListAuditEvents" => about_session!(own, ListAuditEventsRequest),
        "GetLogFilter" => one(&GetLogFilterRequest::default()),
        "SetLogFilter" => one(&SetLogFilterRequest {
            filter: "info".to_owned(),
            lasting: Some(milliseconds(1_000)),
        }),
        _ => None,
    }
}
