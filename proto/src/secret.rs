//! Secrets as they may be logged: without their values.

use crate::v1::{TaskSecret, task_secret::Source};
use std::fmt::{Debug, Formatter, Result};

impl Debug for TaskSecret {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        formatter
            .debug_struct("TaskSecret")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("to_file", &self.to_file)
            .finish()
    }
}

impl Debug for Source {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        match self {
            Self::Value(_) => formatter.write_str("Value(***)"),
            Self::WorkerEnv(name) => formatter.debug_tuple("WorkerEnv").field(name).finish(),
            Self::WorkerFile(path) => formatter.debug_tuple("WorkerFile").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{CreateTaskRequest, TaskDefinition};

    #[test]
    fn a_request_is_logged_without_the_values_of_its_secrets() {
        let request = CreateTaskRequest {
            task: Some(TaskDefinition {
                secrets: vec![TaskSecret {
                    name: "TOKEN".to_owned(),
                    source: Some(Source::Value(b"hunter2-hunter2"[..].into())),
                    to_file: String::new(),
                }],
                ..TaskDefinition::default()
            }),
            ..CreateTaskRequest::default()
        };
        let text = format!("{request:?} {request:#?}");
        assert!(text.contains("TOKEN") && text.contains("***"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("104, 117"),
            "{text}"
        );
    }
}
