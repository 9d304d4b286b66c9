//! Connections that can be cut. The transport closes politely, and so waits for as long as a client pleases; these
//! fail when the server's patience is at its end, all at once or one by itself. Where TLS is spoken, hands were shaken before
//! a connection is one.

use crate::{
    identity::{
        certificate::PeerCertificate,
        tls::{Tls, peer_certificate},
    },
    limits::connections::{ConnectionPermit, Connections},
};
use futures::{Stream, stream};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Pause after a failed accept: what fails for want of file descriptors fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long a client may take to shake hands, and how many may be at it; beyond that others wait to be accepted.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const MAX_HANDSHAKES: usize = 1_024;

/// One client's connection.
pub struct Connection {
    stream: ByteStream,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    farewell: Farewell,
    _closed: DropGuard,
    _permit: ConnectionPermit,
}

/// What is said between a connection and whoever looks after its end.
#[derive(Clone, Debug)]
pub(super) struct Farewell {
    /// Cancelled when its long streams shall end.
    pub(super) streams_end: CancellationToken,
    /// Cancelled when it shall fail.
    pub(super) cut: CancellationToken,
    /// Cancelled when it is no more.
    pub(super) closed: CancellationToken,
}

enum ByteStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end, as the connection tells. It goes with each request, in its extensions.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The certificate that it showed, verified.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// Cancelled when the long streams of the connection shall end.
    pub streams_end: CancellationToken,
}

struct Accepting {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    connections: Connections,
    handshakes: JoinSet<Option<(ByteStream, Peer, ConnectionPermit)>>,
    cut: CancellationToken,
}

/// Connections as they come, without an end. All of them fail once `cut` is cancelled. Those that are too many are closed
/// at once.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    connections: Connections,
    cut: CancellationToken,
) -> impl Stream<Item = Connection> {
    let accepting = Accepting {
        listener,
        tls,
        connections,
        handshakes: JoinSet::new(),
        cut,
    };
    stream::unfold(accepting, |mut accepting| async move {
        let (stream, peer, permit) = accepting.next().await;
        let connection = Connection::new(stream, peer, permit, accepting.cut.child_token());
        Some((connection, accepting))
    })
}

impl Accepting {
    async fn next(&mut self) -> (ByteStream, Peer, ConnectionPermit) {
        loop {
            tokio::select! {
                Some(shaken) = self.handshakes.join_next() => {
                    // one that panicked or failed is none
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                }
                (stream, address) = accept_one(&self.listener), if self.handshakes.len() < MAX_HANDSHAKES => {
                    let Some(permit) = self.connections.admit(address.ip()) else {
                        continue;
                    };
                    let peer = Peer { address: Some(address), ..Peer::default() };
                    match &self.tls {
                        None => return (ByteStream::Plain(stream), peer, permit),
                        Some(tls) => {
                            self.handshakes.spawn(shake_hands(Arc::clone(tls), stream, peer, permit));
                        }
                    }
                }
            }
        }
    }
}

async fn shake_hands(
    tls: Arc<Tls>,
    stream: TcpStream,
    peer: Peer,
    permit: ConnectionPermit,
) -> Option<(ByteStream, Peer, ConnectionPermit)> {
    match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = peer_certificate(&stream);
            let peer = Peer {
                certificate,
                ..peer
            };
            Some((ByteStream::Tls(Box::new(stream)), peer, permit))
        }
        Ok(Err(error)) => {
            // whoever knocks at the port can cause it
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                peer = ?peer.address,
                "a TLS handshake failed"
            );
            None
        }
        Err(_) => None,
    }
}

async fn accept_one(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await.and_then(prepared) {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection was not accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepared((stream, address): (TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

impl Connection {
    fn new(
        stream: ByteStream,
        peer: Peer,
        permit: ConnectionPermit,
        cut: CancellationToken,
    ) -> Self {
        let closed = CancellationToken::new();
        Self {
            stream,
            cut: Box::pin(cut.clone().cancelled_owned()),
            _closed: closed.clone().drop_guard(),
            _permit: permit,
            farewell: Farewell {
                streams_end: peer.streams_end.clone(),
                cut,
                closed,
            },
            peer,
        }
    }

    /// What its end is said by.
    pub(super) fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// Does the same with either stream.
macro_rules! either {
    ($connection:expr, $stream:ident => $done:expr) => {
        match &mut $connection.stream {
            ByteStream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $done
            }
            ByteStream::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $done
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        either!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            ByteStream::Plain(stream) => stream.is_write_vectored(),
            ByteStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::pin::pin;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_cut_ends_a_silent_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cut = CancellationToken::new();
        let mut accepting = pin!(accept(
            listener,
            None,
            Connections::unlimited(),
            cut.clone()
        ));
        let _client = TcpStream::connect(address).await.expect("connects");
        let mut connection = accepting.next().await.expect("endless");
        let reading = tokio::spawn(async move { connection.read_u8().await });
        tokio::task::yield_now().await;
        cut.cancel();
        let read = timeout(Duration::from_secs(30), reading)
            .await
            .expect("ends")
            .expect("no panic");
        let error = read.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
