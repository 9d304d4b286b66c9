//! Tasks that ask for isolation, where this machine can give it.

use std::collections::BTreeMap;

use taskyard_proto::v1::{
    Isolation, IsolationLevel, ListWorkersRequest, TaskDefinition, WorkerStatus,
};
use taskyard_tests::binaries;
use taskyard_tests::client::Client;
use taskyard_tests::skip::skipped;

/// Whether the shared worker can restrict tasks; says so where it cannot.
pub async fn can_restrict(client: &mut Client) -> bool {
    let labels = labels(client).await;
    let can = labels.contains_key("taskyard.dev/isolation");
    if !can {
        skipped("this machine has no Landlock that restricted tasks need");
    }
    can
}

/// The labels of the shared worker.
pub async fn labels(client: &mut Client) -> BTreeMap<String, String> {
    let workers = client.admin.list_workers(ListWorkersRequest::default());
    let workers = workers.await.expect("listed").into_inner().workers;
    let active = workers
        .into_iter()
        .find(|worker| worker.name == "shared" && worker.status() == WorkerStatus::Active);
    active.map(|worker| worker.labels).unwrap_or_default()
}

/// The level `restricted`, with the programs of these tests within reach.
pub fn restricted() -> Isolation {
    let probe = std::path::PathBuf::from(binaries::probe());
    let programs = [probe, binaries::taskyard()];
    let real = programs.map(|program| program.canonicalize().expect("it is built"));
    Isolation {
        level: IsolationLevel::Restricted.into(),
        readable_paths: real.map(|path| path.display().to_string()).to_vec(),
        ..Isolation::default()
    }
}

/// Has a task ask for the level `restricted`, and for what `change` says.
pub fn with_isolation(
    mut task: TaskDefinition,
    change: impl FnOnce(&mut Isolation),
) -> TaskDefinition {
    let mut isolation = restricted();
    change(&mut isolation);
    task.spec.get_or_insert_default().isolation = Some(isolation);
    task
}
