//! The wakes of a batch: noted change by change, those of groups decided under the locks of their sessions.

use super::{
    event,
    intent::{Change, Content},
};
use crate::store::{
    Connection, StoreError,
    task_row::{TaskRow, WakeTerms},
    times,
    wakes::{self, GroupEnds, GroupKey, GroupStanding, NewWake},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use taskyard_core::{
    Timestamp,
    id::{QuestionId, SessionUid},
    task::{
        GroupEnd, GroupWake, State, Task, TerminalState, WakePolicy, WakeReason, group_reasons,
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
    /// Questions that are pending no more: nobody is woken for them any longer.
    closed: Vec<(SessionUid, QuestionId)>,
    /// Ends that may be those of their groups, in order.
    candidates: Vec<Candidate>,
}

/// The end of a task whose group decides whether it wakes.
struct Candidate {
    key: GroupKey,
    policy: WakePolicy,
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
        self.note_closed(before, row);
        self.note_group_end(before, row, now);
        let reason = wake_reason(policy(&row.wake), before, &row.task, is_outbound)?;
        let wake = match (reason, &row.task.state) {
            (WakeReason::Terminal, State::Terminal(ended)) => {
                if row.wake.group.is_some() && group_wake(&row.wake) != GroupWake::Each {
                    return None;
                }
                new_wake(row, wire::WakeReason::Terminal, end_text(row, *ended), now)
            }
            (WakeReason::Question, _) => {
                let prompt = row
                    .body
                    .question
                    .as_ref()
                    .map_or("", |question| question.prompt.as_str());
                let text = format!("{} asks: {}", title(row), quote(prompt));
                NewWake {
                    question: pending(&row.task),
                    ..new_wake(row, wire::WakeReason::Question, text, now)
                }
            }
            (WakeReason::Message | WakeReason::Terminal, _) => {
                let said = message.map(said).unwrap_or_default();
                let text = format!("{} says: {}", title(row), quote(&said));
                let mut wake = new_wake(row, wire::WakeReason::Message, text, now);
                wake.wake.message_number = message.map_or(0, |message| message.number);
                wake
            }
        };
        let logged = log(&wake);
        self.wakes.push(wake);
        Some(logged)
    }

    /// Notes a question that the change has closed.
    fn note_closed(&mut self, before: &Task, row: &TaskRow) {
        if let Some(question) = pending(before)
            && pending(&row.task) != Some(question)
        {
            self.closed.push((row.session, question));
        }
    }

    /// Notes the end of a task that belongs to a group. Whether it wakes depends on the group, not only on this task.
    fn note_group_end(&mut self, before: &Task, row: &TaskRow, now: Timestamp) {
        let (State::Terminal(ended), false, Some(group)) =
            (&row.task.state, before.is_terminal(), &row.wake.group)
        else {
            return;
        };
        let own = end_text(row, *ended);
        self.candidates.push(Candidate {
            key: GroupKey {
                session: row.session,
                group: group.clone(),
            },
            policy: policy(&row.wake),
            group_wake: group_wake(&row.wake),
            ended: *ended,
            wake: new_wake(row, wire::WakeReason::Terminal, String::new(), now),
            text: EndText {
                group: group.clone(),
                own,
            },
        });
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
        let wake = new_wake(row, wire::WakeReason::Monitor, text, now);
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
            let standing = GroupStanding {
                has_live,
                ..standing
            };
            let mut woken = settle_group(members, standing);
            for wake in &mut woken {
                if wake.wake.reason() == wire::WakeReason::GroupDone {
                    let ends = wakes::count_ends(db, &key).await?;
                    wake.wake.text = done_text(&key.group, ends, &wake.wake.text);
                }
            }
            for wake in woken {
                events.entry(key.session).or_default().push(log(&wake));
                self.wakes.push(wake);
            }
        }
        Ok(events)
    }

    /// Stores the wakes; whether there were any.
    pub(super) async fn write(&self, db: &mut Connection) -> Result<bool, StoreError> {
        if !self.wakes.is_empty() {
            wakes::insert_wakes(db, &self.wakes).await?;
        }
        if !self.closed.is_empty() {
            wakes::withdraw(db, &self.closed).await?;
        }
        Ok(!self.wakes.is_empty())
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
        let group = GroupEnd {
            is_last: !standing.has_live && index + 1 == count,
            has_failed_before: failed_before > 0,
            is_end_awaited: standing.is_end_awaited,
        };
        let reasons = group_reasons(member.policy, member.group_wake, member.ended, group);
        if member.ended == TerminalState::Failed {
            failed_before += 1;
        }
        let EndText { group, own } = member.text;
        let said = |reason: wire::WakeReason, text: String| {
            let mut wake = member.wake.clone();
            wake.wake.reason = reason.into();
            wake.wake.text = text;
            wake
        };
        if reasons.failed {
            let text = format!("A task of the group {group:?} failed:\n{own}");
            wakes.push(said(wire::WakeReason::GroupFailed, text));
        }
        if reasons.done {
            wakes.push(said(wire::WakeReason::GroupDone, own));
        }
    }
    wakes
}

/// What is said of a group whose last task has ended as `own` tells.
fn done_text(group: &str, ends: GroupEnds, own: &str) -> String {
    let GroupEnds {
        succeeded,
        failed,
        canceled,
    } = ends;
    format!(
        "All tasks of the group {group:?} have ended: {succeeded} succeeded, {failed} failed, {canceled} canceled. The last \
         was:\n{own}"
    )
}

/// A wake for what happened to a task just now.
fn new_wake(row: &TaskRow, reason: wire::WakeReason, text: String, now: Timestamp) -> NewWake {
    NewWake {
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
            created_at: Some(times::core_to_proto(now)),
            ..Wake::default()
        },
        question: None,
        at: times::to_database(now),
    }
}

/// The question that a task waits for.
fn pending(task: &Task) -> Option<QuestionId> {
    match &task.state {
        State::AwaitingInput { question, .. } => Some(question.id),
        State::Queued { .. } | State::Running { .. } | State::Terminal(_) => None,
    }
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
