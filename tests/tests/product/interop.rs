//! What other tools rely on: health, reflection, gRPC-Web, and the handling of bytes that no good client sends.

use taskyard_proto::v1::{GetTaskRequest, TaskState};
use taskyard_tests::client::{command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const SERVICES: [&str; 5] = [
    "taskyard.v1.WebhookService",
    "taskyard.v1.SessionTaskService",
    "taskyard.v1.SessionFileService",
    "taskyard.v1.WorkerService",
    "taskyard.v1.AdminService",
];

#[tokio::test]
async fn every_service_is_healthy() {
    let client = Deployment::shared().await.client().await;
    let mut health = HealthClient::new(client.channel);
    for service in SERVICES.iter().chain(&[""]) {
        let request = HealthCheckRequest {
            service: (*service).to_owned(),
        };
        let answer = health.check(request).await.expect("checked").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest {
        service: "no.such.Service".to_owned(),
    };
    let refused = health.check(request).await.expect_err("not known");
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

/// Both versions have the same messages in different packages.
macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let client = Deployment::shared().await.client().await;
            let mut reflection = ServerReflectionClient::new(client.channel);
            let requests = [
                MessageRequest::ListServices(String::new()),
                MessageRequest::FileContainingSymbol(
                    "taskyard.v1.SessionTaskService.CreateTask".to_owned(),
                ),
                MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned()),
            ];
            let requests = requests.map(|message_request| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(message_request),
            });
            let answer = reflection
                .server_reflection_info(tokio_stream::iter(requests))
                .await;
            let mut answers = answer.expect("opened").into_inner();
            let mut messages = Vec::new();
            while let Some(answer) = answers.message().await.expect("answered") {
                messages.push(answer.message_response.expect("a message"));
            }
            let Some(MessageResponse::ListServicesResponse(list)) = messages.first() else {
                panic!("no list: {messages:?}");
            };
            for service in SERVICES {
                assert!(
                    list.service.iter().any(|found| found.name == service),
                    "{service}"
                );
            }
            for message in &messages[1..] {
                let MessageResponse::FileDescriptorResponse(files) = message else {
                    panic!("no descriptor: {message:?}");
                };
                assert!(!files.file_descriptor_proto.is_empty());
            }
        }
    };
}

reflection_test!(reflection_v1_tells_the_services, v1);
reflection_test!(reflection_v1alpha_tells_the_services, v1alpha);

#[tokio::test]
async fn a_browser_can_call_over_grpc_web() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let task = client.run(&new_session("web"), command(&["true"])).await;
    let answer = grpc_web(deployment, "GetTask", &field(3, task.id.as_bytes())).await;
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    assert!(
        answer
            .head
            .contains("content-type: application/grpc-web+proto"),
        "{}",
        answer.head
    );
    assert!(
        answer.has("grpc-status:0") || answer.has("grpc-status: 0"),
        "{answer:?}"
    );
    assert!(answer.has(&task.id));
    let missing = grpc_web(
        deployment,
        "GetTask",
        &field(3, b"task_0190aaaabbbb7ccc8dddeeeeffff0001"),
    )
    .await;
    assert!(
        missing.has("grpc-status: 5") || missing.has("grpc-status:5"),
        "{missing:?}"
    );
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_a_bad_argument() {
    let deployment = Deployment::shared().await;
    for bytes in [&b"\xff\xfe"[..], b"task_\xc3\x28", b"\xed\xa0\x80"] {
        let answer = grpc_web(deployment, "GetTask", &field(3, bytes)).await;
        assert!(
            answer.has("grpc-status: 3") || answer.has("grpc-status:3"),
            "{answer:?}"
        );
        assert!(answer.has("not%20utf-8"), "{answer:?}");
    }
    let definition = field(5, &field(1, &field(1, b"echo \xff")));
    let request = [field(2, b"session"), field(3, &definition)].concat();
    let answer = grpc_web(deployment, "CreateTask", &request).await;
    assert!(
        answer.has("grpc-status: 3") || answer.has("grpc-status:3"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn bytes_that_are_no_message_harm_nobody() {
    let deployment = Deployment::shared().await;
    for garbage in [&b"\xff\xff\xff\xff\xff"[..], b"\x1a\xff", b"\x00"] {
        let answer = grpc_web(deployment, "GetTask", garbage).await;
        assert!(
            answer.has("grpc-status: 3") || answer.has("grpc-status:3"),
            "{answer:?}"
        );
    }
    let garbage = exchange(
        deployment,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http",
    )
    .await;
    assert!(
        !garbage.starts_with(b"HTTP/1.1 200"),
        "{:?}",
        String::from_utf8_lossy(&garbage)
    );
    let mut client = deployment.client().await;
    let task = client.run(&new_session("after"), command(&["true"])).await;
    assert_eq!(task.state(), TaskState::Succeeded);
    let request = GetTaskRequest {
        task: task.id,
        ..GetTaskRequest::default()
    };
    assert!(client.tasks.get_task(request).await.is_ok());
}

#[derive(Debug)]
struct WebAnswer {
    head: String,
    body: String,
}

impl WebAnswer {
    /// Statuses come in the head or at the end of the body.
    fn has(&self, text: &str) -> bool {
        self.head.contains(text) || self.body.contains(text)
    }
}

/// Calls a method of the task service as a browser would.
async fn grpc_web(deployment: &Deployment, method: &str, message: &[u8]) -> WebAnswer {
    let length = u32::try_from(message.len())
        .expect("a short message")
        .to_be_bytes();
    let frame = [&[0][..], &length, message].concat();
    let head = format!(
        "POST /taskyard.v1.SessionTaskService/{method} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        frame.len()
    );
    let answer = exchange(deployment, &[head.as_bytes(), &frame].concat()).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    WebAnswer {
        head: head
            .to_ascii_lowercase()
            .replacen("http/1.1", "HTTP/1.1", 1),
        body: body.to_owned(),
    }
}

/// Sends bytes and takes what comes until the server closes the connection.
async fn exchange(deployment: &Deployment, bytes: &[u8]) -> Vec<u8> {
    let endpoint = deployment.endpoint();
    let address = endpoint.trim_start_matches("http://");
    let mut answer = Vec::new();
    within("an answer", SOON, async {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        socket.write_all(bytes).await.expect("sent");

        // A reset is an end, too.
        let _ = socket.read_to_end(&mut answer).await;
    })
    .await;
    answer
}

/// A length-delimited field of a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short field");
    assert!(length < 128 && number < 16);
    [&[number << 3 | 2, length][..], bytes].concat()
}
