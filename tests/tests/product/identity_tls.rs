//! TLS: who is served, with which certificate, and a whole task over it.

use std::path::PathBuf;
use std::process::Command;

use taskyard_tests::admin_page::AdminPage;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::secured::{Authority, entry, replace, text, write_tokens};
use taskyard_tests::wait::{SOON, eventually, until, within};
use taskyard_tests::{binaries, client::new_session, handshake};
use tempfile::TempDir;

/// A folder with an authority, the server's certificate and a list of tokens.
struct Yard {
    folder: TempDir,
    authority: Authority,
    certificate: (PathBuf, PathBuf),
}

impl Yard {
    fn new(tokens: &[(&str, &str)]) -> Yard {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "ca");
        let certificate = authority.issue("server", "server");
        write_tokens(&folder.path().join("auth.yaml"), tokens);
        Yard {
            folder,
            authority,
            certificate,
        }
    }

    fn list(&self) -> PathBuf {
        self.folder.path().join("auth.yaml")
    }

    async fn serve(&self, more: &[(&str, &str)]) -> Deployment {
        let list = self.list();
        let mut env = vec![
            ("TASKYARD_TLS_CERT", text(&self.certificate.0)),
            ("TASKYARD_TLS_KEY", text(&self.certificate.1)),
            ("TASKYARD_AUTH_FILE", text(&list)),
        ];
        env.extend_from_slice(more);
        let deployment = Deployment::builder().workers(Vec::new());
        deployment.server_env(&env).start().await
    }

    fn command_line(&self, deployment: &Deployment) -> CommandLine {
        deployment
            .command_line()
            .env("TASKYARD_CA", self.authority.path())
    }

    /// What a handshake shows: the certificate that is served.
    async fn shown(
        &self,
        deployment: &Deployment,
        client: Option<&(PathBuf, PathBuf)>,
    ) -> std::io::Result<Vec<u8>> {
        handshake::shown(&deployment.endpoint(), &self.authority.path(), client).await
    }
}

#[tokio::test]
async fn a_whole_task_runs_over_tls_with_tokens() {
    let yard = Yard::new(&[
        ("owner", "role: client"),
        ("boss", "role: approver"),
        ("pool", "role: worker, pools: [main]"),
        ("ops", "role: admin"),
    ]);
    let deployment = yard.serve(&[]).await;
    let token_file = yard.folder.path().join("worker.token");
    replace(&token_file, b"pool\n");
    let mut command = Command::new(binaries::taskyard());
    command
        .args([
            "worker",
            "--endpoint",
            &deployment.endpoint(),
            "--name",
            "w1",
        ])
        .args(["--slots=4", "--pool=main", "--secret-env=*", "--data-dir"])
        .arg(yard.folder.path().join("w1"))
        .env("TASKYARD_CA", yard.authority.path())
        .env("TASKYARD_TOKEN_FILE", &token_file);
    let log = yard.folder.path().join("w1.log");
    let worker = Process::start("w1", command, &log);
    worker.logged("works for ", SOON).await;

    let session = new_session("tls");
    let owner = yard
        .command_line(&deployment)
        .env("TASKYARD_TOKEN", "owner");
    let boss = yard.command_line(&deployment).env("TASKYARD_TOKEN", "boss");
    // a child, a question that its owner may not answer, and a look for what the worker shows the server
    let script = "set -eu
        test -z \"${TASKYARD_TOKEN_FILE:-}${TASKYARD_TOKEN:-}\"
        \"$YARD\" self spawn --wait -- echo child >/dev/null
        \"$YARD\" self ask --approver-only --key go 'Go on?'";
    let yard_program = format!("YARD={}", binaries::taskyard().display());
    let taken = ["run", "--inherit-env", "TASKYARD_TOKEN_FILE", "--", "true"];
    let refused = owner.run(&taken).await.stderr;
    assert!(
        refused.contains("TASKYARD_TOKEN_FILE is the system's"),
        "{refused}"
    );
    let run = owner.start(&[
        "run",
        "--session",
        &session,
        "--env",
        &yard_program,
        "--",
        "sh",
        "-c",
        script,
    ]);
    until("the question", SOON, async || {
        let listed = owner
            .run(&["list", "--session", &session, "-o", "json"])
            .await;
        listed.text().contains("awaiting_input")
    })
    .await;
    let answer = ["answer", "--session", &session, "t1", "yes"];
    let refused = owner.run(&answer).await.expect_code(1);
    assert!(refused.stderr.contains("approver"), "{}", refused.stderr);
    boss.run(&answer).await.expect_code(0);
    let finished = run.finish().await.expect_code(0);
    assert!(finished.text().contains("yes"), "{}", finished.text());

    let ops = yard.command_line(&deployment).env("TASKYARD_TOKEN", "ops");
    eventually("the answer in the audit log", SOON, async || {
        let shown = ops
            .run(&["audit", "-o", "json"])
            .await
            .expect_code(0)
            .text();
        let told = ["\"boss\"", "AnswerTask", "\"pool\"", "TaskAgentService/Ask"];
        assert!(
            !shown.contains("Go on?"),
            "the log holds no contents: {shown}"
        );
        told.iter().all(|word| shown.contains(word)).then_some(())
    })
    .await;
    worker.stop(SOON).await;
}

#[tokio::test]
async fn a_rotated_certificate_is_served_to_new_connections_and_cuts_no_old_one() {
    let yard = Yard::new(&[("owner", "role: client")]);
    let deployment = yard.serve(&[]).await;
    let first = handshake::certificate(&yard.certificate.0);
    assert_eq!(
        yard.shown(&deployment, None).await.expect("a handshake"),
        first
    );
    let owner = yard
        .command_line(&deployment)
        .env("TASKYARD_TOKEN", "owner");
    let session = new_session("rotation");
    let submit = [
        "run",
        "--session",
        &session,
        "--hold",
        "--detach",
        "--",
        "true",
    ];
    owner.run(&submit).await.expect_code(0);
    let mut watch = owner.start(&["watch", &session]);
    watch.stdout_has("t1").await;
    // a broken pair changes nothing
    replace(&yard.certificate.0, b"nonsense");
    until("the warning", SOON, async || {
        deployment.with_server(0, |server| {
            server.log().contains("the old certificate is kept")
        })
    })
    .await;
    assert_eq!(
        yard.shown(&deployment, None).await.expect("a handshake"),
        first
    );
    yard.authority.issue("server", "server");
    let second = handshake::certificate(&yard.certificate.0);
    until("the new certificate", SOON, async || {
        yard.shown(&deployment, None)
            .await
            .is_ok_and(|shown| shown == second)
    })
    .await;
    owner.run(&submit).await.expect_code(0);
    watch.stdout_has("t2").await;
    assert!(watch.is_running());
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_stands_for_somebody() {
    let yard = Yard::new(&[("owner", "role: client")]);
    let authority = yard.authority.path();
    let stranger = Authority::new(yard.folder.path(), "other-ca").issue("stranger", "ops");
    let ops = yard.authority.issue("ops", "ops");
    let nobody = yard.authority.issue("nobody", "nobody");
    let list = format!(
        "tokens:\n{}certificates:\n- {{name: operator, common_name: ops, role: admin}}\n",
        entry("owner", "role: client")
    );
    replace(&yard.list(), list.as_bytes());
    let required = yard
        .serve(&[("TASKYARD_TLS_CLIENT_CA", text(&authority))])
        .await;
    yard.shown(&required, None).await.expect_err("none shown");
    yard.shown(&required, Some(&stranger))
        .await
        .expect_err("of another authority");
    yard.shown(&required, Some(&ops)).await.expect("a good one");
    let with = |deployment: &Deployment, pair: &(PathBuf, PathBuf)| {
        yard.command_line(deployment)
            .env("TASKYARD_CLIENT_CERT", &pair.0)
            .env("TASKYARD_CLIENT_KEY", &pair.1)
    };
    with(&required, &ops)
        .run(&["sessions"])
        .await
        .expect_code(0);
    let refused = with(&required, &nobody)
        .run(&["sessions"])
        .await
        .expect_code(1);
    assert!(
        refused.stderr.contains("stands for nobody"),
        "{}",
        refused.stderr
    );

    let optional = yard
        .serve(&[
            ("TASKYARD_TLS_CLIENT_CA", text(&authority)),
            ("TASKYARD_TLS_CLIENT_AUTH", "optional"),
        ])
        .await;
    let owner = yard.command_line(&optional).env("TASKYARD_TOKEN", "owner");
    owner.run(&["sessions"]).await.expect_code(0);
    with(&optional, &ops).run(&["audit"]).await.expect_code(0);
    yard.shown(&optional, Some(&stranger))
        .await
        .expect_err("of another authority");
}

#[tokio::test]
async fn a_port_that_others_reach_needs_authentication_and_tls() {
    let yard = Yard::new(&[("owner", "role: client")]);
    let refused = async |flags: &[&str]| {
        let flags: Vec<&str> = ["server", "--listen", "0.0.0.0:0"]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        let ended = within("the refusal", SOON, CommandLine::bare().run(&flags)).await;
        ended.expect_code(2).stderr
    };
    let list = yard.list();
    assert!(refused(&[]).await.contains("--insecure-listen"));
    assert!(
        refused(&["--auth-file", text(&list)])
            .await
            .contains("--plaintext-listen")
    );
    assert!(
        refused(&["--tls-cert", text(&yard.certificate.0)])
            .await
            .contains("authentication")
    );
}

#[tokio::test]
async fn the_metrics_tell_when_certificate_and_tokens_expire() {
    let yard = Yard::new(&[
        ("first", "role: admin, expires_at: 2099-01-01T00:00:00Z"),
        ("second", "role: admin, expires_at: 2098-01-01T00:00:00Z"),
        ("gone", "role: admin, expires_at: 2020-01-01T00:00:00Z"),
        ("forever", "role: admin"),
    ]);
    let deployment = yard
        .serve(&[("TASKYARD_ADMIN_LISTEN", "127.0.0.1:0")])
        .await;
    let page = deployment.with_server(0, AdminPage::of);
    let sample = async |name: &str| page.samples().await.get(name).copied();
    // certificates of the test's authority have this one's default
    let certificate = sample("taskyard_certificate_expiry_timestamp_seconds").await;
    assert!(
        certificate.is_some_and(|end| end > 4_000_000_000.0),
        "{certificate:?}"
    );
    let token = "taskyard_token_expiry_timestamp_seconds";
    until("the first token that expires", SOON, async || {
        sample(token).await == Some(4_039_372_800.0)
    })
    .await;
    write_tokens(&yard.list(), &[("forever", "role: admin")]);
    until("no token to expire", SOON, async || {
        sample(token).await.is_none()
    })
    .await;
}
