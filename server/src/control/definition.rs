//! What a client says of a new task, parsed once: every rule about a definition is here.

mod secrets;
mod spec;
mod start;
mod working_files;

use super::{
    monitors::plan::{self, MonitorDefinition},
    refusal::Refusal,
    wire_time::{duration_field, time_field},
};
use crate::store::{task_row, times};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use taskyard_core::task::{Policy, RetryPolicy};
use taskyard_proto::v1::{GroupWake, TaskDefinition, TaskSecret, TaskSpec, WakePolicy};

/// Queue, executor and kind of a task that does not say.
pub const DEFAULT_QUEUE: &str = "default";
/// See [`DEFAULT_QUEUE`].
pub const COMMAND: &str = "command";

const MAX_NAME: usize = 64;
const MAX_KEY: usize = 128;
const MAX_KIND: usize = 64;
const MAX_DISPLAY_NAME: usize = 256;
/// Longest name of a group, in bytes.
pub const MAX_GROUP: usize = 128;
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 128;
const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 64;
const MAX_LABEL_VALUE: usize = 256;
const MAX_PRIORITY: i32 = 100;
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_BACKOFF: Duration = Duration::from_secs(24 * 60 * 60);

/// A definition that holds together.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Name among the session's live tasks.
    pub name: Option<String>,
    /// Idempotency name.
    pub key: Option<String>,
    /// Kind.
    pub kind: String,
    /// What to call it.
    pub display_name: String,
    /// What to run.
    pub spec: TaskSpec,
    /// What the work is given and no read shows.
    pub secrets: Vec<TaskSecret>,
    /// The parent's id, as given.
    pub parent: Option<String>,
    /// Group.
    pub group: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Queue.
    pub queue: String,
    /// Executor.
    pub executor: String,
    /// Priority.
    pub priority: i16,
    /// Longest time of one run.
    pub timeout: Option<Duration>,
    /// What the state machine needs.
    pub policy: Policy,
    /// Longest time by which it becomes due later than it would.
    pub start_jitter: Option<Duration>,
    /// Created but held.
    pub hold: bool,
    /// When to wake the owner.
    pub wake_policy: WakePolicy,
    /// How its end wakes the owner within its group.
    pub group_wake: GroupWake,
    /// What makes it a monitor; none: it is none.
    pub monitor: Option<Box<MonitorDefinition>>,
}

/// Parses a definition.
///
/// # Errors
/// [`Refusal::InvalidField`], naming the field from `task.` on.
pub fn parse(mut definition: TaskDefinition) -> Result<Definition, Refusal> {
    if definition.parent_item.is_some() {
        return Err(Refusal::invalid(
            "task.parent_item",
            "names a task of the same batch, and there is none here; say `parent_task_id`",
        ));
    }
    let monitor = match definition.schedule.take() {
        Some(schedule) => {
            let monitor = plan::read(&definition, &schedule)?;
            // what it is to fire must be sound before it ever does
            parse(TaskDefinition {
                schedule: None,
                ..monitor.firings().clone()
            })?;
            definition.kind = plan::MONITOR.to_owned();
            Some(Box::new(monitor))
        }
        None if definition.kind == plan::MONITOR => {
            return Err(Refusal::invalid(
                "task.schedule",
                "is required for the kind `monitor`; say when: one of `cron`, `interval` and `at`",
            ));
        }
        None => None,
    };
    let spec = definition.spec.ok_or_else(|| {
        Refusal::invalid(
            "task.spec",
            "say what to run: `command.argv`, or another executor's `payload_json`",
        )
    })?;
    let executor = or_default(definition.executor, COMMAND);
    check_word("task.executor", &executor, MAX_KIND)?;
    spec::check(&spec, &executor)?;
    working_files::check(&spec, &executor)?;
    secrets::check(&definition.secrets, &spec, monitor.is_some())?;
    let queue = or_default(definition.queue, DEFAULT_QUEUE);
    check_word("task.queue", &queue, MAX_NAME)?;
    let name = some(definition.name);
    if let Some(name) = &name {
        check_name(name)?;
    }
    let key = some(definition.key);
    if let Some(key) = &key {
        check_text("task.key", key, MAX_KEY)?;
    }
    let kind = or_default(definition.kind, COMMAND);
    check_text("task.kind", &kind, MAX_KIND)?;
    check_text(
        "task.display_name",
        &definition.display_name,
        MAX_DISPLAY_NAME,
    )?;
    check_text("task.group", &definition.group, MAX_GROUP)?;
    check_labels("task.labels", &definition.labels)?;
    check_tags(&definition.tags)?;
    if definition.priority.abs() > MAX_PRIORITY {
        return Err(Refusal::invalid(
            "task.priority",
            "must be from -100 to 100",
        ));
    }
    let priority = i16::try_from(definition.priority).unwrap_or(0);
    let timeout = duration_field(
        "task.timeout",
        definition.timeout.as_ref(),
        MIN_TIMEOUT,
        MAX_TIMEOUT,
    )?;
    let retry = match definition.retry {
        None => RetryPolicy::NEVER,
        Some(retry) => parse_retry(&retry)?,
    };
    let wake_policy = match WakePolicy::try_from(definition.wake_policy) {
        Ok(WakePolicy::Unspecified) => WakePolicy::Silent,
        Ok(policy) => policy,
        Err(_) => {
            return Err(Refusal::invalid(
                "task.wake_policy",
                "is no known wake policy",
            ));
        }
    };
    let group_wake = match GroupWake::try_from(definition.group_wake) {
        Ok(GroupWake::Unspecified) => GroupWake::Each,
        Ok(GroupWake::AllDone | GroupWake::FirstFailed) if definition.group.is_empty() => {
            return Err(Refusal::invalid("task.group_wake", "needs a `group`"));
        }
        Ok(group_wake) => group_wake,
        Err(_) => {
            return Err(Refusal::invalid(
                "task.group_wake",
                "is no known group wake",
            ));
        }
    };
    let time = |field: &str, time: Option<prost_types::Timestamp>| {
        Ok::<_, Refusal>(time_field(field, time.as_ref())?.map(times::to_core))
    };
    let policy = Policy {
        retry,
        not_before: time("task.not_before", definition.not_before)?,
        start_deadline: time("task.start_deadline", definition.start_deadline)?,
        success_exit_codes: task_row::success_exit_codes(&spec),
        is_monitor: monitor.is_some(),
    };
    if let (Some(not_before), Some(deadline)) = (policy.not_before, policy.start_deadline)
        && deadline < not_before
    {
        return Err(Refusal::invalid(
            "task.start_deadline",
            "must not be before `not_before`",
        ));
    }
    let start_jitter = match &spec.command {
        Some(command) => start::start_jitter(command)?.filter(|jitter| !jitter.is_zero()),
        None => None,
    };
    Ok(Definition {
        start_jitter,
        name,
        key,
        kind,
        display_name: definition.display_name,
        spec,
        secrets: definition.secrets,
        parent: some(definition.parent_task_id),
        group: some(definition.group),
        labels: definition.labels,
        tags: without_repeats(definition.tags),
        queue,
        executor,
        priority,
        timeout,
        policy,
        hold: definition.hold,
        wake_policy,
        group_wake,
        monitor,
    })
}

/// A text without control characters, of at most `max` bytes.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check_text(field: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.len() > max {
        return Err(Refusal::invalid(
            field,
            format!("has {} bytes, at most {max} are allowed", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "must not hold control characters"));
    }
    Ok(())
}

/// A word of [A-Za-z0-9._-].
fn check_word(field: &str, word: &str, max: usize) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if word.is_empty() || word.len() > max || !word.bytes().all(is_allowed) {
        return Err(Refusal::invalid(
            field,
            format!("must be 1 to {max} of A-Z a-z 0-9 . _ -"),
        ));
    }
    Ok(())
}

/// A name must not be taken for an ordinal or an id.
fn check_name(name: &str) -> Result<(), Refusal> {
    check_word("task.name", name, MAX_NAME)?;
    let is_ordinal = name.strip_prefix('t').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_ordinal || name.starts_with("task_") {
        return Err(Refusal::invalid(
            "task.name",
            "must not look like an ordinal (`t12`) or an id (`task_...`)",
        ));
    }
    Ok(())
}

fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > MAX_LABELS {
        return Err(Refusal::invalid(
            field,
            format!("at most {MAX_LABELS} labels are allowed"),
        ));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Refusal::invalid(field, "a label's key must not be empty"));
        }
        check_text(field, key, MAX_LABEL_KEY)?;
        check_text(field, value, MAX_LABEL_VALUE)?;
    }
    Ok(())
}

/// A tag is there or not, however often it is named.
fn without_repeats(mut tags: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::with_capacity(tags.len());
    tags.retain(|tag| seen.insert(tag.clone()));
    tags
}

fn check_tags(tags: &[String]) -> Result<(), Refusal> {
    if tags.len() > MAX_TAGS {
        return Err(Refusal::invalid(
            "task.tags",
            format!("at most {MAX_TAGS} tags are allowed"),
        ));
    }
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    for tag in tags {
        if tag.len() > MAX_TAG || !tag.split('.').all(is_part) {
            return Err(Refusal::invalid(
                "task.tags",
                format!(
                    "{tag:?} is no tag: words of A-Z a-z 0-9 and -, joined by dots, at most {MAX_TAG} bytes"
                ),
            ));
        }
    }
    Ok(())
}

fn parse_retry(retry: &taskyard_proto::v1::RetryPolicy) -> Result<RetryPolicy, Refusal> {
    let max_runs = u32::try_from(retry.max_runs)
        .ok()
        .filter(|runs| *runs <= RetryPolicy::MAX_RUNS)
        .ok_or_else(|| Refusal::invalid("task.retry.max_runs", "must be from 1 to 100"))?;
    let multiplier = if retry.multiplier == 0.0 {
        RetryPolicy::NEVER.multiplier
    } else {
        retry.multiplier
    };
    if !(1.0..=10.0).contains(&multiplier) {
        return Err(Refusal::invalid(
            "task.retry.multiplier",
            "must be from 1 to 10",
        ));
    }
    let backoff = |field: &str, wait: Option<&prost_types::Duration>, otherwise| {
        Ok::<_, Refusal>(
            duration_field(field, wait, Duration::ZERO, MAX_BACKOFF)?.unwrap_or(otherwise),
        )
    };
    let initial_backoff = backoff(
        "task.retry.initial_backoff",
        retry.initial_backoff.as_ref(),
        RetryPolicy::NEVER.initial_backoff,
    )?;
    let max_backoff = backoff(
        "task.retry.max_backoff",
        retry.max_backoff.as_ref(),
        RetryPolicy::NEVER.max_backoff.max(initial_backoff),
    )?;
    Ok(RetryPolicy {
        max_runs: max_runs.max(1),
        initial_backoff,
        max_backoff,
        multiplier,
    })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn or_default(text: String, default: &str) -> String {
    some(text).unwrap_or_else(|| default.to_owned())
}

#[cfg(test)]
mod tests;
