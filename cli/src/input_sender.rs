//! Bringing bytes to the live input of a task, in order and each once, whatever the connection does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskyard_proto::v1::{WriteInputRequest, WriteInputResponse};
use tokio::io::{AsyncRead, AsyncReadExt};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::connection::{CALL_LIMIT, Connection};
use crate::failure::Failure;
use crate::task_reference::TaskReference;

/// Bytes of one call; what the server takes.
const PIECE_BYTES: usize = 64 * 1024;
/// Pause where the process takes its input more slowly than it is sent.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends all that `source` gives to the run that is current now, behind what others have sent, and with `ends` the end of
/// file. A process that takes nothing is waited for as long as it lives.
///
/// # Errors
/// What the server refuses, such as input for a task that has ended; a source that cannot be read.
pub async fn send_input(
    connection: &Connection,
    task: &TaskReference,
    mut source: impl AsyncRead + Unpin,
    ends: bool,
) -> Result<WriteInputResponse, Failure> {
    let mut request = WriteInputRequest {
        namespace: connection.namespace(),
        session_id: task.session_id.clone(),
        task: task.task.clone(),
        ..WriteInputRequest::default()
    };
    // Without a byte it says where to go on, and of which run.
    let mut answer = write(connection, &request).await?;
    request.run = answer.run;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = source
            .read(&mut buffer)
            .await
            .map_err(|error| Failure::Own(format!("cannot read standard input: {error}")))?;
        let is_end = length == 0;
        if is_end && !ends {
            return Ok(answer);
        }
        request.offset = Some(answer.accepted);
        request.data = buffer[..length].to_vec().into();
        request.eof = is_end;
        answer = write(connection, &request).await?;
        if is_end {
            return Ok(answer);
        }
    }
}

/// One call, repeated while the process has no room.
async fn write(
    connection: &Connection,
    request: &WriteInputRequest,
) -> Result<WriteInputResponse, Failure> {
    loop {
        let has_no_room = AtomicBool::new(false);
        let written = connection
            .call_within(CALL_LIMIT, PATIENCE, || {
                let mut tasks = connection.tasks();
                let request = request.clone();
                let has_no_room = &has_no_room;
                async move {
                    let answer = tasks.write_input(request).await;
                    let is_full = answer.as_ref().is_err_and(is_want_of_room);
                    has_no_room.store(is_full, Ordering::Relaxed);
                    answer
                }
            })
            .await;
        if !has_no_room.load(Ordering::Relaxed) {
            return written;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_want_of_room(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
        && status
            .get_details_error_info()
            .is_some_and(|info| info.reason == "INPUT_FULL")
}
