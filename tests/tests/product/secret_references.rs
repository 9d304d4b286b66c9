//! Secrets that are at the worker: given to those tasks that name what its operator allows, and to no others.

use std::os::unix::fs::symlink;

use taskyard_proto::v1::{SecretSource, TaskSecret, TaskState, task_secret::Source};
use taskyard_tests::client::{error_kind, new_session, shell};
use taskyard_tests::inside::retried;
use taskyard_tests::secrets::{
    GIVEN_VALUE, TELL, expect_hidden, given_folder, keyed, new_value, secret, told, value,
    with_secrets,
};

#[tokio::test]
async fn variables_and_files_of_the_worker_are_resolved_there() {
    let mut client = keyed().await.client().await;
    let folder = given_folder().join(new_session("mounted"));
    std::fs::create_dir_all(folder.join("..data")).expect("created");
    let token = new_value();
    std::fs::write(folder.join("..data/token"), format!("{token}\n")).expect("written");
    // as Kubernetes mounts them
    symlink("..data/token", folder.join("token")).expect("linked");
    let path = folder.join("token").display().to_string();
    for (source, expected) in [
        (
            Source::WorkerEnv("YARD_GIVEN_TOKEN".to_owned()),
            GIVEN_VALUE,
        ),
        (Source::WorkerFile(path.clone()), &token),
    ] {
        let script = format!("{TELL}; echo; echo \"[$TOKEN]\"");
        let task = with_secrets(shell(&script), vec![secret("TOKEN", source)]);
        let task = client.run(&new_session("references"), task).await;
        assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
        let result = client.result(&task.id).await;
        let tail = format!("{}\n[***]\n", told(expected));
        assert_eq!(result["stdout"]["tail"], tail, "{result}");
        let known = &task.secrets[0];
        match known.source() {
            SecretSource::WorkerEnv => assert_eq!(known.reference, "YARD_GIVEN_TOKEN"),
            SecretSource::WorkerFile => assert_eq!(known.reference, path),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_not_allowed_or_not_there_fails_the_start_for_good() {
    let mut client = keyed().await.client().await;
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("token"), "kept-in-a-file").expect("written");
    let link = given_folder().join(new_session("escape"));
    symlink(outside.path().join("token"), &link).expect("linked");
    let file = |path: &std::path::Path| Source::WorkerFile(path.display().to_string());
    for (source, hint) in [
        (
            Source::WorkerEnv("YARD_KEPT_TOKEN".to_owned()),
            "--secret-env",
        ),
        (
            Source::WorkerEnv("YARD_GIVEN_NOTHING".to_owned()),
            "has no variable",
        ),
        (file(&outside.path().join("token")), "--secret-dir"),
        (file(&link), "--secret-dir"),
        (file(&given_folder().join("none")), "cannot read"),
    ] {
        let task = with_secrets(retried(shell("true"), 3), vec![secret("TOKEN", source)]);
        let task = client.run(&new_session("references"), task).await;
        assert_eq!(error_kind(&task), "start_failed", "{task:?}");
        assert_eq!(task.run, 1, "it is not tried again: {task:?}");
        let message = task.error.clone().unwrap_or_default().message;
        assert!(
            message.contains(hint) && message.contains("TOKEN"),
            "{message}"
        );
        for kept in ["kept-by-the-worker", "kept-in-a-file"] {
            expect_hidden("the record", &format!("{task:?}"), kept);
        }
    }
}

#[tokio::test]
async fn a_secret_can_be_a_file_which_goes_with_the_run() {
    let deployment = keyed().await;
    let mut client = deployment.client().await;
    let told_path = deployment.folder().join(new_session("path"));
    let script = format!(
        "printf %s \"$TOKEN\" > {}; stat -c %a \"$TOKEN\"; wc -c < \"$TOKEN\" | tr -d ' '; cat \"$TOKEN\"",
        told_path.display()
    );
    let binary = TaskSecret {
        to_file: "token.bin".to_owned(),
        ..secret("TOKEN", Source::Value(b"\xff\0 not a text \0"[..].into()))
    };
    let task = client
        .run(
            &new_session("references"),
            with_secrets(shell(&script), vec![binary]),
        )
        .await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let result = client.result(&task.id).await;
    assert_eq!(result["stdout"]["tail"], "600\n15\n***", "{result}");
    let path = std::fs::read_to_string(&told_path).expect("it was told");
    assert!(path.ends_with("/token.bin"), "{path}");
    assert!(!std::path::Path::new(&path).exists(), "{path} is left");
    assert_eq!(task.secrets[0].to_file, "token.bin");
}

#[tokio::test]
async fn a_short_value_is_given_and_not_masked() {
    let mut client = keyed().await.client().await;
    let task = with_secrets(shell("echo \"it is $PIN\""), vec![value("PIN", "12345")]);
    let task = client.run(&new_session("references"), task).await;
    let result = client.result(&task.id).await;
    assert_eq!(result["stdout"]["tail"], "it is 12345\n", "{result}");
}
