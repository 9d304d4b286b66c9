//! Secrets on the command line and in task files.

use taskyard_tests::client::new_session;
use taskyard_tests::secrets::{TELL, expect_hidden, keyed, new_value, told};

#[tokio::test]
async fn run_takes_a_secret_from_a_variable_a_file_or_a_pipe() {
    let deployment = keyed().await;
    let token = new_value();
    let file = deployment.folder().join(new_session("token"));
    std::fs::write(&file, format!("{token}\n")).expect("written");
    let from_file = format!("TOKEN=file:{}", file.display());
    let script = format!("{TELL}; echo \" $TOKEN\"");
    let command_line = deployment
        .command_line()
        .env("TASKYARD_SESSION", new_session("secrets-cli"))
        .env("TOKEN", &token);
    for from in ["TOKEN", &from_file, "TOKEN=-"] {
        let arguments = ["run", "--secret", from, "--", "sh", "-c", &script];
        let finished = command_line
            .run_with_input(&arguments, token.as_bytes())
            .await;
        let finished = finished.expect_code(0);
        assert_eq!(finished.text(), format!("{} ***\n", told(&token)), "{from}");
    }
    let listed = command_line.run(&["list", "-o", "json", "--full"]).await;
    let listed = listed.expect_code(0);
    assert!(listed.text().contains("TOKEN"));
    expect_hidden("the listing", &listed.text(), &token);
    let detail = command_line.run(&["get", "t1"]).await.expect_code(0).text();
    assert!(detail.contains("Secrets       TOKEN\n"), "{detail}");
}

#[tokio::test]
async fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let command_line = keyed().await.command_line();
    let arguments = ["run", "--secret", "TOKEN=hunter2-hunter2", "--", "true"];
    let finished = command_line.run(&arguments).await.expect_code(2);
    assert!(finished.stderr.contains("file:PATH"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    let missing = ["run", "--secret", "NO_SUCH_VARIABLE_HERE", "--", "true"];
    let finished = command_line.run(&missing).await.expect_code(2);
    assert!(finished.stderr.contains("NO_SUCH_VARIABLE_HERE"));
}

#[tokio::test]
async fn a_task_file_names_secrets_and_what_repeats_it_gives_them_again() {
    let deployment = keyed().await;
    let (token, session) = (new_value(), new_session("secrets-cli"));
    let file = deployment.folder().join(new_session("task"));
    let text = format!(
        "command:\n  argv: [sh, -c, {script}]\nsecrets:\n  TOKEN: {{from_env: HERE}}\n  GIVEN: {{worker_env: YARD_GIVEN_TOKEN, to_file: given}}\n",
        script = serde_json::Value::from(TELL)
    );
    std::fs::write(&file, text).expect("written");
    let file = file.display().to_string();
    let command_line = deployment
        .command_line()
        .env("TASKYARD_SESSION", &session)
        .env("HERE", &token)
        .env("TOKEN", &token);
    let submit = ["submit", "-f", &file, "--wait", "-o", "json"];
    command_line.run(&submit).await.expect_code(0);
    let output = command_line.run(&["logs", "t1"]).await.expect_code(0);
    assert_eq!(output.text().trim_end(), told(&token));
    for verb in ["retry", "clone", "restart"] {
        let refused = command_line.run(&[verb, "t1"]).await.expect_code(1);
        assert!(
            refused.stderr.contains("TOKEN"),
            "{verb}: {}",
            refused.stderr
        );
        let accepted = [verb, "t1", "--secret", "TOKEN"];
        command_line.run(&accepted).await.expect_code(0);
    }
}
