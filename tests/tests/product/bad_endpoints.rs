//! What the command line says where nothing, or the wrong thing, is at an address: a sentence that says what to do,
//! the documented exit code, and never a hang.

use std::net::TcpListener;
use std::time::Duration;

use taskyard_tests::command_line::{CommandLine, Finished};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::Deployment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VERBS: [&[&str]; 6] = [
    &["list"],
    &["run", "--", "true"],
    &["watch", "demo"],
    &["logs", "-f", "t1", "--session", "demo"],
    &["wait", "t1", "--session", "demo"],
    &["files", "cat", "demo", "/x"],
];
/// Connecting may take 5 s, and calls are repeated for 10 s.
const LIMIT: Duration = Duration::from_secs(45);

#[tokio::test]
async fn nobody_listens() {
    let address = free_address();
    for verb in VERBS {
        let failed = fails(&format!("http://{address}"), verb).await;
        assert!(
            failed.contains(&format!(
                "cannot reach http://{address}: connection refused"
            )),
            "{failed}"
        );
        assert!(
            failed.contains("taskyard dev") && failed.contains("--endpoint"),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn somebody_else_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = socket.read(&mut request).await;
                let answer =
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope";
                let _ = socket.write_all(answer).await;
            });
        }
    });
    for verb in VERBS {
        let failed = fails(&format!("http://{address}"), verb).await;
        // Which of the two depends on what reaches us first: the answer, or the reset after it.
        let is_told = failed.contains("is not a Taskyard server")
            || failed.contains("closed the connection without an answer");
        assert!(is_told && failed.contains("check --endpoint"), "{failed}");
    }
}

#[tokio::test]
async fn somebody_listens_and_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    // Connections are taken by the kernel and never answered.
    let endpoint = format!("http://{address}");
    let calls = VERBS.iter().map(|verb| fails(&endpoint, verb));
    for failed in futures::future::join_all(calls).await {
        assert!(failed.contains(&endpoint), "{failed}");
    }
}

#[tokio::test]
async fn the_address_is_none() {
    for endpoint in [
        "",
        "localhost",
        "ftp://x",
        "http://",
        "http://x:99999999",
        "https://",
    ] {
        let cli = CommandLine::bare();
        let finished = cli
            .run(&["list", "--endpoint", endpoint])
            .await
            .expect_code(2);
        assert!(
            finished.stderr.contains("http://127.0.0.1:8275"),
            "{endpoint}: {}",
            finished.stderr
        );
        assert!(finished.stdout.is_empty());
    }
}

#[tokio::test]
async fn the_database_is_not_there() {
    let address = free_address();
    let scheme = "does not begin with postgres:// or postgresql://; write it like postgres://user@host:5432/name";
    let unreachable = format!(
        "cannot reach the database at {address}: connection refused; check --database-url, or leave it out for a \
         private Postgres"
    );
    let wrong = [
        ("not a url", 2, scheme),
        ("mysql://nobody:secret@localhost/x", 2, scheme),
        (
            "postgres://nobody:secret@localhost:99999/x",
            2,
            "the database URL is not valid: ",
        ),
        (
            &format!("postgres://nobody:secret@{address}/x"),
            125,
            &unreachable,
        ),
        (
            "postgres://nobody:secret@localhost/x?host=/no/such/folder",
            125,
            "cannot reach the database at /no/such/folder (port 5432): No such file or directory",
        ),
    ];
    for (url, code, words) in wrong {
        for verb in [
            &["server", "--listen", "127.0.0.1:0"][..],
            &["migrate"],
            &["dev", "--listen", "127.0.0.1:0"],
        ] {
            let cli = CommandLine::bare().env("TASKYARD_DATABASE_URL", url);
            let finished = cli.start(verb).finish_within(LIMIT).await;
            assert_eq!(finished.code(), Some(code), "{verb:?} {url}: {finished:?}");
            assert!(
                finished.stderr.contains(words),
                "{verb:?} {url}: {}",
                finished.stderr
            );
            assert!(
                !finished.stderr.contains("secret"),
                "{verb:?} {url}: {}",
                finished.stderr
            );
            assert!(
                finished.stderr.trim_end().lines().count() <= 3,
                "{url}: {}",
                finished.stderr
            );
        }
    }
}

#[tokio::test]
async fn the_database_does_not_exist_or_is_newer() {
    let database = Database::create().await;
    let missing = database
        .url()
        .replace("taskyard_test_", "taskyard_no_such_");
    let cli = CommandLine::bare();
    let server = ["server", "--listen", "127.0.0.1:0", "--database-url"];
    let finished = cli
        .run(&[&server[..], &[&missing]].concat())
        .await
        .expect_code(125);
    let name = missing
        .rsplit('/')
        .next()
        .and_then(|tail| tail.split('?').next())
        .unwrap_or_default();
    assert!(
        finished
            .stderr
            .contains(&format!("the database \"{name}\" does not exist at "))
            && finished.stderr.contains("create it with `createdb -h ")
            && finished.stderr.contains(&format!(" {name}`")),
        "{}",
        finished.stderr
    );
    let mut connection = database.connect().await;
    sqlx::raw_sql(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', true, '', 0); \
         update schema_needs set migration = 9999",
    )
    .execute(&mut connection)
    .await
    .expect("a newer schema");
    for verb in [&server[..], &["migrate", "--database-url"]] {
        let finished = cli
            .run(&[verb, &[database.url()]].concat())
            .await
            .expect_code(125);
        assert!(
            finished.stderr.contains("9999") && finished.stderr.contains("newer"),
            "{}",
            finished.stderr
        );
    }
    database.remove().await;
}

#[tokio::test]
async fn the_port_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let database = Database::create_empty().await;
    for verb in ["server", "dev"] {
        let arguments = [verb, "--listen", &address, "--database-url", database.url()];
        let finished = CommandLine::bare().run(&arguments).await.expect_code(125);
        assert!(
            finished.stderr.contains(&format!("{address} is taken")),
            "{}",
            finished.stderr
        );
        assert!(finished.stderr.contains("--listen"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("starting"), "{}", finished.stderr);
    }
    let mut connection = database.connect().await;
    let tables: i64 =
        sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
            .fetch_one(&mut connection)
            .await
            .expect("counted");
    assert_eq!(tables, 0, "nothing was begun");
    drop(connection);
    database.remove().await;
}

#[tokio::test]
async fn an_address_for_everyone_needs_to_be_asked_for() {
    let finished = CommandLine::bare()
        .run(&["server", "--listen", "0.0.0.0:0"])
        .await
        .expect_code(2);
    assert!(
        finished.stderr.contains("--insecure-listen"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn a_worker_waits_for_its_server() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    deployment.with_server(0, taskyard_tests::process::Process::kill);
    let folder = deployment.folder().join("patient").display().to_string();
    let cli = deployment.command_line();
    let mut worker = cli.start(&["worker", "--name", "patient", "--data-dir", &folder]);
    worker.stderr_has("works for").await;
    deployment.restart_server(0).await;
    taskyard_tests::wait::until("the worker to attach", LIMIT, async || {
        assert!(worker.is_running(), "{}", worker.stderr());
        let request = taskyard_proto::v1::ListWorkersRequest::default();
        let answer = client.admin.list_workers(request).await;
        answer.is_ok_and(|answer| !answer.into_inner().workers.is_empty())
    })
    .await;
    worker.signal(rustix::process::Signal::TERM);
    worker.finish().await.expect_code(0);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_is_told_before_anything_else() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let below = file.path().join("yard").display().to_string();
    for verb in [
        &["worker", "--name", "nowhere"][..],
        &["server", "--listen", "127.0.0.1:0"],
        &["dev", "--listen", "127.0.0.1:0"],
        &["migrate"],
    ] {
        let arguments = [verb, &["--data-dir", &below]].concat();
        let finished = CommandLine::bare()
            .start(&arguments)
            .finish_within(LIMIT)
            .await
            .expect_code(125);
        assert!(
            finished.stderr.contains("choose another --data-dir"),
            "{verb:?}: {}",
            finished.stderr
        );
        assert!(
            !finished.stderr.contains("works for"),
            "{verb:?}: {}",
            finished.stderr
        );
    }
}

/// Standard error of a call that ends with the code for an unreachable server.
async fn fails(endpoint: &str, verb: &[&str]) -> String {
    let cli = CommandLine::new(endpoint);
    let finished: Finished = cli.start(verb).finish_within(LIMIT).await;
    let finished = finished.expect_code(125);
    assert!(finished.stdout.is_empty(), "{finished:?}");
    finished.stderr
}

/// An address at which nobody listens.
fn free_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}
