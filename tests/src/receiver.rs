//! A receiver of webhooks: an HTTP server that answers as a test wants it to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::wait::{SOON, eventually};

/// One call, as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Received {
    /// The body.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is no JSON: {error}"))
    }
}

/// How a call is answered.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// With this status.
    Status(u16),
    /// With a redirect to where the receiver itself listens.
    Redirect,
    /// Never.
    Silence,
}

/// A listening receiver; it is gone when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    /// The next replies; after them 204.
    replies: VecDeque<Reply>,
}

impl Receiver {
    /// Listens on a free port, and answers with these replies, then with 204.
    pub async fn start(replies: &[Reply]) -> Receiver {
        Receiver::listen(0, replies).await
    }

    /// Listens on a port.
    pub async fn listen(port: u16, replies: &[Reply]) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let port = listener.local_addr().map_or(port, |address| address.port());
        let state = Arc::new(Mutex::new(State {
            replies: replies.iter().copied().collect(),
            ..State::default()
        }));
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    drop(timeout(SOON, answer(socket, port, &state)).await);
                });
            }
        });
        Receiver {
            port,
            state,
            accepting,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a webhook has to call.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?from=taskyard", self.port)
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// Waits until so many calls have come.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} calls of the webhook");
        eventually(&what, 2 * SOON, async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(mut socket: TcpStream, port: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(received) = read_request(&mut socket).await? else {
        return Ok(());
    };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.received.push(received);
        state.replies.pop_front().unwrap_or(Reply::Status(204))
    };
    let head = match reply {
        Reply::Status(status) => format!("HTTP/1.1 {status} Said\r\n"),
        Reply::Redirect => {
            format!("HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:{port}/elsewhere\r\n")
        }
        Reply::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Ok(());
        }
    };
    let answer = format!("{head}content-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(answer.as_bytes()).await
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /hook?from=taskyard HTTP/1.1"));
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let length: usize = length.unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if socket.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Received { headers, body }))
}
