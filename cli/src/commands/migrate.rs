//! `migrate`: brings a database to this version's schema.

use clap::Args;

use crate::console;
use crate::dev::service::DatabaseArguments;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Bring the database to this version's schema; `server` and `dev` do so by themselves
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard migrate --database-url postgres://taskyard@db.example/taskyard
  TASKYARD_DATABASE_URL=postgres:///taskyard taskyard migrate
  taskyard migrate --restored --data-dir /var/lib/taskyard

Exit codes: 0 this version can use the schema, 2 usage, 125 failed, or the schema is too new")]
pub struct MigrateArguments {
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// The database was put back from a copy of its files, or a dump was loaded into it: watchers are told to begin anew
    #[arg(long)]
    pub restored: bool,
}

/// Migrates; what is there already stays.
pub async fn execute(arguments: MigrateArguments) -> Result<ExitCode, Failure> {
    let database = arguments.database.open().await?;
    let migrated = taskyard_server::migrate(database.url(), arguments.restored).await;
    let closed = database.close().await;
    let report = migrated.map_err(|error| Failure::of_server(&error))?;
    closed?;
    for name in &report.applied {
        console::print(&format!("applied {name}\n"))?;
    }
    console::print(&format!("schema version {}\n", report.version))?;
    if report.version > report.known {
        console::note(&format!(
            "a newer release has migrated this database; this program knows versions up to {} and can use it",
            report.known
        ));
    }
    if arguments.restored {
        console::print("another store from now on\n")?;
    }
    Ok(ExitCode::Success)
}
