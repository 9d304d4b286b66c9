//! The session's files.

use taskyard_proto::v1::{
    DeleteRequest, FileType, ListRequest, ReadRequest, StatRequest, WriteHeader, WriteRequest,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::{Code, Status};

#[tokio::test]
async fn what_was_written_is_read_back_whole_and_by_range() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("files");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    write(&mut client, &session, "/a/b/c.bin", &bytes, None)
        .await
        .expect("written");
    assert_eq!(
        client
            .read_file(read(&session, "/a/b/c.bin"))
            .await
            .expect("read"),
        bytes
    );
    let range = ReadRequest {
        offset: 300_000,
        limit: 300_000,
        ..read(&session, "/a/b/c.bin")
    };
    assert_eq!(
        client.read_file(range).await.expect("read"),
        bytes[300_000..600_000]
    );
    let beyond = ReadRequest {
        offset: 5_000_000,
        ..read(&session, "/a/b/c.bin")
    };
    assert_eq!(client.read_file(beyond).await.expect("read"), b"");
    let stat = stat(&mut client, &session, "/a/b/c.bin")
        .await
        .expect("there");
    assert_eq!((stat.size, stat.r#type), (1_000_000, FileType::File.into()));
    let folder = self::stat(&mut client, &session, "/a")
        .await
        .expect("there");
    assert_eq!(folder.r#type, i32::from(FileType::Directory));
    write(&mut client, &session, "/empty", b"", None)
        .await
        .expect("written");
    assert_eq!(
        client
            .read_file(read(&session, "/empty"))
            .await
            .expect("read"),
        b""
    );
}

#[tokio::test]
async fn versions_guard_against_lost_updates() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("cas");
    let first = write(&mut client, &session, "/f", b"1", Some(0))
        .await
        .expect("new");
    let refused = write(&mut client, &session, "/f", b"2", Some(0)).await;
    expect_refused(
        "there is one",
        refused,
        Code::Aborted,
        "FILE_VERSION_MISMATCH",
    );
    let second = write(&mut client, &session, "/f", b"2", Some(first))
        .await
        .expect("next");
    assert!(second > first);
    let refused = write(&mut client, &session, "/f", b"3", Some(first)).await;
    expect_refused(
        "an old version",
        refused,
        Code::Aborted,
        "FILE_VERSION_MISMATCH",
    );
    assert_eq!(
        client.read_file(read(&session, "/f")).await.expect("read"),
        b"2"
    );
    let old = delete(&mut client, &session, "/f", false, Some(first)).await;
    expect_refused(
        "an old version",
        old,
        Code::Aborted,
        "FILE_VERSION_MISMATCH",
    );
    assert_eq!(
        delete(&mut client, &session, "/f", false, Some(second))
            .await
            .expect("gone"),
        1
    );
    let gone = client.read_file(read(&session, "/f")).await;
    expect_refused("deleted", gone, Code::NotFound, "FILE_NOT_FOUND");
}

#[tokio::test]
async fn of_writers_that_race_exactly_one_wins() {
    let client = Deployment::shared().await.client().await;
    let session = new_session("race");
    let writes = (0..10_u8).map(|number| {
        let mut client = client.clone();
        let session = session.clone();
        async move {
            write(&mut client, &session, "/f", &[number; 1000], Some(0))
                .await
                .is_ok()
        }
    });
    let won = futures::future::join_all(writes).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = won.iter().position(|won| *won).unwrap_or_default() as u8;
    let bytes = client
        .clone()
        .read_file(read(&session, "/f"))
        .await
        .expect("read");
    assert_eq!(bytes, [winner; 1000]);
}

#[tokio::test]
async fn a_folder_is_listed_in_pages_and_deleted_whole() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("list");
    for path in ["/d/1", "/d/2", "/d/sub/x", "/d/sub/y", "/other"] {
        write(&mut client, &session, path, b"x", None)
            .await
            .expect("written");
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRequest {
            session_id: session.clone(),
            path: "/d".to_owned(),
            page_size: 2,
            page_token,
            ..ListRequest::default()
        };
        let page = client
            .files
            .list(request)
            .await
            .expect("listed")
            .into_inner();
        names.extend(page.entries.into_iter().map(|entry| entry.path));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["/d/1", "/d/2", "/d/sub"]);
    let refused = delete(&mut client, &session, "/d", false, None).await;
    expect_refused(
        "a folder",
        refused,
        Code::FailedPrecondition,
        "FOLDER_NEEDS_RECURSIVE",
    );
    assert_eq!(
        delete(&mut client, &session, "/d", true, None)
            .await
            .expect("deleted"),
        4
    );
    let gone = stat(&mut client, &session, "/d/sub").await;
    expect_refused("deleted", gone, Code::NotFound, "FILE_NOT_FOUND");
    assert!(stat(&mut client, &session, "/other").await.is_ok());
    let root = delete(&mut client, &session, "/", true, None).await;
    expect_refused("the root", root, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn tricks_with_paths_are_refused_and_not_cleaned() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("tricks");
    write(&mut client, &session, "/a/b", b"x", None)
        .await
        .expect("written");
    let long = format!("/{}", "x".repeat(1100));
    let long_part = format!("/{}", "x".repeat(300));
    let tricks = [
        "",
        "a",
        "./a",
        "~/a",
        "//",
        "//a",
        "/a/",
        "/a//b",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/../etc/passwd",
        "/a/..",
        "/a\0b",
        "/a\nb",
        "/a\u{7f}",
        "\\a",
        "C:/a",
        &long,
        &long_part,
    ];
    for path in tricks {
        let answer = write(&mut client, &session, path, b"x", None).await;
        expect_refused(
            &format!("write {path:?}"),
            answer,
            Code::InvalidArgument,
            "INVALID_PATH",
        );
        let answer = client.read_file(read(&session, path)).await;
        expect_refused(
            &format!("read {path:?}"),
            answer,
            Code::InvalidArgument,
            "INVALID_PATH",
        );
        let answer = stat(&mut client, &session, path).await;
        expect_refused(
            &format!("stat {path:?}"),
            answer,
            Code::InvalidArgument,
            "INVALID_PATH",
        );
        let answer = delete(&mut client, &session, path, true, None).await;
        expect_refused(
            &format!("delete {path:?}"),
            answer,
            Code::InvalidArgument,
            "INVALID_PATH",
        );
        // Nothing means the root in a listing.
        if !path.is_empty() {
            let answer = list(&mut client, &session, path).await;
            expect_refused(
                &format!("list {path:?}"),
                answer,
                Code::InvalidArgument,
                "INVALID_PATH",
            );
        }
    }
    assert_eq!(
        list(&mut client, &session, "").await.expect("listed"),
        ["/.tasks", "/a"]
    );
    let below_a_file = write(&mut client, &session, "/a/b/c", b"x", None).await;
    expect_refused(
        "below a file",
        below_a_file,
        Code::FailedPrecondition,
        "WRONG_FILE_TYPE",
    );
    let over_a_folder = write(&mut client, &session, "/a", b"x", None).await;
    expect_refused(
        "over a folder",
        over_a_folder,
        Code::FailedPrecondition,
        "WRONG_FILE_TYPE",
    );
    let a_folder = client.read_file(read(&session, "/a")).await;
    expect_refused(
        "read a folder",
        a_folder,
        Code::FailedPrecondition,
        "WRONG_FILE_TYPE",
    );
    let a_file = list(&mut client, &session, "/a/b").await;
    expect_refused(
        "list a file",
        a_file,
        Code::FailedPrecondition,
        "WRONG_FILE_TYPE",
    );
}

#[tokio::test]
async fn the_systems_folder_can_be_read_and_not_written() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("system");
    let task = client.run(&session, shell("echo hello")).await;
    let folder = format!("/.tasks/{}", task.id);
    assert_eq!(
        list(&mut client, &session, "/.tasks")
            .await
            .expect("listed"),
        [folder.as_str()]
    );
    let entries = list(&mut client, &session, &folder).await.expect("listed");
    for name in ["result.json", "stdout.log", "stderr.log"] {
        assert!(
            entries.contains(&format!("{folder}/{name}")),
            "{name}: {entries:?}"
        );
    }
    let log = client
        .read_file(read(&session, &format!("{folder}/stdout.log")))
        .await;
    assert_eq!(log.expect("read"), b"hello\n");
    for path in [
        "/.tasks",
        "/.tasks/x",
        &task.result_path,
        &format!("{folder}/artifacts/x"),
    ] {
        let answer = write(&mut client, &session, path, b"x", None).await;
        expect_refused(path, answer, Code::PermissionDenied, "SYSTEM_PATH");
        let answer = delete(&mut client, &session, path, true, None).await;
        expect_refused(path, answer, Code::PermissionDenied, "SYSTEM_PATH");
    }
    let foreign = client
        .read_file(read(&new_session("nobody"), &task.result_path))
        .await;
    expect_refused(
        "another session",
        foreign,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_or_cut_short_leaves_nothing() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("large");
    let most = vec![7; 16 << 20];
    write(&mut client, &session, "/most", &most, None)
        .await
        .expect("as large as allowed");
    let too_large = vec![7; (16 << 20) + 1];
    let answer = write(&mut client, &session, "/more", &too_large, None).await;
    expect_refused("too large", answer, Code::ResourceExhausted, "TOO_LARGE");
    let nothing = client
        .files
        .write(tokio_stream::iter(Vec::<WriteRequest>::new()))
        .await;
    expect_refused("no header", nothing, Code::InvalidArgument, "INVALID_FIELD");
    let parts = vec![
        message(Some(header(&session, "/twice")), b"a"),
        message(Some(header(&session, "/twice")), b"b"),
    ];
    let twice = client.files.write(tokio_stream::iter(parts)).await;
    expect_refused("two headers", twice, Code::InvalidArgument, "INVALID_FIELD");
    for path in ["/more", "/twice"] {
        let answer = stat(&mut client, &session, path).await;
        expect_refused(path, answer, Code::NotFound, "FILE_NOT_FOUND");
    }
}

async fn write(
    client: &mut Client,
    session: &str,
    path: &str,
    bytes: &[u8],
    if_version: Option<i64>,
) -> Result<i64, Status> {
    let header = WriteHeader {
        if_version,
        ..header(session, path)
    };
    client.write_file(header, bytes).await
}

async fn stat(
    client: &mut Client,
    session: &str,
    path: &str,
) -> Result<taskyard_proto::v1::FileInfo, Status> {
    let request = StatRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..StatRequest::default()
    };
    Ok(client
        .files
        .stat(request)
        .await?
        .into_inner()
        .file
        .unwrap_or_default())
}

async fn list(client: &mut Client, session: &str, path: &str) -> Result<Vec<String>, Status> {
    let request = ListRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..ListRequest::default()
    };
    let entries = client.files.list(request).await?.into_inner().entries;
    Ok(entries.into_iter().map(|entry| entry.path).collect())
}

async fn delete(
    client: &mut Client,
    session: &str,
    path: &str,
    recursive: bool,
    if_version: Option<i64>,
) -> Result<i64, Status> {
    let request = DeleteRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        recursive,
        if_version,
        ..DeleteRequest::default()
    };
    Ok(client.files.delete(request).await?.into_inner().deleted)
}

fn read(session: &str, path: &str) -> ReadRequest {
    ReadRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..ReadRequest::default()
    }
}

fn header(session: &str, path: &str) -> WriteHeader {
    WriteHeader {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..WriteHeader::default()
    }
}

fn message(header: Option<WriteHeader>, data: &'static [u8]) -> WriteRequest {
    WriteRequest {
        header,
        data: data.into(),
    }
}
