//! One attempt's socket, from before the spawn to the end of its tree.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::connection::{Admission, Connection};
use super::gate::{CALLS_MAX, Gate};
use super::peer;
use super::waits::Waits;
use crate::link::lease_calls::LeaseCalls;
use crate::mask::Masks;

/// Connections of one attempt at a time. Those beyond are told so.
const CONNECTIONS_MAX: usize = 64;
/// Connections that are being told why they are turned away. Those beyond are closed without a word.
const FAREWELLS_MAX: usize = 16;
/// More than the calls of an attempt, so that one too many is answered and does not wait in its client.
const STREAMS_MAX: u32 = 2 * CALLS_MAX as u32;
/// Pause after a failed accept: what fails for want of file descriptors fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// A socket that takes connections, which wait until it is served. Dropped, it is gone, its file too.
#[derive(Debug)]
pub struct AgentSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// What serving a socket takes.
#[derive(Debug)]
pub struct SocketUse {
    /// The attempt's shim: it and what is below it may call. Absent: it is gone, and nobody may.
    pub shim_pid: Option<u32>,
    pub calls: LeaseCalls,
    /// Cancelled when the lease is lost; also from here, where the control plane says so to a call.
    pub lost: CancellationToken,
    pub waits: Waits,
    /// What is to be masked in all that is said there.
    pub masks: Masks,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
}

impl AgentSocket {
    /// Makes the socket, for its user only. Needs a runtime.
    ///
    /// # Errors
    /// The directory cannot be written, or there is no file descriptor left.
    pub async fn bind(path: PathBuf) -> io::Result<AgentSocket> {
        let binding = tokio::task::spawn_blocking(move || {
            let listener = StdUnixListener::bind(&path)?;
            let file = SocketFile { path };
            std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok((listener, file))
        });
        let bound: io::Result<_> = binding.await.map_err(io::Error::other)?;
        let (listener, file) = bound?;
        Ok(AgentSocket {
            listener: UnixListener::from_std(listener)?,
            file,
        })
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Serves for as long as `work` takes; its end cuts what is still connected.
    pub async fn serve_while<T>(self, used: SocketUse, work: impl Future<Output = T>) -> T {
        let AgentSocket { listener, file } = self;
        let over = CancellationToken::new();
        let cut = over.clone().drop_guard();
        let _closing = ClosedAtTheEnd(used.waits.clone());
        let gate = Gate::new(used.calls, used.lost, used.waits, used.masks);
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .serve_with_incoming(gate, connections(listener, used.shim_pid, over));
        tokio::pin!(work);
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            served = serving => {
                let error = served.err().map(|error| error.to_string());
                tracing::error!(error, "the socket of a task is served no more");
                work.await
            }
        };
        drop((cut, file));
        done
    }
}

/// Also where the attempt is abandoned half-way, what it waited for gives it no slot back any more.
struct ClosedAtTheEnd(Waits);

impl Drop for ClosedAtTheEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next boot.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Doorkeeper {
    listener: UnixListener,
    shim_pid: Option<u32>,
    over: CancellationToken,
    places: Arc<Semaphore>,
    farewells: Arc<Semaphore>,
    met_a_stranger: bool,
}

/// Connections as they come, without an end.
fn connections(
    listener: UnixListener,
    shim_pid: Option<u32>,
    over: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let doorkeeper = Doorkeeper {
        listener,
        shim_pid,
        over,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        farewells: Arc::new(Semaphore::new(FAREWELLS_MAX)),
        met_a_stranger: false,
    };
    stream::unfold(doorkeeper, |mut doorkeeper| async move {
        let connection = doorkeeper.next().await;
        Some((Ok(connection), doorkeeper))
    })
}

impl Doorkeeper {
    async fn next(&mut self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(connection) = self.receive(stream) {
                        return connection;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the socket of a task was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Absent: it was closed.
    fn receive(&mut self, stream: UnixStream) -> Option<Connection> {
        let refused = match peer::check(&stream, self.shim_pid) {
            Ok(()) => match self.places.clone().try_acquire_owned() {
                Ok(place) => {
                    let over = self.over.clone();
                    return Some(Connection::new(stream, Admission::Admitted, over, place));
                }
                Err(_) => Admission::Crowded {
                    limit: CONNECTIONS_MAX,
                },
            },
            Err(pid) => {
                // Once for each attempt: one that knocks in a loop must not fill the log.
                if !std::mem::replace(&mut self.met_a_stranger, true) {
                    tracing::warn!(
                        pid,
                        shim.pid = self.shim_pid,
                        "a process outside the attempt used its socket and was refused"
                    );
                }
                Admission::Stranger
            }
        };
        let place = self.farewells.clone().try_acquire_owned().ok()?;
        Some(Connection::new(stream, refused, self.over.clone(), place))
    }
}
