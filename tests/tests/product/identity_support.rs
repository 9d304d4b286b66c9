//! What the tests of identity share.

use std::path::PathBuf;

use taskyard_proto::v1::{CreateTaskRequest, TaskDefinition};
use taskyard_tests::client::{Client, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::secured::{text, with_token, write_tokens};
use tempfile::TempDir;
use tonic::Status;

/// A server with these tokens, and no worker.
pub async fn guarded(tokens: &[(&str, &str)]) -> (Deployment, Client, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    write_tokens(&list_in(&folder), tokens);
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_env(&[("TASKYARD_AUTH_FILE", text(&list_in(&folder)))])
        .start()
        .await;
    let client = deployment.client().await;
    (deployment, client, folder)
}

pub fn list_in(folder: &TempDir) -> PathBuf {
    folder.path().join("auth.yaml")
}

pub fn held(namespace: &str, session: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        task: Some(TaskDefinition {
            hold: true,
            ..shell("true")
        }),
        ..CreateTaskRequest::default()
    }
}

pub async fn create(
    client: &mut Client,
    token: &str,
    namespace: &str,
    session: &str,
) -> Result<String, Status> {
    let answer = client
        .tasks
        .create_task(with_token(token, held(namespace, session)))
        .await?;
    Ok(answer.into_inner().task.unwrap_or_default().id)
}
