//! Certificates and then their authority are replaced under a worker that runs a task and a watcher that follows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use taskyard_tests::client::new_session;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::secured::{Authority, replace, text};
use taskyard_tests::wait::{SOON, until};
use taskyard_tests::{binaries, handshake};
use tempfile::TempDir;

/// Who shows a certificate, and for what. The server's own stands for nobody.
const PEOPLE: [(&str, &str); 2] = [("owner", "client"), ("w1", "worker")];

/// A folder with the files of a server, a worker and a client: `trusted.pem`, and a pair for each.
struct Yard {
    folder: TempDir,
}

impl Yard {
    fn new() -> Yard {
        let folder = tempfile::tempdir().expect("a folder");
        let entries: String = PEOPLE
            .iter()
            .map(|(name, role)| format!("- {{name: {name}, common_name: {name}, role: {role}}}\n"))
            .collect();
        let list = format!("certificates:\n{entries}");
        replace(&folder.path().join("auth.yaml"), list.as_bytes());
        Yard { folder }
    }

    fn authority(&self, name: &str) -> Authority {
        Authority::new(self.folder.path(), name)
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Everybody trusts these authorities.
    fn trust(&self, authorities: &[&Authority]) {
        let bundle: Vec<u8> = authorities
            .iter()
            .flat_map(|authority| fs::read(authority.path()).expect("it was written"))
            .collect();
        replace(&self.at("trusted.pem"), &bundle);
    }

    /// New certificates for everybody.
    fn issue(&self, authority: &Authority) {
        authority.issue("server", "server");
        for (name, _) in PEOPLE {
            authority.issue(name, name);
        }
    }

    /// A copy of the client's pair as it is now.
    fn keep(&self, name: &str) -> (PathBuf, PathBuf) {
        let pair = ["crt", "key"].map(|extension| {
            let copy = self.at(&format!("{name}.{extension}"));
            fs::copy(self.at(&format!("owner.{extension}")), &copy).expect("copied");
            copy
        });
        pair.into()
    }

    fn env(&self, name: &str) -> [(&'static str, PathBuf); 3] {
        [
            ("TASKYARD_CA", self.at("trusted.pem")),
            ("TASKYARD_CLIENT_CERT", self.at(&format!("{name}.crt"))),
            ("TASKYARD_CLIENT_KEY", self.at(&format!("{name}.key"))),
        ]
    }

    async fn serve(&self) -> Deployment {
        let files =
            ["server.crt", "server.key", "trusted.pem", "auth.yaml"].map(|file| self.at(file));
        let [certificate, key, trusted, list] = files.each_ref().map(|file| text(file));
        Deployment::builder()
            .workers(Vec::new())
            .server_flags(&["--max-connection-age=1s"])
            .server_env(&[
                ("TASKYARD_TLS_CERT", certificate),
                ("TASKYARD_TLS_KEY", key),
                ("TASKYARD_TLS_CLIENT_CA", trusted),
                ("TASKYARD_AUTH_FILE", list),
            ])
            .start()
            .await
    }

    fn command_line(&self, deployment: &Deployment) -> CommandLine {
        let line = deployment.command_line();
        self.env("owner")
            .iter()
            .fold(line, |line, (name, value)| line.env(name, value))
    }

    fn start_worker(&self, deployment: &Deployment) -> Process {
        let mut command = Command::new(binaries::taskyard());
        command
            .args(["worker", "--endpoint", &deployment.endpoint()])
            .args(["--name=w1", "--slots=4", "--data-dir"])
            .arg(self.at("w1"))
            .env("TASKYARD_ADMIN_LISTEN", "off")
            .envs(self.env("w1"));
        Process::start("w1", command, &self.at("w1.log"))
    }

    /// Waits until new connections are shown the server's newest certificate, and then until the worker has made one.
    async fn moved(&self, deployment: &Deployment) {
        let newest = handshake::certificate(&self.at("server.crt"));
        let pair = (self.at("owner.crt"), self.at("owner.key"));
        until("the new certificate to be shown", SOON, async || {
            let trusted = self.at("trusted.pem");
            let shown = handshake::shown(&deployment.endpoint(), &trusted, Some(&pair)).await;
            shown.is_ok_and(|shown| shown == newest)
        })
        .await;
        let before = attached(deployment);
        // one that was on its way meanwhile may have shown the old one
        until("the worker to move", SOON, async || {
            attached(deployment) >= before + 2
        })
        .await;
    }

    /// Whether the server takes a pair.
    async fn takes(&self, deployment: &Deployment, pair: &(PathBuf, PathBuf)) -> bool {
        let trusted = self.at("trusted.pem");
        handshake::shown(&deployment.endpoint(), &trusted, Some(pair))
            .await
            .is_ok()
    }
}

fn attached(deployment: &Deployment) -> usize {
    deployment.with_server(0, |server| server.log().matches("worker attached").count())
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_their_authority_are_replaced_under_a_running_task() {
    let yard = Yard::new();
    let first = yard.authority("first-ca");
    yard.trust(&[&first]);
    yard.issue(&first);
    let oldest = yard.keep("oldest");
    let deployment = yard.serve().await;
    let worker = yard.start_worker(&deployment);
    until("the worker", SOON, async || attached(&deployment) > 0).await;

    let owner = yard.command_line(&deployment);
    let session = new_session("rotation");
    let (ticks, go) = (yard.at("ticks"), yard.at("go"));
    let script = format!(
        "until [ -e {go} ]; do echo tick | tee -a {ticks}; sleep 0.05; done",
        go = go.display(),
        ticks = ticks.display(),
    );
    let run = [
        "run",
        "--session",
        &session,
        "--detach",
        "--",
        "sh",
        "-c",
        &script,
    ];
    owner.run(&run).await.expect_code(0);
    let mut watch = owner.start(&["watch", &session, "-o", "json"]);
    let logs = owner.start(&["logs", "-f", "--session", &session, "t1"]);
    logs.stdout_has("tick").await;

    // the same authority, new certificates
    yard.issue(&first);
    yard.moved(&deployment).await;
    assert!(yard.takes(&deployment, &oldest).await, "it has not expired");

    // another authority: trusted by all, then used by all, then the only one
    let second = yard.authority("second-ca");
    yard.trust(&[&first, &second]);
    let early = second.issue("early", "owner");
    until("the new authority to be trusted", SOON, async || {
        yard.takes(&deployment, &early).await
    })
    .await;
    yard.issue(&second);
    yard.moved(&deployment).await;
    yard.trust(&[&second]);
    until("the old authority to be forgotten", SOON, async || {
        !yard.takes(&deployment, &oldest).await
    })
    .await;
    yard.moved(&deployment).await;

    let before = lines(&ticks);
    until("the task to go on", SOON, async || lines(&ticks) > before).await;
    assert!(watch.is_running(), "{}", watch.stderr());
    fs::write(&go, b"").expect("the task is let go");
    let followed = logs.finish().await.expect_code(0).text();
    assert_eq!(followed.lines().count(), lines(&ticks), "no line is lost");
    let shown = owner
        .run(&["get", "--session", &session, "t1", "-o", "json"])
        .await;
    let task = shown.expect_code(0).json();
    let held = [&task["state"], &task["run"], &task["attempt"]];
    assert_eq!(
        held,
        [&Value::from("succeeded"), &1.into(), &1.into()],
        "{task}"
    );
    watch.stdout_has("succeeded").await;
    assert!(worker.ended().is_none(), "the worker goes on");
    let numbers: Vec<i64> = watch
        .stdout()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_i64())
        .collect();
    let contiguous = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(contiguous && !numbers.is_empty(), "{numbers:?}");
    deployment.remove().await;
}
