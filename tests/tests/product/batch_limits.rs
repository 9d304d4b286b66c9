//! A file of more tasks than there is room for at once.

use serde_json::Value;
use taskyard_tests::client::new_session;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::SOON;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_a_limit_refused_are_sent_again_when_there_is_room() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-session-tasks=2"])
        .start()
        .await;
    let session = new_session("crowded");
    let (go, end) = (
        deployment.folder().join("go"),
        deployment.folder().join("end"),
    );
    let waits = |name: &str, file: &std::path::Path| {
        let script = format!("until [ -e {} ]; do sleep 0.1; done", file.display());
        serde_json::json!({"name": name, "command": {"argv": ["sh", "-c", script]}})
    };
    let tasks = serde_json::json!([
        waits("first", &go),
        waits("second", &go),
        // bad for good, whatever room there is
        {"name": "bad", "queue": "no such queue!", "command": {"argv": ["true"]}},
        waits("third", &end),
        {"name": "child", "parent_item": 3, "command": {"argv": ["true"]}},
    ]);
    let file = deployment.folder().join("tasks.json");
    std::fs::write(&file, tasks.to_string()).expect("the file is written");
    let file = file.display().to_string();
    let line = deployment.command_line();
    let submit = line.start(&["submit", "--session", &session, "-f", &file, "-o", "json"]);
    submit.stderr_has("trying again for up to 5 min").await;
    std::fs::write(&go, b"").expect("the first ones are let go");
    let done = submit.finish_within(SOON * 2).await.expect_code(1);
    let listed = done.json();
    let records = listed.as_array().expect("a list");
    let names: Vec<&str> = records
        .iter()
        .filter_map(|record: &Value| record["name"].as_str())
        .collect();
    assert_eq!(names, ["first", "second", "third", "child"], "{listed}");
    assert_eq!(records[3]["parent_task_id"], records[2]["id"], "{listed}");
    assert!(done.stderr.contains("task 3: "), "{}", done.stderr);
    assert!(!done.stderr.contains("was there before"), "{}", done.stderr);
    std::fs::write(&end, b"").expect("the last ones are let go");
    deployment.remove().await;
}
