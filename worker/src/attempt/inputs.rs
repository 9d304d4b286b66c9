//! Fetching the files of the session that a run finds in its working directory.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use super::services::{Services, StorageHealth, chain, is_trouble_of_the_disk};
use crate::lease::{CommandWork, ErrorFacts, InputFile, Lease, StartFault};
use crate::link::files::{FileError, ListedFile};
use crate::workspace::{create_beneath, write_all};

const FILES_MAX: usize = 1_000;
const ALL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest time for all of them.
const FETCH_BOUND: Duration = Duration::from_secs(10 * 60);
/// Files that are fetched at once.
const FETCHES_AT_ONCE: usize = 4;
const DEFAULT_MODE: u32 = 0o644;

/// Why there are not all files.
#[derive(Debug)]
pub enum InputFailure {
    LeaseLost,
    Failed(ErrorFacts),
}

/// One file to fetch.
struct Fetch {
    path: String,
    to: PathBuf,
    mode: u32,
}

/// Puts all files of a task into its working directory.
pub async fn fetch_inputs(
    services: &Services,
    lease: &Lease,
    work: &CommandWork,
    cwd: &Path,
) -> Result<(), InputFailure> {
    if work.files.is_empty() {
        return Ok(());
    }
    let fetching = async {
        let fetches = list_all(services, lease, &work.files).await?;
        check_places(&fetches).map_err(|problem| start_failed(StartFault::Input, problem))?;
        stream::iter(fetches)
            .map(|fetch| fetch_one(services, lease, cwd, fetch))
            .buffer_unordered(FETCHES_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    };
    tokio::time::timeout(FETCH_BOUND, fetching)
        .await
        .unwrap_or_else(|_| {
            Err(InputFailure::Failed(ErrorFacts::of_worker(
                "the files of the task could not be fetched within 10 minutes".to_owned(),
                "",
            )))
        })
}

async fn list_all(
    services: &Services,
    lease: &Lease,
    inputs: &[InputFile],
) -> Result<Vec<Fetch>, InputFailure> {
    let mut fetches = Vec::new();
    let mut all_bytes: u64 = 0;
    for input in inputs {
        let mut page_token = String::new();
        loop {
            let page = services
                .files
                .list(lease, &input.path, &page_token)
                .await
                .map_err(|error| refused(StartFault::Input, &input.path, error))?;
            for file in page.files {
                all_bytes = all_bytes.saturating_add(file.size);
                if fetches.len() == FILES_MAX || all_bytes > ALL_BYTES_MAX {
                    return Err(start_failed(
                        StartFault::Input,
                        format!(
                            "the files of the task are more than {FILES_MAX}, or have more than 1 GiB in all"
                        ),
                    ));
                }
                fetches.push(to_fetch(input, file, page.is_folder)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    Ok(fetches)
}

fn to_fetch(input: &InputFile, file: ListedFile, is_folder: bool) -> Result<Fetch, InputFailure> {
    let to = if is_folder {
        let below = file
            .path
            .strip_prefix(&input.path)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| {
                start_failed(
                    StartFault::Input,
                    format!("{} does not lie in {}", file.path, input.path),
                )
            })?;
        Path::new(&input.to).join(below)
    } else if input.to.is_empty() {
        PathBuf::from(file.path.rsplit('/').next().unwrap_or_default())
    } else {
        PathBuf::from(&input.to)
    };
    Ok(Fetch {
        path: file.path,
        to,
        mode: input.mode.unwrap_or(DEFAULT_MODE),
    })
}

/// Refuses files of which one would take the place of another, or of a folder that another needs.
fn check_places(fetches: &[Fetch]) -> Result<(), String> {
    let mut places: HashMap<&Path, &Fetch> = HashMap::with_capacity(fetches.len());
    for fetch in fetches {
        if let Some(other) = places.insert(&fetch.to, fetch) {
            return Err(format!(
                "{} and {} would both be at {:?} in the working directory; give one of them another `to`",
                other.path, fetch.path, fetch.to
            ));
        }
    }
    for fetch in fetches {
        let mut folders = fetch.to.ancestors().skip(1);
        if let Some(other) = folders.find_map(|folder| places.get(folder)) {
            return Err(format!(
                "{} would be at {:?} in the working directory, where {} needs a folder; give one of them another `to`",
                other.path, other.to, fetch.path
            ));
        }
    }
    Ok(())
}

async fn fetch_one(
    services: &Services,
    lease: &Lease,
    cwd: &Path,
    fetch: Fetch,
) -> Result<(), InputFailure> {
    let storage = &services.storage;
    let (directory, to, mode) = (cwd.to_owned(), fetch.to.clone(), fetch.mode);
    let created = blocking(move || create_beneath(&directory, &to, mode)).await;
    let mut target = created.map_err(|error| cannot_write(&fetch, &error, storage))?;
    // Only what comes in one version is taken, so a file that changes meanwhile is begun again.
    let mut reading = services.files.read(lease, &fetch.path);
    loop {
        let piece = reading
            .next()
            .await
            .map_err(|error| refused(StartFault::Input, &fetch.path, error))?;
        let Some(piece) = piece else {
            return Ok(());
        };
        let written = blocking(move || {
            let mut target: File = target;
            if piece.starts_again {
                target.set_len(0)?;
                std::io::Seek::rewind(&mut target)?;
            }
            write_all(&mut target, &piece.data)?;
            Ok(target)
        })
        .await;
        target = written.map_err(|error| cannot_write(&fetch, &error, storage))?;
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|join_error| Err(std::io::Error::other(join_error)))
}

fn cannot_write(fetch: &Fetch, error: &std::io::Error, storage: &StorageHealth) -> InputFailure {
    let message = format!(
        "cannot put {} at {:?} in the working directory: {}",
        fetch.path,
        fetch.to,
        chain(error)
    );
    if is_trouble_of_the_disk(error) {
        storage.report_failure(error);
        return InputFailure::Failed(ErrorFacts::of_worker(message, ""));
    }
    start_failed(StartFault::Input, message)
}

pub(super) fn refused(fault: StartFault, path: &str, error: FileError) -> InputFailure {
    match error {
        FileError::LeaseLost => InputFailure::LeaseLost,
        FileError::Refused { message } => {
            let message = format!("cannot fetch the input file {path}: {message}");
            start_failed(fault, message)
        }
    }
}

pub(super) fn start_failed(fault: StartFault, message: String) -> InputFailure {
    InputFailure::Failed(ErrorFacts::start_failed(fault, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(places: &[&str]) -> Result<(), String> {
        let fetches: Vec<Fetch> = places
            .iter()
            .enumerate()
            .map(|(index, to)| Fetch {
                path: format!("/in/{index}"),
                to: PathBuf::from(to),
                mode: DEFAULT_MODE,
            })
            .collect();
        check_places(&fetches)
    }

    #[test]
    fn files_that_need_the_same_place_are_named() {
        assert_eq!(check(&["a", "b/a", "b/c", "ab"]), Ok(()));
        let same = check(&["a", "b", "a"]);
        assert!(
            same.is_err_and(|problem| problem.contains("/in/0 and /in/2 would both be at \"a\""))
        );
        for order in [["a/b/c", "a"], ["a", "a/b/c"]] {
            assert!(check(&order).is_err_and(|problem| problem.contains("needs a folder")));
        }
    }
}
