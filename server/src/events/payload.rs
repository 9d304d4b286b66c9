//! What one server tells the others: `server|words`, where the words are `s7` (session 7), `p7` (progress in session
//! 7), `w3` (worker session 3), `q` (the queue), `f` and a task's 32 digits (its output is followed here), `o` and those
//! (output of it was stored here), or `*` alone (everything but output).

use std::collections::HashSet;
use taskyard_core::id::{SessionUid, TaskId, WorkerSessionId};

/// Longest text that Postgres takes is 7,999 bytes; what would be longer is `*`.
const MAX_BYTES: usize = 7_900;
/// So many ids surely do not fit, and are not worth keeping apart.
const MAX_IDS: usize = 3_000;
/// Tasks, of 34 bytes each, in one text.
const TASKS_PER_TEXT: usize = 200;

/// What was touched since others were last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Sessions with changes.
    pub sessions: HashSet<SessionUid>,
    /// Sessions with progress.
    pub progress: HashSet<SessionUid>,
    /// Workers with orders.
    pub workers: HashSet<WorkerSessionId>,
    /// Tasks whose output is followed.
    pub followed: HashSet<TaskId>,
    /// Tasks with new output.
    pub output: HashSet<TaskId>,
    /// There may be new work.
    pub queue: bool,
    /// More than can be told.
    pub everything: bool,
}

impl Payload {
    /// Nothing was touched.
    pub fn is_empty(&self) -> bool {
        !self.everything
            && !self.queue
            && self.sessions.is_empty()
            && self.progress.is_empty()
            && self.workers.is_empty()
            && self.followed.is_empty()
            && self.output.is_empty()
    }

    pub fn add_session(&mut self, session: SessionUid) {
        self.sessions.insert(session);
        self.bound();
    }

    pub fn add_progress(&mut self, session: SessionUid) {
        self.progress.insert(session);
        self.bound();
    }

    pub fn add_worker(&mut self, worker: WorkerSessionId) {
        self.workers.insert(worker);
        self.bound();
    }

    /// Told as far as there is room: who follows output looks by itself, too.
    pub fn add_followed(&mut self, task: TaskId) {
        if self.followed.len() < MAX_IDS {
            self.followed.insert(task);
        }
    }

    /// Told as far as there is room, like [`Payload::add_followed`].
    pub fn add_output(&mut self, task: TaskId) {
        if self.output.len() < MAX_IDS {
            self.output.insert(task);
        }
    }

    pub fn add_queue(&mut self) {
        self.queue = true;
    }

    /// Also what is in `other`.
    pub fn merge(&mut self, other: Self) {
        self.sessions.extend(other.sessions);
        self.progress.extend(other.progress);
        self.workers.extend(other.workers);
        other
            .followed
            .into_iter()
            .for_each(|task| self.add_followed(task));
        other
            .output
            .into_iter()
            .for_each(|task| self.add_output(task));
        self.queue |= other.queue;
        self.everything |= other.everything;
        self.bound();
    }

    /// The texts to send: the first tells everything but output.
    pub fn encode(&self, server: &str) -> Vec<String> {
        let output = self.output.iter().map(|task| task_word('o', *task));
        let followed = self.followed.iter().map(|task| task_word('f', *task));
        let words: Vec<String> = output.chain(followed).collect();
        let mut texts = Vec::new();
        if self.everything || self.names_more_than_output() {
            texts.push(self.encode_touches(server));
        }
        texts.extend(
            words
                .chunks(TASKS_PER_TEXT)
                .map(|words| format!("{server}|{}", words.join(" "))),
        );
        texts
    }

    fn names_more_than_output(&self) -> bool {
        self.queue
            || !(self.sessions.is_empty() && self.progress.is_empty() && self.workers.is_empty())
    }

    fn encode_touches(&self, server: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        if self.queue {
            words.push("q".to_owned());
        }
        words.extend(self.workers.iter().map(|worker| format!("w{}", worker.0)));
        words.extend(
            self.sessions
                .iter()
                .map(|session| format!("s{}", session.0)),
        );
        words.extend(
            self.progress
                .iter()
                .map(|session| format!("p{}", session.0)),
        );
        let text = format!("{server}|{}", words.join(" "));
        if self.everything || text.len() > MAX_BYTES {
            return format!("{server}|*");
        }
        text
    }

    /// Who sent it and what it says. What cannot be read (a newer server's word) means everything.
    pub fn decode(text: &str) -> (&str, Self) {
        let (server, words) = text.split_once('|').unwrap_or(("", "*"));
        let mut payload = Self::default();
        for word in words.split_ascii_whitespace() {
            if word == "q" {
                payload.queue = true;
                continue;
            }
            if let Some(digits) = word.strip_prefix(['f', 'o']) {
                match format!("{}{digits}", TaskId::PREFIX).parse() {
                    Ok(task) if word.starts_with('f') => payload.add_followed(task),
                    Ok(task) => payload.add_output(task),
                    Err(_) => payload.everything = true,
                }
                continue;
            }
            let number = word.get(1..).and_then(|digits| digits.parse::<i64>().ok());
            match (word.as_bytes().first(), number) {
                (Some(b's'), Some(uid)) => payload.add_session(SessionUid(uid)),
                (Some(b'p'), Some(uid)) => payload.add_progress(SessionUid(uid)),
                (Some(b'w'), Some(id)) => payload.add_worker(WorkerSessionId(id)),
                _ => payload.everything = true,
            }
        }
        (server, payload)
    }

    fn bound(&mut self) {
        if self.sessions.len() + self.progress.len() + self.workers.len() > MAX_IDS {
            self.sessions.clear();
            self.progress.clear();
            self.workers.clear();
            self.everything = true;
        }
    }
}

fn task_word(kind: char, task: TaskId) -> String {
    let id = task.to_string();
    format!("{kind}{}", id.strip_prefix(TaskId::PREFIX).unwrap_or(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: usize) -> TaskId {
        format!("{}{number:032x}", TaskId::PREFIX)
            .parse()
            .expect("an id")
    }

    #[test]
    fn what_one_server_says_another_understands() {
        let mut payload = Payload::default();
        payload.add_session(SessionUid(7));
        payload.add_session(SessionUid(8));
        payload.add_progress(SessionUid(9));
        payload.add_worker(WorkerSessionId(3));
        payload.add_queue();
        let [text] = payload.encode("me").try_into().expect("one text");
        assert_eq!(Payload::decode(&text), ("me", payload));
    }

    #[test]
    fn all_output_is_told_in_texts_that_fit() {
        let mut payload = Payload::default();
        payload.add_session(SessionUid(7));
        for number in 0..450 {
            payload.add_output(task(number));
            payload.add_followed(task(number + 9_000));
        }
        let texts = payload.encode("me");
        let mut heard = Payload::default();
        for text in &texts {
            assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
            heard.merge(Payload::decode(text).1);
        }
        assert_eq!(texts.len(), 6);
        assert_eq!(heard, payload);
    }

    #[test]
    fn output_beyond_the_bound_is_left_to_those_who_look() {
        let mut payload = Payload::default();
        for number in 0..MAX_IDS + 10 {
            payload.add_output(task(number));
        }
        assert_eq!(payload.output.len(), MAX_IDS);
        assert!(!payload.everything);
    }

    #[test]
    fn too_much_to_say_is_everything() {
        for count in [2_000, 5_000] {
            let mut payload = Payload::default();
            for uid in 0..count {
                payload.add_session(SessionUid(1_000_000 + uid));
            }
            assert_eq!(payload.encode("me"), ["me|*"]);
        }
        assert!(Payload::decode("me|*").1.everything);
    }

    #[test]
    fn what_is_not_understood_is_everything() {
        for text in [
            "",
            "me",
            "me|x9",
            "me|o7",
            "me|f",
            "me|s",
            "me|sx",
            "me|q7",
            "me|s1 \u{fc}2",
        ] {
            assert!(Payload::decode(text).1.everything, "{text:?}");
        }
        assert!(Payload::decode("me|").1.is_empty());
    }
}
