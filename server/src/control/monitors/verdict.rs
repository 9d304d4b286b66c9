//! What the end of a firing means to the monitor's owner. Pure.

use super::evidence::Evidence;
use crate::{control::refusal::Refusal, store::monitors::EndedFiring, store::records::result_path};
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};
use taskyard_proto::v1::{MonitorSchedule, MonitorWake, TaskState};

const MAX_PATTERN: usize = 1_000;
/// Most memory of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Which ends of firings wake the owner.
#[derive(Clone, Debug)]
pub enum WakeOn {
    /// Failures.
    Failed,
    /// What is not as the firing before.
    Changed,
    /// What matches.
    Match(Box<Regex>),
    /// All.
    Always,
}

impl WakeOn {
    /// Parses what a schedule says of wakes.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn parse(schedule: &MonitorSchedule) -> Result<Self, Refusal> {
        const PATTERN: &str = "task.schedule.match_regex";
        let wake_on = MonitorWake::try_from(schedule.wake_on).map_err(|_| {
            Refusal::invalid("task.schedule.wake_on", "is no known condition of a wake")
        })?;
        let pattern = schedule.match_regex.as_str();
        let parsed = match wake_on {
            MonitorWake::Unspecified | MonitorWake::Failed => Self::Failed,
            MonitorWake::Changed => Self::Changed,
            MonitorWake::Always => Self::Always,
            MonitorWake::Match if pattern.is_empty() => {
                return Err(Refusal::invalid(
                    PATTERN,
                    "is required for MONITOR_WAKE_MATCH; write what to look for, such as `error|warning`",
                ));
            }
            MonitorWake::Match if pattern.len() > MAX_PATTERN => {
                return Err(Refusal::invalid(
                    PATTERN,
                    format!(
                        "has {} bytes, at most {MAX_PATTERN} are allowed",
                        pattern.len()
                    ),
                ));
            }
            MonitorWake::Match => {
                let regex = RegexBuilder::new(pattern)
                    .size_limit(MAX_COMPILED)
                    .build()
                    .map_err(|error| {
                        Refusal::invalid(PATTERN, format!("must be a regular expression: {error}"))
                    })?;
                return Ok(Self::Match(Box::new(regex)));
            }
        };
        if !pattern.is_empty() {
            return Err(Refusal::invalid(
                PATTERN,
                "is for MONITOR_WAKE_MATCH only; set wake_on, or leave it out",
            ));
        }
        Ok(parsed)
    }

    /// What the wake for a firing says; none: there is none. `before` is what came of the firing that was judged before,
    /// `digest` what came of this one, and `evidence` what it printed.
    #[must_use]
    pub fn judge(
        &self,
        ended: &EndedFiring,
        evidence: &Evidence,
        digest: Option<[u8; 32]>,
        before: Option<[u8; 32]>,
    ) -> Option<String> {
        let why = match self {
            Self::Failed if ended.state == TaskState::Failed => "failed".to_owned(),
            Self::Failed => return None,
            Self::Always => format!("ended: {}", word(ended.state)),
            Self::Changed => match (before, digest) {
                (Some(before), Some(now)) if before != now => {
                    format!("ended otherwise than the one before: {}", word(ended.state))
                }
                (Some(_) | None, Some(_) | None) => return None,
            },
            Self::Match(regex) if matches(regex, ended, evidence) => {
                format!("matches `{}`: {}", regex.as_str(), word(ended.state))
            }
            Self::Match(_) => return None,
        };
        let mut text = format!("firing {} {why}.", ended.number);
        if !ended.summary.is_empty() {
            text.push_str(&format!("\n- summary: {}", ended.summary));
        }
        text.push_str(&format!("\n- result: {}", result_path(ended.firing)));
        Some(text)
    }
}

/// What came of a firing, in short; none for one that was canceled, which says nothing of what is watched.
#[must_use]
pub fn digest(ended: &EndedFiring, evidence: &Evidence) -> Option<[u8; 32]> {
    if ended.state == TaskState::Canceled {
        return None;
    }
    let end = &ended.run_end;
    let stdout = end.stdout.clone().unwrap_or_default();
    let exit_code = end.exit.as_ref().and_then(|exit| exit.exit_code);
    let mut hash = Sha256::new();
    // each part behind its length, so that no two firings read alike
    for part in [
        word(ended.state).as_bytes(),
        format!("{exit_code:?} {}", stdout.total_bytes).as_bytes(),
        end.output_json.as_bytes(),
        evidence
            .compared
            .as_ref()
            .map_or(&stdout.tail[..], |compared| compared),
    ] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    Some(hash.finalize().into())
}

fn matches(regex: &Regex, ended: &EndedFiring, evidence: &Evidence) -> bool {
    regex.is_match(&ended.summary)
        || regex.is_match(&ended.run_end.output_json)
        || regex.is_match(&String::from_utf8_lossy(&evidence.searched))
}

fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::Succeeded => "succeeded",
        TaskState::Canceled => "canceled",
        TaskState::Failed => "failed",
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => "has not ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_core::id::{SessionUid, TaskId};
    use taskyard_proto::{
        storage::v1::{EndedStream, RunEnd},
        v1::TaskDefinition,
    };

    fn ended(state: TaskState, stdout: &str) -> EndedFiring {
        EndedFiring {
            monitor: TaskId(1),
            session: SessionUid(1),
            definition: TaskDefinition::default(),
            judged: 0,
            last_digest: None,
            number: 3,
            firing: TaskId(2),
            run: 1,
            state,
            summary: "exit 1".to_owned(),
            run_end: RunEnd {
                stdout: Some(EndedStream {
                    total_bytes: i64::try_from(stdout.len()).unwrap_or(0),
                    tail: stdout.to_owned().into(),
                    ..EndedStream::default()
                }),
                ..RunEnd::default()
            },
        }
    }

    /// What a firing printed, read whole.
    fn evidence(ended: &EndedFiring) -> Evidence {
        let stdout = ended.run_end.stdout.clone().unwrap_or_default();
        Evidence {
            compared: Some(Sha256::digest(&stdout.tail).into()),
            searched: stdout.tail.to_vec(),
        }
    }

    fn wake_on(wake_on: MonitorWake, match_regex: &str) -> Result<WakeOn, Refusal> {
        WakeOn::parse(&MonitorSchedule {
            wake_on: wake_on.into(),
            match_regex: match_regex.to_owned(),
            ..MonitorSchedule::default()
        })
    }

    #[test]
    fn each_condition_wakes_for_what_it_names() {
        use TaskState::{Canceled, Failed, Succeeded};
        let wakes = |on: &WakeOn, now: &EndedFiring, before: Option<&EndedFiring>| {
            let digest = |ended: &EndedFiring| digest(ended, &evidence(ended));
            on.judge(now, &evidence(now), digest(now), before.and_then(digest))
                .is_some()
        };
        let (well, other) = (ended(Succeeded, "a"), ended(Succeeded, "b"));
        let (failed, canceled) = (ended(Failed, "a"), ended(Canceled, "a"));

        let on = wake_on(MonitorWake::Unspecified, "").expect("valid");
        assert!(wakes(&on, &failed, None) && !wakes(&on, &well, None));
        let on = wake_on(MonitorWake::Always, "").expect("valid");
        assert!(wakes(&on, &well, None) && wakes(&on, &canceled, None));
        let on = wake_on(MonitorWake::Changed, "").expect("valid");
        assert!(!wakes(&on, &well, None) && !wakes(&on, &well, Some(&well)));
        assert!(wakes(&on, &other, Some(&well)) && wakes(&on, &failed, Some(&well)));
        assert!(!wakes(&on, &canceled, Some(&well)));
        let on = wake_on(MonitorWake::Match, "^b$|exit 2").expect("valid");
        assert!(wakes(&on, &other, None) && !wakes(&on, &well, None));
    }

    #[test]
    fn a_wake_names_the_firing_and_says_why() {
        let on = wake_on(MonitorWake::Failed, "").expect("valid");
        let text = on.judge(
            &ended(TaskState::Failed, ""),
            &Evidence::default(),
            None,
            None,
        );
        let text = text.expect("it wakes");
        assert!(text.starts_with("firing 3 failed.\n- summary: exit 1\n- result: /.tasks/task_"));
    }

    #[test]
    fn a_pattern_goes_with_match_and_is_one() {
        for (on, pattern) in [
            (MonitorWake::Match, ""),
            (MonitorWake::Match, "("),
            (MonitorWake::Changed, "x"),
        ] {
            assert!(
                matches!(wake_on(on, pattern), Err(Refusal::InvalidField { field, .. }) if field == "task.schedule.match_regex")
            );
        }
    }
}
