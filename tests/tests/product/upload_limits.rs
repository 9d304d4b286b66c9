//! Uploads that cannot be stored are refused before they have come: at once where their size is announced, else with the
//! first byte that is too much. Nothing of them stays.

use std::path::Path;

use taskyard_proto::v1::{WriteHeader, WriteRequest, WriteResponse};
use taskyard_tests::client::{Client, new_session};
use taskyard_tests::deployment::{Deployment, DeploymentBuilder};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::wait::{SOON, until, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const MIB: usize = 1 << 20;

fn with_quota(flags: &[&str]) -> DeploymentBuilder {
    Deployment::builder()
        .workers(Vec::new())
        .server_flags(flags)
}

fn header(session: &str, path: &str, expected_size: Option<i64>) -> WriteHeader {
    WriteHeader {
        session_id: session.to_owned(),
        path: path.to_owned(),
        expected_size,
        ..WriteHeader::default()
    }
}

/// Sends a header and then pieces, and never says that it was all: the server has to answer by itself.
async fn unfinished(
    client: &Client,
    header: WriteHeader,
    pieces: &[usize],
) -> Result<WriteResponse, Status> {
    let (parts, stream) = mpsc::channel(pieces.len() + 2);
    let first = WriteRequest {
        header: Some(header),
        data: Vec::new().into(),
    };
    parts.send(first).await.expect("there is room");
    for size in pieces {
        let piece = WriteRequest {
            header: None,
            data: vec![7; *size].into(),
        };
        parts.send(piece).await.expect("there is room");
    }
    let mut files = client.files.clone();
    let answer = within(
        "the refusal",
        SOON,
        files.write(ReceiverStream::new(stream)),
    )
    .await;
    drop(parts);
    Ok(answer?.into_inner())
}

fn count_files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| {
        if entry.path().is_dir() {
            count_files(&entry.path())
        } else {
            1
        }
    };
    entries.flatten().map(count).sum()
}

#[tokio::test]
async fn an_announced_size_is_refused_before_any_content() {
    let deployment = with_quota(&["--session-file-bytes=10000", "--session-files=2"])
        .start()
        .await;
    let client = deployment.client().await;
    let session = new_session("announced");
    let mut files = SessionFiles::new(&client, &session);
    let refused = unfinished(&client, header(&session, "/a", Some(10_001)), &[]).await;
    let code = Code::ResourceExhausted;
    expect_refused("beyond the quota", refused, code, "QUOTA_EXCEEDED");
    let refused = unfinished(&client, header(&session, "/a", Some(17 << 20)), &[]).await;
    expect_refused("beyond the limit", refused, code, "TOO_LARGE");
    let refused = unfinished(&client, header(&session, "/a", Some(-1)), &[]).await;
    expect_bad_field(refused, "header.expected_size");

    // What is there counts, but for what is to be overwritten.
    files.write("/a", &[1; 6_000]).await.expect("within");
    let refused = unfinished(&client, header(&session, "/b", Some(4_001)), &[]).await;
    expect_refused("beside the other", refused, code, "QUOTA_EXCEEDED");
    let bytes = [2; 10_000];
    let over = header(&session, "/a", Some(10_000));
    client
        .clone()
        .write_file(over, &bytes)
        .await
        .expect("overwritten");
    files.write("/a", &[1; 10]).await.expect("less");
    files.write("/b", b"").await.expect("the second file");
    let refused = unfinished(&client, header(&session, "/c", None), &[1]).await;
    expect_refused("a third file", refused, code, "QUOTA_EXCEEDED");

    // The announcement is a hint.
    let less = header(&session, "/b", Some(500));
    client.clone().write_file(less, b"x").await.expect("less");
    let more = header(&session, "/b", Some(1));
    client
        .clone()
        .write_file(more, &[1; 600])
        .await
        .expect("more");
    assert_eq!(files.read("/b").await.expect("read").len(), 600);
    deployment.remove().await;
}

#[tokio::test]
async fn an_upload_ends_with_the_first_byte_that_is_too_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("--object-store=file://{}", folder.path().display());
    let deployment = with_quota(&[
        &store,
        "--object-grace=2s",
        "--session-file-bytes=3145728",
        "--namespace-file-bytes=4194304",
    ])
    .start()
    .await;
    let client = deployment.client().await;
    let session = new_session("streamed");
    let mut files = SessionFiles::new(&client, &session);
    // In memory, and on the way into the object store.
    files.write("/kept", &[1; 100]).await.expect("within");
    for pieces in [
        &[3 * MIB][..],
        &[MIB, MIB, MIB],
        &[MIB / 2, MIB, MIB, MIB / 2 - 100, 1],
    ] {
        let refused = unfinished(&client, header(&session, "/large", None), pieces).await;
        let code = Code::ResourceExhausted;
        expect_refused("too much", refused, code, "QUOTA_EXCEEDED");
        assert!(
            files.stat("/large").await.is_err(),
            "nothing of it is there"
        );
    }
    // The quota of the namespace holds for a session that is not there yet.
    files.write("/more", &[1; 2 * MIB]).await.expect("within");
    let other = new_session("other");
    let refused = unfinished(&client, header(&other, "/f", Some(2 << 20)), &[]).await;
    let code = Code::ResourceExhausted;
    expect_refused("the namespace is full", refused, code, "QUOTA_EXCEEDED");
    files.delete("/more").await.expect("deleted");
    until("what was refused to be gone", 2 * SOON, async || {
        count_files(folder.path()) == 0
    })
    .await;
    deployment.remove().await;
}
