//! Messages and questions of a batch: what is numbered, what repeats an earlier post, what was answered.

use super::intent::{Change, CommitError, Content, Post};
use crate::store::{
    Connection, StoreError,
    messages::{self, MessageRow, PostKey, show_message_id},
    questions::{self, ClosedQuestion, NewQuestion},
    run_reports::{self, RunReport},
    task_row::TaskRow,
    times,
};
use std::collections::HashMap;
use taskyard_core::{Timestamp, id::TaskId, task::Event};
use taskyard_proto::v1::TaskMessage;

/// Most messages of a thread. Answers are stored beyond it: a question must never be left without one, and there is one at
/// most for each question.
const MAX_MESSAGES: i64 = 10_000;

/// What a batch adds to the threads of its tasks.
#[derive(Default)]
pub(super) struct Threads {
    /// Posts that are stored already, earlier ones of this batch included.
    posted: HashMap<PostKey, TaskMessage>,
    messages: Vec<MessageRow>,
    asked: Vec<NewQuestion>,
    closed: Vec<ClosedQuestion>,
    reports: Vec<(TaskId, u32, RunReport)>,
}

impl Threads {
    /// Looks up which posts of the batch repeat a stored one. `may_be_stored`: an earlier try of this very batch may have
    /// been committed without our knowing.
    pub(super) async fn load<'a>(
        db: &mut Connection,
        changes: impl Iterator<Item = &'a Change>,
        may_be_stored: bool,
    ) -> Result<Self, StoreError> {
        let mut keys = Vec::new();
        for change in changes {
            if let Content::Message(post) = &change.content {
                keys.extend(request_key(change.task, post));
                keys.extend(may_be_stored.then_some(PostKey::Id(change.task, post.id)));
            }
        }
        let mut threads = Self::default();
        if !keys.is_empty() {
            threads.posted = messages::find_posted(db, &keys)
                .await?
                .into_iter()
                .collect();
        }
        Ok(threads)
    }

    /// The message that a change repeats, if it does.
    ///
    /// # Errors
    /// [`CommitError::RequestIdConflict`] where the message with its `request_id` says something else.
    pub(super) fn find_repeated(
        &self,
        change: &Change,
    ) -> Result<Option<TaskMessage>, CommitError> {
        let Content::Message(post) = &change.content else {
            return Ok(None);
        };
        let by_request = request_key(change.task, post).and_then(|key| self.posted.get(&key));
        let by_id = || self.posted.get(&PostKey::Id(change.task, post.id));
        match by_request.or_else(by_id) {
            Some(stored)
                if stored.parts != post.parts || stored.in_reply_to != post.in_reply_to =>
            {
                Err(CommitError::RequestIdConflict)
            }
            stored => Ok(stored.cloned()),
        }
    }

    /// Notes what a change that was applied adds: answers with its message, if it carries one.
    pub(super) fn carry(
        &mut self,
        row: &mut TaskRow,
        change: &Change,
        now: Timestamp,
    ) -> Result<Option<TaskMessage>, CommitError> {
        let run = i32::try_from(row.task.run).unwrap_or(i32::MAX);
        let message = match &change.content {
            Content::Message(post) => {
                let is_answer = matches!(change.event, Event::Answer(_));
                if !is_answer && row.thread.newest >= MAX_MESSAGES {
                    return Err(CommitError::TooManyMessages {
                        limit: MAX_MESSAGES,
                    });
                }
                Some(self.post(row, post, now))
            }
            Content::Report(report) => {
                self.reports
                    .push((row.task.id, row.task.run, (**report).clone()));
                None
            }
            Content::None
            | Content::Progress(..)
            | Content::Artifact(_)
            | Content::Question(_)
            | Content::Received(_)
            | Content::Finish(_)
            | Content::Patch(_)
            | Content::RetriedAs(_)
            | Content::Holder(_)
            | Content::Judged(_) => None,
        };
        match &change.event {
            Event::Ask(_, question) => {
                if let Some(request) = &row.body.question {
                    self.asked.push(NewQuestion {
                        id: question.id,
                        task: row.task.id,
                        run,
                        request: request.clone(),
                    });
                }
            }
            Event::Answer(id) => self.closed.push(ClosedQuestion {
                id: *id,
                answer_number: message.as_ref().map(|message| message.number),
            }),
            Event::QuestionExpired(id) => self.closed.push(ClosedQuestion {
                id: *id,
                answer_number: None,
            }),
            Event::Start(_)
            | Event::Progress(_)
            | Event::Artifact(_)
            | Event::Post(_)
            | Event::Receive(_)
            | Event::Record(_)
            | Event::Finish(..)
            | Event::Release(_)
            | Event::Deliver
            | Event::Cancel { .. }
            | Event::Enrich
            | Event::Note
            | Event::SetHold(_)
            | Event::Lost { .. }
            | Event::Reattach { .. }
            | Event::Due
            | Event::StartDeadline
            | Event::Complete => {}
        }
        Ok(message)
    }

    fn post(&mut self, row: &mut TaskRow, post: &Post, now: Timestamp) -> TaskMessage {
        row.thread.newest += 1;
        let is_inbound = post.direction == taskyard_proto::v1::MessageDirection::Inbound;
        let message = TaskMessage {
            id: show_message_id(post.id),
            task_id: row.task.id.to_string(),
            number: row.thread.newest,
            direction: post.direction.into(),
            parts: post.parts.clone(),
            in_reply_to: post.in_reply_to.clone(),
            run: if is_inbound {
                0
            } else {
                i32::try_from(row.task.run).unwrap_or(i32::MAX)
            },
            created_at: Some(times::core_to_proto(now)),
        };
        if let Some(key) = request_key(row.task.id, post) {
            self.posted.insert(key, message.clone());
        }
        self.messages.push(MessageRow {
            message: message.clone(),
            task: row.task.id,
            id: post.id,
            request_id: post.request_id.clone(),
            at: times::to_database(now),
        });
        message
    }

    /// Writes all of it.
    pub(super) async fn write(&self, db: &mut Connection) -> Result<(), StoreError> {
        if !self.messages.is_empty() {
            messages::insert_messages(db, &self.messages).await?;
        }
        questions::write_questions(db, &self.asked, &self.closed).await?;
        for (task, run, report) in &self.reports {
            run_reports::write_report(db, *task, *run, report).await?;
        }
        Ok(())
    }
}

fn request_key(task: TaskId, post: &Post) -> Option<PostKey> {
    let request_id = post.request_id.clone()?;
    Some(PostKey::Request(task, post.direction, request_id))
}
