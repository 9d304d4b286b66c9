//! `answer`: the answer to a task's question.

use std::io::{self, BufReader, IsTerminal};
use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::answer_task_request::Answer;
use taskyard_proto::v1::{AnswerTaskRequest, InputRequest, SessionTask};
use uuid::Uuid;

use crate::answer_form::{Expected, fill_in};
use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::local_json::read_json;
use crate::output_follower::read_task;
use crate::task_reference::TaskReference;
use crate::view::words;

/// How long to try to read the task.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answer a task's question; on a terminal without ANSWER it asks you
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard answer t12 --session demo
  taskyard answer t12 --session demo production
  taskyard answer task_0193a5f0c0de7000800000000000abcd --json '{\"count\": 3}'

A text is made what the question's schema asks for: 3 a number, yes a boolean. `taskyard list --state
awaiting_input` shows who asks what.

Exit codes: 0 answered, 1 refused (such as: answered before) or not found, 2 usage,
125 server out of reach or failed, 130 interrupted")]
pub struct AnswerArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// The answer
    #[arg(allow_hyphen_values = true)]
    pub answer: Option<String>,
    /// Id of the question, so that no other one is answered [default: the pending one]
    #[arg(long, value_name = "ID")]
    pub question: Option<String>,
    /// ANSWER is JSON, to be sent as it is; - for standard input, @FILE for a file
    #[arg(long, requires = "answer")]
    pub json: bool,
}

/// Answers it.
pub async fn execute(
    arguments: AnswerArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let named = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    let task = read_task(&connection, &named, PATIENCE).await?;
    let pending = task.input_request.as_ref();
    let (question_id, asked) = match (arguments.question, pending) {
        (None, None) => return Err(asks_nothing(&task)),
        (None, Some(asked)) => (asked.id.clone(), Some(asked)),
        // One that is not pending: the server says what became of it.
        (Some(id), pending) => {
            let asked = pending.filter(|asked| asked.id == id);
            (id, asked)
        }
    };
    let answer = match (arguments.answer, asked) {
        (Some(json), _) if arguments.json => Answer::AnswerJson(read_json("ANSWER", &json).await?),
        (Some(text), Some(asked)) => {
            let expected = Expected::of(&asked.expected_json);
            expected.read(&text).map_err(Failure::Usage)?.into()
        }
        (Some(text), None) => Answer::Text(text),
        (None, Some(asked)) => ask_person(&task, asked).await?,
        (None, None) => {
            return Err(Failure::Refused(format!(
                "t{} does not ask this question now, so only ANSWER can say what to send",
                task.ordinal
            )));
        }
    };
    let reference = TaskReference {
        session_id: String::new(),
        task: task.id.clone(),
    };
    let request = AnswerTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        question_id,
        answer: Some(answer),
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let answered = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.answer_task(request).await }
        })
        .await?;
    let id = answered.message.map(|message| message.id);
    console::print(&format!("{}\n", id.unwrap_or_default()))?;
    Ok(ExitCode::Success)
}

fn asks_nothing(task: &SessionTask) -> Failure {
    Failure::Refused(format!(
        "t{} asks nothing now, it is {}; `taskyard list --state awaiting_input` shows who does",
        task.ordinal,
        words::state(task.state())
    ))
}

/// Shows the question and reads the answer, where a person is there to give it.
async fn ask_person(task: &SessionTask, asked: &InputRequest) -> Result<Answer, Failure> {
    let expected = Expected::of(&asked.expected_json);
    let prompt = asked.prompt.lines().map(console::clean);
    let prompt = prompt.collect::<Vec<_>>().join("\n");
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "t{} asks: {prompt}\ntaskyard: this is no terminal, so give the answer as ANSWER ({}), or as JSON with --json",
            task.ordinal,
            expected.description()
        )));
    }
    let asking = tokio::task::spawn_blocking(move || {
        let mut input = BufReader::new(io::stdin().lock());
        fill_in(&expected, &prompt, &mut input, &mut io::stderr().lock())
    });
    match asking.await {
        Ok(Ok(Some(reply))) => Ok(reply.into()),
        Ok(Ok(None)) => Err(Failure::Interrupted(
            "no answer was given; the question stays".to_owned(),
        )),
        Ok(Err(error)) => Err(Failure::own(&error)),
        Err(error) => Err(Failure::own(&error)),
    }
}
