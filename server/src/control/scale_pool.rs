//! What the autoscaler of a pool of workers asks: is there work, how much, and how much of it does one worker take.

use super::{
    definition::{COMMAND, DEFAULT_QUEUE},
    outbox::{Outbox, Outgoing, StreamEnd},
    refusal::Refusal,
};
use crate::{
    app::App,
    dispatch::Needs,
    limits::turns,
    store::backlog::{self, Backlog},
};
use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

/// What the metadata of a trigger may say of the pool; whatever else stands there is KEDA's own.
const QUEUES: &str = "queues";
const KINDS: &str = "kinds";
const EXECUTORS: &str = "executors";
const LABELS: &str = "labels";
const TARGET: &str = "targetPerReplica";

/// Tasks that one worker takes, where nothing is said, and at most.
const DEFAULT_TARGET: f64 = 1.0;
const MAX_TARGET: f64 = 10_000.0;
/// Most entries and bytes of one list.
const MAX_ENTRIES: usize = 64;
const MAX_LIST: usize = 16 << 10;
/// Who follows a pool hears of a change this late at most, plus the count.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Answers that wait for the stream's reader.
const BUFFER: usize = 4;
/// Silence before the last answer is repeated, so that a half-open connection is noticed.
const REPEAT: Duration = Duration::from_secs(30);

/// A pool of equal workers, named by what they announce.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    needs: Needs,
    /// Tasks that one worker takes.
    pub target: f64,
}

impl Pool {
    /// The pool that a trigger's metadata names.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let needs = Needs {
            queues: or_default(list(metadata, QUEUES)?, DEFAULT_QUEUE),
            kinds: list(metadata, KINDS)?,
            executors: or_default(list(metadata, EXECUTORS)?, COMMAND),
            labels: labels(metadata)?,
        };
        let target = match metadata.get(TARGET) {
            None => DEFAULT_TARGET,
            Some(text) => f64::from_str(text.trim())
                .ok()
                .filter(|target| *target > 0.0 && *target <= MAX_TARGET)
                .ok_or_else(|| {
                    let range = format!(
                        "must be a number above 0 and at most {MAX_TARGET}, as a rule the slots of one worker"
                    );
                    Refusal::invalid(field(TARGET), range)
                })?,
        };
        Ok(Self { needs, target })
    }
}

/// What a pool has to do now, as any server sees it.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn measure(app: &App, pool: &Pool) -> Result<Backlog, Refusal> {
    // the first task of its kind may have come by another server
    app.routes.refresh(&app.store).await?;
    let routes = app.routes.matching(&pool.needs);
    let labels = serde_json::to_string(&pool.needs.labels)
        .map_err(|error| Refusal::invalid(field(LABELS), error.to_string()))?;
    let pool = &pool.needs;
    Ok(backlog::count_backlog(app.store.pool(), &routes, &labels, &pool.queues).await?)
}

/// Follows whether a pool has anything to do: at once, and then with each change.
#[must_use]
pub fn follow(app: &Arc<App>, pool: Pool) -> Outgoing<bool> {
    let (outbox, outgoing) = Outbox::open(BUFFER, size_of_val);
    let app = Arc::clone(app);
    turns::spawn(async move {
        let end = tokio::select! {
            () = outbox.closed() => Err(StreamEnd::Gone),
            () = app.shutdown.cancelled() => Err(Refusal::ShuttingDown.into()),
            end = tell_changes(&app, &pool, &outbox) => end,
        };
        outbox.finish(end);
    });
    outgoing
}

async fn tell_changes(app: &App, pool: &Pool, outbox: &Outbox<bool>) -> Result<(), StreamEnd> {
    let mut told = None;
    loop {
        let is_active = measure(app, pool).await?.is_active();
        let is_due = told.is_none_or(|(last, at): (bool, tokio::time::Instant)| {
            last != is_active || at.elapsed() >= REPEAT
        });
        if is_due {
            outbox.send(is_active).await?;
            told = Some((is_active, tokio::time::Instant::now()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

impl Backlog {
    /// All that needs a worker. What is held counts: the autoscaler would take away workers that are at work. What draining
    /// ones hold does not: it would start a worker for each that it has just taken away.
    #[must_use]
    pub fn total(self) -> i64 {
        self.queued.saturating_add(self.held)
    }

    /// Whether there is anything to do. A task of a draining worker may come back, so the pool stays awake for it.
    #[must_use]
    pub fn is_active(self) -> bool {
        self.total() > 0 || self.draining > 0
    }
}

fn labels(metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let entries = list(metadata, LABELS)?;
    let split = |entry: String| match entry.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(Refusal::invalid(
            field(LABELS),
            format!("{entry:?} must be KEY=VALUE"),
        )),
    };
    entries.into_iter().map(split).collect()
}

/// The entries of a comma-separated list.
fn list(metadata: &BTreeMap<String, String>, key: &str) -> Result<Vec<String>, Refusal> {
    let Some(text) = metadata.get(key) else {
        return Ok(Vec::new());
    };
    let entries: Vec<String> = text
        .split(',')
        .map(|entry| entry.trim().to_owned())
        .filter(|entry| !entry.is_empty())
        .collect();
    if entries.len() > MAX_ENTRIES || text.len() > MAX_LIST || text.contains('\0') {
        return Err(Refusal::invalid(
            field(key),
            format!("must be at most {MAX_ENTRIES} words, separated by commas"),
        ));
    }
    Ok(entries)
}

fn or_default(words: Vec<String>, default: &str) -> Vec<String> {
    if words.is_empty() {
        vec![default.to_owned()]
    } else {
        words
    }
}

fn field(key: &str) -> String {
    format!("scalerMetadata.{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_trigger_names_a_pool_as_its_workers_announce_themselves() -> Result<(), Refusal> {
        let pool = Pool::from_metadata(&metadata(&[
            ("scalerAddress", "taskyard:8275"),
            ("queues", "gpu, default"),
            ("kinds", "subagent"),
            ("labels", "pool=gpu,zone=a=b"),
            ("targetPerReplica", "4"),
        ]))?;
        assert_eq!(pool.needs.queues, ["gpu", "default"]);
        assert_eq!(pool.needs.kinds, ["subagent"]);
        assert_eq!(pool.needs.executors, ["command"]);
        assert_eq!(
            pool.needs.labels,
            metadata(&[("pool", "gpu"), ("zone", "a=b")])
        );
        assert!((pool.target - 4.0).abs() < f64::EPSILON);
        let default = Pool::from_metadata(&metadata(&[]))?;
        assert_eq!(default.needs.queues, ["default"]);
        assert!((default.target - 1.0).abs() < f64::EPSILON);
        Ok(())
    }

    #[test]
    fn what_a_trigger_gets_wrong_is_named() {
        for (key, value) in [
            ("targetPerReplica", "0"),
            ("targetPerReplica", "many"),
            ("targetPerReplica", "NaN"),
            ("labels", "pool"),
            ("labels", "=gpu"),
            ("queues", "a\0b"),
        ] {
            let refused = Pool::from_metadata(&metadata(&[(key, value)]));
            let named = format!("scalerMetadata.{key}");
            assert!(
                matches!(&refused, Err(Refusal::InvalidField { field, .. }) if *field == named),
                "{key}={value}: {refused:?}"
            );
        }
    }
}
