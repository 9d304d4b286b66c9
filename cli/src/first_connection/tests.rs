//! First connections to listeners that break them off at awkward places, and then serve.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::connection::Connection;

/// The settings frame with which a side of HTTP/2 begins.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A goodbye: nothing was taken, for no error.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Where a connection is broken off.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// As soon as it was taken.
    AtOnce,
    /// The same by a reset, as a closed port does to those that wait at it.
    Reset,
    /// When the client has begun to speak.
    Heard,
    /// In the midst of the server's first words.
    Midway,
    /// After a goodbye.
    Goodbye,
}

async fn break_off(mut socket: TcpStream, how: Break) {
    let mut heard = [0; 4096];
    match how {
        Break::AtOnce => {}
        Break::Reset => {
            let _ = socket.set_zero_linger();
        }
        Break::Heard => {
            let _ = socket.read(&mut heard).await;
        }
        Break::Midway => {
            let _ = socket.read(&mut heard).await;
            let _ = socket.write_all(&SETTINGS[..5]).await;
        }
        Break::Goodbye => {
            let _ = socket.read(&mut heard).await;
            let _ = socket
                .write_all(&[&SETTINGS[..], &GOAWAY[..]].concat())
                .await;
            // both sides take leave
            let _ = socket.shutdown().await;
            while socket.read(&mut heard).await.is_ok_and(|length| length > 0) {}
        }
    }
}

/// A listener that breaks off the first `n_broken` connections and serves the others: its address, and how many came.
async fn listen(how: Break, n_broken: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    let (serve, served) = mpsc::channel::<io::Result<TcpStream>>(8);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if counted.fetch_add(1, Ordering::Relaxed) < n_broken {
                tokio::spawn(break_off(socket, how));
            } else if serve.send(Ok(socket)).await.is_err() {
                return;
            }
        }
    });
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(ReceiverStream::new(served)));
    (format!("http://{address}"), came)
}

#[tokio::test]
async fn a_first_connection_that_breaks_off_is_made_again() {
    for (how, n_broken) in [
        (Break::AtOnce, 3),
        (Break::Reset, 3),
        (Break::Heard, 3),
        (Break::Midway, 3),
        // of these the channel makes up for some by itself
        (Break::Goodbye, 7),
    ] {
        let (endpoint, came) = listen(how, n_broken).await;
        let connected = Connection::to(&endpoint, "").await;
        assert!(connected.is_ok(), "{how:?}: {connected:?}");
        assert!(came.load(Ordering::Relaxed) > n_broken, "{how:?}");
    }
}

#[tokio::test]
async fn connections_that_always_break_off_are_given_up() {
    for how in [Break::AtOnce, Break::Reset, Break::Goodbye] {
        let (endpoint, _) = listen(how, usize::MAX).await;
        let failure = Connection::to(&endpoint, "").await.expect_err("none holds");
        let text = failure.to_string();
        assert!(
            text.contains("closed the connection without an answer") && text.contains("try again"),
            "{how:?}: {text}"
        );
    }
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let _ = socket
                    .write_all(b"220 mail.example ESMTP at your service\r\n")
                    .await;
                let mut heard = [0; 4096];
                while socket.read(&mut heard).await.is_ok_and(|length| length > 0) {}
            });
        }
    });
    let endpoint = format!("http://{address}");
    let failure = Connection::to(&endpoint, "")
        .await
        .expect_err("no gRPC there");
    let text = failure.to_string();
    assert!(text.contains("does not speak gRPC"), "{text}");
    assert_eq!(came.load(Ordering::Relaxed), 1);
}
