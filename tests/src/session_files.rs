//! A session's files, through gRPC.

use taskyard_proto::v1::{
    DeleteRequest, FileInfo, GrepRequest, ListRequest, ReadRequest, StatRequest, WriteHeader,
};
use tonic::Status;

use crate::client::Client;

/// The files of one session.
#[derive(Debug, Clone)]
pub struct SessionFiles {
    client: Client,
    session: String,
    namespace: String,
}

impl SessionFiles {
    pub fn new(client: &Client, session: &str) -> SessionFiles {
        SessionFiles {
            client: client.clone(),
            session: session.to_owned(),
            namespace: String::new(),
        }
    }

    /// The session of this name in another namespace.
    pub fn in_namespace(mut self, namespace: &str) -> SessionFiles {
        self.namespace = namespace.to_owned();
        self
    }

    /// Writes a file; answers with its version.
    pub async fn write(&mut self, path: &str, bytes: &[u8]) -> Result<i64, Status> {
        self.write_if(path, bytes, None).await
    }

    /// Writes a file that has this version.
    pub async fn write_if(
        &mut self,
        path: &str,
        bytes: &[u8],
        if_version: Option<i64>,
    ) -> Result<i64, Status> {
        let header = WriteHeader {
            namespace: self.namespace.clone(),
            session_id: self.session.clone(),
            path: path.to_owned(),
            if_version,
            expected_size: None,
        };
        self.client.write_file(header, bytes).await
    }

    /// All of a file.
    pub async fn read(&mut self, path: &str) -> Result<Vec<u8>, Status> {
        self.read_range(path, 0, 0).await
    }

    /// A range of a file; limit 0: to the end.
    pub async fn read_range(
        &mut self,
        path: &str,
        offset: i64,
        limit: i64,
    ) -> Result<Vec<u8>, Status> {
        let request = self.read_request(path, offset, limit);
        self.client.read_file(request).await
    }

    /// The request for a range of a file.
    pub fn read_request(&self, path: &str, offset: i64, limit: i64) -> ReadRequest {
        ReadRequest {
            namespace: self.namespace.clone(),
            session_id: self.session.clone(),
            path: path.to_owned(),
            offset,
            limit,
        }
    }

    pub async fn stat(&mut self, path: &str) -> Result<FileInfo, Status> {
        let request = StatRequest {
            namespace: self.namespace.clone(),
            session_id: self.session.clone(),
            path: path.to_owned(),
        };
        let answer = self.client.files.stat(request).await?.into_inner();
        Ok(answer.file.unwrap_or_default())
    }

    /// Deletes a file, or a folder with all that is in it; answers with the number of files.
    pub async fn delete(&mut self, path: &str) -> Result<i64, Status> {
        let request = DeleteRequest {
            namespace: self.namespace.clone(),
            session_id: self.session.clone(),
            path: path.to_owned(),
            recursive: true,
            ..DeleteRequest::default()
        };
        Ok(self
            .client
            .files
            .delete(request)
            .await?
            .into_inner()
            .deleted)
    }

    /// Paths of all files below a folder, in pages of the given size.
    pub async fn list_all(&mut self, path: &str, page_size: i32) -> Result<Vec<String>, Status> {
        let mut paths = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListRequest {
                namespace: self.namespace.clone(),
                session_id: self.session.clone(),
                path: path.to_owned(),
                page_size,
                page_token,
                recursive: true,
            };
            let page = self.client.files.list(request).await?.into_inner();
            paths.extend(page.entries.into_iter().map(|entry| entry.path));
            if page.next_page_token.is_empty() {
                return Ok(paths);
            }
            page_token = page.next_page_token;
        }
    }

    /// A search below a path.
    pub fn grep_request(&self, pattern: &str, path: &str) -> GrepRequest {
        GrepRequest {
            namespace: self.namespace.clone(),
            session_id: self.session.clone(),
            path: path.to_owned(),
            pattern: pattern.to_owned(),
            ..GrepRequest::default()
        }
    }
}
