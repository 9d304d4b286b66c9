//! The flags that `server`, `dev` and `run --dev` share: where to serve, and on which database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::dev::database::Database;
use crate::dev::listen::{Guard, checked_listen, parse_listen};
use crate::dev::storage::StorageArguments;
use crate::failure::Failure;
use crate::quantity::parse_lease;

/// Flags of a server.
#[derive(Debug, Clone, Args)]
pub struct ServiceArguments {
    /// Address to serve on
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// Lease of every task, 1s to 1h [default: 30s where another run may follow, else 120s]
    #[arg(long, value_name = "DURATION", value_parser = parse_lease, allow_hyphen_values = true)]
    pub lease: Option<Duration>,
    /// Allow an address that is open to others without authentication
    #[arg(long)]
    pub insecure_listen: bool,
    /// Keys under which values of secrets are kept
    #[arg(
        long,
        value_name = "FILE",
        env = "TASKYARD_SECRET_KEY_FILE",
        hide_env = true
    )]
    pub secret_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub storage: StorageArguments,
    /// Deliver webhooks to private and loopback addresses, too
    #[arg(long)]
    pub allow_private_webhooks: bool,
}

/// Which database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArguments {
    /// Where a private Postgres keeps its data [default: /var/lib/taskyard, or ~/.local/share/taskyard]
    #[arg(
        long,
        value_name = "DIR",
        env = "TASKYARD_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// Postgres 15 to 18 to use, instead of a private one
    #[arg(
        long,
        value_name = "URL",
        env = "TASKYARD_DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
}

impl ServiceArguments {
    /// The address, checked; `guard` is what stands before it where nothing is forced.
    pub fn address(&self, default: &str, guard: Guard) -> Result<SocketAddr, Failure> {
        let guard = if self.insecure_listen {
            Guard::Forced
        } else {
            guard
        };
        checked_listen(self.listen, default, guard)
    }
}

impl DatabaseArguments {
    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(taskyard_postgres::default_data_dir)
    }

    /// Takes the given database, or starts the private one.
    pub async fn open(&self) -> Result<Database, Failure> {
        Database::open(&self.data_dir(), self.database_url.as_deref()).await
    }
}
