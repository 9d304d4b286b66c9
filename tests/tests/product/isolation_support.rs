//! Tasks that ask for isolation, where this machine can give it.

use std::collections::BTreeMap;

use taskyard_proto::v1::{ListWorkersRequest, WorkerStatus};
use taskyard_tests::client::Client;
pub use taskyard_tests::isolated::with_isolation;
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
