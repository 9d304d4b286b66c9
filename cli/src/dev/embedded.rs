//! Database, server and worker inside this process: started in this order, stopped in the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use taskyard_server::{
    AuthSettings, DEFAULT_AUDIT_RETENTION, Server, ServerConfig, ServerLimits, ServerProbe,
    TreeLimits,
};
use taskyard_worker::WorkerConfig;
use taskyard_worker::access::AccessSettings;
use taskyard_worker::isolation::IsolationConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::worker::WorkerSecretArguments;
use crate::console;
use crate::dev::database::Database;
use crate::dev::listen::{Guard, ensure_free};
use crate::dev::secret_key;
use crate::dev::service::{DatabaseArguments, ServiceArguments};
use crate::dev::storage::Storage;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::machine::{default_slots, host_name, shim_program};

/// The worker and the server each keep their own bounds on stopping; these are for when they do not.
const WORKER_STOP_LIMIT: Duration = Duration::from_secs(40);
const SERVER_STOP_LIMIT: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug, Clone)]
pub struct EmbeddedPlan {
    listen: SocketAddr,
    database: DatabaseArguments,
    lease: Option<Duration>,
    min_monitor_interval: Option<Duration>,
    storage: Storage,
    secret_key_file: Option<PathBuf>,
    secrets_of_worker: WorkerSecretArguments,
    allow_private_webhooks: bool,
}

impl EmbeddedPlan {
    /// Checks the flags, and that the address is free.
    pub fn new(arguments: ServiceArguments, default_listen: &str) -> Result<EmbeddedPlan, Failure> {
        let listen = arguments.address(default_listen, Guard::Open)?;
        ensure_free(listen)?;
        let storage = arguments
            .storage
            .checked_with_default(&arguments.database.data_dir())?;
        Ok(EmbeddedPlan {
            listen,
            storage,
            database: arguments.database,
            lease: arguments.lease,
            min_monitor_interval: None,
            secret_key_file: arguments.secret_key_file,
            secrets_of_worker: WorkerSecretArguments::default(),
            allow_private_webhooks: arguments.allow_private_webhooks,
        })
    }

    /// The same, where no monitor may fire more often than so.
    #[must_use]
    pub fn with_monitor_interval(self, minimum: Option<Duration>) -> EmbeddedPlan {
        EmbeddedPlan {
            min_monitor_interval: minimum,
            ..self
        }
    }

    /// The same, where the worker gives these of its own variables and files to tasks.
    #[must_use]
    pub fn with_secrets_of_worker(self, secrets_of_worker: WorkerSecretArguments) -> EmbeddedPlan {
        EmbeddedPlan {
            secrets_of_worker,
            ..self
        }
    }

    /// Where the data is kept.
    pub fn data_dir(&self) -> PathBuf {
        self.database.data_dir()
    }
}

/// A running Taskyard. To be ended with [`Embedded::stop`].
#[derive(Debug)]
pub struct Embedded {
    endpoint: String,
    database: Database,
    probe: ServerProbe,
    server: Part,
    worker: Part,
}

/// One of the two that run as tasks of this process.
#[derive(Debug)]
struct Part {
    name: &'static str,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Failure>>,
    has_ended: bool,
}

impl Embedded {
    /// Starts everything. An interrupt meanwhile stops what was started; a second one leaves at once.
    pub async fn start(
        plan: EmbeddedPlan,
        interrupts: &mut Interrupts,
    ) -> Result<Embedded, Failure> {
        let starting = start_all(plan);
        tokio::pin!(starting);
        tokio::select! {
            started = &mut starting => return started,
            () = interrupts.next() => console::note("stopping as soon as it has started; Ctrl-C again leaves at once"),
        }
        tokio::select! {
            started = &mut starting => {
                started?.stop().await?;
                Err(Failure::Interrupted("stopped".to_owned()))
            }
            () = interrupts.next() => Err(Failure::Interrupted(
                "left while starting; a Postgres that is left behind is used again by the next start".to_owned(),
            )),
        }
    }

    /// Where it serves.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Looks whether the server is ready.
    pub fn probe(&self) -> ServerProbe {
        self.probe.clone()
    }

    /// What to tell a person about the database.
    pub fn database(&self) -> String {
        self.database.description()
    }

    /// Returns when the server or the worker ends by itself, which neither should.
    pub async fn failed(&mut self) -> Failure {
        tokio::select! {
            failure = self.server.failed() => failure,
            failure = self.worker.failed() => failure,
        }
    }

    /// Stops the worker with its children, then the server, then the database. All are tried; the first failure is
    /// returned.
    pub async fn stop(self) -> Result<(), Failure> {
        let worker = self.worker.stop(WORKER_STOP_LIMIT).await;
        let server = self.server.stop(SERVER_STOP_LIMIT).await;
        let database = self.database.close().await;
        worker.and(server).and(database)
    }
}

impl Part {
    fn start(
        name: &'static str,
        shutdown: CancellationToken,
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Part {
        Part {
            name,
            shutdown,
            running: tokio::spawn(work),
            has_ended: false,
        }
    }

    async fn failed(&mut self) -> Failure {
        if self.has_ended {
            return std::future::pending().await;
        }
        let ended = (&mut self.running).await;
        self.has_ended = true;
        match flatten(self.name, ended) {
            Ok(()) => Failure::Own(format!("the {} ended by itself", self.name)),
            Err(failure) => failure,
        }
    }

    async fn stop(self, limit: Duration) -> Result<(), Failure> {
        if self.has_ended {
            return Ok(());
        }
        self.shutdown.cancel();
        let abort = self.running.abort_handle();
        match tokio::time::timeout(limit, self.running).await {
            Ok(ended) => flatten(self.name, ended),
            Err(_) => {
                abort.abort();
                Err(Failure::Own(format!(
                    "the {} did not stop within {} s",
                    self.name,
                    limit.as_secs()
                )))
            }
        }
    }
}

fn flatten(
    name: &str,
    ended: Result<Result<(), Failure>, tokio::task::JoinError>,
) -> Result<(), Failure> {
    match ended {
        Ok(ended) => ended,
        Err(error) => Err(Failure::Own(format!("the {name} broke down: {error}"))),
    }
}

async fn start_all(plan: EmbeddedPlan) -> Result<Embedded, Failure> {
    // Told before anything runs.
    let shim_program = shim_program();
    let database = plan.database.open().await?;
    let secret_key_file = match &plan.secret_key_file {
        Some(path) => Ok(path.clone()),
        None => secret_key::ensure(&plan.data_dir()),
    };
    let secret_key_file = match secret_key_file {
        Ok(path) => path,
        Err(failure) => {
            if let Err(failure) = database.close().await {
                console::note(&failure.to_string());
            }
            return Err(failure);
        }
    };
    let server_config = ServerConfig {
        database_url: database.url().to_owned(),
        listen: plan.listen,
        lease: plan.lease,
        min_monitor_interval: plan.min_monitor_interval,
        tree: TreeLimits::DEFAULT,
        limits: ServerLimits::DEFAULT,
        file_quotas: plan.storage.file_quotas,
        object_store: plan.storage.object_store.clone(),
        object_grace: plan.storage.object_grace,
        secret_key_file: Some(secret_key_file),
        allow_private_webhooks: plan.allow_private_webhooks,
        tls: None,
        auth: AuthSettings::default(),
        audit_retention: DEFAULT_AUDIT_RETENTION,
        // one server, nothing to move to
        max_connection_age: None,
        shutdown_delay: Duration::ZERO,
    };
    let server = match Server::bind(server_config).await {
        Ok(server) => server,
        Err(error) => {
            let failure = Failure::of_server(&error);
            if let Err(failure) = database.close().await {
                console::note(&failure.to_string());
            }
            return Err(failure);
        }
    };
    let endpoint = format!("http://{}", reachable(server.local_addr()));
    database.publish_endpoint(&endpoint);
    let probe = server.probe();
    let server_shutdown = CancellationToken::new();
    let serving = server.serve(server_shutdown.clone());
    let server = Part::start("server", server_shutdown, async move {
        serving.await.map_err(|error| Failure::own(&error))
    });
    let worker_config = WorkerConfig {
        endpoint: endpoint.clone(),
        access: AccessSettings::default(),
        pool: None,
        name: host_name("-dev"),
        slots: default_slots(),
        queues: Vec::new(),
        kinds: Vec::new(),
        labels: Default::default(),
        secret_env: plan.secrets_of_worker.secret_env.clone(),
        secret_dirs: plan.secrets_of_worker.secret_dirs.clone(),
        inherit_env: plan.secrets_of_worker.inherit_env.clone(),
        data_dir: plan.data_dir().join("worker"),
        shim_program,
        drain: taskyard_worker::DEFAULT_DRAIN,
        keep_results: taskyard_worker::DEFAULT_KEEP_RESULTS,
        isolation: IsolationConfig {
            // the database and the files of all sessions lie there, too
            private: vec![plan.data_dir()],
            ..IsolationConfig::default()
        },
    };
    let worker_shutdown = CancellationToken::new();
    let working = taskyard_worker::run(worker_config, worker_shutdown.clone());
    let worker = Part::start("worker", worker_shutdown, async move {
        working.await.map_err(|error| Failure::of_worker(&error))
    });
    Ok(Embedded {
        endpoint,
        database,
        probe,
        server,
        worker,
    })
}

/// The address under which this process itself reaches the server.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = if address.is_ipv4() {
        std::net::Ipv4Addr::LOCALHOST.into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(loopback, address.port())
}
