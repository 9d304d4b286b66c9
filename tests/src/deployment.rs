//! A control plane with workers: `taskyard server` and `taskyard worker` processes on a database of their own.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use taskyard_proto::v1::{ListWorkersRequest, WorkerStatus};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::binaries;
use crate::client::Client;
use crate::command_line::CommandLine;
use crate::database::Database;
use crate::process::Process;
use crate::wait::{SOON, until};

/// Lines of each log that a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// What to start. By default one server and one worker with 8 slots, a lease of 10 s.
#[derive(Debug)]
pub struct DeploymentBuilder {
    lease: Duration,
    servers: usize,
    server_flags: Vec<String>,
    workers: Vec<WorkerPlan>,
    database: Option<Database>,
    server_env: Vec<(String, String)>,
}

/// One worker to start.
#[derive(Debug, Clone)]
pub struct WorkerPlan {
    /// Its name, unique in the deployment.
    pub name: String,
    /// More flags of `taskyard worker`.
    pub flags: Vec<String>,
    /// More variables in its environment.
    pub env: Vec<(String, String)>,
    /// A program and arguments that execute the worker in their place; empty: none.
    pub wrapper: Vec<String>,
}

impl WorkerPlan {
    /// A worker with 8 slots that takes everything.
    pub fn new(name: &str) -> WorkerPlan {
        WorkerPlan {
            name: name.to_owned(),
            flags: vec!["--slots=8".to_owned()],
            env: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Has it started by another program, which executes what its last arguments say.
    pub fn through(mut self, wrapper: &[&str]) -> WorkerPlan {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds flags; a later one of the same name must not repeat an earlier.
    pub fn flags(mut self, flags: &[&str]) -> WorkerPlan {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// Adds a variable.
    pub fn env(mut self, name: &str, value: &str) -> WorkerPlan {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl DeploymentBuilder {
    /// The `--lease` of every server.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How many servers share the database; workers and clients use the first.
    pub fn servers(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// More flags of every server.
    pub fn server_flags(mut self, flags: &[&str]) -> Self {
        self.server_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// More variables in the environment of every server.
    pub fn server_env(mut self, pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.server_env = pairs.iter().map(owned).collect();
        self
    }

    /// The workers, instead of the one; none is allowed.
    pub fn workers(mut self, workers: Vec<WorkerPlan>) -> Self {
        self.workers = workers;
        self
    }

    /// The database, instead of a new one.
    pub fn database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// Starts everything and waits until the workers are attached.
    pub async fn start(self) -> Deployment {
        let database = match self.database {
            Some(database) => database,
            None => Database::create().await,
        };
        let deployment = Deployment {
            database,
            folder: tempfile::tempdir()
                .unwrap_or_else(|error| panic!("cannot make a folder: {error}")),
            lease: self.lease,
            server_flags: self.server_flags,
            server_env: self.server_env,
            servers: Mutex::default(),
            workers: Mutex::default(),
        };
        for _ in 0..self.servers {
            deployment.add_server().await;
        }
        for plan in self.workers {
            deployment.add_worker(0, plan).await;
        }
        deployment
    }
}

/// A running control plane with workers. Dropping it kills all of it; the logs of a failed test are shown.
#[derive(Debug)]
pub struct Deployment {
    database: Database,
    folder: TempDir,
    lease: Duration,
    server_flags: Vec<String>,
    server_env: Vec<(String, String)>,
    servers: Mutex<Vec<(Process, String)>>,
    workers: Mutex<Vec<(Process, WorkerPlan)>>,
}

impl Deployment {
    /// One server and one worker, unless told otherwise.
    pub fn builder() -> DeploymentBuilder {
        DeploymentBuilder {
            lease: Duration::from_secs(10),
            servers: 1,
            server_flags: Vec::new(),
            workers: vec![WorkerPlan::new("w1")],
            database: None,
            server_env: Vec::new(),
        }
    }

    /// One that all tests of this process share; they keep apart by their sessions and must not disturb it.
    pub async fn shared() -> &'static Deployment {
        static SHARED: OnceCell<Deployment> = OnceCell::const_new();
        SHARED
            .get_or_init(|| {
                let worker = WorkerPlan::new("shared")
                    .flags(&["--slots=32"])
                    .env("YARD_INHERITED", "from the worker")
                    .env("YARD_PRIVATE", "never seen");
                Deployment::builder().workers(vec![worker]).start()
            })
            .await
    }

    /// One without a worker that all tests of this process share: they do the work by hand, each in a queue of its own,
    /// under leases that outlast them.
    pub async fn by_hand() -> &'static Deployment {
        static BY_HAND: OnceCell<Deployment> = OnceCell::const_new();
        BY_HAND
            .get_or_init(|| {
                Deployment::builder()
                    .lease(Duration::from_secs(600))
                    .server_flags(&["--allow-private-webhooks"])
                    .workers(Vec::new())
                    .start()
            })
            .await
    }

    /// Where the first server serves, such as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        self.endpoint_of(0)
    }

    /// Where a server serves.
    pub fn endpoint_of(&self, server: usize) -> String {
        self.servers()[server].1.clone()
    }

    /// Clients of the first server.
    pub async fn client(&self) -> Client {
        Client::connect(&self.endpoint()).await
    }

    /// The command line against the first server.
    pub fn command_line(&self) -> CommandLine {
        CommandLine::new(&self.endpoint())
    }

    /// The database behind the servers.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A folder for the test's own files, which goes with the deployment.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `look` on the process of a server.
    pub fn with_server<T>(&self, server: usize, look: impl FnOnce(&Process) -> T) -> T {
        look(&self.servers()[server].0)
    }

    /// Runs `look` on the process of a worker.
    pub fn with_worker<T>(&self, worker: usize, look: impl FnOnce(&Process) -> T) -> T {
        look(&self.workers()[worker].0)
    }

    /// Starts another server on a port of its own; answers with its index.
    pub async fn add_server(&self) -> usize {
        self.add_server_with(&[]).await
    }

    /// Starts another server with more flags than the others; answers with its index. A restart forgets them.
    pub async fn add_server_with(&self, flags: &[&str]) -> usize {
        let index = self.servers().len();
        let started = self.start_server(index, "127.0.0.1:0", flags).await;
        self.servers().push(started);
        index
    }

    /// Starts a server that was killed or stopped again, on the same port.
    pub async fn restart_server(&self, server: usize) {
        let endpoint = self.endpoint_of(server);
        let listen = endpoint.trim_start_matches("http://");
        let started = self.start_server(server, listen, &[]).await;
        self.servers()[server] = started;
    }

    /// Starts another worker for a server and waits until it is attached; answers with its index.
    pub async fn add_worker(&self, server: usize, plan: WorkerPlan) -> usize {
        self.add_worker_at(&self.endpoint_of(server), plan).await
    }

    /// Starts another worker for whatever serves at `endpoint` and waits until it is attached; answers with its index.
    pub async fn add_worker_at(&self, endpoint: &str, plan: WorkerPlan) -> usize {
        let process = self.start_worker(endpoint, &plan).await;
        let mut workers = self.workers();
        workers.push((process, plan));
        workers.len() - 1
    }

    /// Starts a worker that was killed or stopped again, with the same name and state directory.
    pub async fn restart_worker(&self, worker: usize) {
        let plan = self.workers()[worker].1.clone();
        let process = self.start_worker(&self.endpoint(), &plan).await;
        self.workers()[worker].0 = process;
    }

    /// Kills everything and drops the database; what a test that cares about a clean end calls last.
    pub async fn remove(self) {
        self.workers().clear();
        self.servers().clear();
        self.database.remove().await;
    }

    async fn start_server(&self, index: usize, listen: &str, flags: &[&str]) -> (Process, String) {
        let name = format!("server-{index}");
        let mut command = Command::new(binaries::taskyard());
        command
            .args(["server", "--listen", listen, "--database-url"])
            .arg(self.database.url())
            .arg("--lease")
            .arg(format!("{}ms", self.lease.as_millis()))
            .args(&self.server_flags)
            .args(flags)
            .env("TASKYARD_ADMIN_LISTEN", "off")
            .envs(self.server_env.iter().cloned())
            .env("TASKYARD_LOG", log_level());
        let log = self.folder.path().join(format!("{name}.log"));
        // A restarted server says it again, so the old words must go.
        let _ = std::fs::rename(&log, log.with_extension("log.before"));
        let process = Process::start(&name, command, &log);
        let address = process.logged("serving on ", SOON).await;
        (process, address.trim().to_owned())
    }

    async fn start_worker(&self, endpoint: &str, plan: &WorkerPlan) -> Process {
        let mut command = match plan.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binaries::taskyard());
                command
            }
            None => Command::new(binaries::taskyard()),
        };
        command
            .args(["worker", "--endpoint", endpoint, "--name", &plan.name])
            .arg("--data-dir")
            .arg(self.folder.path().join(&plan.name))
            .args(&plan.flags)
            .env("TASKYARD_ADMIN_LISTEN", "off")
            .envs(plan.env.iter().cloned())
            .env("TASKYARD_LOG", log_level());
        let mut client = Client::connect(endpoint).await;
        let boots_before = attached_boots(&mut client, &plan.name).await;
        let log = self.folder.path().join(format!("{}.log", plan.name));
        let process = Process::start(&plan.name, command, &log);
        until("the worker to attach", SOON, async || {
            let log = process.log();
            assert!(process.ended().is_none(), "the worker ended:\n{log}");
            let boots = attached_boots(&mut client, &plan.name).await;
            boots.iter().any(|boot| !boots_before.contains(boot))
        })
        .await;
        process
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, Vec<(Process, String)>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<(Process, WorkerPlan)>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (process, _) in self.servers().iter() {
                show_log("server", process);
            }
            for (process, plan) in self.workers().iter() {
                show_log(&plan.name, process);
            }
        }
    }
}

/// Boots of a worker that are attached now.
async fn attached_boots(client: &mut Client, name: &str) -> Vec<String> {
    let request = ListWorkersRequest {
        page_size: 500,
        ..ListWorkersRequest::default()
    };
    let Ok(answer) = client.admin.list_workers(request).await else {
        return Vec::new();
    };
    answer
        .into_inner()
        .workers
        .into_iter()
        .filter(|worker| worker.name == name && worker.status() == WorkerStatus::Active)
        .map(|worker| worker.worker_session_id)
        .collect()
}

fn log_level() -> String {
    std::env::var("TASKYARD_TEST_LOG").unwrap_or_else(|_| "info".to_owned())
}

fn show_log(name: &str, process: &Process) {
    let log = process.log();
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LOG_LINES);
    eprintln!(
        "--- {name} ({:?})\n{}",
        process.ended(),
        lines[from..].join("\n")
    );
}
