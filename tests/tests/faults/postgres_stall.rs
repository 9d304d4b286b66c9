//! The database stands still under running tasks, for less than a lease and for longer, or crashes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use taskyard_proto::v1::{OutputStream, TaskState};
use taskyard_tests::binaries;
use taskyard_tests::client::{new_session, shell};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::pattern;
use taskyard_tests::process::{descendants, send};
use taskyard_tests::wait::{SOON, within};

use crate::flow::{Flow, read_all};
use crate::journal::Journal;

/// A Postgres that nobody else uses, so that it can be stopped.
struct OwnPostgres {
    /// It ends when the pipe to its command closes.
    owner: Child,
    url: String,
    postmaster: u32,
}

impl OwnPostgres {
    async fn start() -> OwnPostgres {
        let mut owner = Command::new(binaries::scratch_postgres())
            .args([
                "--",
                "sh",
                "-c",
                "printf '%s\\n' \"$DATABASE_URL\"; exec cat >/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Postgres of our own can be started");
        let mut url = String::new();
        let stdout = owner.stdout.take().expect("there is a pipe");
        BufReader::new(stdout)
            .read_line(&mut url)
            .expect("it says its address");
        let url = url.trim_end().to_owned();
        let mut connection = PgConnection::connect(&url).await.expect("it answers");
        // What is acknowledged must outlive a crash here, unlike with other databases of tests.
        let durable = "do $$ begin
            execute format('alter database %I set synchronous_commit = on', current_database());
            end $$";
        sqlx::raw_sql(durable)
            .execute(&mut connection)
            .await
            .expect("it can be configured");
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .expect("it has backends");
        let stat =
            std::fs::read_to_string(format!("/proc/{backend}/stat")).expect("on this machine");
        let postmaster = stat[stat.rfind(')').expect("a name") + 1..]
            .split_whitespace()
            .nth(1);
        OwnPostgres {
            owner,
            url,
            postmaster: postmaster.expect("a parent").parse().expect("a number"),
        }
    }

    /// Everything stands still for this long, the postmaster and each of its children.
    async fn stall(&self, duration: Duration) {
        send(self.postmaster, Signal::STOP);
        let children = descendants(self.postmaster);
        children.iter().for_each(|child| send(*child, Signal::STOP));
        // The length of the stall is what the test is about.
        tokio::time::sleep(duration).await;
        children.iter().for_each(|child| send(*child, Signal::CONT));
        send(self.postmaster, Signal::CONT);
    }

    /// One backend dies badly, so that the database ends all others and recovers from its log.
    async fn crash(&self) {
        let mut connection = PgConnection::connect(&self.url).await.expect("it answers");
        let victim: i32 = sqlx::query_scalar(
            "select pid from pg_stat_activity where application_name = 'taskyard' limit 1",
        )
        .fetch_one(&mut connection)
        .await
        .expect("a server is connected");
        send(victim.cast_unsigned(), Signal::KILL);
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        for pid in descendants(self.postmaster) {
            send(pid, Signal::CONT);
        }
        send(self.postmaster, Signal::CONT);
        drop(self.owner.stdin.take());
        let _ = self.owner.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_within_the_lease_costs_no_result_and_no_byte() {
    let postgres = OwnPostgres::start().await;
    let deployment = Deployment::builder()
        .database(Database::foreign(&postgres.url))
        .lease(Duration::from_secs(12))
        .workers(vec![WorkerPlan::new("w1").flags(&["--slots=24"])])
        .start()
        .await;
    let session = new_session("stall");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let flow = Flow::start(&mut client, &session, deployment.folder(), 20, 1).await;
    postgres.stall(Duration::from_secs(9)).await;
    flow.advance(&mut client).await;
    flow.end();
    flow.verify(&mut client).await;
    let events = journal.ended(&flow.tasks).await;
    assert_eq!(
        events.len(),
        60,
        "each was created, started and ended: {events:?}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_beyond_the_lease_leaves_nothing_undecided() {
    let postgres = OwnPostgres::start().await;
    let deployment = Deployment::builder()
        .database(Database::foreign(&postgres.url))
        .lease(Duration::from_secs(2))
        .workers(vec![WorkerPlan::new("w1").flags(&["--slots=8"])])
        .start()
        .await;
    let session = new_session("long-stall");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let flow = Flow::start(&mut client, &session, deployment.folder(), 6, 1).await;
    postgres.stall(Duration::from_secs(5)).await;
    // Whoever has survived may end now; the others were killed in time by their own worker.
    flow.end();
    for (number, id) in flow.tasks.iter().enumerate() {
        let task = client.ended(id).await;
        let code = task.exit.as_ref().and_then(|exit| exit.exit_code);
        let kind = task.error.as_ref().map_or("", |error| error.kind.as_str());
        let is_true_exit = code == Some(number as i32);
        assert!(is_true_exit || kind == "outcome_unknown", "{task:?}");
        for (index, stream) in [OutputStream::Stdout, OutputStream::Stderr]
            .into_iter()
            .enumerate()
        {
            let bytes = read_all(&mut client, &task, stream).await;
            assert!(
                pattern::matches((2 * number + index) as u64, 0, &bytes),
                "{stream:?} of {id}"
            );
        }
    }
    journal.ended(&flow.tasks).await;
    let after = client.run(&session, shell("exit 0")).await;
    assert_eq!(
        after.state(),
        TaskState::Succeeded,
        "work goes on: {after:?}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_database_costs_no_result_and_no_byte() {
    let postgres = OwnPostgres::start().await;
    let deployment = Deployment::builder()
        .database(Database::foreign(&postgres.url))
        .lease(Duration::from_secs(20))
        .workers(vec![WorkerPlan::new("w1").flags(&["--slots=16"])])
        .start()
        .await;
    let session = new_session("crash");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let flow = Flow::start(&mut client, &session, deployment.folder(), 10, 1).await;
    let tail = flow.follow(&deployment.endpoint(), 3);
    postgres.crash().await;
    flow.advance(&mut client).await;
    flow.end();
    flow.verify(&mut client).await;
    let events = journal.ended(&flow.tasks).await;
    assert_eq!(
        events.len(),
        30,
        "each was created, started and ended: {events:?}"
    );
    let followed = within("the tail to end", SOON, tail).await;
    assert!(followed.expect("the tail holds") > 0);
    deployment.remove().await;
}
