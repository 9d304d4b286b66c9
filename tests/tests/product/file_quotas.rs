//! How much files may take.

use std::sync::Arc;

use futures::future::join_all;
use taskyard_proto::v1::{ListSessionsRequest, Session, TaskCollect};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::session_files::SessionFiles;
use tokio::sync::{Barrier, OnceCell};
use tonic::Code;
use tonic_types::StatusExt;

const FLAGS: [&str; 4] = [
    "--session-files=10",
    "--session-file-bytes=10000",
    "--namespace-files=14",
    "--namespace-file-bytes=14000",
];

/// A deployment with small quotas, which these tests share; each uses a namespace of its own.
async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Deployment::builder().server_flags(&FLAGS).start())
        .await
}

async fn usage(client: &mut Client, namespace: &str, session: &str) -> Session {
    let request = ListSessionsRequest {
        namespace: namespace.to_owned(),
        page_size: 500,
        ..ListSessionsRequest::default()
    };
    let sessions = client.admin.list_sessions(request).await.expect("listed");
    let mut sessions = sessions.into_inner().sessions.into_iter();
    sessions
        .find(|one| one.session_id == session)
        .expect("the session is listed")
}

/// What the counters say beside what there is: files and bytes of all sessions, then of all namespaces.
async fn counts(deployment: &Deployment) -> Vec<(i64, i64, i64, i64)> {
    sqlx::query_as(
        "select coalesce(u.files, 0), coalesce(u.bytes, 0), coalesce(f.files, 0), coalesce(f.bytes, 0)
         from file_usage u full join
           (select session_uid, count(*) as files, sum(size)::bigint as bytes from file group by 1) f using (session_uid)
         union all
         select coalesce(u.files, 0), coalesce(u.bytes, 0), coalesce(f.files, 0), coalesce(f.bytes, 0) from
           (select namespace_id, sum(files)::bigint as files, sum(bytes)::bigint as bytes
            from namespace_file_usage group by 1) u
           full join
           (select s.namespace_id, count(*) as files, sum(f.size)::bigint as bytes
            from file f join session s on s.uid = f.session_uid group by 1) f using (namespace_id)",
    )
    .fetch_all(&mut deployment.database().connect().await)
    .await
    .expect("counted")
}

#[tokio::test]
async fn a_write_beyond_the_quota_is_refused_with_limit_and_use() {
    let deployment = deployment().await;
    let mut client = deployment.client().await;
    let session = new_session("quota");
    let mut files = SessionFiles::new(&client, &session).in_namespace("one-writer");
    files.write("/a", &[1; 9_000]).await.expect("within");
    let refused = files.write("/b", &[1; 1_001]).await;
    let status = expect_refused(
        "too many bytes",
        refused,
        Code::ResourceExhausted,
        "QUOTA_EXCEEDED",
    );
    let facts = status.get_details_error_info().expect("facts").metadata;
    let fact = |name: &str| facts.get(name).map(String::as_str);
    assert_eq!(
        (fact("scope"), fact("what")),
        (Some("session"), Some("bytes"))
    );
    assert_eq!(
        (fact("limit"), fact("used"), fact("wanted")),
        (Some("10000"), Some("9000"), Some("10001"))
    );
    assert!(files.stat("/b").await.is_err(), "nothing of it is there");
    files.write("/b", &[1; 1_000]).await.expect("exactly full");
    let grown = files.write("/b", &[1; 1_001]).await;
    expect_refused(
        "overwritten with more",
        grown,
        Code::ResourceExhausted,
        "QUOTA_EXCEEDED",
    );
    assert_eq!(files.read("/b").await.expect("the old one").len(), 1_000);
    files.write("/a", &[1; 10]).await.expect("less always goes");
    for name in 0..8 {
        files
            .write(&format!("/d/{name}"), b"")
            .await
            .expect("within");
    }
    let refused = files.write("/one-more", b"").await;
    let status = expect_refused(
        "too many files",
        refused,
        Code::ResourceExhausted,
        "QUOTA_EXCEEDED",
    );
    assert!(
        status.message().contains("10 files"),
        "{}",
        status.message()
    );
    let shown = usage(&mut client, "one-writer", &session).await;
    assert_eq!((shown.files, shown.file_bytes), (10, 1_010));
    assert_eq!(files.delete("/d").await.expect("deleted"), 8);
    files
        .write("/one-more", b"")
        .await
        .expect("there is room again");
    let shown = usage(&mut client, "one-writer", &session).await;
    assert_eq!((shown.files, shown.file_bytes), (3, 1_010));
    let listed = deployment
        .command_line()
        .run(&["sessions", "--namespace", "one-writer"])
        .await
        .expect_code(0)
        .text();
    assert!(listed.contains("1010 B"), "{listed}");
}

#[tokio::test]
async fn of_many_writers_exactly_as_many_get_in_as_there_is_room_for() {
    let deployment = deployment().await;
    let client = deployment.client().await;
    for (namespace, writers, sessions, room) in
        [("one-session", 12, 1, 10), ("many-sessions", 18, 3, 14)]
    {
        let barrier = Arc::new(Barrier::new(writers));
        let ids: Vec<String> = (0..sessions).map(|_| new_session("writers")).collect();
        let writes = (0..writers).map(|writer| {
            let mut files =
                SessionFiles::new(&client, &ids[writer % sessions]).in_namespace(namespace);
            let barrier = barrier.clone();
            async move {
                barrier.wait().await;
                files.write(&format!("/{writer}/f"), &[7; 1_000]).await
            }
        });
        let mut written = 0;
        for outcome in join_all(writes).await {
            match outcome {
                Ok(_) => written += 1,
                refused => {
                    expect_refused(
                        namespace,
                        refused,
                        Code::ResourceExhausted,
                        "QUOTA_EXCEEDED",
                    );
                }
            }
        }
        assert_eq!(written, room, "{namespace}");
    }
}

#[tokio::test]
async fn the_counters_are_right_after_any_mix_of_writes_and_deletes() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let client = deployment.client().await;
    let sessions = [new_session("mix"), new_session("mix")];
    let mixed = (0..6_usize).map(|writer| {
        let files = SessionFiles::new(&client, &sessions[writer % 2]);
        async move {
            for round in 0..12_usize {
                let mut files = files.clone();
                // few paths, so that writers meet
                let path = format!("/{}/{}", (writer + round) % 3, round % 4);
                match (writer * 7 + round) % 5 {
                    0 => drop(files.delete(&path).await),
                    1 => drop(files.delete(&format!("/{}", round % 3)).await),
                    2 => drop(files.write_if(&path, &vec![1; round * 100], Some(0)).await),
                    _ => drop(files.write(&path, &vec![1; writer * 50 + round]).await),
                }
            }
        }
    });
    join_all(mixed).await;
    let counted = counts(&deployment).await;
    assert!(counted.len() >= 2, "{counted:?}");
    for (files, bytes, real_files, real_bytes) in counted {
        assert_eq!((files, bytes), (real_files, real_bytes));
    }
    // a session may go before its files, or after them
    let mut files = SessionFiles::new(&client, &sessions[0]);
    files.write("/last", &[1; 100]).await.expect("written");
    let mut database = deployment.database().connect().await;
    for statement in [
        "delete from session where id = $1",
        "delete from file where session_uid not in (select uid from session) and $1 <> ''",
        "delete from file_chunk where session_uid not in (select uid from session) and $1 <> ''",
    ] {
        sqlx::query(statement)
            .bind(&sessions[0])
            .execute(&mut database)
            .await
            .expect("deleted");
    }
    for (files, bytes, real_files, real_bytes) in counts(&deployment).await {
        assert_eq!((files, bytes), (real_files, real_bytes));
    }
    deployment.remove().await;
}

#[tokio::test]
async fn an_artifact_beyond_the_quota_is_left_out_and_the_task_succeeds() {
    let deployment = deployment().await;
    let mut client = deployment.client().await;
    let session = new_session("quota-artifact");
    let script = "head -c 20000 /dev/zero >\"$TASKYARD_ARTIFACTS/large\"; echo x >\"$TASKYARD_ARTIFACTS/small\"";
    let task = client.run(&session, shell(script)).await;
    let names: Vec<&str> = task.artifacts.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["small"]);
    assert_eq!(task.state(), taskyard_proto::v1::TaskState::Succeeded);
}

#[tokio::test]
async fn what_is_collected_beyond_the_quota_is_said() {
    let deployment = deployment().await;
    let mut client = deployment.client().await;
    let session = new_session("quota-collect");
    let mut task = shell("head -c 20000 /dev/zero >large; echo x >small");
    task.spec.get_or_insert_default().collect = vec![TaskCollect {
        glob: "*".to_owned(),
        to: "/r".to_owned(),
    }];
    let task = client.run(&session, task).await;
    assert_eq!(task.state(), taskyard_proto::v1::TaskState::Succeeded);
    let mut files = SessionFiles::new(&client, &session);
    assert_eq!(files.read("/r/small").await.expect("read"), b"x\n");
    let said = files
        .read(&format!("/.tasks/{}/collect.json", task.id))
        .await;
    let said: serde_json::Value = serde_json::from_slice(&said.expect("read")).expect("JSON");
    assert_eq!(said["skipped"][0]["from"], "large");
    let reason = said["skipped"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("10000 bytes"), "{reason}");
}
