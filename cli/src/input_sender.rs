//! Bringing bytes to the live input of a task, in order and each once, whatever the connection does.

use std::sync::{Mutex, PoisonError};
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
/// What the server refuses, such as input for a task that has ended; a source that cannot be read; a broken connection
/// while others wrote, after which nobody knows whether the last bytes were accepted.
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
    // Without a byte it says where the input is, and of which run.
    let mut answer = write(connection, &request, 0).await?;
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
        request.data = buffer[..length].to_vec().into();
        request.eof = is_end;
        answer = write(connection, &request, answer.accepted).await?;
        if is_end {
            return Ok(answer);
        }
    }
}

/// How a call ended that is worth another one.
#[derive(Clone, Copy)]
enum Setback {
    /// The process has no room. Nothing was accepted.
    Full,
    /// At the offset where a repeated call began somebody else's bytes were accepted, and so many in all.
    Conflict(i64),
}

/// Brings the data of `request` behind all that was accepted, whoever wrote it, and repeats that while the process has no
/// room. At least `accepted` bytes were accepted before. A call whose answer was lost is repeated with an offset, by which
/// the server knows it again.
async fn write(
    connection: &Connection,
    request: &WriteInputRequest,
    accepted: i64,
) -> Result<WriteInputResponse, Failure> {
    let length = i64::try_from(request.data.len()).unwrap_or(i64::MAX);
    let mut base = accepted;
    // Set while a call may have been accepted whose answer was lost.
    let mut is_repeat = false;
    loop {
        let setback = Mutex::new(None);
        let written = connection
            .call_within(CALL_LIMIT, PATIENCE, || {
                let mut tasks = connection.tasks();
                let mut request = request.clone();
                // An end without bytes is no less harmless without an offset, and does not mind what others write.
                request.offset = (is_repeat && length > 0).then_some(base);
                is_repeat = true;
                let setback = &setback;
                async move {
                    let answer = tasks.write_input(request).await;
                    let found = answer.as_ref().err().and_then(setback_of);
                    *setback.lock().unwrap_or_else(PoisonError::into_inner) = found;
                    answer
                }
            })
            .await;
        let setback = setback.into_inner().unwrap_or_else(PoisonError::into_inner);
        match setback {
            None => return written,
            Some(Setback::Full) => {
                is_repeat = false;
                tokio::time::sleep(PAUSE).await;
            }
            Some(Setback::Conflict(now)) => base = after_conflict(base, length, now)?,
        }
    }
}

/// Where to go on with `length` bytes that may have been accepted behind `base`, but are not what was accepted there, where
/// `accepted` bytes were accepted in all.
///
/// # Errors
/// They may be among those behind the first ones.
fn after_conflict(base: i64, length: i64, accepted: i64) -> Result<i64, Failure> {
    if accepted.saturating_sub(base) <= length {
        // Behind the other's there is no room for them, so they are not in.
        return Ok(accepted);
    }
    Err(Failure::Own(format!(
        "the connection broke while others wrote to this task: it cannot be told whether the last {length} bytes were \
         accepted; all before them were"
    )))
}

fn setback_of(status: &Status) -> Option<Setback> {
    let info = status.get_details_error_info()?;
    match (status.code(), info.reason.as_str()) {
        (Code::ResourceExhausted, "INPUT_FULL") => Some(Setback::Full),
        (Code::AlreadyExists, "INPUT_CONFLICT") => {
            let accepted = info.metadata.get("accepted")?;
            Some(Setback::Conflict(accepted.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_conflict_bytes_are_sent_again_only_where_they_cannot_be_in() {
        assert_eq!(after_conflict(10, 5, 11).ok(), Some(11));
        // Somebody else's are at 10, so all five are not.
        assert_eq!(after_conflict(10, 5, 15).ok(), Some(15));
        let doubt = after_conflict(10, 5, 16).expect_err("one of theirs and five of ours");
        assert!(doubt.to_string().contains("last 5 bytes"), "{doubt}");
    }
}
