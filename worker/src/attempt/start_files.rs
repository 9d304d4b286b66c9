//! Files of the session that a command is started with: its variables and its standard input.

use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::env_file::read_variables;
use super::inputs::{InputFailure, blocking, refused, start_failed};
use super::services::{Services, chain, is_trouble_of_the_disk};
use crate::lease::{CommandWork, ErrorFacts, Lease, StartFault};
use crate::workspace::{Workspace, write_all};

const ENV_FILE_BYTES_MAX: usize = 256 * 1024;
const STDIN_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest time for all of them.
const FETCH_BOUND: Duration = Duration::from_secs(10 * 60);

/// Fetches standard input, and reads the variables, later ones behind earlier ones.
pub async fn fetch_start_files(
    services: &Services,
    lease: &Lease,
    work: &CommandWork,
    workspace: &Workspace,
) -> Result<Vec<(String, String)>, InputFailure> {
    let fetching = async {
        let mut variables = Vec::new();
        for path in &work.env_files {
            variables.extend(fetch_variables(services, lease, path).await?);
        }
        if !work.stdin_file.is_empty() {
            fetch_stdin(services, lease, &work.stdin_file, &workspace.stdin()).await?;
        }
        Ok(variables)
    };
    tokio::time::timeout(FETCH_BOUND, fetching)
        .await
        .unwrap_or_else(|_| {
            Err(InputFailure::Failed(ErrorFacts::of_worker(
                "the files to start the task with could not be fetched within 10 minutes"
                    .to_owned(),
                "",
            )))
        })
}

async fn fetch_variables(
    services: &Services,
    lease: &Lease,
    path: &str,
) -> Result<Vec<(String, String)>, InputFailure> {
    let mut content = Vec::new();
    let mut reading = services.files.read(lease, path);
    while let Some(piece) = reading
        .next()
        .await
        .map_err(|error| refused(StartFault::Env, path, error))?
    {
        if piece.starts_again {
            content.clear();
        }
        content.extend_from_slice(&piece.data);
        if content.len() > ENV_FILE_BYTES_MAX {
            return Err(start_failed(
                StartFault::Env,
                format!("{path} has more than 256 KiB of variables"),
            ));
        }
    }
    read_variables(&content).map_err(|problem| {
        start_failed(
            StartFault::Env,
            format!("{path} cannot be read for its variables: {problem}"),
        )
    })
}

async fn fetch_stdin(
    services: &Services,
    lease: &Lease,
    path: &str,
    to: &Path,
) -> Result<(), InputFailure> {
    let cannot_write = |error: std::io::Error| {
        let message = format!("cannot keep {path} for standard input: {}", chain(&error));
        if is_trouble_of_the_disk(&error) {
            services.storage.report_failure(&error);
        }
        InputFailure::Failed(ErrorFacts::of_worker(message, ""))
    };
    let to = to.to_owned();
    let created = blocking(move || {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        options.open(to)
    });
    let mut target: File = created.await.map_err(cannot_write)?;
    let mut bytes: u64 = 0;
    let mut reading = services.files.read(lease, path);
    while let Some(piece) = reading
        .next()
        .await
        .map_err(|error| refused(StartFault::Stdin, path, error))?
    {
        if piece.starts_again {
            bytes = 0;
        }
        bytes += piece.data.len() as u64;
        if bytes > STDIN_BYTES_MAX {
            return Err(start_failed(
                StartFault::Stdin,
                format!("{path} has more than 1 GiB, which is too much for standard input"),
            ));
        }
        let written = blocking(move || {
            if piece.starts_again {
                target.set_len(0)?;
                target.rewind()?;
            }
            write_all(&mut target, &piece.data)?;
            Ok(target)
        });
        target = written.await.map_err(cannot_write)?;
    }
    Ok(())
}
