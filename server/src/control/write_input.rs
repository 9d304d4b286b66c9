//! `WriteInput`: bytes for the standard input of a run, accepted here and fetched by its worker.

use super::{
    refusal::{Refusal, Resource},
    resolve,
};
use crate::{
    app::App,
    store::{Connection, claim, task_input},
};
use taskyard_core::{
    id::TaskId,
    input::{Input, MAX_PENDING, NotAdmitted, Write, is_repeat},
};
use taskyard_proto::v1::{WriteInputRequest, WriteInputResponse};

/// Most bytes of one call.
const MAX_BYTES: usize = 64 << 10;

/// Accepts bytes. What was accepted before is left out, so a repeated call is harmless; what only begins where something
/// else was accepted is refused, for another client wrote that.
///
/// # Errors
/// What resolving says; [`Refusal::TaskTerminal`]; [`Refusal::InputNotLive`]; [`Refusal::WrongRun`];
/// [`Refusal::InputGap`], [`Refusal::InputConflict`], [`Refusal::InputEnded`], [`Refusal::InputFull`];
/// [`Refusal::InvalidField`]; [`Refusal::Store`].
pub async fn write_input(
    app: &App,
    request: WriteInputRequest,
) -> Result<WriteInputResponse, Refusal> {
    if request.data.len() > MAX_BYTES {
        return Err(Refusal::invalid(
            "data",
            format!("has more than {MAX_BYTES} bytes; send it in several calls"),
        ));
    }
    if request.run < 0 {
        return Err(Refusal::invalid("run", "must not be negative"));
    }
    let offset = request
        .offset
        .map(u64::try_from)
        .transpose()
        .map_err(|_| Refusal::invalid("offset", "must not be negative"))?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let write = Write {
        offset,
        length: request.data.len() as u64,
        ends: request.eof,
    };
    let mut transaction = app.store.begin("begin").await?;
    let live = task_input::lock_live(&mut transaction, found.id)
        .await?
        .ok_or(Refusal::TaskTerminal)?;
    let run = live.run + i32::from(live.is_queued);
    if request.run != 0 && request.run != run {
        return Err(Refusal::WrongRun {
            run: request.run,
            current: run,
        });
    }
    let input = match task_input::lock_input(&mut transaction, found.id, run).await? {
        Some(input) => input,
        None => {
            check_is_live(app, found.id).await?;
            task_input::begin_input(&mut *transaction, found.id, run).await?;
            let begun = task_input::lock_input(&mut transaction, found.id, run).await?;
            begun.unwrap_or_default()
        }
    };
    ensure_is_repeat(
        &mut transaction,
        found.id,
        run,
        input,
        offset,
        &request.data,
    )
    .await?;
    let admitted = input
        .admit(write)
        .map_err(|why| refused(why, input, write))?;
    let skip = usize::try_from(admitted.skip).unwrap_or(usize::MAX);
    let new = request.data.get(skip..).unwrap_or_default();
    if admitted.after != input {
        task_input::append_input(&mut transaction, found.id, run, admitted.after, new).await?;
    }
    transaction.commit().await?;
    if let (Some(worker), true) = (live.worker, admitted.after != input) {
        app.events.worker_touched(worker);
    }
    Ok(WriteInputResponse {
        run,
        accepted: admitted.after.accepted.cast_signed(),
        delivered: admitted.after.delivered.cast_signed(),
        eof: admitted.after.ended,
    })
}

/// What lies before the end of what was accepted must be the same.
async fn ensure_is_repeat(
    db: &mut Connection,
    task: TaskId,
    run: i32,
    input: Input,
    offset: Option<u64>,
    data: &[u8],
) -> Result<(), Refusal> {
    let Some(offset) = offset.filter(|offset| *offset < input.accepted) else {
        return Ok(());
    };
    let length = usize::try_from(input.accepted - offset).unwrap_or(usize::MAX);
    let repeated = data.get(..length).unwrap_or(data);
    let end = offset.saturating_add(repeated.len() as u64);
    let kept = task_input::read_kept(db, task, run, offset, end).await?;
    if is_repeat(offset, repeated, &kept) {
        return Ok(());
    }
    Err(Refusal::InputConflict {
        offset: offset.cast_signed(),
        accepted: input.accepted.cast_signed(),
    })
}

async fn check_is_live(app: &App, task: TaskId) -> Result<(), Refusal> {
    let spec = claim::find_spec(app.store.pool(), task)
        .await?
        .ok_or_else(|| Refusal::NotFound {
            resource: Resource::Task,
            name: task.to_string(),
        })?;
    if spec.command.is_some_and(|command| command.stdin_live) {
        Ok(())
    } else {
        Err(Refusal::InputNotLive)
    }
}

fn refused(why: NotAdmitted, input: Input, write: Write) -> Refusal {
    let accepted = input.accepted.cast_signed();
    match why {
        NotAdmitted::Gap | NotAdmitted::EndsEarly => Refusal::InputGap {
            offset: write.offset.unwrap_or_default().cast_signed(),
            accepted,
        },
        NotAdmitted::Ended => Refusal::InputEnded { accepted },
        NotAdmitted::Full => Refusal::InputFull { limit: MAX_PENDING },
    }
}
