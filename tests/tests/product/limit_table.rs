//! The rows of docs/limits.md that matter most: just at the limit is fine, one beyond it is refused as the table says.

use taskyard_proto::v1::{
    BatchCreateTasksRequest, MessagePart, OutputLimits, PostMessageRequest, TaskDefinition,
    TaskInput, WriteHeader, WriteInputRequest, message_part::Part,
};
use taskyard_tests::client::{Client, command, new_session, pairs, probe, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};

const KIB: usize = 1 << 10;

fn held(task: TaskDefinition) -> TaskDefinition {
    TaskDefinition { hold: true, ..task }
}

async fn create(client: &mut Client, task: TaskDefinition) -> Result<(), Status> {
    let session = new_session("limit");
    client.try_create(&session, held(task)).await.map(drop)
}

/// A definition at a limit, one beyond it, and the field that is refused.
fn definitions() -> Vec<(&'static str, TaskDefinition, TaskDefinition)> {
    let both =
        |field, at: &dyn Fn(usize) -> TaskDefinition, limit| (field, at(limit), at(limit + 1));
    let words = |count: usize| command(&vec!["x"; count]);
    let variables = |count: usize| {
        with_command(command(&["true"]), |command| {
            command.env = (0..count)
                .map(|n| (format!("V{n}"), String::new()))
                .collect();
        })
    };
    // Name and value of the variable, and `true`, count as well.
    let bytes = |count: usize| {
        let value = "x".repeat(count - 5);
        with_command(command(&["true"]), |command| {
            command.env = pairs(&[("A", value.as_str())]);
        })
    };
    let stdin = |count: usize| {
        with_command(command(&["true"]), |command| {
            command.stdin = Some(vec![7; count].into());
        })
    };
    let with = |change: &dyn Fn(&mut TaskDefinition)| {
        let mut task = command(&["true"]);
        change(&mut task);
        task
    };
    let input = |count: usize| {
        let json = format!("\"{}\"", "x".repeat(count - 2));
        with(&|task| task.spec.get_or_insert_default().input_json = json.clone())
    };
    let kept = |count: usize| {
        let limits = OutputLimits {
            max_bytes_per_stream: count as i64,
        };
        with(&|task| task.spec.get_or_insert_default().output_limits = Some(limits))
    };
    let named = |count: usize| with(&|task| task.name = "n".repeat(count));
    let keyed = |count: usize| with(&|task| task.key = "k".repeat(count));
    let shown = |count: usize| with(&|task| task.display_name = "d".repeat(count));
    let grouped = |count: usize| with(&|task| task.group = "g".repeat(count));
    let labeled = |count: usize| {
        with(&|task| {
            task.labels = (0..count)
                .map(|n| (format!("l{n}"), String::new()))
                .collect()
        })
    };
    let valued = |count: usize| {
        let value = "v".repeat(count);
        with(&|task| task.labels = pairs(&[("l", value.as_str())]))
    };
    let tagged =
        |count: usize| with(&|task| task.tags = (0..count).map(|n| format!("t{n}")).collect());
    vec![
        both("task.spec.command.argv", &words, 4_096),
        both("task.spec.command.env", &variables, 1_024),
        both("task.spec.command", &bytes, 1_024 * KIB),
        both("task.spec.command.stdin", &stdin, 256 * KIB),
        both("task.spec.input_json", &input, 256 * KIB),
        both(
            "task.spec.output_limits.max_bytes_per_stream",
            &kept,
            256 * KIB * KIB,
        ),
        both("task.name", &named, 64),
        both("task.key", &keyed, 128),
        both("task.display_name", &shown, 256),
        both("task.group", &grouped, 128),
        both("task.labels", &labeled, 64),
        both("task.labels", &valued, 256),
        both("task.tags", &tagged, 32),
    ]
}

#[tokio::test]
async fn a_definition_is_refused_right_beyond_each_of_its_limits() {
    let mut client = Deployment::by_hand().await.client().await;
    for (field, at, beyond) in definitions() {
        let created = create(&mut client, at).await;
        created.unwrap_or_else(|status| panic!("{field} at its limit: {status:?}"));
        expect_bad_field(create(&mut client, beyond).await, field);
    }
    let input = TaskInput {
        path: "/in".to_owned(),
        ..TaskInput::default()
    };
    let mut task = command(&["true"]);
    task.spec.get_or_insert_default().files = vec![input; 65];
    expect_bad_field(create(&mut client, task).await, "task.spec.files");
    let session = "s".repeat(257);
    expect_bad_field(
        client.try_create(&session, command(&["true"])).await,
        "session_id",
    );
}

#[tokio::test]
async fn batches_messages_and_live_input_are_refused_beyond_theirs() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("limit");
    let batch = |count: usize| BatchCreateTasksRequest {
        session_id: session.clone(),
        tasks: vec![held(command(&["true"])); count],
        ..BatchCreateTasksRequest::default()
    };
    let made = client.tasks.batch_create_tasks(batch(200)).await;
    assert_eq!(made.expect("at the limit").into_inner().results.len(), 200);
    expect_bad_field(client.tasks.batch_create_tasks(batch(201)).await, "tasks");

    let post = |parts: usize, bytes: usize| PostMessageRequest {
        session_id: session.clone(),
        task: "t1".to_owned(),
        parts: vec![
            MessagePart {
                part: Some(Part::Text("x".repeat(bytes))),
            };
            parts
        ],
        ..PostMessageRequest::default()
    };
    let posted = client.tasks.post_message(post(16, 4 * KIB)).await;
    posted.expect("at both limits");
    expect_bad_field(client.tasks.post_message(post(17, 1)).await, "parts");
    let large = client.tasks.post_message(post(1, 64 * KIB + 1)).await;
    expect_refused("a message", large, Code::ResourceExhausted, "TOO_LARGE");

    let live = with_command(command(&["cat"]), |command| command.stdin_live = true);
    let live = client.create(&session, held(live)).await.id;
    let write = |bytes: usize| WriteInputRequest {
        task: live.clone(),
        data: vec![7; bytes].into(),
        ..WriteInputRequest::default()
    };
    expect_bad_field(client.tasks.write_input(write(64 * KIB + 1)).await, "data");
    for _ in 0..4 {
        let written = client.tasks.write_input(write(64 * KIB)).await;
        written.expect("nobody has read it yet");
    }
    let full = client.tasks.write_input(write(1)).await;
    expect_refused("input", full, Code::ResourceExhausted, "INPUT_FULL");
}

#[tokio::test]
async fn a_message_a_file_and_output_meet_their_limits() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("limit");
    let huge = with_command(command(&["true"]), |command| {
        command.stdin = Some(vec![7; 5 << 20].into());
    });
    let refused = client.try_create(&session, huge).await;
    expect_refused(
        "a call",
        refused,
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
    );

    let header = WriteHeader {
        session_id: session.clone(),
        path: "/large".to_owned(),
        expected_size: Some((1 << 30) + 1),
        ..WriteHeader::default()
    };
    let written = client.write_file(header, &[]).await;
    expect_refused("a file", written, Code::ResourceExhausted, "TOO_LARGE");

    // Output is never refused: what is beyond the cap is counted and marked.
    let mut loud = probe("spew --stdout 5000");
    loud.spec.get_or_insert_default().output_limits = Some(OutputLimits {
        max_bytes_per_stream: 3_000,
    });
    let task = client.run(&session, loud).await;
    let result = client.result(&task.id).await;
    assert_eq!(
        (
            &result["state"],
            &result["stdout"]["total_bytes"],
            &result["stdout"]["stored_bytes"]
        ),
        (&"succeeded".into(), &5_000.into(), &3_000.into())
    );
    assert_eq!(result["stdout"]["truncated"], true);
}
