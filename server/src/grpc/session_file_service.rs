//! `SessionFileService`.

use super::inside;
use crate::{
    app::App,
    control::{files, refusal::Refusal},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use std::sync::Arc;
use taskyard_proto::v1::{
    DeleteRequest, DeleteResponse, GrepRequest, GrepResponse, ListRequest, ListResponse,
    ReadRequest, ReadResponse, StatRequest, StatResponse, WriteHeader, WriteRequest, WriteResponse,
    session_file_service_server::SessionFileService,
};
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Clone)]
pub struct FileService {
    app: Arc<App>,
}

impl FileService {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl SessionFileService for FileService {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (_, extensions, mut messages) = request.into_parts();
        let first = files::in_time(messages.message())
            .await??
            .unwrap_or_default();
        let mut header = first.header.ok_or_else(header_missing)?;
        inside::ensure_reached(&self.app, &extensions, &mut header).await?;
        let parts = file_parts(first.data, messages);
        Ok(Response::new(self.write_whole(&header, parts).await?))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let responses =
            files::read_file(&self.app, &inside::reached(&self.app, request).await?).await?;
        let responses = responses.map(|response| response.map_err(Status::from));
        Ok(Response::new(responses.boxed()))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        Ok(Response::new(
            files::stat_file(&self.app, &inside::reached(&self.app, request).await?).await?,
        ))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(
            files::list_files(&self.app, &inside::reached(&self.app, request).await?).await?,
        ))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(
            files::delete_files(&self.app, &inside::reached(&self.app, request).await?).await?,
        ))
    }

    async fn grep(&self, request: Request<GrepRequest>) -> Result<Response<GrepResponse>, Status> {
        Ok(Response::new(
            files::grep_files(&self.app, &inside::reached(&self.app, request).await?).await?,
        ))
    }
}

impl FileService {
    /// A write ends with the server, whatever the sender does.
    async fn write_whole(
        &self,
        header: &WriteHeader,
        parts: impl Stream<Item = Result<Bytes, Status>>,
    ) -> Result<WriteResponse, Status> {
        self.app
            .shutdown
            .run_until_cancelled(files::write_file(&self.app, header, parts))
            .await
            .unwrap_or_else(|| Err(Refusal::ShuttingDown.into()))
    }
}

fn header_missing() -> Status {
    Refusal::invalid("header", "is required in the first message").into()
}

/// The bytes of a write, from the first message on.
fn file_parts(
    first: Bytes,
    messages: Streaming<WriteRequest>,
) -> impl Stream<Item = Result<Bytes, Status>> {
    let rest = messages.map(|message| {
        let message = message?;
        if message.header.is_some() {
            return Err(Refusal::invalid("header", "belongs in the first message only").into());
        }
        Ok(message.data)
    });
    stream::once(async { Ok(first) }).chain(rest)
}
