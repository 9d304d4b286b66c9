//! A worker as docs/install.md has it started: by its unit's flags, with the variables of its file and no others, and with
//! tasks narrowed by the operator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taskyard_tests::client::new_session;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::secured::{Authority, replace, text, write_tokens};
use taskyard_tests::wait::{SOON, until};
use taskyard_tests::{binaries, skip::skipped};
use tempfile::TempDir;

use super::isolation_support::can_restrict;
use super::service_units::{PROGRAM, started, unit};

const UNIT: &str = "taskyard-worker.service";

/// An installation with a server and its files.
struct Yard {
    folder: TempDir,
    deployment: Deployment,
}

impl Yard {
    async fn new() -> Yard {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "ca");
        let (certificate, key) = authority.issue("server", "server");
        let list = folder.path().join("auth.yaml");
        let tokens = [
            ("pool-main", "role: worker, pools: [main]"),
            ("runtime", "role: client"),
            ("ops", "role: admin"),
        ];
        write_tokens(&list, &tokens);
        let deployment = Deployment::builder()
            .workers(Vec::new())
            .server_env(&[
                ("TASKYARD_TLS_CERT", text(&certificate)),
                ("TASKYARD_TLS_KEY", text(&key)),
                ("TASKYARD_AUTH_FILE", text(&list)),
            ])
            .start()
            .await;
        Yard { folder, deployment }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the page has in the file, with places of this installation.
    fn value(&self, name: &str, token: &Path) -> String {
        match name {
            "TASKYARD_ENDPOINT" => self.deployment.endpoint(),
            "TASKYARD_TOKEN_FILE" => text(token).to_owned(),
            "TASKYARD_CA" => text(&self.at("ca.pem")).to_owned(),
            "TASKYARD_WORKER_POOL" => "main".to_owned(),
            name => panic!("{name} is new on the page: say here what it is"),
        }
    }

    fn start(&self, token: &Path, more: &[&str]) -> Process {
        let text = unit(UNIT);
        let mut words = started(UNIT, &text).split_whitespace();
        assert_eq!(words.next(), Some(PROGRAM));
        let data = self.at("data");
        let words = words.map(|word| match word {
            "/var/lib/taskyard-worker" => data.as_os_str().to_owned(),
            word => word.into(),
        });
        let variables = variables_of_the_page();
        assert!(variables.len() > 2, "{variables:?}");
        let mut command = Command::new(binaries::taskyard());
        command
            .args(words)
            .args(["--name=installed", "--admin-listen=off"])
            .args(more)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(variables.iter().map(|name| (name, self.value(name, token))));
        Process::start("installed", command, &self.at("worker.log"))
    }

    fn command_line(&self, token: &str) -> CommandLine {
        self.deployment
            .command_line()
            .env("TASKYARD_CA", self.at("ca.pem"))
            .env("TASKYARD_TOKEN", token)
    }
}

/// The names in the page's `/etc/taskyard/worker.env`.
fn variables_of_the_page() -> Vec<String> {
    let page = fs::read_to_string(binaries::repository().join("docs/install.md")).expect("read");
    let file = page
        .split("```")
        .find(|block| block.starts_with("sh\n# /etc/taskyard/worker.env"));
    file.expect("the page has the file")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("TASKYARD_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_worker_with_the_pages_variables_narrows_tasks_and_takes_work() {
    if !can_restrict(&mut Deployment::shared().await.client().await).await {
        return;
    }
    let yard = Yard::new().await;
    let token = yard.at("pool-main.token");
    replace(&token, b"pool-main\n");
    let worker = yard.start(&token, &["--isolation-min=restricted"]);
    until("the worker to attach", SOON, async || {
        let log = worker.log();
        assert!(worker.ended().is_none(), "the worker ended:\n{log}");
        let workers = yard.command_line("ops").run(&["workers"]).await;
        workers.text().contains("installed")
    })
    .await;
    let session = new_session("installed");
    let script = "grep -q 'NoNewPrivs:.1' /proc/self/status && echo narrowed";
    let run = ["--session", &session, "run", "--", "sh", "-c", script];
    let ran = yard.command_line("runtime").run(&run).await;
    assert_eq!(ran.expect_code(0).text(), "narrowed\n");
    let reads = format!("cat {}", token.display());
    let run = ["--session", &session, "run", "--", "sh", "-c", &reads];
    let refused = yard.command_line("runtime").run(&run).await;
    assert_ne!(
        refused.status.code(),
        Some(0),
        "the token is not theirs to read"
    );
}

#[tokio::test]
async fn a_token_that_narrowed_tasks_could_read_is_refused_at_the_start() {
    if !can_restrict(&mut Deployment::shared().await.client().await).await {
        return;
    }
    // any line of text there will do: it is refused for its place
    let known = ["/etc/hostname", "/etc/machine-id"].map(Path::new);
    let Some(token) = known.into_iter().find(|path| path.is_file()) else {
        skipped("there is no small file in /etc");
        return;
    };
    let yard = Yard::new().await;
    let worker = yard.start(token, &["--isolation-min=restricted"]);
    until("the worker to refuse", SOON, async || {
        worker.ended().is_some()
    })
    .await;
    assert!(worker.log().contains(text(token)), "{}", worker.log());
}
