//! Specs that were too large for an offer, and files: those of the session, and those that a run leaves.

use std::time::Duration;

use bytes::Bytes;
use taskyard_proto::v1;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::backoff::Backoff;
use super::convert::{lease_to_wire, secrets_from_wire, work_from_wire};
use super::file_reading::FileReading;
use super::reports::is_worth_another_try;
use crate::access::AuthorizedChannel;
use crate::lease::{Lease, Secret, Work};

const SPEC_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const PIECE_BYTES: usize = 256 * 1024;

/// Reads and writes for leases. The large ones go over the connection for bulk.
#[derive(Debug, Clone)]
pub struct LeaseFiles {
    control: WorkerServiceClient<AuthorizedChannel>,
    bulk: WorkerServiceClient<AuthorizedChannel>,
}

/// A page of files of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    pub files: Vec<ListedFile>,
    /// Empty: this was the last.
    pub next_page_token: String,
    pub is_folder: bool,
}

/// A file of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    pub path: String,
    pub size: u64,
}

/// Why a call for a lease did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("the lease is lost")]
    LeaseLost,
    #[error("the control plane refused it: {message}")]
    Refused { message: String },
}

impl LeaseFiles {
    pub fn new(control: AuthorizedChannel, bulk: AuthorizedChannel) -> LeaseFiles {
        LeaseFiles {
            control: WorkerServiceClient::new(control),
            bulk: WorkerServiceClient::new(bulk),
        }
    }

    /// What an offer did not carry. It tries until there is an answer; whoever does not want to wait drops this.
    pub async fn fetch_work(&self, lease: &Lease) -> Result<Work, FileError> {
        let request = v1::GetLeaseSpecRequest {
            lease: Some(lease_to_wire(lease)),
        };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.control.clone();
            let answer = in_time(SPEC_TIMEOUT, client.get_lease_spec(request.clone())).await;
            match answer.map(|response| response.into_inner().spec) {
                Ok(Some(spec)) => return Ok(work_from_wire(spec)),
                Ok(None) => {
                    return Ok(Work::Unsupported {
                        reason: "the spec is empty".to_owned(),
                    });
                }
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// The secrets of a task whose start was applied. It tries until there is an answer; whoever does not want to wait
    /// drops this.
    pub async fn fetch_secrets(&self, lease: &Lease) -> Result<Vec<Secret>, FileError> {
        let request = v1::GetLeaseSecretsRequest {
            lease: Some(lease_to_wire(lease)),
        };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.control.clone();
            let answer = in_time(SPEC_TIMEOUT, client.get_lease_secrets(request.clone())).await;
            match answer {
                Ok(answer) => {
                    let secrets = secrets_from_wire(answer.into_inner().secrets);
                    return secrets.map_err(|name| FileError::Refused {
                        message: format!("this worker does not know where {name} comes from"),
                    });
                }
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// A page of the files at and below a path. It tries until there is an answer; whoever does not want to wait drops
    /// this.
    pub async fn list(
        &self,
        lease: &Lease,
        path: &str,
        page_token: &str,
    ) -> Result<FileList, FileError> {
        let request = v1::ListFilesRequest {
            lease: Some(lease_to_wire(lease)),
            path: path.to_owned(),
            page_token: page_token.to_owned(),
        };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.control.clone();
            match in_time(LIST_TIMEOUT, client.list_files(request.clone())).await {
                Ok(answer) => return Ok(to_list(answer.into_inner())),
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// Begins to read a file from its start.
    pub fn read(&self, lease: &Lease, path: &str) -> FileReading {
        FileReading::new(self.bulk.clone(), lease, path)
    }

    /// Writes a file whole, replacing one of the same name. It tries until there is an answer; whoever does not want to
    /// wait drops this.
    pub async fn write(&self, lease: &Lease, name: &str, content: Bytes) -> Result<(), FileError> {
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.bulk.clone();
            let pieces = tokio_stream::iter(pieces(lease, name, content.clone()));
            match in_time(WRITE_TIMEOUT, client.write_file(pieces)).await {
                Ok(_) => return Ok(()),
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }
}

fn to_list(answer: v1::ListFilesResponse) -> FileList {
    let files = answer.files.into_iter().map(|file| ListedFile {
        path: file.path,
        size: u64::try_from(file.size).unwrap_or(0),
    });
    FileList {
        files: files.collect(),
        next_page_token: answer.next_page_token,
        is_folder: answer.is_folder,
    }
}

fn pieces(
    lease: &Lease,
    name: &str,
    mut content: Bytes,
) -> impl Iterator<Item = v1::WriteFileRequest> + Send + 'static {
    let first = content.split_to(content.len().min(PIECE_BYTES));
    let first = v1::WriteFileRequest {
        lease: Some(lease_to_wire(lease)),
        name: name.to_owned(),
        data: first,
    };
    let rest = std::iter::from_fn(move || {
        let data = content.split_to(content.len().min(PIECE_BYTES));
        (!data.is_empty()).then(|| v1::WriteFileRequest {
            lease: None,
            name: String::new(),
            data,
        })
    });
    std::iter::once(first).chain(rest)
}

pub(super) async fn in_time<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(bound, call).await;
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

/// `Ok` where another try may help.
fn judge(status: &Status) -> Result<(), FileError> {
    match status.code() {
        Code::Aborted => Err(FileError::LeaseLost),
        // no overload that passes, but a verdict on the file
        Code::ResourceExhausted if is_too_much(status) => Err(FileError::Refused {
            message: status.message().to_owned(),
        }),
        code if is_worth_another_try(code) => Ok(()),
        _ => Err(FileError::Refused {
            message: status.message().to_owned(),
        }),
    }
}

/// Whether a file is refused for its size or for a quota.
fn is_too_much(status: &Status) -> bool {
    status
        .get_details_error_info()
        .is_some_and(|info| info.reason == "QUOTA_EXCEEDED" || info.reason == "TOO_LARGE")
}
