//! Taking over a process that outlived the worker's boot before.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::event::ProcessEvent;
use super::handle::{Phase, Process, ReportError};
use super::keeping::{Kept, LastWords, Survival};
use super::lost::LostProcess;
use super::shim_handle::ShimHandle;
use crate::boot_time::BootTime;
use crate::shim::message::{AttachRequest, Attached, Inbox, MESSAGE_BYTES_MAX, Report, encode};

/// How long a shim may take to hand its process over. One that sweeps its tree answers nobody for up to 5 s. Until then
/// the worker says no hello, and the leases of all the others run.
const ATTACH_BOUND: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(50);
/// More than any last words have.
const LAST_WORDS_BYTES_MAX: u64 = 64 * 1024;

/// A process of the boot before, in this worker's hands. One that has ended tells its end as its next events.
#[derive(Debug)]
pub struct Adopted {
    pub process: Process,
    pub kept: Kept,
    /// When the root was over, if it is.
    pub exited_at: Option<BootTime>,
}

/// Why a process cannot be taken over. What was found of it is killed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("its exec shim is gone without a word; {killed} of its processes were killed")]
    Gone { killed: u32 },
    #[error("its exec shim did not answer in time and was killed, with {killed} other processes")]
    Silent { killed: u32 },
}

enum Try {
    Attached(Box<Process>, Attached),
    /// Nobody listens.
    Gone,
    /// It may go better in a moment.
    Again,
}

impl Process {
    /// Takes over the process whose shim was told to let it survive in this way. `env` are the variables by which its
    /// remains are recognised, as they were launched; `group` is its cgroup.
    ///
    /// # Errors
    /// [`AttachError`], at the latest after 6 s, and up to 5 s more for killing what is left.
    pub async fn attach(
        survival: &Survival,
        env: &[(String, String)],
        group: Option<PathBuf>,
    ) -> Result<Adopted, AttachError> {
        let lost = LostProcess::of(env, group);
        let until = Instant::now() + ATTACH_BOUND;
        let mut shim = None;
        loop {
            // One that is frozen takes the connection, and then says nothing.
            let tried = tokio::time::timeout_at(until, try_attach(survival, &lost, &mut shim));
            match tried.await.unwrap_or(Try::Again) {
                Try::Attached(process, attached) => {
                    return Ok(Adopted {
                        process: *process,
                        kept: attached.kept,
                        exited_at: attached.exited_at,
                    });
                }
                Try::Gone => {
                    return match read_last_words(survival).await {
                        Some(words) => ended(words, lost),
                        None => Err(AttachError::Gone {
                            killed: kill_remains(lost).await,
                        }),
                    };
                }
                Try::Again => {}
            }
            if Instant::now() >= until {
                if let Some(pid) = shim {
                    ShimHandle::adopt(pid).kill();
                }
                return Err(AttachError::Silent {
                    killed: kill_remains(lost).await,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Notes the shim's process id as soon as it is known.
async fn try_attach(survival: &Survival, lost: &LostProcess, shim: &mut Option<i32>) -> Try {
    let mut control = match connect(&survival.directory).await {
        Ok(control) => control,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Try::Gone,
                _ => Try::Again,
            };
        }
    };
    let Some(pid) = control.peer_cred().ok().and_then(|peer| peer.pid()) else {
        return Try::Again;
    };
    *shim = Some(pid);
    let request = AttachRequest {
        token: survival.token.clone(),
    };
    let Ok(frame) = encode(&request) else {
        return Try::Again;
    };
    if control.write_all(&frame).await.is_err() {
        return Try::Again;
    }
    let mut process = Process {
        control,
        inbox: Inbox::new(MESSAGE_BYTES_MAX),
        unsent: Mutex::new(Vec::new()),
        shim: ShimHandle::adopt(pid),
        pid: 0,
        events: VecDeque::new(),
        lost: lost.clone(),
        phase: Phase::Running,
    };
    match process.next_report().await {
        Ok(Report::Attached(attached)) => {
            process.pid = attached.pid.unsigned_abs();
            process.lost.root = Some(attached.pid);
            if (attached.stdout_total, attached.stderr_total) != (0, 0) {
                process.events.push_back(ProcessEvent::Output {
                    stdout_total: attached.stdout_total,
                    stderr_total: attached.stderr_total,
                });
            }
            process
                .events
                .extend(attached.exit.map(ProcessEvent::Exited));
            Try::Attached(Box::new(process), attached)
        }
        Ok(
            Report::StartFailed(_)
            | Report::Started { .. }
            | Report::Output { .. }
            | Report::InputTaken { .. }
            | Report::Exited(_)
            | Report::Ended(_),
        )
        | Err(ReportError::Gone | ReportError::Protocol(_)) => Try::Again,
    }
}

/// The path may be longer than an address of a socket, so it is named by its directory's descriptor.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let directory = File::open(directory)?;
    let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
    UnixStream::connect(Survival::socket(Path::new(&place))).await
}

async fn read_last_words(survival: &Survival) -> Option<LastWords> {
    let path = survival.last_words();
    let read = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        let mut content = Vec::new();
        io::Read::read_to_end(
            &mut io::Read::take(file, LAST_WORDS_BYTES_MAX),
            &mut content,
        )?;
        serde_json::from_slice(&content).map_err(io::Error::other)
    });
    match read.await {
        Ok(Ok(words)) => Some(words),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the last words of an exec shim cannot be read");
            None
        }
        Err(_) => None,
    }
}

fn ended(words: LastWords, lost: LostProcess) -> Result<Adopted, AttachError> {
    // Nobody is at its other end; the phase says so.
    let Ok((control, _)) = UnixStream::pair() else {
        return Err(AttachError::Gone { killed: 0 });
    };
    let exited = words.end.exit.map(ProcessEvent::Exited);
    let process = Process {
        control,
        inbox: Inbox::new(MESSAGE_BYTES_MAX),
        unsent: Mutex::new(Vec::new()),
        shim: ShimHandle::Gone,
        pid: words.pid.unsigned_abs(),
        events: exited
            .into_iter()
            .chain([ProcessEvent::Ended(words.end)])
            .collect(),
        lost,
        phase: Phase::Over,
    };
    Ok(Adopted {
        process,
        kept: words.kept,
        exited_at: words.exited_at,
    })
}

async fn kill_remains(lost: LostProcess) -> u32 {
    let killed = tokio::task::spawn_blocking(move || lost.kill_remains().killed).await;
    killed.unwrap_or(0)
}
