//! gRPC-Web goes through the same door: calls by plain HTTP/1.1, without and with a token.

use taskyard_proto::v1::GetTaskRequest;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::identity_support::{create, guarded};

/// Head and body of the answer to GetTask, and of the trailers in it.
async fn get_task(deployment: &Deployment, headers: &str, task: &str) -> String {
    let message = prost::Message::encode_to_vec(&GetTaskRequest {
        namespace: "team-a".to_owned(),
        task: task.to_owned(),
        ..GetTaskRequest::default()
    });
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let frame = [&[0][..], &length, &message].concat();
    let head = format!(
        "POST /taskyard.v1.SessionTaskService/GetTask HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n",
        frame.len()
    );
    let endpoint = deployment.endpoint();
    let address = endpoint.trim_start_matches("http://").to_owned();
    within("the answer", SOON, async {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&frame).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        String::from_utf8_lossy(&answer).replace("grpc-status: ", "grpc-status:")
    })
    .await
}

#[tokio::test]
async fn a_browser_needs_a_token_as_everybody_does() {
    let (deployment, mut client, _folder) = guarded(&[
        ("good", "role: client, namespaces: [team-a]"),
        ("elsewhere", "role: client, namespaces: [team-b]"),
        ("worker", "role: worker"),
    ])
    .await;
    let task = create(&mut client, "good", "team-a", "s")
        .await
        .expect("created");
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    for (what, headers, status) in [
        ("nothing", String::new(), 16),
        ("a guess", bearer("tky_guessed"), 16),
        ("no bearer", "authorization: Basic good\r\n".to_owned(), 16),
        (
            "a header of its own",
            "x-authorization: Bearer good\r\n".to_owned(),
            16,
        ),
        ("another tenant", bearer("elsewhere"), 5),
        ("another role", bearer("worker"), 7),
    ] {
        let answer = get_task(&deployment, &headers, &task).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
        let status = format!("grpc-status:{status}\r\n");
        assert!(answer.contains(&status), "{what}: {answer}");
        assert!(!answer.contains("display_name"), "{what}: {answer}");
    }
    let answer = get_task(&deployment, &bearer("good"), &task).await;
    assert!(answer.contains("grpc-status:0"), "{answer}");
    assert!(answer.contains(&task), "{answer}");
}
