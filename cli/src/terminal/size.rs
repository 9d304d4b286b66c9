//! The size of the terminal here, and telling a task of it.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use taskyard_proto::v1::{Pty, ResizeTerminalRequest};
use tokio::signal::unix::{SignalKind, signal};

use crate::connection::{CALL_LIMIT, Connection};
use crate::failure::Failure;
use crate::task_reference::TaskReference;

/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);
/// What servers take.
const SIZE_MAX: u16 = 1_000;
const TERM_BYTES_MAX: usize = 64;

/// Lines, and characters in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

impl Size {
    /// That of the terminal that standard input, output or error is, if one of them is one that has a size.
    pub fn here() -> Option<Size> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let descriptors = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let found = descriptors
            .into_iter()
            .find_map(|descriptor| tcgetwinsize(descriptor).ok())?;
        (found.ws_row > 0 && found.ws_col > 0).then(|| Size {
            rows: found.ws_row.min(SIZE_MAX),
            columns: found.ws_col.min(SIZE_MAX),
        })
    }
}

/// A terminal like the one here; else one of 24 lines and 80 characters.
pub fn pty_like_here() -> Pty {
    let size = Size::here();
    let is_name = |term: &String| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
        term.len() <= TERM_BYTES_MAX && term.bytes().all(is_known)
    };
    let term = env::var("TERM").ok().filter(is_name);
    Pty {
        rows: size.map(|size| size.rows.into()),
        columns: size.map(|size| size.columns.into()),
        // A script's TERM says nothing.
        term: size.and(term).unwrap_or_default(),
    }
}

/// Tells the task of each other size that the terminal here gets, beginning with `pty`; until it cannot be told any more.
///
/// # Errors
/// What the server refuses, such as a task that has ended, or that it cannot be reached.
pub async fn follow_size(
    connection: &Connection,
    task: &TaskReference,
    pty: &Pty,
) -> Result<(), Failure> {
    let mut changes = signal(SignalKind::window_change())
        .map_err(|error| Failure::Own(format!("cannot listen for signals: {error}")))?;
    let mut told = (pty.rows, pty.columns);
    loop {
        if let Some(size) = Size::here() {
            let here = (Some(size.rows.into()), Some(size.columns.into()));
            if here != told {
                tell(connection, task, size).await?;
                told = here;
            }
        }
        if changes.recv().await.is_none() {
            return Ok(());
        }
    }
}

async fn tell(connection: &Connection, task: &TaskReference, size: Size) -> Result<(), Failure> {
    let request = ResizeTerminalRequest {
        namespace: connection.namespace(),
        session_id: task.session_id.clone(),
        task: task.task.clone(),
        rows: size.rows.into(),
        columns: size.columns.into(),
    };
    connection
        .call_within(CALL_LIMIT, PATIENCE, || {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.resize_terminal(request).await }
        })
        .await
        .map(drop)
}
