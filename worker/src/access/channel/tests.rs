use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

use super::*;

mod goodbyes;

const CALLERS: usize = 8;
const CALLS: usize = 1_000;
/// How old a connection becomes after its first call.
const AGE: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(120);

/// Tells calls from each other.
const NUMBER: &str = "number";

/// An empty message in its frame.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

fn request() -> Request<Body> {
    let mut request = Request::new(Body::new(Full::new(Bytes::from_static(MESSAGE))));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/test.Content/Call");
    request
}

/// How often each call was done.
type Done = Arc<Mutex<HashMap<usize, usize>>>;

/// Does calls, and says goodbye when the connection has its age; what came by then is done.
async fn serve_young(connection: TcpStream, done: Done) {
    let Ok(mut serving) = h2::server::handshake(connection).await else {
        return;
    };
    let mut age = Box::pin(tokio::time::sleep(AGE));
    let (mut has_begun, mut is_aged) = (false, false);
    loop {
        tokio::select! {
            () = &mut age, if has_begun && !is_aged => {
                is_aged = true;
                serving.graceful_shutdown();
            }
            call = serving.accept() => match call {
                Some(Ok((request, respond))) => {
                    if !has_begun {
                        has_begun = true;
                        age.as_mut().reset(tokio::time::Instant::now() + AGE);
                    }
                    tokio::spawn(answer(request, respond, Arc::clone(&done)));
                }
                Some(Err(_)) | None => return,
            }
        }
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    done: Done,
) {
    let number = request.headers()[NUMBER].to_str().expect("a number");
    let number = number.parse().expect("a number");
    let mut body = request.into_body();
    let mut came = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        came.extend(data);
    }
    if came == MESSAGE {
        let mut done = done.lock().expect("nobody panicked");
        *done.entry(number).or_default() += 1;
    }
    let response = Response::builder().header("grpc-status", "0").body(());
    let response = response.expect("an answer");
    // the connection may have been lost
    let _ = respond.send_response(response, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upon_connections_that_close_all_the_time_no_call_is_refused_or_done_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let done = Done::default();
    let done_there = Arc::clone(&done);
    let serving = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve_young(connection, Arc::clone(&done_there)));
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    let channel = AuthorizedChannel::new(endpoint.connect_lazy(), Bearer::none());
    let callers = (0..CALLERS).map(|caller| {
        let mut channel = channel.clone();
        tokio::spawn(async move {
            let mut lost = Vec::new();
            for number in caller * CALLS..(caller + 1) * CALLS {
                let mut request = request();
                request.headers_mut().insert(NUMBER, number.into());
                let ready = channel.ready().await.expect("a channel is always ready");
                if let Err(error) = ready.call(request).await {
                    // Now and then the transport tears a connection off that says goodbye. Nobody knows then what was done.
                    let is_lost = causes(&error).any(|cause| cause.is::<std::io::Error>());
                    assert!(is_lost, "call {number}: {error:?}");
                    lost.push(number);
                }
            }
            lost
        })
    });
    let calling = futures::future::join_all(callers);
    let mut lost = Vec::new();
    for caller in tokio::time::timeout(LIMIT, calling)
        .await
        .expect("the calls end")
    {
        lost.extend(caller.expect("no call was refused"));
    }
    serving.abort();
    let done = done.lock().expect("nobody panicked");
    assert!(lost.len() < CALLS, "{lost:?}");
    for number in 0..CALLERS * CALLS {
        match done.get(&number) {
            Some(1) => {}
            None if lost.contains(&number) => {}
            times => panic!("call {number} was done {times:?} times"),
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_a_call_fails_at_once_and_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    let mut channel = AuthorizedChannel::new(endpoint.connect_lazy(), Bearer::none());
    let ready = channel.ready().await.expect("a channel is always ready");
    let error = ready.call(request()).await.expect_err("nobody listens");
    assert!(!is_closed_connection(&error), "{error:?}");
}
