//! One small task, end to end through the public interface, so that a newcomer sees what there is to see.

use std::time::Duration;

use taskyard_proto::v1::{CommandSpec, GetTaskRequest, TaskDefinition, TaskSpec, TaskState};

use crate::commands::create::create_task;
use crate::connection::Connection;
use crate::console;
use crate::failure::Failure;
use crate::output_follower::{FollowPlan, follow};
use crate::output_printer::OutputPrinter;
use crate::quantity::to_wire;
use crate::task_reference::TaskReference;
use crate::view::words;

const SESSION: &str = "welcome";
/// For the run itself, and for everything about it.
const RUN_LIMIT: Duration = Duration::from_secs(30);
const WELCOME_LIMIT: Duration = Duration::from_secs(60);

const SCRIPT: &str = r#"echo "Hello from task $TASKYARD_TASK_ID."
for step in one two three; do
  echo "step $step"
  sleep 0.2
done
echo "this line went to standard error" >&2
printf '{"greeting": "hello", "steps": 3}' > "$TASKYARD_RESULT"
"#;

/// Submits it, shows its output as it comes and its result.json.
pub async fn run(connection: &Connection) -> Result<(), Failure> {
    match tokio::time::timeout(WELCOME_LIMIT, submit_and_show(connection)).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::Own(format!(
            "it did not end within {} s; TASKYARD_LOG=info shows what the worker does",
            WELCOME_LIMIT.as_secs()
        ))),
    }
}

async fn submit_and_show(connection: &Connection) -> Result<(), Failure> {
    let definition = TaskDefinition {
        display_name: "Welcome to Taskyard".to_owned(),
        spec: Some(TaskSpec {
            command: Some(CommandSpec {
                argv: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
                ..CommandSpec::default()
            }),
            ..TaskSpec::default()
        }),
        timeout: Some(to_wire(RUN_LIMIT)),
        start_deadline: None,
        ..TaskDefinition::default()
    };
    let (task, _) = create_task(connection, SESSION, definition).await?;
    console::print(&format!(
        "A welcome task: t{} {} in session {SESSION}\n\n",
        task.ordinal, task.id
    ))?;
    let reference = TaskReference::new(&task.id, None);
    let plan = FollowPlan::whole_task(reference.clone(), Duration::from_secs(10));
    let state = follow(connection, plan, &mut OutputPrinter::new()).await?;
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = GetTaskRequest {
                namespace: connection.namespace(),
                session_id: String::new(),
                task: reference.task.clone(),
                include_result: true,
            };
            async move { tasks.get_task(request).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    console::print(&format!(
        "\nIts result, {}:\n{}\n\n",
        task.result_path,
        answer.result_json.trim_end()
    ))?;
    match state {
        TaskState::Succeeded => Ok(()),
        state => Err(Failure::Own(format!("it ended as {}", words::state(state)))),
    }
}
