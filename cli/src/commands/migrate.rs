//! `migrate`: brings a database to this version's schema.

use std::path::PathBuf;

use clap::Args;

use crate::console;
use crate::dev::database::Database;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Bring the database to this version's schema; `server` and `dev` do so by themselves
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard migrate --database-url postgres://taskyard@db.example/taskyard
  TASKYARD_DATABASE_URL=postgres:///taskyard taskyard migrate
  taskyard migrate --data-dir /var/lib/taskyard

Exit codes: 0 the schema is this version's, 2 usage, 125 failed, or the schema is newer")]
pub struct MigrateArguments {
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
}

/// Migrates; what is there already stays.
pub async fn execute(arguments: MigrateArguments) -> Result<ExitCode, Failure> {
    let data_dir = arguments
        .data_dir
        .unwrap_or_else(taskyard_postgres::default_data_dir);
    let database = Database::open(&data_dir, arguments.database_url.as_deref()).await?;
    let migrated = taskyard_server::migrate(database.url()).await;
    let closed = database.close().await;
    let report = migrated.map_err(|error| Failure::own(&error))?;
    closed?;
    for name in &report.applied {
        console::print(&format!("applied {name}\n"))?;
    }
    console::print(&format!("schema version {}\n", report.version))?;
    Ok(ExitCode::Success)
}
