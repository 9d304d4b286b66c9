//! A private, real PostgreSQL that a program starts and stops for itself.
//!
//! The cluster lives in one directory, listens on a unix socket only, and belongs to one user. Nothing is installed:
//! [`Binaries::find`] looks for PostgreSQL 15 to 18 on the machine and then in Taskyard's cache, where the set-up
//! script puts a fetched copy. [`Cluster::start`] initialises the directory if it is new, takes its lock, and brings up
//! the server or re-uses one that a crashed owner left behind.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use taskyard_postgres::{Binaries, Cluster, ClusterConfig, Tuning, default_data_dir};
//!
//! let cluster = Cluster::start(ClusterConfig {
//!     data_dir: default_data_dir().join("postgres"),
//!     binaries: Binaries::find(None)?,
//!     tuning: Tuning::Durable,
//! })
//! .await?;
//! cluster.create_database("taskyard").await?;
//! let url = cluster.url("taskyard"); // for sqlx, psql, or anything else
//! cluster.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # What lies in the data directory
//! `pgdata/` (the cluster proper), `socket/` (mode 0700), `postgres.log` and the one before it (`postgres.log.1`),
//! and `lock`, which names the process that uses the directory. `pgdata.init/` is a first start that was cut short;
//! the next start removes it.
//!
//! # The life of the server
//! The server has a process group of its own, so Ctrl-C in a terminal reaches only its owner, who stops it last. It is
//! deliberately not tied to the owner's life: when the owner is killed, the server stays, answers nobody new (its
//! socket is private), and the next start re-uses it within milliseconds. [`Cluster::stop`] stops it either way. A
//! server that died with its owner is recovered by PostgreSQL's own crash recovery.
//!
//! # As root
//! PostgreSQL refuses to run as root, so root runs it as `postgres`, else `nobody`, or as whoever owns an existing
//! `pgdata`. That user must be able to reach the data directory, hence [`default_data_dir`] below `/var/lib`.

mod account;
mod binaries;
mod cluster;
mod database;
mod directory;
mod error;
mod initdb;
mod paths;
mod postmaster;
mod server;
mod socket;
mod tuning;

pub use binaries::{Binaries, FindError, Installation, NEWEST_MAJOR, OLDEST_MAJOR};
pub use cluster::{Cluster, ClusterConfig};
pub use error::ClusterError;
pub use paths::{default_cache_dir, default_data_dir};
pub use tuning::Tuning;
