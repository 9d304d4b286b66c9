//! Reading a task's output to its end: every retained byte once, in order, across broken connections and further runs.

use std::time::Duration;

use prost_types::Timestamp;
use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    GetTaskRequest, OutputChunk, OutputGap, OutputPosition, OutputStream, SessionTask, TailEnd,
    TailOutputRequest, TailOutputResponse, TaskState,
};
use tonic::{Status, Streaming};

use crate::connection::Connection;
use crate::failure::{Failure, is_gone, is_terminal, is_transient, time_to_come_back};
use crate::output_printer::OutputPrinter;
use crate::quantity::counted;
use crate::reconnection::Reconnection;
use crate::task_reference::TaskReference;

/// The server breaks a silence after 15 s; three of those mean that it is gone.
const LONGEST_SILENCE: Duration = Duration::from_secs(45);
/// Longest wait for the stream to open.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// What to read.
#[derive(Debug, Clone)]
pub struct FollowPlan {
    pub task: TaskReference,
    /// The one run to read; 0: the latest and, when following, each later one.
    pub run: i32,
    /// The streams, and where to start in each.
    pub positions: Vec<OutputPosition>,
    /// Of the first run only what was captured from then on.
    pub since: Option<Timestamp>,
    /// Of the first run only the last so many lines; 0: all.
    pub last_lines: i32,
    /// Go on until the task, or the one run, has ended.
    pub is_following: bool,
    /// How long to try while the server cannot be reached.
    pub patience: Duration,
}

impl FollowPlan {
    /// Both streams of every run from its first byte, until the task has ended.
    pub fn whole_task(task: TaskReference, patience: Duration) -> FollowPlan {
        FollowPlan {
            task,
            run: 0,
            positions: vec![
                position(OutputStream::Stdout, 0),
                position(OutputStream::Stderr, 0),
            ],
            since: None,
            last_lines: 0,
            is_following: true,
            patience,
        }
    }
}

/// A place in a stream.
pub fn position(stream: OutputStream, offset: i64) -> OutputPosition {
    OutputPosition {
        stream: stream.into(),
        offset,
    }
}

/// Prints what the plan says and gives the task's state at its end. Standard output closing, a refusal, and a server out of reach for longer than the plan's
/// patience end it early.
pub async fn follow(
    connection: &Connection,
    plan: FollowPlan,
    printer: &mut OutputPrinter,
) -> Result<TaskState, Failure> {
    let mut follower = Follower {
        connection,
        reconnection: Reconnection::within(plan.patience),
        was_heard: false,
        current_run: plan.run,
        asked_run: plan.run,
        has_begun: false,
        positions: plan.positions.clone(),
        plan,
        printer,
    };
    follower.run().await
}

struct Follower<'a> {
    connection: &'a Connection,
    plan: FollowPlan,
    printer: &'a mut OutputPrinter,
    reconnection: Reconnection,
    /// A stream was open before: what fails from then on is a break.
    was_heard: bool,
    /// The run that `positions` belong to; 0: none seen yet.
    current_run: i32,
    /// The run to ask for; 0: the latest.
    asked_run: i32,
    /// Something of `current_run` was seen.
    has_begun: bool,
    positions: Vec<OutputPosition>,
}

/// Why a stream is left.
enum Left {
    Ended(TailEnd),
    /// It broke; the same place can be asked for again.
    Broken(Status),
    /// The server went on with a later run than the one whose end was still to be read.
    Skipped,
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<TaskState, Failure> {
        loop {
            match self.read_stream().await? {
                Left::Ended(end) => {
                    if let Some(state) = self.after_end(&end).await? {
                        return Ok(state);
                    }
                }
                Left::Broken(status) => {
                    if is_gone(&status) {
                        return Err(self.deleted());
                    }
                    if !is_transient(&status) {
                        return Err(self.connection.explain(&status));
                    }
                    self.pause(&status).await?;
                    // The run that was being read must be read to its end, even if a later one has begun meanwhile.
                    self.asked_run = self.current_run;
                }
                Left::Skipped => self.begin_run(self.current_run + 1),
            }
        }
    }

    /// Waits before the stream is opened again, and tells of its end what is worth telling.
    async fn pause(&mut self, status: &Status) -> Result<(), Failure> {
        if (self.was_heard || time_to_come_back(status).is_some())
            && let Some(note) = self.reconnection.broken(status)
        {
            self.printer.note(&note).await;
        }
        if !self.reconnection.pause(status).await {
            return Err(self.given_up(status));
        }
        Ok(())
    }

    async fn read_stream(&mut self) -> Result<Left, Failure> {
        let request = TailOutputRequest {
            namespace: self.connection.namespace(),
            session_id: self.plan.task.session_id.clone(),
            task: self.plan.task.task.clone(),
            run: self.asked_run,
            positions: self.positions.clone(),
            follow: self.plan.is_following,
            // Once the first run has begun its places are known, and later ones are read whole.
            since: self.plan.since.filter(|_| !self.has_begun),
            last_lines: if self.has_begun {
                0
            } else {
                self.plan.last_lines
            },
        };
        let mut tasks = self.connection.tasks();
        let mut stream = match tokio::time::timeout(OPEN_LIMIT, tasks.tail_output(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Ok(Left::Broken(status)),
            Err(_) => return Ok(Left::Broken(Status::unavailable("no answer within 30 s"))),
        };
        self.was_heard = true;
        self.reconnection.opened();
        let mut is_first_run_of_stream = true;
        loop {
            let item = match next_item(&mut stream).await {
                Ok(item) => item,
                Err(status) => return Ok(Left::Broken(status)),
            };
            if let Some(note) = self.reconnection.succeeded() {
                self.printer.note(note).await;
            }
            match item {
                Item::RunStarted(started) => {
                    // "The latest run" has become another one, and the asked positions are not meant for it.
                    let is_other_run = self.asked_run == 0 && started.run != self.current_run;
                    if self.has_begun && is_first_run_of_stream && is_other_run {
                        return Ok(Left::Skipped);
                    }
                    is_first_run_of_stream = false;
                    if started.run != self.current_run {
                        self.enter_run(started.run).await?;
                    }
                    self.begin_at(&started.positions);
                    self.has_begun = true;
                }
                Item::Chunk(chunk) => self.print_chunk(chunk).await?,
                Item::Gap(gap) => self.tell_gap(&gap).await?,
                Item::End(end) => return Ok(Left::Ended(end)),
                Item::Keepalive(_) => {}
            }
        }
    }

    /// What follows after the end of a stream; none: there is more to read.
    async fn after_end(&mut self, end: &TailEnd) -> Result<Option<TaskState>, Failure> {
        let state = end.state();
        let is_all_that_was_asked = !self.plan.is_following || self.plan.run != 0;
        if is_all_that_was_asked || (self.asked_run == 0 && is_terminal(state)) {
            return Ok(Some(state));
        }
        // The end of one run that was asked for by number after a broken connection. What came after it?
        let task = self.read_task().await?;
        if task.run > self.current_run {
            self.begin_run(self.current_run + 1);
            return Ok(None);
        }
        if is_terminal(task.state()) {
            return Ok(Some(task.state()));
        }
        if self.asked_run == 0 {
            // A server that ends the stream early, on its way down: not an end of the work.
            let status = Status::unavailable("the server ended the stream");
            if !self.reconnection.pause(&status).await {
                return Err(self.given_up(&status));
            }
        }
        self.asked_run = 0;
        Ok(None)
    }

    async fn read_task(&self) -> Result<SessionTask, Failure> {
        read_task(self.connection, &self.plan.task, self.plan.patience).await
    }

    /// The next stream reads this run from its first byte.
    fn begin_run(&mut self, run: i32) {
        self.asked_run = run;
        for position in &mut self.positions {
            position.offset = 0;
        }
    }

    async fn enter_run(&mut self, run: i32) -> Result<(), Failure> {
        if self.has_begun {
            for stream in [OutputStream::Stdout, OutputStream::Stderr] {
                self.printer.break_line(stream).await?;
            }
            self.printer.note(&format!("run {run} begins")).await;
            for position in &mut self.positions {
                position.offset = 0;
            }
        }
        self.current_run = run;
        Ok(())
    }

    /// Takes over where the streams of a run begin; a server that does not say means the places that were asked for.
    fn begin_at(&mut self, begun: &[OutputPosition]) {
        for place in begun {
            for position in &mut self.positions {
                if position.stream == place.stream {
                    position.offset = place.offset;
                }
            }
        }
    }

    async fn print_chunk(&mut self, chunk: OutputChunk) -> Result<(), Failure> {
        let stream = chunk.stream();
        let Some(idx) = self
            .positions
            .iter()
            .position(|known| known.stream() == stream)
        else {
            return Ok(());
        };
        let printed_end = self.positions[idx].offset;
        if chunk.offset > printed_end {
            let gap = OutputGap {
                stream: stream.into(),
                from_offset: printed_end,
                to_offset: chunk.offset,
            };
            self.tell_gap(&gap).await?;
        }
        let already_printed = usize::try_from(printed_end - chunk.offset).unwrap_or(0);
        let Some(fresh) = chunk.data.get(already_printed..) else {
            return Ok(());
        };
        self.printer.write(stream, fresh, chunk.at.as_ref()).await?;
        self.positions[idx].offset = chunk
            .offset
            .max(printed_end)
            .max(chunk.offset + chunk.data.len() as i64);
        Ok(())
    }

    async fn tell_gap(&mut self, gap: &OutputGap) -> Result<(), Failure> {
        let stream = gap.stream();
        let Some(known) = self
            .positions
            .iter_mut()
            .find(|known| known.stream() == stream)
        else {
            return Ok(());
        };
        let missing = gap.to_offset - gap.from_offset.max(known.offset);
        if missing <= 0 {
            return Ok(());
        }
        known.offset = gap.to_offset;
        let name = crate::view::words::stream(stream);
        let text = format!(
            "{} of {name} {} not kept (offsets {} to {})",
            counted(missing, "byte"),
            if missing == 1 { "was" } else { "were" },
            gap.from_offset,
            gap.to_offset
        );
        self.printer.break_line(stream).await?;
        self.printer.note(&text).await;
        Ok(())
    }

    /// It was there when its id was looked up.
    fn deleted(&self) -> Failure {
        Failure::Refused(format!(
            "{} was deleted while its output was being read, alone or with its session; there is no more of it",
            self.plan.task.task
        ))
    }

    fn given_up(&self, status: &Status) -> Failure {
        let cause = self.connection.explain(status);
        let session = if self.plan.task.session_id.is_empty() {
            String::new()
        } else {
            format!(" --session {}", self.plan.task.session_id)
        };
        let what = if time_to_come_back(status).is_some() {
            format!("the output could not be followed for too long ({cause})")
        } else {
            format!(
                "no connection for {} s ({cause})",
                self.plan.patience.as_secs()
            )
        };
        Failure::Own(format!(
            "{what}; the task goes on without this command, follow it with `taskyard logs -f{session} {}`",
            self.plan.task.task
        ))
    }
}

/// Reads a task, for as long as `patience` allows while the server cannot be reached.
pub async fn read_task(
    connection: &Connection,
    task: &TaskReference,
    patience: Duration,
) -> Result<SessionTask, Failure> {
    let answer = connection
        .call_within(OPEN_LIMIT, patience, || {
            let mut tasks = connection.tasks();
            let request = GetTaskRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                include_result: false,
            };
            async move { tasks.get_task(request).await }
        })
        .await?;
    answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))
}

async fn next_item(stream: &mut Streaming<TailOutputResponse>) -> Result<Item, Status> {
    loop {
        match tokio::time::timeout(LONGEST_SILENCE, stream.message()).await {
            // An item of a newer server that this version does not know.
            Ok(Ok(Some(TailOutputResponse { item: None }))) => {}
            Ok(Ok(Some(TailOutputResponse { item: Some(item) }))) => return Ok(item),
            Ok(Ok(None)) => return Err(Status::unavailable("the server ended the stream")),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::unavailable("the server was silent for 45 s")),
        }
    }
}

#[cfg(test)]
mod tests;
