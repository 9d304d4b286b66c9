//! Connections that can be cut. The transport closes politely, and so waits for as long as a client pleases; these
//! fail, all at once, when the server's patience is at its end.

use futures::{Stream, stream};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Pause after a failed accept: what fails for want of file descriptors fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// One client's connection.
pub struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Connections as they come, without an end. All of them fail once `cut` is cancelled.
pub fn accept(
    listener: TcpListener,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, cut), |(listener, cut)| async move {
        let stream = accept_one(&listener).await;
        let connection = Connection {
            stream,
            cut: Box::pin(cut.clone().cancelled_owned()),
        };
        Some((Ok(connection), (listener, cut)))
    })
}

async fn accept_one(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await.and_then(prepared) {
            Ok(stream) => return stream,
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

fn prepared((stream, _): (TcpStream, SocketAddr)) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::pin::pin;
    use tokio::{io::AsyncReadExt, time::timeout};

    #[tokio::test]
    async fn a_cut_ends_a_silent_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cut = CancellationToken::new();
        let mut accepting = pin!(accept(listener, cut.clone()));
        let _client = TcpStream::connect(address).await.expect("connects");
        let mut connection = accepting.next().await.expect("endless").expect("accepted");
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
