//! The follower against a server, over a socket, that breaks streams at awkward places.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use taskyard_proto::v1::session_task_service_server::{
    SessionTaskService, SessionTaskServiceServer,
};
use taskyard_proto::v1::*;
use tokio::io::AsyncReadExt;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

type Reply<T> = Result<Response<T>, Status>;
type ItemStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One TailOutput call: what must be asked (run, offsets), and what is answered.
struct Call {
    asked: (i32, Vec<i64>),
    answer: Vec<Result<Item, Status>>,
}

#[derive(Clone)]
struct Scripted {
    calls: Arc<Mutex<VecDeque<Call>>>,
    task: SessionTask,
}

#[tonic::async_trait]
impl SessionTaskService for Scripted {
    type WatchStream = ItemStream<WatchResponse>;
    type TailOutputStream = ItemStream<TailOutputResponse>;

    async fn get_task(&self, _request: Request<GetTaskRequest>) -> Reply<GetTaskResponse> {
        Ok(Response::new(GetTaskResponse {
            task: Some(self.task.clone()),
            result_json: String::new(),
            monitor: None,
        }))
    }

    async fn tail_output(
        &self,
        request: Request<TailOutputRequest>,
    ) -> Reply<Self::TailOutputStream> {
        let request = request.into_inner();
        let next = self.calls.lock().expect("no panic holds it").pop_front();
        let Some(call) = next else {
            return Err(Status::invalid_argument("one call more than expected"));
        };
        let offsets: Vec<i64> = request.positions.iter().map(|known| known.offset).collect();
        if call.asked != (request.run, offsets.clone()) {
            let text = format!(
                "asked for run {} from {offsets:?}, not {:?}",
                request.run, call.asked
            );
            return Err(Status::invalid_argument(text));
        }
        let items = call
            .answer
            .into_iter()
            .map(|item| item.map(|item| TailOutputResponse { item: Some(item) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(
            items.collect::<Vec<_>>(),
        ))))
    }

    async fn create_task(&self, _request: Request<CreateTaskRequest>) -> Reply<CreateTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn list_tasks(&self, _request: Request<ListTasksRequest>) -> Reply<ListTasksResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn update_task(&self, _request: Request<UpdateTaskRequest>) -> Reply<UpdateTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn cancel_task(&self, _request: Request<CancelTaskRequest>) -> Reply<CancelTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn batch_create_tasks(
        &self,
        _request: Request<BatchCreateTasksRequest>,
    ) -> Reply<BatchCreateTasksResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn clone_task(&self, _request: Request<CloneTaskRequest>) -> Reply<CloneTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn cancel_tasks(
        &self,
        _request: Request<CancelTasksRequest>,
    ) -> Reply<CancelTasksResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn retry_task(&self, _request: Request<RetryTaskRequest>) -> Reply<RetryTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn watch(&self, _request: Request<WatchRequest>) -> Reply<Self::WatchStream> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn wait_tasks(&self, _request: Request<WaitTasksRequest>) -> Reply<WaitTasksResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn read_output(&self, _request: Request<ReadOutputRequest>) -> Reply<ReadOutputResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn get_usage(&self, _request: Request<GetUsageRequest>) -> Reply<GetUsageResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn write_input(&self, _request: Request<WriteInputRequest>) -> Reply<WriteInputResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn signal_task(&self, _request: Request<SignalTaskRequest>) -> Reply<SignalTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn resize_terminal(
        &self,
        _request: Request<ResizeTerminalRequest>,
    ) -> Reply<ResizeTerminalResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn post_message(
        &self,
        _request: Request<PostMessageRequest>,
    ) -> Reply<PostMessageResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn list_messages(
        &self,
        _request: Request<ListMessagesRequest>,
    ) -> Reply<ListMessagesResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn answer_task(&self, _request: Request<AnswerTaskRequest>) -> Reply<AnswerTaskResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn take_wakes(&self, _request: Request<TakeWakesRequest>) -> Reply<TakeWakesResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
    async fn delete_session(
        &self,
        _request: Request<DeleteSessionRequest>,
    ) -> Reply<DeleteSessionResponse> {
        Err(Status::unimplemented("not asked for here"))
    }
}

fn started(run: i32) -> Result<Item, Status> {
    Ok(Item::RunStarted(RunStarted {
        run,
        positions: Vec::new(),
    }))
}

fn chunk(offset: i64, data: &str) -> Result<Item, Status> {
    Ok(Item::Chunk(OutputChunk {
        stream: OutputStream::Stdout.into(),
        offset,
        data: data.as_bytes().to_vec().into(),
        ..OutputChunk::default()
    }))
}

fn end(run: i32, state: TaskState) -> Result<Item, Status> {
    Ok(Item::End(TailEnd {
        run,
        state: state.into(),
        ..TailEnd::default()
    }))
}

/// Follows a task of two runs; what came to standard output and to standard error.
async fn follow_script(calls: Vec<Call>) -> (Result<TaskState, Failure>, String, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
    let mut task = SessionTask {
        run: 2,
        ..SessionTask::default()
    };
    task.set_state(TaskState::Succeeded);
    let script = Scripted {
        calls: Arc::new(Mutex::new(calls.into())),
        task,
    };
    let left = script.calls.clone();
    let server = tonic::transport::Server::builder()
        .add_service(SessionTaskServiceServer::new(script))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let connection = Connection::to(&endpoint, "")
        .await
        .expect("the server listens");
    let (stdout, mut stdout_reader) = tokio::io::duplex(1 << 16);
    let (stderr, mut stderr_reader) = tokio::io::duplex(1 << 16);
    let mut printer = OutputPrinter::to(Box::new(stdout), Box::new(stderr));
    let plan = FollowPlan::whole_task(TaskReference::new("t1", None), Duration::from_secs(20));
    let ended = follow(&connection, plan, &mut printer).await;
    drop(printer);
    server.abort();
    let (mut output, mut notes) = (String::new(), String::new());
    stdout_reader
        .read_to_string(&mut output)
        .await
        .expect("it is text");
    stderr_reader
        .read_to_string(&mut notes)
        .await
        .expect("it is text");
    assert!(
        left.lock().expect("no panic holds it").is_empty(),
        "not all calls were made: {notes}"
    );
    (ended, output, notes)
}

#[tokio::test]
async fn a_broken_stream_resumes_where_it_broke_and_later_runs_are_read_whole() {
    let (ended, output, notes) = follow_script(vec![
        Call {
            asked: (0, vec![0, 0]),
            answer: vec![
                started(1),
                chunk(0, "abc"),
                Err(Status::unavailable("going down")),
            ],
        },
        Call {
            // Not "the latest", which may be another one by now.
            asked: (1, vec![3, 0]),
            answer: vec![
                started(1),
                chunk(1, "bcde"),
                Ok(Item::Gap(OutputGap {
                    stream: OutputStream::Stdout.into(),
                    from_offset: 5,
                    to_offset: 10,
                })),
                chunk(10, "X\n"),
                end(1, TaskState::Succeeded),
            ],
        },
        Call {
            asked: (2, vec![0, 0]),
            answer: vec![
                started(2),
                chunk(0, "second\n"),
                end(2, TaskState::Succeeded),
            ],
        },
    ])
    .await;
    assert!(matches!(ended, Ok(TaskState::Succeeded)), "{ended:?}");
    assert_eq!(output, "abcdeX\nsecond\n");
    assert!(
        notes.contains("5 bytes of stdout were not kept (offsets 5 to 10)"),
        "{notes}"
    );
    assert!(notes.contains("run 2 begins"), "{notes}");
    let broke = notes.find("the connection broke; reconnecting\n");
    let again = notes.find("connected again\n");
    assert!(broke.is_some() && broke < again, "{notes}");
    assert_eq!(notes.matches("connect").count(), 3, "{notes}");
}

#[tokio::test]
async fn an_end_that_was_announced_is_gone_on_after_without_a_word() {
    let leaving = |reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "taskyard.dev", []);
        let code = tonic::Code::Unavailable;
        Status::with_error_details(code, "call again", details)
    };
    let (ended, output, notes) = follow_script(vec![
        Call {
            asked: (0, vec![0, 0]),
            answer: vec![started(1), chunk(0, "a"), Err(leaving("CONNECTION_AGED"))],
        },
        Call {
            asked: (1, vec![1, 0]),
            answer: vec![started(1), chunk(1, "b"), Err(leaving("SHUTTING_DOWN"))],
        },
        Call {
            asked: (1, vec![2, 0]),
            answer: vec![started(1), chunk(2, "c\n"), end(1, TaskState::Succeeded)],
        },
        Call {
            asked: (2, vec![0, 0]),
            answer: vec![started(2), end(2, TaskState::Succeeded)],
        },
    ])
    .await;
    assert!(matches!(ended, Ok(TaskState::Succeeded)), "{ended:?}");
    assert_eq!(output, "abc\n");
    assert!(!notes.contains("connect"), "{notes}");
}

#[tokio::test]
async fn a_refusal_for_a_limit_is_waited_for_and_told_as_what_it_is() {
    let mut details = ErrorDetails::with_error_info("TOO_MANY_STREAMS", "taskyard.dev", []);
    details.set_retry_info(Some(Duration::from_millis(10)));
    let code = tonic::Code::ResourceExhausted;
    let refused = Status::with_error_details(code, "too many streams", details);
    let (ended, output, notes) = follow_script(vec![
        Call {
            asked: (0, vec![0, 0]),
            answer: vec![Err(refused)],
        },
        Call {
            asked: (0, vec![0, 0]),
            answer: vec![started(2), chunk(0, "all\n"), end(2, TaskState::Succeeded)],
        },
    ])
    .await;
    assert!(matches!(ended, Ok(TaskState::Succeeded)), "{ended:?}");
    assert_eq!(output, "all\n");
    assert!(
        notes.contains("too many streams; trying again\n"),
        "{notes}"
    );
    assert!(!notes.contains("broke"), "{notes}");
}

#[tokio::test]
async fn a_whole_stream_is_read_in_one_call() {
    let (ended, output, notes) = follow_script(vec![Call {
        asked: (0, vec![0, 0]),
        answer: vec![
            started(1),
            chunk(0, "one\n"),
            Ok(Item::Keepalive(Keepalive {})),
            started(2),
            chunk(0, "two\n"),
            end(2, TaskState::Failed),
        ],
    }])
    .await;
    assert!(matches!(ended, Ok(TaskState::Failed)), "{ended:?}");
    assert_eq!(output, "one\ntwo\n");
    assert!(notes.contains("run 2 begins"), "{notes}");
}

#[tokio::test]
async fn a_refusal_is_no_broken_stream() {
    let (ended, output, _) = follow_script(vec![Call {
        asked: (0, vec![0, 0]),
        answer: vec![
            started(1),
            chunk(0, "part"),
            Err(Status::not_found("the task is gone")),
        ],
    }])
    .await;
    assert!(matches!(ended, Err(Failure::Refused(_))), "{ended:?}");
    assert_eq!(output, "part");
}
