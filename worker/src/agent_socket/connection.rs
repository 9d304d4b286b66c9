//! One caller's connection, admitted or turned away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::server::Connected;

use super::refusal;

/// How long one that is turned away may listen to why.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whether calls of a connection are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// Its process is none of the attempt's.
    Stranger,
    /// The attempt has this many connections already.
    Crowded {
        limit: usize,
    },
}

impl Admission {
    pub(super) fn check(self) -> Result<(), Status> {
        match self {
            Admission::Admitted => Ok(()),
            Admission::Stranger => Err(refusal::stranger()),
            Admission::Crowded { limit } => Err(refusal::too_many_connections(limit)),
        }
    }
}

/// A connection that is cut when the attempt is over: the transport would wait for as long as the caller pleases.
pub(super) struct Connection {
    stream: UnixStream,
    admission: Admission,
    /// Absent: it is cut.
    cut: Option<BoxFuture<'static, ()>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        admission: Admission,
        over: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Connection {
        let cut = match admission {
            Admission::Admitted => over.cancelled_owned().boxed(),
            Admission::Stranger | Admission::Crowded { .. } => async move {
                let _ = tokio::time::timeout(FAREWELL, over.cancelled_owned()).await;
            }
            .boxed(),
        };
        Connection {
            stream,
            admission,
            cut: Some(cut),
            _place: place,
        }
    }

    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(context).is_pending()
        {
            return Ok(());
        }
        self.cut = None;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Connected for Connection {
    type ConnectInfo = Admission;

    fn connect_info(&self) -> Admission {
        self.admission
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
