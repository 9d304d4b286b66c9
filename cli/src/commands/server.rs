//! `server`: the control plane.

use std::time::Duration;

use clap::Args;
use taskyard_server::{Server, ServerConfig, TreeLimits};
use tokio_util::sync::CancellationToken;

use crate::admin_port::{self, AdminArguments, AdminPort};
use crate::commands::server_identity::IdentityArguments;
use crate::commands::server_lifetime::LifetimeArguments;
use crate::commands::server_limits::LimitArguments;
use crate::console;
use crate::dev::listen::ensure_free;
use crate::dev::service::ServiceArguments;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::quantity::parse_monitor_interval;

/// Serve the control plane; workers and clients connect to it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard server --database-url postgres://taskyard@db.example/taskyard
  taskyard server --data-dir /var/lib/taskyard --listen 127.0.0.1:9000
  TASKYARD_LOG=debug taskyard server --database-url postgres:///taskyard --lease 10s

TLS, authentication (docs/security.md): --tls-{cert,key,client-ca,client-auth}, --plaintext-listen,
--auth-{file,jwks,jwks-ca,issuer,audience}, --audit-retention. Limits (docs/limits.md): --call-rate,
--max-{calls,streams,session-tasks}, ... Ends (docs/operations.md): --max-connection-age, ...

Exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 usage, 125 failed. Logs: standard error, TASKYARD_LOG")]
pub struct ServerArguments {
    #[command(flatten)]
    pub service: ServiceArguments,
    #[command(flatten)]
    pub admin: AdminArguments,
    /// No monitor may fire more often [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_monitor_interval, allow_hyphen_values = true, hide = true)]
    pub min_monitor_interval: Option<Duration>,
    /// Most ancestors of a task
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_TREE_DEPTH", hide_env_values = true,
        default_value_t = TreeLimits::DEFAULT.max_depth, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub max_tree_depth: u32,
    /// Most children of a task, ended ones included
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_CHILDREN", hide_env_values = true,
        default_value_t = TreeLimits::DEFAULT.max_children, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub max_children: u64,
    #[command(flatten)]
    pub identity: IdentityArguments,
    #[command(flatten)]
    pub limits: LimitArguments,
    #[command(flatten)]
    pub lifetime: LifetimeArguments,
}

/// Serves until it is told to stop.
pub async fn execute(arguments: ServerArguments) -> Result<ExitCode, Failure> {
    let tree = TreeLimits {
        max_depth: arguments.max_tree_depth,
        max_children: arguments.max_children,
    };
    let service = arguments.service;
    let listen = service.address("127.0.0.1:8275", arguments.identity.guard())?;
    ensure_free(listen)?;
    let identity = arguments.identity.checked()?;
    let scheme = if identity.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let storage = service.storage.checked()?;
    let mut interrupts = Interrupts::listen(true)?;
    let admin = arguments.admin.open(Some(admin_port::DEFAULT)).await?;
    let database = service.database.open().await?;
    let config = ServerConfig {
        database_url: database.url().to_owned(),
        listen,
        lease: service.lease,
        min_monitor_interval: arguments.min_monitor_interval,
        tree,
        limits: arguments.limits.limits(),
        file_quotas: storage.file_quotas,
        object_store: storage.object_store,
        object_grace: storage.object_grace,
        secret_key_file: service.secret_key_file,
        allow_private_webhooks: service.allow_private_webhooks,
        tls: identity.tls,
        auth: identity.auth,
        audit_retention: identity.audit_retention,
        max_connection_age: arguments.lifetime.connection_age(),
        shutdown_delay: arguments.lifetime.shutdown_delay.unwrap_or_default(),
    };
    let ended = serve(config, scheme, &admin, &mut interrupts).await;
    let stopped = database.close().await;
    ended?;
    stopped.map(|()| ExitCode::Success)
}

async fn serve(
    config: ServerConfig,
    scheme: &str,
    admin: &AdminPort,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let server = tokio::select! {
        bound = Server::bind(config) => bound.map_err(|error| Failure::of_server(&error))?,
        () = interrupts.next() => return Err(Failure::Interrupted("stopped before it served".to_owned())),
    };
    admin.started(server.probe());
    console::note(&format!("serving on {scheme}://{}", server.local_addr()));
    let shutdown = CancellationToken::new();
    let serving = server.serve(shutdown.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            ended = &mut serving => return ended.map_err(|error| Failure::own(&error)),
            () = interrupts.next() => {
                if shutdown.is_cancelled() {
                    return Err(Failure::Interrupted("stopped at once".to_owned()));
                }
                console::note("stopping; Ctrl-C again stops at once");
                shutdown.cancel();
            }
        }
    }
}
