//! Refusals in the words of the command line: a server speaks of the fields, methods and constants of its protocol.

/// Methods and constants that refusals name, and how one says that here.
const WORDS: [(&str, &str); 18] = [
    (
        "ListWebhooks has them",
        "`taskyard webhooks list` shows them",
    ),
    (
        "is answered with AnswerTask",
        "is answered with `taskyard answer`",
    ),
    ("with WaitTasks", "with `taskyard self wait`"),
    ("with CreateTask", "with `taskyard self spawn`"),
    ("must be one of OutputView", "is no known view"),
    ("MONITOR_WAKE_MATCH", "`match`"),
    ("WAIT_MODE_ALL", "all"),
    ("WAIT_MODE_ANY", "any"),
    ("WAIT_UNTIL_TERMINAL", "terminal"),
    ("WAIT_UNTIL_ATTENTION", "attention"),
    ("WAIT_UNTIL_CHANGED", "changed"),
    ("WAIT_UNTIL_OUTPUT_MATCH", "output"),
    ("OUTPUT_VIEW_GREP", "the view grep"),
    ("OUTPUT_VIEW_SINCE_LAST", "the view since-last"),
    ("state_detail: ", "detail: "),
    ("output_json: ", "the result: "),
    ("usage_json: ", "the usage: "),
    ("answer_json: ", "the answer: "),
];

/// What leads to a field within a request, where a task file and an option name only the field.
const PATHS: [&str; 5] = ["task.spec.", "changes.spec.", "task.", "changes.", "spec."];

/// The text as a person who uses the command line would say it.
pub fn in_words(message: &str) -> String {
    let (position, rest) = split_position(message);
    let rest = PATHS
        .iter()
        .find_map(|path| rest.strip_prefix(path))
        .unwrap_or(rest);
    let mut text = match position {
        Some(position) => format!("task {}: {rest}", position + 1),
        None => rest.to_owned(),
    };
    for (wire, words) in WORDS {
        text = text.replace(wire, words);
    }
    text
}

/// The same of one task of a batch, for one who knows its place better than the server.
pub fn in_words_of_task(message: &str) -> String {
    in_words(split_position(message).1)
}

/// `tasks[3].spec.command: …` is of the task at position 3.
fn split_position(message: &str) -> (Option<usize>, &str) {
    message
        .strip_prefix("tasks[")
        .and_then(|rest| rest.split_once("]."))
        .and_then(|(position, rest)| Some((Some(position.parse().ok()?), rest)))
        .unwrap_or((None, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_constants_get_the_names_that_they_have_here() {
        for (said, heard) in [
            ("task.spec.command.argv: is empty", "command.argv: is empty"),
            (
                "tasks[1].spec.command.argv: is empty",
                "task 2: command.argv: is empty",
            ),
            ("tasks[0].name: is taken", "task 1: name: is taken"),
            ("changes.priority: is too high", "priority: is too high"),
            ("task: is a monitor", "task: is a monitor"),
            ("there is no task \"task.x\"", "there is no task \"task.x\""),
            ("state_detail: has 300 bytes", "detail: has 300 bytes"),
            (
                "task.schedule.match_regex: is required for MONITOR_WAKE_MATCH",
                "schedule.match_regex: is required for `match`",
            ),
        ] {
            assert_eq!(in_words(said), heard);
        }
        assert_eq!(
            in_words_of_task("tasks[7].name: is taken"),
            "name: is taken"
        );
    }
}
