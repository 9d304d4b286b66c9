//! A worker that is denied: it comes again seldom, says why once, and is let in when that has changed.

use std::process::Command;

use taskyard_tests::binaries;
use taskyard_tests::process::Process;
use taskyard_tests::secured::write_tokens;
use taskyard_tests::wait::{SOON, eventually};

use super::identity_support::{guarded, list_in};

#[tokio::test]
async fn a_denied_worker_waits_some_seconds_and_says_why_once() {
    let (deployment, _client, folder) = guarded(&[("gpu", "role: worker, pools: ['gpu-*']")]).await;
    let mut command = Command::new(binaries::taskyard());
    command
        .args(["worker", "--endpoint", &deployment.endpoint()])
        .args(["--name", "w1", "--pool", "cpu", "--data-dir"])
        .arg(folder.path().join("w1"))
        .env("TASKYARD_ADMIN_LISTEN", "off")
        .env("TASKYARD_TOKEN", "gpu");
    let worker = Process::start("w1", command, &folder.path().join("w1.log"));
    worker.logged("POOL_DENIED", SOON).await;
    let mut connection = deployment.database().connect().await;
    // each try is denied and noted down; those of one moment are one entry
    let apart: f64 = eventually("a second try", SOON * 2, async || {
        let apart: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from max(at) - min(at))::float8 from audit_event \
             where method like '%Attach' and decision = 2 having count(*) > 1",
        )
        .fetch_optional(&mut connection)
        .await
        .expect("the audit log is read");
        apart
    })
    .await;
    assert!(apart >= 1.5, "the second try came after {apart} s");
    let log = worker.log();
    assert_eq!(log.matches("POOL_DENIED").count(), 1, "{log}");
    assert!(log.contains("start it with --pool"), "{log}");
    // the list of tokens is read again while the server runs
    write_tokens(&list_in(&folder), &[("gpu", "role: worker, pools: ['*']")]);
    worker.logged("attach_no", SOON * 3).await;
    drop(connection);
    deployment.remove().await;
}
