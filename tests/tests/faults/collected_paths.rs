//! A worker writes into its session's files only where its task's `collect` lets it.

use std::time::Duration;

use taskyard_proto::v1::{ListFilesRequest, TaskCollect, Verdict};
use taskyard_tests::client::{new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::session_files::SessionFiles;
use tonic::Code;

use crate::hand_worker::{HandWorker, exited, hello, write_file};

#[tokio::test]
async fn a_worker_writes_only_what_its_task_lets_it_collect() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(300))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("collected");
    let mut files = SessionFiles::new(&client, &session);
    files.write("/results/file", b"x").await.expect("written");
    let mut worker = HandWorker::attach(&client, hello("by-hand", 1)).await;
    let mut task = shell("true");
    task.spec.get_or_insert_default().collect = vec![TaskCollect {
        glob: "out/*.txt".to_owned(),
        to: "/results".to_owned(),
    }];
    let id = client.create(&session, task).await.id;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    write_file(&mut client, &lease, "/results/out/a.txt")
        .await
        .expect("allowed");
    write_file(&mut client, &lease, "collect.json")
        .await
        .expect("its own folder");
    for path in [
        "/results/file",
        "/results/out/a.md",
        "/results/out/deep/a.txt",
        "/out/a.txt",
        "/.tasks/x",
        &format!("/.tasks/{id}/result.json"),
    ] {
        let refused = write_file(&mut client, &lease, path).await;
        expect_refused(path, refused, Code::PermissionDenied, "COLLECT_NOT_ALLOWED");
    }
    for path in ["/results/../x", "//x", "/results/out/"] {
        let refused = write_file(&mut client, &lease, path).await;
        expect_refused(path, refused, Code::InvalidArgument, "INVALID_PATH");
    }
    assert_eq!(files.read("/results/file").await.expect("read"), b"x");
    let list = |path: &str| ListFilesRequest {
        lease: Some(lease.clone()),
        path: path.to_owned(),
        page_token: String::new(),
    };
    let listed = client
        .worker
        .list_files(list("/results"))
        .await
        .expect("listed")
        .into_inner();
    let paths: Vec<&str> = listed.files.iter().map(|file| file.path.as_str()).collect();
    assert!(listed.is_folder);
    assert_eq!(paths, ["/results/file", "/results/out/a.txt"]);
    assert_eq!(
        worker.report(&lease, 2, exited(0, 0)).await,
        Verdict::Applied
    );
    let late = write_file(&mut client, &lease, "/results/out/late.txt").await;
    expect_refused("the lease is over", late, Code::Aborted, "LEASE_LOST");
    let late = client.worker.list_files(list("/results")).await;
    expect_refused("the lease is over", late, Code::Aborted, "LEASE_LOST");
    deployment.remove().await;
}
