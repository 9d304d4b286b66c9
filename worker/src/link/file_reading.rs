//! Reading a file of the session for a lease: a broken connection is gone on from, another version is begun again.

use std::time::Duration;

use bytes::Bytes;
use taskyard_proto::v1;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::backoff::Backoff;
use super::convert::lease_to_wire;
use super::files::{FileError, in_time};
use super::reports::is_worth_another_try;
use crate::access::AuthorizedChannel;
use crate::lease::Lease;

const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A file being read. It tries until there is an answer; whoever does not want to wait drops this.
pub struct FileReading {
    client: WorkerServiceClient<AuthorizedChannel>,
    request: v1::ReadFileRequest,
    parts: Option<Streaming<v1::ReadFileResponse>>,
    version: Option<i64>,
    starts_again: bool,
    backoff: Backoff,
}

/// The next bytes of a file.
#[derive(Debug)]
pub struct FilePiece {
    /// What came before is of another version and is to be forgotten.
    pub starts_again: bool,
    pub data: Bytes,
}

impl FileReading {
    pub(super) fn new(
        client: WorkerServiceClient<AuthorizedChannel>,
        lease: &Lease,
        path: &str,
    ) -> Self {
        FileReading {
            client,
            request: v1::ReadFileRequest {
                lease: Some(lease_to_wire(lease)),
                path: path.to_owned(),
                offset: 0,
                limit: 0,
            },
            parts: None,
            version: None,
            starts_again: false,
            backoff: Backoff::new(),
        }
    }

    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<FilePiece>, FileError> {
        loop {
            match self.take().await {
                Ok(None) => return Ok(None),
                Ok(Some(part)) => {
                    if let Some(file) = &part.file {
                        let is_other = self.version.is_some_and(|version| version != file.version);
                        self.version = Some(file.version);
                        if is_other && self.request.offset > 0 {
                            self.begin_again();
                            continue;
                        }
                    }
                    self.backoff.reset();
                    self.request.offset += i64::try_from(part.data.len()).unwrap_or(0);
                    return Ok(Some(FilePiece {
                        starts_again: std::mem::take(&mut self.starts_again),
                        data: part.data,
                    }));
                }
                Err(status) => {
                    self.judge(&status)?;
                    tokio::time::sleep(self.backoff.wait_after(&status)).await;
                }
            }
        }
    }

    async fn take(&mut self) -> Result<Option<v1::ReadFileResponse>, Status> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let opening = self.client.read_file(self.request.clone());
                in_time(PIECE_TIMEOUT, opening).await?.into_inner()
            }
        };
        let part = in_time(PIECE_TIMEOUT, parts.message()).await?;
        self.parts = Some(parts);
        Ok(part)
    }

    fn begin_again(&mut self) {
        self.parts = None;
        self.request.offset = 0;
        self.starts_again = true;
    }

    /// `Ok` where another try may help.
    fn judge(&mut self, status: &Status) -> Result<(), FileError> {
        let reason = status.get_details_error_info().map(|info| info.reason);
        match reason.as_deref() {
            Some("LEASE_LOST") => Err(FileError::LeaseLost),
            Some("FILE_CHANGED") => {
                self.begin_again();
                Ok(())
            }
            _other if is_worth_another_try(status.code()) && status.code() != Code::Ok => Ok(()),
            _other => Err(FileError::Refused {
                message: status.message().to_owned(),
            }),
        }
    }
}
