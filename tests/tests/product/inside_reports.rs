//! What a script says of its own task, by `taskyard self`.

use taskyard_proto::v1::{Progress, ReadRequest, StepStatus, TaskState};
use taskyard_tests::client::{Client, exit_code, new_session};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::inside::agent;

#[tokio::test]
async fn a_script_reports_progress_with_steps_and_a_few_words() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let gate = deployment.folder().join(new_session("gate"));
    let script = format!(
        "self progress --current 3 --total 10 --unit files --label 'a=b' --step plan=done --step x=y=in_progress\n\
         self status 'half way'\n\
         until [ -e {gate} ]; do sleep 0.02; done\n\
         self status ''\n",
        gate = gate.display()
    );
    let task = client.create(&new_session("inside"), agent(&script)).await;
    let running = client
        .reached(&task.id, |task| task.state_detail == "half way")
        .await;
    let progress = running.progress.expect("it was reported");
    let shown = (progress.current, progress.total, progress.unit.as_str());
    assert_eq!(shown, (Some(3.0), Some(10.0), "files"));
    assert_eq!(progress.label, "a=b");
    assert_eq!(
        steps(&progress),
        [("plan", StepStatus::Done), ("x=y", StepStatus::InProgress)]
    );
    std::fs::write(&gate, "").expect("written");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
}

#[tokio::test]
async fn result_usage_and_artifacts_end_up_in_the_result() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("inside");
    let script = "printf hello > note.txt; : > empty\n\
                  self usage tokens=3 model=large; self usage tokens=5\n\
                  self artifact note.txt; echo piped | self artifact - --name piped --type text/plain\n\
                  self artifact empty; self artifact --url https://ci.example/7 --name build\n\
                  echo '{\"n\": 1.0}' | self result -; self result '{\"n\": 2.0}'\n\
                  if self result '{'; then exit 9; fi\n\
                  self info -o json > info.json; grep -q \"$TASKYARD_TASK_ID\" info.json\n";
    let task = client.run(&session, agent(script)).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let result = client.result(&task.id).await;
    assert_eq!(result["output"], serde_json::json!({"n": 2.0}));
    assert_eq!(
        (&result["usage"]["tokens"], &result["usage"]["model"]),
        (&5.into(), &"large".into()),
        "{result}"
    );
    let artifacts: Vec<_> = task
        .artifacts
        .iter()
        .map(|artifact| (artifact.name.as_str(), artifact.r#type.as_str()))
        .collect();
    assert_eq!(
        artifacts,
        [
            ("note.txt", "file"),
            ("piped", "text/plain"),
            ("empty", "file"),
            ("build", "url")
        ]
    );
    assert_eq!(task.artifacts[3].url, "https://ci.example/7");
    for (idx, content) in [(0, "hello"), (1, "piped\n"), (2, "")] {
        let read = read(&mut client, &session, &task.artifacts[idx].path).await;
        assert_eq!(String::from_utf8_lossy(&read), content);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_exit_code() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let script = "code() { \"$@\" >/dev/null 2>&1 || echo \"$? $2\"; }\n\
                  code self progress; code self result '{'; code self usage nothing\n\
                  code self artifact no-such-file; code self wait t999999; code self status \"$(head -c 300 /dev/zero | tr '\\0' x)\"\n\
                  code self spawn --env =x -- true; code self cancel $TASKYARD_TASK_ID\n\
                  code self list --parent $TASKYARD_TASK_ID\n\
                  TASKYARD_SOCKET= code self info; TASKYARD_SOCKET=/no/such/socket code self info\n";
    let task = client.run(&new_session("inside"), agent(script)).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let expected = "2 progress\n2 result\n2 usage\n1 artifact\n1 wait\n1 status\n2 spawn\n1 cancel\n2 info\n125 info\n";
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert_eq!(logs.expect_code(0).text(), expected);
}

#[tokio::test]
async fn outside_a_task_the_error_says_what_to_do() {
    let finished = CommandLine::bare()
        .run(&["self", "info"])
        .await
        .expect_code(2);
    assert!(finished.stderr.contains("taskyard run"), "{finished:?}");
}

#[tokio::test]
async fn a_result_that_the_schema_refuses_is_told_at_once() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let mut task =
        agent("self result '{\"n\": \"x\"}' && exit 9; self result '{\"n\": 1}'; exit 7");
    let spec = task.spec.get_or_insert_default();
    spec.result_schema_json =
        r#"{"type": "object", "properties": {"n": {"type": "integer"}}}"#.to_owned();
    let task = client.run(&new_session("inside"), task).await;
    assert_eq!(exit_code(&task), Some(7), "{task:?}");
}

async fn read(client: &mut Client, session: &str, path: &str) -> Vec<u8> {
    let request = ReadRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..ReadRequest::default()
    };
    client.read_file(request).await.expect("it is there")
}

fn steps(progress: &Progress) -> Vec<(&str, StepStatus)> {
    let steps = progress.steps.iter();
    steps
        .map(|step| (step.title.as_str(), step.status()))
        .collect()
}
