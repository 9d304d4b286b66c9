//! Goodbyes, frame by frame: which calls are made again on the next connection.

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, a flag, and reasons: RFC 9113, sections 6 and 7.
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The number of the first call of a connection.
const FIRST: u32 = 1;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    // no flags, and the connection itself instead of a stream
    frame.extend([kind, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// Takes a whole call, and says goodbye without an answer.
async fn leave(mut connection: TcpStream, last: u32, reason: u32) {
    let mut preface = [0; PREFACE.len()];
    connection
        .read_exact(&mut preface)
        .await
        .expect("a preface");
    assert_eq!(preface, PREFACE);
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("a short frame")];
        connection
            .read_exact(&mut payload)
            .await
            .expect("a whole frame");
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            break;
        }
    }
    let goodbye = [last.to_be_bytes(), reason.to_be_bytes()].concat();
    let said = [frame(SETTINGS, &[]), frame(GOAWAY, &goodbye)].concat();
    connection.write_all(&said).await.expect("words");
    connection.shutdown().await.expect("an end");
    // what comes still is read, so that the words are not lost over it; the other side may have cut the connection
    let _ = connection.read_to_end(&mut Vec::new()).await;
}

/// Answers each call on a connection.
async fn answer(connection: TcpStream) {
    let mut serving = h2::server::handshake(connection)
        .await
        .expect("a handshake");
    while let Some(Ok((_, mut respond))) = serving.accept().await {
        let response = Response::builder().header("grpc-status", "0");
        let response = response.body(()).expect("an answer");
        respond.send_response(response, true).expect("an open call");
    }
}

/// One call to a server whose first connections take a call and say goodbye, and whose others answer.
async fn call_upon<T: Future>(
    goodbyes: usize,
    last: u32,
    reason: u32,
    call: impl FnOnce(AuthorizedChannel) -> T,
) -> (T::Output, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    let channel = AuthorizedChannel::new(endpoint.connect_lazy(), Bearer::none());
    let mut tasks = tokio::task::JoinSet::new();
    let mut connections = 0;
    let serving = async {
        loop {
            let (connection, _) = listener.accept().await.expect("a connection");
            connections += 1;
            if connections <= goodbyes {
                tasks.spawn(leave(connection, last, reason));
            } else {
                tasks.spawn(answer(connection));
            }
        }
    };
    let called = tokio::select! {
        called = tokio::time::timeout(LIMIT, call(channel)) => called.expect("the call ends"),
        () = serving => unreachable!("it serves until then"),
    };
    (called, connections)
}

async fn send(
    mut channel: AuthorizedChannel,
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    let ready = channel.ready().await.expect("a channel is always ready");
    ready.call(request).await
}

async fn send_one(channel: AuthorizedChannel) -> Result<Response<Body>, tonic::transport::Error> {
    send(channel, request()).await
}

#[tokio::test]
async fn a_call_that_the_server_did_not_take_is_made_again() {
    let (answered, connections) = call_upon(1, 0, NO_ERROR, send_one).await;
    answered.expect("an answer");
    assert_eq!(connections, 2);
}

#[tokio::test]
async fn a_call_is_not_made_again_for_ever() {
    let (answered, connections) = call_upon(usize::MAX, 0, NO_ERROR, send_one).await;
    answered.expect_err("no server takes it");
    assert!((2..=MAX_TRIES).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_call_that_the_server_may_have_begun_is_not_made_again() {
    let (answered, connections) = call_upon(1, FIRST, NO_ERROR, send_one).await;
    let error = answered.expect_err("the connection ended under the call");
    assert_eq!(word_of(&error), Word::None, "{error:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_server_that_complains_is_not_called_again() {
    let (answered, connections) = call_upon(1, 0, ENHANCE_YOUR_CALM, send_one).await;
    let error = answered.expect_err("the server complains");
    assert_eq!(word_of(&error), Word::None, "{error:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_call_too_large_to_be_kept_is_not_made_again() {
    // as much as a new connection carries at once, less than which nobody keeps
    let large = request().map(|_| Body::new(Full::new(Bytes::from(vec![0; 65_535]))));
    let (answered, connections) = call_upon(1, 0, NO_ERROR, |channel| send(channel, large)).await;
    let error = answered.expect_err("there is no copy");
    assert_eq!(word_of(&error), Word::NothingTaken, "{error:?}");
    assert_eq!(connections, 1);
}
