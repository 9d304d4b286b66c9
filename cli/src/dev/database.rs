//! The database: a private Postgres in a data directory, or one that was given.

use std::path::{Path, PathBuf};

use taskyard_postgres::{Binaries, Cluster, ClusterConfig, ClusterError, Tuning};

use crate::failure::{Failure, chain};

/// Name of the database in a private Postgres.
const DATABASE: &str = "taskyard";
/// File in the data directory that says where the Taskyard that uses it serves.
const ENDPOINT_FILE: &str = "endpoint";

/// A database that is up. A private one runs until [`Database::close`].
#[derive(Debug)]
pub struct Database {
    url: String,
    cluster: Option<Cluster>,
    data_dir: PathBuf,
}

impl Database {
    /// Takes the given database, or starts the private one in `data_dir`.
    pub async fn open(data_dir: &Path, given_url: Option<&str>) -> Result<Database, Failure> {
        if let Some(url) = given_url.filter(|url| !url.is_empty()) {
            return Ok(Database {
                url: url.to_owned(),
                cluster: None,
                data_dir: data_dir.to_owned(),
            });
        }
        let binaries = Binaries::find(None).map_err(|error| Failure::own(&error))?;
        let config = ClusterConfig {
            data_dir: data_dir.join("postgres"),
            binaries,
            tuning: Tuning::Durable,
        };
        tracing::info!(data_dir = %config.data_dir.display(), "starting a private postgres");
        let cluster = Cluster::start(config)
            .await
            .map_err(|error| start_failure(&error, data_dir))?;
        if let Err(error) = cluster.create_database(DATABASE).await {
            let failure = Failure::own(&error);
            if let Err(error) = cluster.stop().await {
                tracing::warn!(error = %chain(&error), "the private postgres did not stop");
            }
            return Err(failure);
        }
        Ok(Database {
            url: cluster.url(DATABASE),
            cluster: Some(cluster),
            data_dir: data_dir.to_owned(),
        })
    }

    /// For the server. May hold a password where it was given with one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What to tell a person about it.
    pub fn description(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!(
                "private Postgres {} in {}",
                cluster.major(),
                self.data_dir.display()
            ),
            None => "the Postgres of --database-url".to_owned(),
        }
    }

    /// Leaves word of the endpoint for those who find the data directory in use. Best effort: it only serves a hint.
    pub fn publish_endpoint(&self, endpoint: &str) {
        if self.cluster.is_some() {
            let path = self.data_dir.join(ENDPOINT_FILE);
            if let Err(error) = std::fs::write(&path, endpoint) {
                tracing::warn!(path = %path.display(), %error, "cannot leave word of the endpoint");
            }
        }
    }

    /// Stops a private Postgres; leaves a given one alone.
    pub async fn close(self) -> Result<(), Failure> {
        let Some(cluster) = self.cluster else {
            return Ok(());
        };
        let _ = std::fs::remove_file(self.data_dir.join(ENDPOINT_FILE));
        cluster.stop().await.map_err(|error| Failure::own(&error))
    }
}

fn start_failure(error: &ClusterError, data_dir: &Path) -> Failure {
    if let ClusterError::Io { .. } = error {
        return Failure::Own(format!("{}; choose another --data-dir", chain(error)));
    }
    let ClusterError::InUse { holder, .. } = error else {
        return Failure::own(error);
    };
    let holder = holder.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    let endpoint = std::fs::read_to_string(data_dir.join(ENDPOINT_FILE)).unwrap_or_default();
    let how_to_use = if endpoint.starts_with("http://") {
        format!(
            "use it with `--endpoint {}`",
            crate::console::clean(endpoint.trim())
        )
    } else {
        "stop it".to_owned()
    };
    Failure::Own(format!(
        "a Taskyard already runs on {} ({holder}); {how_to_use}, or choose another --data-dir",
        data_dir.display()
    ))
}
