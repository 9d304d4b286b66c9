//! One transaction that stores the output of many runs.

use crate::store::{
    Connection, StoreError, batch,
    output_append::{self, Appender, LeaseStanding, NewChunk, StreamState},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use taskyard_core::{
    id::TaskId,
    output::{Retention, Stored},
};

/// Output of one run, as a worker pushes it.
#[derive(Clone, Debug)]
pub struct Push {
    /// Under which lease.
    pub appender: Appender,
    /// How much of each stream is kept.
    pub retention: Retention,
    /// What the run has written so far to stdout and stderr; 0: not said.
    pub totals: [u64; 2],
    /// The bytes.
    pub chunks: Vec<Chunk>,
}

/// A piece of output.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// Offset of its first byte.
    pub offset: u64,
    /// Order among the chunks of both streams.
    pub order: i64,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The bytes.
    pub data: Bytes,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushResult {
    /// Everything that is kept before these ends, of stdout and stderr, is durable.
    Durable([u64; 2]),
    /// The lease is lost.
    LeaseLost,
    /// The task has ended.
    Terminal,
    /// A chunk begins where a gap must not be.
    Gap {
        /// 1 stdout, 2 stderr.
        stream: i16,
        /// Where the next chunk must begin.
        expected: u64,
    },
}

/// A chunk that was stored, for those who follow the run.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: i32,
    /// The chunk, without what was stored before.
    pub chunk: Chunk,
}

type StreamKey = (TaskId, i32, i16);

/// Stores pushes, in order, and says what became of each, and which chunks are new.
pub(super) async fn append(
    db: &mut Connection,
    pushes: &[Push],
) -> Result<(Vec<PushResult>, Vec<Appended>), StoreError> {
    let mut transaction = batch::begin(db).await?;
    let appenders: Vec<Appender> = pushes.iter().map(|push| push.appender).collect();
    let standings = output_append::check_leases(&mut transaction, &appenders).await?;
    let mut runs: Vec<(TaskId, i32)> = appenders
        .iter()
        .map(|appender| (appender.task, appender.run))
        .collect();
    runs.sort_unstable();
    runs.dedup();
    let mut streams: BTreeMap<StreamKey, (StreamState, bool)> =
        output_append::lock_streams(&mut transaction, &runs)
            .await?
            .into_iter()
            .map(|state| ((state.task, state.run, state.stream), (state, false)))
            .collect();
    let mut appended = Vec::new();
    let mut results = Vec::with_capacity(pushes.len());
    for (push, standing) in pushes.iter().zip(standings) {
        results.push(match standing {
            LeaseStanding::Held => extend(&mut streams, push, &mut appended),
            LeaseStanding::Lost => PushResult::LeaseLost,
            LeaseStanding::Terminal => PushResult::Terminal,
        });
    }
    let changed: Vec<StreamState> = streams
        .values()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(state, _)| *state)
        .collect();
    if !changed.is_empty() {
        output_append::save_streams(&mut transaction, &changed).await?;
    }
    if !appended.is_empty() {
        output_append::insert_chunks(
            &mut transaction,
            &appended.iter().map(new_chunk).collect::<Vec<_>>(),
        )
        .await?;
    }
    for state in changed.iter().filter(|state| has_rolled(state)) {
        let tail_start = state.retention.tail_start(state.stored.durable_end);
        output_append::delete_chunks(&mut *transaction, state, state.retention.head, tail_start)
            .await?;
    }
    batch::commit(transaction).await?;
    Ok((results, appended))
}

/// Adds one push to the streams in memory.
fn extend(
    streams: &mut BTreeMap<StreamKey, (StreamState, bool)>,
    push: &Push,
    appended: &mut Vec<Appended>,
) -> PushResult {
    let Appender { task, run, .. } = push.appender;
    for chunk in &push.chunks {
        let (state, is_changed) = stream_of(streams, push, chunk.stream);
        let end = chunk.offset + chunk.data.len() as u64;
        if !state.retention.may_follow(state.stored, chunk.offset) {
            return PushResult::Gap {
                stream: chunk.stream,
                expected: state.stored.durable_end,
            };
        }
        if end <= state.stored.durable_end || chunk.data.is_empty() {
            continue;
        }
        let known = state.stored.durable_end.saturating_sub(chunk.offset);
        let fresh = Chunk {
            offset: chunk.offset + known,
            data: chunk.data.slice(
                usize::try_from(known)
                    .unwrap_or(usize::MAX)
                    .min(chunk.data.len())..,
            ),
            ..chunk.clone()
        };
        state.stored = state.stored.extended(fresh.offset, end);
        state.total = state.total.max(end);
        *is_changed = true;
        appended.push(Appended {
            task,
            run,
            chunk: fresh,
        });
    }
    for (stream, total) in STREAMS.into_iter().zip(push.totals) {
        if total > 0 {
            let (state, is_changed) = stream_of(streams, push, stream);
            if total > state.total {
                state.total = total;
                *is_changed = true;
            }
        }
    }
    PushResult::Durable(STREAMS.map(|stream| {
        streams
            .get(&(task, run, stream))
            .map_or(0, |(state, _)| state.stored.durable_end)
    }))
}

/// The streams, as they are numbered in the store.
const STREAMS: [i16; 2] = [1, 2];

fn stream_of<'a>(
    streams: &'a mut BTreeMap<StreamKey, (StreamState, bool)>,
    push: &Push,
    stream: i16,
) -> (&'a mut StreamState, &'a mut bool) {
    let Appender { task, run, .. } = push.appender;
    let (state, is_changed) = streams.entry((task, run, stream)).or_insert_with(|| {
        let state = StreamState {
            task,
            run,
            stream,
            stored: Stored::NONE,
            total: 0,
            retention: push.retention,
        };
        (state, false)
    });
    (state, is_changed)
}

/// Whether enough of the stored tail has been overtaken to be worth a delete: half as much again as is kept.
fn has_rolled(state: &StreamState) -> bool {
    let Retention { head, tail } = state.retention;
    state.stored.durable_end > head + tail + tail / 2
}

fn new_chunk(appended: &Appended) -> NewChunk {
    let chunk = &appended.chunk;
    NewChunk {
        task: appended.task,
        run: appended.run,
        stream: chunk.stream,
        offset: chunk.offset,
        order: chunk.order,
        at: chunk.at,
        data: chunk.data.clone(),
    }
}
