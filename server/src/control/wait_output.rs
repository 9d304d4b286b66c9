//! Waiting for a line of output: what is kept of each task's newest run, then what comes.

use super::{
    output_view::{Found, LineSearch},
    refusal::Refusal,
};
use crate::{
    app::App,
    events::OutputTap,
    store::output_read::{self, StoredChunk, StreamMark},
};
use futures::{FutureExt, future::select_all};
use regex::bytes::Regex;
use std::collections::HashMap;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{OutputCondition, OutputMatch, OutputStream};
use tokio::time::Instant;

/// Bytes that are read, and looked at, at once.
const BYTES_PER_READ: i64 = 256 << 10;

/// A search in the output of tasks.
pub(super) struct OutputSearch {
    pattern: Regex,
    /// 1 stdout, 2 stderr.
    streams: Vec<i16>,
    tasks: HashMap<TaskId, TaskSearch>,
}

/// The search in one task.
struct TaskSearch {
    run: i32,
    streams: Vec<(i16, LineSearch)>,
    found: Option<OutputMatch>,
    /// The task has ended, and all of it was looked at; or it is gone.
    is_exhausted: bool,
    /// Tells of new output.
    tap: Option<OutputTap>,
}

impl OutputSearch {
    /// A search for what the condition says.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub(super) fn new(condition: &OutputCondition) -> Result<Self, Refusal> {
        let mut streams = Vec::new();
        for stream in &condition.streams {
            let stream = match OutputStream::try_from(*stream) {
                Ok(OutputStream::Stdout) => 1,
                Ok(OutputStream::Stderr) => 2,
                Ok(OutputStream::Unspecified) | Err(_) => {
                    let problem = "must be OUTPUT_STREAM_STDOUT or OUTPUT_STREAM_STDERR";
                    return Err(Refusal::invalid("output.streams", problem));
                }
            };
            if !streams.contains(&stream) {
                streams.push(stream);
            }
        }
        if streams.is_empty() {
            streams = vec![1, 2];
        }
        Ok(Self {
            pattern: super::text_pattern::compile("output.pattern", condition.pattern.as_ref())?,
            streams,
            tasks: HashMap::new(),
        })
    }

    /// Whether a line of the task was found.
    pub(super) fn has_found(&self, task: TaskId) -> bool {
        self.tasks
            .get(&task)
            .is_some_and(|search| search.found.is_some())
    }

    /// Whether there is nothing more to look for: it was found, or can no longer come.
    pub(super) fn is_done(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(TaskSearch::is_done)
    }

    /// What was found of these tasks, in their order.
    pub(super) fn matches(&self, tasks: &[TaskId]) -> Vec<OutputMatch> {
        tasks
            .iter()
            .filter_map(|task| self.tasks.get(task)?.found.clone())
            .collect()
    }

    /// Looks at what was stored since the last look, until `ends_at`.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::ShuttingDown`].
    pub(super) async fn look(
        &mut self,
        app: &App,
        tasks: &[TaskId],
        ends_at: Instant,
    ) -> Result<(), Refusal> {
        for task in tasks {
            // Heard before the first look, so that nothing falls between.
            self.tasks.entry(*task).or_insert_with(|| TaskSearch {
                run: 0,
                streams: Vec::new(),
                found: None,
                is_exhausted: false,
                tap: Some(app.events.subscribe_output(*task)),
            });
        }
        let open: Vec<TaskId> = tasks
            .iter()
            .filter(|task| !self.is_done(**task))
            .copied()
            .collect();
        let marks = output_read::stream_marks(app.store.pool(), &open).await?;
        for task in open {
            let own: Vec<StreamMark> = marks
                .iter()
                .filter(|mark| mark.task == task && self.streams.contains(&mark.stream))
                .copied()
                .collect();
            let is_gone = !marks.iter().any(|mark| mark.task == task);
            if let Some(search) = self.tasks.get_mut(&task) {
                if is_gone {
                    search.tap = None;
                    search.is_exhausted = true;
                }
                search.look(app, &self.pattern, task, &own, ends_at).await?;
            }
        }
        Ok(())
    }

    /// Waits until output of a task that is still looked at is stored. Safe to drop and call again.
    pub(super) async fn hint(&mut self) {
        let taps: Vec<_> = self
            .tasks
            .values_mut()
            .filter_map(|search| search.tap.as_mut())
            .map(|tap| tap.next().boxed())
            .collect();
        if taps.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(taps).await;
    }
}

impl TaskSearch {
    fn is_done(&self) -> bool {
        self.found.is_some() || self.is_exhausted
    }

    async fn look(
        &mut self,
        app: &App,
        pattern: &Regex,
        task: TaskId,
        marks: &[StreamMark],
        ends_at: Instant,
    ) -> Result<(), Refusal> {
        let Some(first) = marks.first() else {
            return Ok(());
        };
        if first.run != self.run || self.streams.is_empty() {
            self.run = first.run;
            self.streams = marks
                .iter()
                .map(|mark| (mark.stream, LineSearch::default()))
                .collect();
        }
        for mark in marks {
            let Some((_, search)) = self
                .streams
                .iter_mut()
                .find(|(stream, _)| *stream == mark.stream)
            else {
                continue;
            };
            let mut found = None;
            while found.is_none() && search.next_offset() < mark.durable_end {
                if Instant::now() >= ends_at {
                    return Ok(());
                }
                let from = [(mark.stream, search.next_offset())];
                let chunks = output_read::read_chunks(
                    app.store.pool(),
                    task,
                    self.run,
                    &from,
                    BYTES_PER_READ,
                )
                .await?;
                if chunks.is_empty() {
                    // Nothing of it is kept.
                    break;
                }
                found = feed(search, chunks, pattern).await?;
            }
            let found = found.or_else(|| search.look_at_unfinished(pattern));
            if let Some(found) = found {
                self.tap = None;
                self.found = Some(OutputMatch {
                    task_id: task.to_string(),
                    run: self.run,
                    stream: i32::from(mark.stream),
                    offset: found.offset,
                    line: found.line,
                });
                return Ok(());
            }
        }
        if first.has_ended {
            self.tap = None;
            self.is_exhausted = true;
        }
        Ok(())
    }
}

/// Looks at chunks on a thread that may be busy for a while, as a pattern that is hard to match makes it.
async fn feed(
    search: &mut LineSearch,
    chunks: Vec<StoredChunk>,
    pattern: &Regex,
) -> Result<Option<Found>, Refusal> {
    let pattern = pattern.clone();
    let mut own = search.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let found = chunks
            .iter()
            .find_map(|chunk| own.feed(chunk.start, &chunk.data, &pattern));
        (own, found)
    });
    match looked.await {
        Ok((own, found)) => {
            *search = own;
            Ok(found)
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only a runtime that ends gives up such work.
        Err(_) => Err(Refusal::ShuttingDown),
    }
}
