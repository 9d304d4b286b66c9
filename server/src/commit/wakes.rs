//! The wakes of a batch: noted change by change, those of groups decided under the locks of their sessions.

use super::{
    event,
    intent::{Change, Content},
};
use crate::store::{
    Connection, StoreError,
    task_row::{TaskRow, WakeTerms},
    times,
    wakes::{self, GroupKey, GroupStanding, NewWake},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use taskyard_core::{
    Timestamp,
    id::SessionUid,
    task::{
        GroupReason, GroupWake, State, Task, TerminalState, WakePolicy, WakeReason, group_reason,
        wake_reason,
    },
};
use taskyard_proto::{
    storage::v1::LoggedEvent,
    v1::{self as wire, TaskMessage, Wake, message_part::Part},
};

/// Longest piece of a prompt or message that a wake quotes, in bytes.
const MAX_QUOTE: usize = 1_024;

/// What a batch has to wake owners for.
#[derive(Default)]
pub(super) struct Wakes {
    wakes: Vec<NewWake>,
    /// Ends that may be those of their groups, in order.
    candidates: Vec<Candidate>,
}

/// The end of a task whose group decides whether it wakes.
struct Candidate {
    key: GroupKey,
    group_wake: GroupWake,
    ended: TerminalState,
    wake: NewWake,
    text: EndText,
}

/// What a wake for an end says.
struct EndText {
    group: String,
    own: String,
}

impl Wakes {
    /// Notes what a change is a reason for. Answers with the event of a wake that is certain.
    pub(super) fn note(
        &mut self,
        before: &Task,
        row: &TaskRow,
        message: Option<&TaskMessage>,
        now: Timestamp,
    ) -> Option<LoggedEvent> {
        let is_outbound =
            message.is_some_and(|message| message.direction() == wire::MessageDirection::Outbound);
        let reason = wake_reason(policy(&row.wake), before, &row.task, is_outbound)?;
        let new = |reason: wire::WakeReason, text: String| NewWake {
            namespace_id: row.wake.namespace_id,
            session: row.session,
            task: row.task.id,
            wake: Wake {
                task_id: row.task.id.to_string(),
                ordinal: row.ordinal,
                reason: reason.into(),
                generation: row.task.generation.cast_signed(),
                state: event::published_state(&row.task.state).into(),
                group: row.wake.group.clone().unwrap_or_default(),
                text,
                message_number: match reason {
                    wire::WakeReason::Message => message.map_or(0, |message| message.number),
                    wire::WakeReason::Unspecified
                    | wire::WakeReason::Terminal
                    | wire::WakeReason::Question
                    | wire::WakeReason::GroupDone
                    | wire::WakeReason::GroupFailed
                    | wire::WakeReason::Monitor => 0,
                },
                created_at: Some(times::core_to_proto(now)),
                ..Wake::default()
            },
            at: times::to_database(now),
        };
        let wake = match (reason, &row.task.state) {
            (WakeReason::Terminal, State::Terminal(ended)) => {
                let own = end_text(row, *ended);
                let wake = new(wire::WakeReason::Terminal, own.clone());
                let group_wake = group_wake(&row.wake);
                if let (GroupWake::AllDone | GroupWake::FirstFailed, Some(group)) =
                    (group_wake, &row.wake.group)
                {
                    self.candidates.push(Candidate {
                        key: GroupKey {
                            session: row.session,
                            group: group.clone(),
                        },
                        group_wake,
                        ended: *ended,
                        wake,
                        text: EndText {
                            group: group.clone(),
                            own,
                        },
                    });
                    return None;
                }
                wake
            }
            (WakeReason::Question, _) => {
                let prompt = row
                    .body
                    .question
                    .as_ref()
                    .map_or("", |question| question.prompt.as_str());
                let text = format!("{} asks: {}", title(row), quote(prompt));
                new(wire::WakeReason::Question, text)
            }
            (WakeReason::Message | WakeReason::Terminal, _) => {
                let said = message.map(said).unwrap_or_default();
                let text = format!("{} says: {}", title(row), quote(&said));
                new(wire::WakeReason::Message, text)
            }
        };
        let logged = log(&wake);
        self.wakes.push(wake);
        Some(logged)
    }

    /// Notes the wake for the end of a monitor's firing, if the change asks for one. Answers with its event.
    pub(super) fn note_firing(
        &mut self,
        row: &TaskRow,
        change: &Change,
        now: Timestamp,
    ) -> Option<LoggedEvent> {
        let Content::Judged(judged) = &change.content else {
            return None;
        };
        let text = format!("{}: {}", title(row), judged.wake.as_deref()?);
        let wake = NewWake {
            namespace_id: row.wake.namespace_id,
            session: row.session,
            task: row.task.id,
            wake: Wake {
                task_id: row.task.id.to_string(),
                ordinal: row.ordinal,
                reason: wire::WakeReason::Monitor.into(),
                generation: row.task.generation.cast_signed(),
                state: event::published_state(&row.task.state).into(),
                group: row.wake.group.clone().unwrap_or_default(),
                text,
                created_at: Some(times::core_to_proto(now)),
                ..Wake::default()
            },
            at: times::to_database(now),
        };
        let logged = log(&wake);
        self.wakes.push(wake);
        Some(logged)
    }

    /// Decides about the ends in groups, under the locks of all `sessions` of the batch; everything else of it is written.
    /// `new_groups` are those of tasks that the batch creates. Answers with the events, by session.
    pub(super) async fn settle_groups(
        &mut self,
        db: &mut Connection,
        sessions: &[SessionUid],
        new_groups: &BTreeSet<(SessionUid, &str)>,
    ) -> Result<BTreeMap<SessionUid, Vec<LoggedEvent>>, StoreError> {
        let mut events: BTreeMap<SessionUid, Vec<LoggedEvent>> = BTreeMap::new();
        if self.candidates.is_empty() {
            return Ok(events);
        }
        wakes::lock_sessions(db, sessions).await?;
        let mut groups: HashMap<GroupKey, Vec<Candidate>> = HashMap::new();
        let mut keys = Vec::new();
        for candidate in self.candidates.drain(..) {
            let members = groups.entry(candidate.key.clone()).or_default();
            if members.is_empty() {
                keys.push(candidate.key.clone());
            }
            members.push(candidate);
        }
        let standings = wakes::read_groups(db, &keys).await?;
        for (key, standing) in keys.into_iter().zip(standings) {
            let has_live =
                standing.has_live || new_groups.contains(&(key.session, key.group.as_str()));
            let members = groups.remove(&key).unwrap_or_default();
            for wake in settle_group(
                members,
                GroupStanding {
                    has_live,
                    ..standing
                },
            ) {
                events.entry(key.session).or_default().push(log(&wake));
                self.wakes.push(wake);
            }
        }
        Ok(events)
    }

    /// Stores the wakes; whether there were any.
    pub(super) async fn write(&self, db: &mut Connection) -> Result<bool, StoreError> {
        if self.wakes.is_empty() {
            return Ok(false);
        }
        wakes::insert_wakes(db, &self.wakes).await?;
        Ok(true)
    }
}

/// The wakes of one group: `members` ended in this batch, in order, and the standing is that after it.
fn settle_group(members: Vec<Candidate>, standing: GroupStanding) -> Vec<NewWake> {
    let failed_now = members
        .iter()
        .filter(|member| member.ended == TerminalState::Failed)
        .count();
    let mut failed_before = standing.failed - i64::try_from(failed_now).unwrap_or(i64::MAX);
    let count = members.len();
    let mut wakes = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let is_last = !standing.has_live && index + 1 == count;
        let reason = group_reason(member.group_wake, member.ended, is_last, failed_before > 0);
        if member.ended == TerminalState::Failed {
            failed_before += 1;
        }
        let EndText { group, own } = member.text;
        let (reason, text) = match reason {
            None => continue,
            Some(GroupReason::Done) => (
                wire::WakeReason::GroupDone,
                format!("All tasks of the group {group:?} have ended; the last was:\n{own}"),
            ),
            Some(GroupReason::Failed) => (
                wire::WakeReason::GroupFailed,
                format!("A task of the group {group:?} failed:\n{own}"),
            ),
        };
        let mut wake = member.wake;
        wake.wake.reason = reason.into();
        wake.wake.text = text;
        wakes.push(wake);
    }
    wakes
}

fn log(wake: &NewWake) -> LoggedEvent {
    LoggedEvent {
        task_id: event::id_bytes(wake.task),
        r#type: wire::SessionEventType::TaskWake.into(),
        ordinal: wake.wake.ordinal,
        generation: wake.wake.generation,
        wake: Some(wake.wake.clone()),
        ..LoggedEvent::default()
    }
}

/// `Task "build" (t3)`, or `Task t3`.
fn title(row: &TaskRow) -> String {
    if row.wake.title.is_empty() {
        format!("Task t{}", row.ordinal)
    } else {
        format!("Task {:?} (t{})", row.wake.title, row.ordinal)
    }
}

fn end_text(row: &TaskRow, ended: TerminalState) -> String {
    let mut text = format!("{} finished: {}.", title(row), ended.as_str());
    if !row.body.summary.is_empty() {
        text.push_str(&format!("\n- summary: {}", row.body.summary));
    }
    text.push_str(&format!(
        "\n- result: {}",
        crate::store::records::result_path(row.task.id)
    ));
    text
}

/// The text parts of a message; of a message without text, its data and paths.
fn said(message: &TaskMessage) -> String {
    let parts = || message.parts.iter().filter_map(|part| part.part.as_ref());
    let texts: Vec<&str> = parts()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::DataJson(_) | Part::File(_) => None,
        })
        .collect();
    if !texts.is_empty() {
        return texts.join("\n");
    }
    let others: Vec<&str> = parts()
        .map(|part| match part {
            Part::Text(text) | Part::DataJson(text) => text.as_str(),
            Part::File(file) => file.path.as_str(),
        })
        .collect();
    others.join("\n")
}

fn quote(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_QUOTE)]
}

fn policy(terms: &WakeTerms) -> WakePolicy {
    match terms.policy {
        wire::WakePolicy::Unspecified | wire::WakePolicy::Silent => WakePolicy::Silent,
        wire::WakePolicy::OnTerminal => WakePolicy::OnTerminal,
        wire::WakePolicy::OnActivity => WakePolicy::OnActivity,
    }
}

fn group_wake(terms: &WakeTerms) -> GroupWake {
    match terms.group_wake {
        wire::GroupWake::Unspecified | wire::GroupWake::Each => GroupWake::Each,
        wire::GroupWake::AllDone => GroupWake::AllDone,
        wire::GroupWake::FirstFailed => GroupWake::FirstFailed,
    }
}
