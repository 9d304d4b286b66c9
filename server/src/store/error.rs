//! What can go wrong between us and Postgres, told apart by what a caller does about it.

use super::shared_pool::find_no_turn;
use crate::limits::turns::NoTurn;
use sqlx::migrate::MigrateError;

/// A failed use of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or broke the connection; the same call may work later.
    #[error("the database is not reachable")]
    Unavailable(#[source] sqlx::Error),
    /// The caller has as many statements under way as it may have at once, or the server as much of such work, and they
    /// take long.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// Another transaction got in the way; the whole transaction is to be run again.
    #[error("another transaction got in the way")]
    Conflict(#[source] sqlx::Error),
    /// A unique constraint or index refused the row.
    #[error("`{constraint}` refuses the row")]
    Duplicate {
        /// Name of the constraint or index.
        constraint: String,
    },
    /// A session that was to get new tasks was deleted meanwhile.
    #[error("the session was deleted")]
    SessionDeleted,
    /// The database has no room for more.
    #[error("the database's disk is full")]
    DiskFull(#[source] sqlx::Error),
    /// The database takes reads only.
    #[error("the database is read-only; it may be a standby")]
    ReadOnly(#[source] sqlx::Error),
    /// The schema is newer than this program, and has taken away what this program uses.
    #[error(
        "the database's schema has version {found} and can be used by programs that know version {needs}, this program knows versions up to {known}: run a newer taskyard"
    )]
    NewerSchema {
        /// Version found.
        found: i64,
        /// Version that a program must know.
        needs: i64,
        /// Newest version known.
        known: i64,
    },
    /// The schema has grown in another order than this program's.
    #[error(
        "the database has migration {found}, which this program, at version {known}, does not know, and is not simply ahead of it: a build of another line migrated it; run that one, or use another database"
    )]
    OtherSchema {
        /// The first migration that is not known.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// A migration could not be applied.
    #[error("the database's schema could not be brought up to date")]
    Migration(#[source] MigrateError),
    /// The URL is no Postgres URL.
    #[error(
        "the database URL is not valid: {problem}; write it like postgres://user@host:5432/name"
    )]
    BadUrl {
        /// What is wrong with it; never the URL itself, which may hold a password.
        problem: String,
    },
    /// Nothing answers where the URL leads, at the start.
    #[error(
        "cannot reach the database at {place}: {cause}; check --database-url, or leave it out for a private Postgres"
    )]
    Unreachable {
        /// Host and port, or the folder of a socket and port.
        place: String,
        /// The operating system's words, or ours.
        cause: String,
    },
    /// The database server answers, and has no database of this name.
    #[error("the database {name:?} does not exist at {place}; create it with `{command}`")]
    NoDatabase {
        /// Its name.
        name: String,
        /// As in [`StoreError::Unreachable`].
        place: String,
        /// A command that creates it.
        command: String,
    },
    /// The database refused who we are, or does not exist.
    #[error("the database refused the connection: {reason}")]
    Refused {
        /// The database's own words.
        reason: String,
    },
    /// A row holds what this program cannot read.
    #[error("a stored {what} cannot be read: {problem}")]
    Corrupt {
        /// What sort of value.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Anything else the database said.
    #[error("the database failed")]
    Other(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether running the whole transaction again, a little later, may work.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::NoTurn(_) | Self::Conflict(_) => true,
            Self::Duplicate { .. }
            | Self::SessionDeleted
            | Self::DiskFull(_)
            | Self::ReadOnly(_)
            | Self::NewerSchema { .. }
            | Self::OtherSchema { .. }
            | Self::Migration(_)
            | Self::BadUrl { .. }
            | Self::Unreachable { .. }
            | Self::NoDatabase { .. }
            | Self::Refused { .. }
            | Self::Corrupt { .. }
            | Self::Other(_) => false,
        }
    }

    /// Whether the database refused what it was given, so that the same will be refused again, and something else not.
    #[must_use]
    pub fn refuses_content(&self) -> bool {
        match self {
            Self::Duplicate { .. } => true,
            Self::Other(sqlx::Error::Database(database)) => {
                // data exceptions, and violations of constraints
                let code = database.code().unwrap_or_default();
                code.starts_with("22") || code.starts_with("23")
            }
            Self::Other(sqlx::Error::Encode(_)) => true,
            Self::Other(_)
            | Self::Unavailable(_)
            | Self::NoTurn(_)
            | Self::Conflict(_)
            | Self::SessionDeleted
            | Self::DiskFull(_)
            | Self::ReadOnly(_)
            | Self::NewerSchema { .. }
            | Self::OtherSchema { .. }
            | Self::Migration(_)
            | Self::BadUrl { .. }
            | Self::Unreachable { .. }
            | Self::NoDatabase { .. }
            | Self::Refused { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// A database that cannot be reached, for tests.
    #[cfg(test)]
    pub(crate) fn away() -> Self {
        Self::Unavailable(sqlx::Error::PoolClosed)
    }

    pub(crate) fn corrupt(what: &'static str, problem: impl ToString) -> Self {
        Self::Corrupt {
            what,
            problem: problem.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// By SQLSTATE, as in the PostgreSQL manual's appendix A; never by text.
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                error if let Some(no_turn) = find_no_turn(&error) => Self::NoTurn(no_turn),
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
                other => Self::Other(other),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        match code.as_str() {
            "23505" => Self::Duplicate {
                constraint: database.constraint().unwrap_or_default().to_owned(),
            },
            "40001" | "40P01" | "55P03" => Self::Conflict(error),
            "53100" => Self::DiskFull(error),
            "25006" => Self::ReadOnly(error),
            "28000" | "28P01" | "3D000" | "42501" => Self::Refused {
                reason: database.message().to_owned(),
            },
            code if code.starts_with("08") || code.starts_with("57P") || code == "53300" => {
                Self::Unavailable(error)
            }
            _ => Self::Other(error),
        }
    }
}
