//! How a command line names a task: a whole id, the start of one, `t12` or a name.

/// The session of a task that names none.
pub const DEFAULT_SESSION: &str = "default";

/// A task as it is named to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReference {
    /// Empty beside a whole id, which needs no session and must not be looked for in the wrong one.
    pub session_id: String,
    /// Id, start of an id, ordinal or name.
    pub task: String,
}

impl TaskReference {
    /// `session` is what the command line or the environment says, if anything.
    pub fn new(task: &str, session: Option<&str>) -> TaskReference {
        let session_id = if is_whole_id(task) {
            ""
        } else {
            session.unwrap_or(DEFAULT_SESSION)
        };
        TaskReference {
            session_id: session_id.to_owned(),
            task: task.to_owned(),
        }
    }
}

/// `task_` and 32 hexadecimal digits.
pub fn is_whole_id(text: &str) -> bool {
    text.strip_prefix("task_").is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_id_needs_no_session() {
        let id = "task_0193a5f0c0de7000800000000000abcd";
        assert_eq!(TaskReference::new(id, Some("other")).session_id, "");
        assert_eq!(TaskReference::new("t12", Some("demo")).session_id, "demo");
        assert_eq!(
            TaskReference::new("task_0193a5f0", None).session_id,
            DEFAULT_SESSION
        );
    }
}
