//! From create to the end.

use taskyard_proto::v1::TaskState;
use taskyard_tests::client::{new_session, shell};
use taskyard_tests::deployment::Deployment;

#[tokio::test]
async fn a_task_runs_to_its_end() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let task = client
        .run(&new_session("first"), shell("echo hello; exit 3"))
        .await;
    assert_eq!(task.state(), TaskState::Failed);
}
