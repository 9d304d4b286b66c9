//! TailOutput: the output of a run, or of all runs, from any offset, during and after it.

use super::{
    outage::retry,
    outbox::{Outbox, Outgoing, StreamEnd},
    output_course::{self, Joint, OutputCourse},
    output_start::OutputStart,
    refusal::{Refusal, Resource, StoreError},
    resolve,
};
use crate::{
    app::App,
    events::{OutputTap, SessionTouches},
    limits::turns,
    store::{
        output_read::{self, RunStanding},
        resolve::FoundTask,
    },
};
use prost::Message;
use std::{sync::Arc, time::Duration};
use taskyard_proto::v1::{
    Exit, Keepalive, RunStarted, TailEnd, TailOutputRequest, TailOutputResponse,
    tail_output_response::Item,
};
use taskyard_telemetry::metrics::table;
use tokio::time::Instant;

/// Items that wait for the stream's reader, each of at most 256 KiB.
const BUFFER: usize = 8;
/// Silence before a keepalive.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes of each stream in one read of the store.
const BYTES_PER_READ: i64 = 512 << 10;
/// The store is looked at after this time even if nothing was heard: soon while another server is storing output,
/// then ever later.
const MIN_POLL: Duration = Duration::from_millis(100);
const MAX_POLL: Duration = Duration::from_secs(1);
/// A busy session's touches lead to a look at most this often.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// Streams output: exactly the stored bytes from the asked offsets on, with gaps for what was not kept. With `follow`
/// it ends when the run (or, where the latest was asked for, the task) has ended and everything was sent.
///
/// # Errors
/// [`Refusal::InvalidField`], what [`resolve::resolve`] refuses, [`Refusal::NotFound`] for a run that has not
/// begun. The stream itself ends with [`Refusal::OutOfRange`] for an offset beyond the end of a run that has ended,
/// [`Refusal::NotFound`] where the task was deleted, [`Refusal::ShuttingDown`], [`Refusal::ReaderStalled`] or
/// [`Refusal::Store`]; with `follow` also [`StoreError::SessionDeleted`], after the output that came before.
pub async fn tail_output(
    app: &Arc<App>,
    request: TailOutputRequest,
) -> Result<Outgoing<TailOutputResponse>, Refusal> {
    let course = OutputCourse::from_request(&request.positions)?;
    if request.run < 0 {
        return Err(Refusal::invalid("run", "must not be negative"));
    }
    let start = OutputStart::read(request.since.as_ref(), request.last_lines)?;
    let task =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let standing = read_standing(app, task, request.run).await?;
    if request.run > standing.latest_run {
        return Err(Refusal::NotFound {
            resource: Resource::Run,
            name: request.run.to_string(),
        });
    }
    let (outbox, outgoing) = Outbox::open(BUFFER, TailOutputResponse::encoded_len);
    let app = Arc::clone(app);
    let open = table::STREAMS.hold(&["tail"]);
    turns::spawn(async move {
        let _open = open;
        let tail = Tail {
            touches: app.events.subscribe_session(task.session),
            tap: app.events.subscribe_output(task.id),
            app: &app,
            outbox: &outbox,
            task,
            asked_run: request.run,
            follow: request.follow,
            start,
            start_standing: None,
            poll: MIN_POLL,
            may_look_at: Instant::now(),
        };
        let end = tokio::select! {
            () = outbox.closed() => Err(StreamEnd::Gone),
            () = app.shutdown.cancelled() => Err(Refusal::ShuttingDown.into()),
            Err(end) = outbox.keep_alive(KEEPALIVE, || response(Item::Keepalive(Keepalive {}))) => Err(end),
            end = tail.run(course) => end,
        };
        outbox.finish(end);
    });
    Ok(outgoing)
}

/// How the task and the run stand.
///
/// # Errors
/// [`Refusal::NotFound`] if the task is gone, [`Refusal::Store`].
pub(super) async fn read_standing(
    app: &App,
    task: FoundTask,
    run: i32,
) -> Result<RunStanding, Refusal> {
    let standing = output_read::run_standing(app.store.pool(), task.id, run).await?;
    standing.ok_or_else(|| gone(task))
}

struct Tail<'a> {
    app: &'a App,
    outbox: &'a Outbox<TailOutputResponse>,
    task: FoundTask,
    /// 0: the latest, and with `follow` each later one.
    asked_run: i32,
    follow: bool,
    /// Where the first run is begun.
    start: OutputStart,
    /// What that place was looked up in. Up to there is read first: who does not follow gets nothing that was stored later.
    start_standing: Option<RunStanding>,
    touches: SessionTouches,
    tap: OutputTap,
    /// Time to the next look if nothing is heard.
    poll: Duration,
    /// Not looked at before then.
    may_look_at: Instant,
}

impl Tail<'_> {
    async fn run(mut self, mut course: OutputCourse) -> Result<(), StreamEnd> {
        let mut run = self.first_run().await?;
        if run > 0 && !self.start.is_everything() {
            course = self.begin_at(run, &course).await?;
        }
        loop {
            let standing = if run == 0 {
                self.look(0).await?
            } else {
                let positions = course.to_wire();
                self.send(Item::RunStarted(RunStarted { run, positions }))
                    .await?;
                self.tail_run(run, &mut course).await?
            };
            let goes_on = self.follow && self.asked_run == 0;
            let standing = if goes_on {
                self.next_run_or_end(run, standing).await?
            } else {
                standing
            };
            if !goes_on || standing.latest_run == run {
                return self.send_end(run, &course, &standing).await;
            }
            if run > 0 {
                course = course.restarted();
            }
            run += 1;
        }
    }

    async fn first_run(&mut self) -> Result<i32, StreamEnd> {
        match self.asked_run {
            0 => Ok(self.look(0).await?.latest_run),
            run => Ok(run),
        }
    }

    /// The course from where the asked start lies in the first run.
    async fn begin_at(
        &mut self,
        run: i32,
        course: &OutputCourse,
    ) -> Result<OutputCourse, StreamEnd> {
        let standing = self.look(run).await?;
        if output_course::has_ended(&standing, run) {
            course.check_within(&standing, run)?;
        }
        let places = retry(|| {
            self.start
                .places(self.app, self.task.id, run, &standing, course.positions())
        })
        .await?;
        self.start_standing = Some(standing);
        Ok(OutputCourse::at(places))
    }

    /// Sends the output of a run until it has ended, or, without `follow`, what is stored of it now.
    async fn tail_run(
        &mut self,
        run: i32,
        course: &mut OutputCourse,
    ) -> Result<RunStanding, StreamEnd> {
        loop {
            // State and ends are read together, before the bytes: a run that had ended then has nothing after them.
            let standing = match self.start_standing.take() {
                Some(standing) => standing,
                None => self.look(run).await?,
            };
            let has_ended = output_course::has_ended(&standing, run);
            if has_ended {
                course.check_within(&standing, run)?;
            }
            let was_behind = self.send_stored(run, course, &standing).await?;
            if has_ended {
                self.send_all(course.finish(&standing, run)).await?;
            }
            if has_ended || !self.follow {
                return Ok(standing);
            }
            self.poll = if was_behind {
                MIN_POLL
            } else {
                (self.poll * 2).min(MAX_POLL)
            };
            self.send_live(run, course).await?;
        }
    }

    /// Sends what is stored up to the durable ends in `standing`; whether there was anything.
    async fn send_stored(
        &self,
        run: i32,
        course: &mut OutputCourse,
        standing: &RunStanding,
    ) -> Result<bool, StreamEnd> {
        let mut was_behind = false;
        loop {
            let behind = course.behind(standing);
            if behind.is_empty() {
                return Ok(was_behind);
            }
            was_behind = true;
            let chunks = retry(|| {
                output_read::read_chunks(
                    self.app.store.pool(),
                    self.task.id,
                    run,
                    &behind,
                    BYTES_PER_READ,
                )
            })
            .await?;
            self.send_all(course.take_stored(chunks, &behind, standing, BYTES_PER_READ))
                .await?;
        }
    }

    /// Sends what this server stores while it goes on from where the reader stands; ends when the store must be
    /// looked at, as when another server stored some.
    async fn send_live(&mut self, run: i32, course: &mut OutputCourse) -> Result<(), StreamEnd> {
        loop {
            let look_at = self.may_look_at + self.poll;
            let appended = tokio::select! {
                appended = self.tap.next() => appended,
                () = self.touches.touched() => return Ok(()),
                () = tokio::time::sleep_until(look_at) => return Ok(()),
            };
            let Some(appended) = appended.filter(|appended| appended.run <= run) else {
                return Ok(());
            };
            if appended.run < run {
                continue;
            }
            match course.take(
                appended.stream,
                appended.start,
                &appended.data,
                appended.at,
                appended.order,
            ) {
                Joint::Joined(items) => self.send_all(items).await?,
                Joint::Apart => return Ok(()),
            }
        }
    }

    /// Waits until a run after `run` has begun or the task has ended without one.
    async fn next_run_or_end(
        &mut self,
        run: i32,
        mut standing: RunStanding,
    ) -> Result<RunStanding, StreamEnd> {
        while standing.latest_run <= run && !output_course::is_terminal(&standing) {
            tokio::select! {
                () = self.touches.touched() => {}
                () = tokio::time::sleep_until(self.may_look_at + MAX_POLL) => {}
            }
            standing = self.look(run).await?;
        }
        Ok(standing)
    }

    async fn look(&mut self, run: i32) -> Result<RunStanding, StreamEnd> {
        tokio::time::sleep_until(self.may_look_at).await;
        let standing =
            retry(|| output_read::run_standing(self.app.store.pool(), self.task.id, run)).await?;
        self.may_look_at = Instant::now() + MIN_INTERVAL;
        standing.ok_or_else(|| gone(self.task).into())
    }

    /// The end of the work; but to one who follows, that of a deleted session is none.
    async fn send_end(
        &self,
        run: i32,
        course: &OutputCourse,
        standing: &RunStanding,
    ) -> Result<(), StreamEnd> {
        if self.follow && standing.is_session_deleted {
            return Err(Refusal::Store(StoreError::SessionDeleted).into());
        }
        let end = TailEnd {
            run,
            state: standing.state.into(),
            positions: course.to_wire(),
            exit: self.exit(standing, run).await?,
        };
        self.send(Item::End(end)).await
    }

    async fn exit(&self, standing: &RunStanding, run: i32) -> Result<Option<Exit>, StreamEnd> {
        if run == 0 || !output_course::has_ended(standing, run) {
            return Ok(None);
        }
        if run == standing.latest_run {
            return Ok(output_course::latest_exit(standing));
        }
        Ok(retry(|| output_read::earlier_exit(self.app.store.pool(), self.task.id, run)).await?)
    }

    async fn send_all(&self, items: Vec<Item>) -> Result<(), StreamEnd> {
        for item in items {
            self.send(item).await?;
        }
        Ok(())
    }

    async fn send(&self, item: Item) -> Result<(), StreamEnd> {
        self.outbox.send(response(item)).await
    }
}

fn response(item: Item) -> TailOutputResponse {
    TailOutputResponse { item: Some(item) }
}

fn gone(task: FoundTask) -> Refusal {
    Refusal::NotFound {
        resource: Resource::Task,
        name: task.id.to_string(),
    }
}
