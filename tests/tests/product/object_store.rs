//! Large files lie in an object store: a directory, or a real S3 server.

use std::path::{Path, PathBuf};

use taskyard_proto::v1::{WriteHeader, WriteRequest};
use taskyard_tests::client::{Client, new_session};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::{Deployment, DeploymentBuilder};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::s3_server::S3Server;
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::wait::{SOON, until};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const MIB: usize = 1 << 20;

/// Bytes of which no two MiB are the same.
fn content(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64)
        .map(|n| {
            ((n ^ (n >> 8) ^ (n >> 16))
                .wrapping_mul(31)
                .wrapping_add(seed)) as u8
        })
        .collect()
}

fn with_directory(folder: &TempDir, grace: &str) -> DeploymentBuilder {
    let url = format!("--object-store=file://{}", folder.path().display());
    Deployment::builder()
        .workers(Vec::new())
        .server_flags(&[&url, &format!("--object-grace={grace}")])
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Objects below a directory, unfinished ones included; an S3 server's own notes beside them are not.
fn objects_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                pending.push(entry.path());
            } else if name.len() >= 32 && name[..32].bytes().all(|byte| byte.is_ascii_hexdigit()) {
                found.push(entry.path());
            }
        }
    }
    found
}

async fn count(deployment: &Deployment, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(&mut deployment.database().connect().await)
        .await
        .expect("counted")
}

/// What holds wherever the objects lie.
async fn keeps_large_files(deployment: &Deployment, directory: &Path) {
    let client = deployment.client().await;
    let mut files = SessionFiles::new(&client, &new_session("objects"));
    let small = content(MIB, 1);
    let large = content(20 * MIB + 77, 2);
    files.write("/small", &small).await.expect("written");
    assert!(objects_below(directory).is_empty(), "small files are rows");
    files.write("/large", &large).await.expect("written");
    assert_eq!(objects_below(directory).len(), 1);
    assert_eq!(
        count(
            deployment,
            "select count(*) from file_chunk where path = '/large'"
        )
        .await,
        0
    );
    assert_eq!(files.read("/small").await.expect("read"), small);
    assert!(files.read("/large").await.expect("read") == large);
    for (offset, limit) in [
        (0, 1),
        (2 * MIB - 1, 2),
        (8 * MIB - 5, 300_000),
        (20 * MIB + 70, 100),
        (30 * MIB, 5),
    ] {
        let read = files
            .read_range("/large", offset as i64, limit as i64)
            .await;
        let end = large.len().min(offset + limit);
        assert!(
            read.expect("read") == large[offset.min(end)..end],
            "{offset} {limit}"
        );
    }
    let stat = files.stat("/large").await.expect("there");
    assert_eq!(stat.size, large.len() as i64);
    // equal content of a namespace is kept once
    let version = files
        .write_if("/d/same", &large, Some(0))
        .await
        .expect("written");
    let refused = files
        .write_if("/d/same", &content(2 * MIB, 3), Some(0))
        .await;
    expect_refused(
        "a file is there",
        refused,
        Code::Aborted,
        "FILE_VERSION_MISMATCH",
    );
    until("what is not wanted to go", SOON, async || {
        objects_below(directory).len() == 1
    })
    .await;
    assert_eq!(
        count(deployment, "select max(refs) from file_object").await,
        2
    );
    // one of the two goes, then the other
    files.delete("/large").await.expect("deleted");
    assert!(files.read("/d/same").await.expect("read") == large);
    files
        .write_if("/d/same", &content(2 * MIB, 4), Some(version))
        .await
        .expect("overwritten");
    until("the old content to go", SOON, async || {
        let paths = objects_below(directory);
        paths.len() == 1
            && paths[0]
                .metadata()
                .is_ok_and(|file| file.len() == 2 * MIB as u64)
    })
    .await;
    assert!(files.read("/d/same").await.expect("read") == content(2 * MIB, 4));
    files.delete("/d").await.expect("deleted");
    until("everything to go", SOON, async || {
        objects_below(directory).is_empty()
    })
    .await;
    until("the rows to go", SOON, async || {
        count(deployment, "select count(*) from file_object").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_directory_keeps_large_files_of_two_servers() {
    let folder = folder();
    let deployment = with_directory(&folder, "5s").servers(2).start().await;
    keeps_large_files(&deployment, folder.path()).await;
    command_line_streams(&deployment).await;
    a_server_without_it_says_so(&deployment).await;
    deployment.remove().await;
}

async fn a_server_without_it_says_so(deployment: &Deployment) {
    let session = new_session("without");
    let mut files = SessionFiles::new(&deployment.client().await, &session);
    files
        .write("/large", &content(2 * MIB, 14))
        .await
        .expect("written");
    files.write("/small", b"x").await.expect("written");
    let without = Deployment::builder()
        .database(Database::foreign(deployment.database().url()))
        .workers(Vec::new())
        .start()
        .await;
    let mut files = SessionFiles::new(&without.client().await, &session);
    assert_eq!(files.read("/small").await.expect("read"), b"x");
    let refused = files.read("/large").await;
    let status = expect_refused(
        "no store",
        refused,
        Code::Unavailable,
        "OBJECT_STORE_UNAVAILABLE",
    );
    assert!(
        status.message().contains("--object-store"),
        "{}",
        status.message()
    );
}

async fn command_line_streams(deployment: &Deployment) {
    let local = deployment.folder().join("local");
    let bytes = content(18 * MIB, 13);
    std::fs::write(&local, &bytes).expect("written");
    let cli = deployment.command_line();
    let session = new_session("put");
    let local = local.to_string_lossy().into_owned();
    cli.run(&["files", "put", &session, "/large", &local])
        .await
        .expect_code(0);
    cli.run(&[
        "files",
        "put",
        &session,
        "/large",
        &local,
        "--if-version",
        "0",
    ])
    .await
    .expect_code(1);
    let read = cli
        .run(&["files", "cat", &session, "/large"])
        .await
        .expect_code(0);
    assert!(read.stdout == bytes);
}

#[tokio::test]
async fn an_s3_server_keeps_large_files_and_may_be_away() {
    let s3 = S3Server::start().await;
    let env = s3.env();
    let env: Vec<(&str, &str)> = env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let url = format!("--object-store={}", s3.url());
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_flags(&[&url, "--object-grace=5s"])
        .server_env(&env)
        .start()
        .await;
    keeps_large_files(&deployment, &s3.bucket()).await;

    let client = deployment.client().await;
    let mut files = SessionFiles::new(&client, &new_session("away"));
    let large = content(3 * MIB, 5);
    files.write("/kept", &large).await.expect("written");
    s3.go_away();
    let refused = files.write("/new", &large).await;
    expect_refused(
        "write",
        refused,
        Code::Unavailable,
        "OBJECT_STORE_UNAVAILABLE",
    );
    let refused = files.write("/kept", &content(2 * MIB, 6)).await;
    expect_refused(
        "overwrite",
        refused,
        Code::Unavailable,
        "OBJECT_STORE_UNAVAILABLE",
    );
    let refused = files.read("/kept").await;
    expect_refused(
        "read",
        refused,
        Code::Unavailable,
        "OBJECT_STORE_UNAVAILABLE",
    );
    let nothing = files.stat("/new").await;
    expect_refused(
        "nothing is half written",
        nothing,
        Code::NotFound,
        "FILE_NOT_FOUND",
    );
    files
        .write("/small", b"x")
        .await
        .expect("small ones need no object store");
    files.delete("/small").await.expect("nor does a deletion");
    s3.come_back();
    assert!(files.read("/kept").await.expect("read") == large);
    files.write("/new", &large).await.expect("written");
    assert!(files.read("/new").await.expect("read") == large);
    deployment.remove().await;
}

#[tokio::test]
async fn what_a_killed_server_left_half_uploaded_is_removed() {
    let folder = folder();
    let deployment = with_directory(&folder, "5s").start().await;
    let mut client = deployment.client().await;
    let session = new_session("killed");
    let (parts, stream) = mpsc::channel(64);
    let writing = tokio::spawn({
        let mut client = client.clone();
        async move { client.files.write(ReceiverStream::new(stream)).await }
    });
    send(&parts, Some(header(&session, "/half")), Vec::new()).await;
    for part in content(10 * MIB, 7).chunks(MIB) {
        send(&parts, None, part.to_vec()).await;
    }
    // the first part is written, the second is on its way
    until("the upload to have begun", SOON, async || {
        objects_below(folder.path()).iter().any(|path| {
            path.metadata()
                .is_ok_and(|file| file.len() >= 8 * MIB as u64)
        })
    })
    .await;
    deployment.with_server(0, |server| server.kill());
    assert!(writing.await.expect("no panic").is_err());
    deployment.restart_server(0).await;
    until("what was left to go", SOON, async || {
        objects_below(folder.path()).is_empty()
            && count(&deployment, "select count(*) from file_object").await == 0
    })
    .await;
    client = deployment.client().await;
    let mut files = SessionFiles::new(&client, &session);
    assert!(files.stat("/half").await.is_err());
    files
        .write("/half", &content(2 * MIB, 8))
        .await
        .expect("written");
    deployment.remove().await;
}

#[tokio::test]
async fn an_upload_that_takes_longer_than_the_grace_is_not_taken_for_a_broken_one() {
    let folder = folder();
    let deployment = with_directory(&folder, "5s").start().await;
    let client = deployment.client().await;
    let session = new_session("slow");
    let (parts, stream) = mpsc::channel(64);
    let writing = tokio::spawn({
        let mut client = client.clone();
        async move { client.files.write(ReceiverStream::new(stream)).await }
    });
    let slow = content(9 * MIB, 9);
    send(&parts, Some(header(&session, "/slow")), Vec::new()).await;
    for part in slow.chunks(MIB) {
        send(&parts, None, part.to_vec()).await;
    }
    until("the upload to have begun", SOON, async || {
        !objects_below(folder.path()).is_empty()
    })
    .await;
    // content that is given up later than the upload began goes first
    let mut files = SessionFiles::new(&client, &session);
    files
        .write("/other", &content(2 * MIB, 10))
        .await
        .expect("written");
    files.delete("/other").await.expect("deleted");
    until("the sweep of what is unused", SOON, async || {
        count(&deployment, "select count(*) from file_object").await == 1
    })
    .await;
    drop(parts);
    writing.await.expect("no panic").expect("written");
    assert!(files.read("/slow").await.expect("read") == slow);
    deployment.remove().await;
}

#[tokio::test]
async fn a_reader_gets_one_version_whatever_happens_to_the_file() {
    let folder = folder();
    let deployment = with_directory(&folder, "1h").start().await;
    let client: Client = deployment.client().await;
    let mut files = SessionFiles::new(&client, &new_session("readers"));
    for (size, deletes) in [
        (12 * MIB, true),
        (12 * MIB, false),
        (MIB, true),
        (MIB, false),
    ] {
        let old = content(size, 11);
        files.write("/f", &old).await.expect("written");
        let request = files.read_request("/f", 0, 0);
        let mut parts = client
            .files
            .clone()
            .read(request)
            .await
            .expect("opened")
            .into_inner();
        let mut read = parts
            .message()
            .await
            .expect("read")
            .expect("a part")
            .data
            .to_vec();
        if deletes {
            files.delete("/f").await.expect("deleted");
        } else {
            files
                .write("/f", &content(size, 12))
                .await
                .expect("overwritten");
        }
        let ended = loop {
            match parts.message().await {
                Ok(Some(part)) => read.extend_from_slice(&part.data),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        assert!(old.starts_with(&read), "two versions were mixed");
        match ended {
            Ok(()) => assert_eq!(read.len(), old.len()),
            // what is in rows is gone at once
            Err(_) if size > MIB => panic!("an object stays for its readers: {ended:?}"),
            refused => drop(expect_refused(
                "gone",
                refused,
                Code::Aborted,
                "FILE_CHANGED",
            )),
        }
    }
    deployment.remove().await;
}

#[tokio::test]
async fn a_place_for_objects_that_makes_no_sense_is_refused_at_the_start() {
    let command_line = taskyard_tests::command_line::CommandLine::bare();
    for url in ["ftp://x", "file://relative", "s3://", "/dir"] {
        let flag = format!("--object-store={url}");
        let refused = command_line
            .run(&[
                "server",
                "--listen=127.0.0.1:0",
                "--database-url=postgres:///none",
                &flag,
            ])
            .await
            .expect_code(2);
        assert!(
            refused.stderr.contains("--object-store"),
            "{}",
            refused.stderr
        );
    }
}

fn header(session: &str, path: &str) -> WriteHeader {
    WriteHeader {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..WriteHeader::default()
    }
}

async fn send(parts: &mpsc::Sender<WriteRequest>, header: Option<WriteHeader>, data: Vec<u8>) {
    let request = WriteRequest {
        header,
        data: data.into(),
    };
    parts.send(request).await.expect("somebody listens");
}
