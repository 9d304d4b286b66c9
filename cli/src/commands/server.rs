//! `server`: the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use taskyard_server::{Server, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::console;
use crate::dev::database::Database;
use crate::dev::listen::{checked_listen, ensure_free, parse_listen};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::quantity::parse_lease;

/// Serve the control plane; workers and clients connect to it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard server --database-url postgres://taskyard@db.example/taskyard
  taskyard server --data-dir /var/lib/taskyard --listen 127.0.0.1:9000
  TASKYARD_LOG=debug taskyard server --database-url postgres:///taskyard --lease 10s

Exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 usage, 125 failed. Logs go to standard error
at the level of TASKYARD_LOG.")]
pub struct ServerArguments {
    /// Address to serve on [default: 127.0.0.1:8275]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Postgres 15 to 18 to use, instead of a private one
    #[arg(
        long,
        value_name = "URL",
        env = "TASKYARD_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Where a private Postgres keeps its data
    #[arg(
        long,
        value_name = "DIR",
        env = "TASKYARD_DATA_DIR",
        hide_env_values = true
    )]
    pub data_dir: Option<PathBuf>,
    /// Lease of every task, 1s to 1h [default: 30s where another run may follow, else 120s]
    #[arg(long, value_name = "DURATION", value_parser = parse_lease)]
    pub lease: Option<Duration>,
    /// Allow an address that others can reach; there is no authentication yet
    #[arg(long)]
    pub insecure_listen: bool,
}

/// Serves until it is told to stop.
pub async fn execute(arguments: ServerArguments) -> Result<ExitCode, Failure> {
    let listen = checked_listen(
        arguments.listen,
        "127.0.0.1:8275",
        arguments.insecure_listen,
    )?;
    ensure_free(listen)?;
    let mut interrupts = Interrupts::listen(true)?;
    let data_dir = arguments
        .data_dir
        .unwrap_or_else(taskyard_postgres::default_data_dir);
    let database = Database::open(&data_dir, arguments.database_url.as_deref()).await?;
    let ended = serve(&database, listen, arguments.lease, &mut interrupts).await;
    let stopped = database.close().await;
    ended?;
    stopped.map(|()| ExitCode::Success)
}

async fn serve(
    database: &Database,
    listen: SocketAddr,
    lease: Option<Duration>,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let config = ServerConfig {
        database_url: database.url().to_owned(),
        listen,
        lease,
    };
    let server = tokio::select! {
        bound = Server::bind(config) => bound.map_err(|error| Failure::own(&error))?,
        () = interrupts.next() => return Err(Failure::Interrupted("stopped before it served".to_owned())),
    };
    console::note(&format!("serving on http://{}", server.local_addr()));
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
