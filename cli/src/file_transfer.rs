//! Bytes between this machine and a session's files.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskyard_proto::v1::{FileInfo, ReadRequest, ReadResponse, WriteHeader, WriteRequest};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use crate::connection::Connection;
use crate::failure::Failure;

/// What is larger is streamed, and not sent again where the connection breaks.
const LARGEST_WHOLE: u64 = 16 << 20;
/// Messages that wait to be sent.
const MESSAGES_AHEAD: usize = 8;
pub const CHUNK_LEN: usize = 256 << 10;
/// Longest time for a whole write, and for the next piece of a read.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
const STREAMED_WRITE_LIMIT: Duration = Duration::from_secs(30 * 60);
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Where a file is to be written.
#[derive(Debug, Clone)]
pub struct Target {
    pub session_id: String,
    pub path: String,
    /// Only over this version; 0: only if there is none.
    pub if_version: Option<i64>,
}

/// What is to be written.
pub enum Local {
    /// All of it.
    Whole(Vec<u8>),
    /// Its start, and where the rest comes from.
    Large {
        name: String,
        /// Bytes in all, as far as is known.
        size: Option<u64>,
        start: Vec<u8>,
        rest: Box<dyn AsyncRead + Send + Unpin>,
    },
}

/// Reads a local file, or standard input for `-`: whole, so that what cannot be read to its end is not written in part,
/// or its start where it is large.
pub async fn read_local(local: &str) -> Result<Local, Failure> {
    let unreadable = |error: io::Error| Failure::Refused(format!("cannot read {local}: {error}"));
    let mut size = None;
    let mut source: Box<dyn AsyncRead + Send + Unpin> = if local == "-" {
        Box::new(tokio::io::stdin())
    } else {
        let file = File::open(local).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        size = metadata.is_file().then_some(metadata.len());
        Box::new(file)
    };
    let mut start = Vec::new();
    (&mut source)
        .take(LARGEST_WHOLE + 1)
        .read_to_end(&mut start)
        .await
        .map_err(unreadable)?;
    if start.len() as u64 <= LARGEST_WHOLE {
        return Ok(Local::Whole(start));
    }
    Ok(Local::Large {
        name: local.to_owned(),
        size,
        start,
        rest: source,
    })
}

/// Reads a local file, or standard input for `-`, whole; a large one is refused.
pub async fn read_whole(local: &str) -> Result<Vec<u8>, Failure> {
    match read_local(local).await? {
        Local::Whole(content) => Ok(content),
        Local::Large { name, .. } => Err(Failure::Refused(format!("{name} is larger than 16 MiB"))),
    }
}

/// Writes a session's file.
pub async fn write(
    connection: &Connection,
    target: Target,
    local: Local,
) -> Result<FileInfo, Failure> {
    match local {
        Local::Whole(content) => write_whole(connection, target, content).await,
        Local::Large {
            name,
            size,
            start,
            rest,
        } => {
            let header = header(connection, &target, size);
            write_streamed(connection, header, &name, start, rest).await
        }
    }
}

/// Streams up, once. A source that breaks off breaks the call off, and nothing is written.
async fn write_streamed(
    connection: &Connection,
    header: WriteHeader,
    name: &str,
    start: Vec<u8>,
    mut rest: impl AsyncRead + Unpin,
) -> Result<FileInfo, Failure> {
    let (messages, stream) = mpsc::channel(MESSAGES_AHEAD);
    let mut files = connection.files();
    let call = files.write(ReceiverStream::new(stream));
    let sending = async {
        let header = WriteRequest {
            header: Some(header),
            data: Default::default(),
        };
        let mut is_wanted = messages.send(header).await.is_ok();
        for piece in start.chunks(CHUNK_LEN) {
            is_wanted = is_wanted && messages.send(data(piece.to_vec())).await.is_ok();
        }
        drop(start);
        while is_wanted {
            let mut piece = Vec::with_capacity(CHUNK_LEN);
            if (&mut rest)
                .take(CHUNK_LEN as u64)
                .read_to_end(&mut piece)
                .await?
                == 0
            {
                break;
            }
            is_wanted = messages.send(data(piece)).await.is_ok();
        }
        drop(messages);
        Ok::<_, io::Error>(())
    };
    let call = connection.call_once(STREAMED_WRITE_LIMIT, call);
    tokio::pin!(call);
    let answer = tokio::select! {
        answer = &mut call => answer?,
        sent = sending => match sent {
            Ok(()) => call.await?,
            Err(error) => return Err(Failure::Refused(format!("cannot read {name}: {error}"))),
        },
    };
    written(answer.file)
}

/// Writes a session's file whole.
async fn write_whole(
    connection: &Connection,
    target: Target,
    content: Vec<u8>,
) -> Result<FileInfo, Failure> {
    let mut messages = vec![WriteRequest {
        header: Some(header(connection, &target, Some(content.len() as u64))),
        data: Default::default(),
    }];
    messages.extend(content.chunks(CHUNK_LEN).map(|chunk| data(chunk.to_vec())));
    let make_call = || {
        let mut files = connection.files();
        let messages = messages.clone();
        async move { files.write(tokio_stream::iter(messages)).await }
    };
    let answer = if target.if_version.is_none() {
        connection
            .call_within(WRITE_LIMIT, Duration::from_secs(10), make_call)
            .await?
    } else {
        // A repeated write whose first answer was lost would find the version that it made itself.
        connection.call_once(WRITE_LIMIT, make_call()).await?
    };
    written(answer.file)
}

fn header(connection: &Connection, target: &Target, expected_size: Option<u64>) -> WriteHeader {
    WriteHeader {
        namespace: connection.namespace(),
        session_id: target.session_id.clone(),
        path: target.path.clone(),
        if_version: target.if_version,
        expected_size: expected_size.and_then(|size| i64::try_from(size).ok()),
    }
}

fn data(piece: Vec<u8>) -> WriteRequest {
    WriteRequest {
        header: None,
        data: piece.into(),
    }
}

fn written(file: Option<FileInfo>) -> Result<FileInfo, Failure> {
    file.ok_or_else(|| Failure::Own("the server answered without a file".to_owned()))
}

/// Prints a file, or the (offset, limit) of it; limit 0 is to the end.
pub async fn print(
    connection: &Connection,
    session_id: &str,
    path: &str,
    range: (i64, i64),
) -> Result<(), Failure> {
    let mut stream = open(connection, session_id, path, range).await?;
    let mut output = tokio::io::stdout();
    while let Some(data) = next_piece(connection, &mut stream).await? {
        write_piece(&mut output, &data)
            .await
            .map_err(|error| Failure::of_output(&error))?;
    }
    Ok(())
}

/// Fetches a file into a local one, which appears whole or not at all; the number of its bytes.
pub async fn fetch(
    connection: &Connection,
    session_id: &str,
    path: &str,
    local: &Path,
) -> Result<u64, Failure> {
    if local.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a directory; name a file in it",
            local.display()
        )));
    }
    let mut stream = open(connection, session_id, path, (0, 0)).await?;
    // The first piece shows whether there is such a file; only then is anything made here.
    let mut piece = next_piece(connection, &mut stream).await?;
    let partial = PartialFile::beside(local);
    let complaint =
        |error: io::Error| Failure::Refused(format!("cannot write {}: {error}", local.display()));
    let mut file = File::create_new(&partial.path).await.map_err(complaint)?;
    let mut n_bytes = 0;
    while let Some(data) = piece {
        write_piece(&mut file, &data).await.map_err(complaint)?;
        n_bytes += data.len() as u64;
        piece = next_piece(connection, &mut stream).await?;
    }
    file.sync_all().await.map_err(complaint)?;
    tokio::fs::rename(&partial.path, local)
        .await
        .map_err(complaint)?;
    Ok(n_bytes)
}

/// Removed when it is dropped; after its renaming there is nothing left to remove.
struct PartialFile {
    path: PathBuf,
}

impl PartialFile {
    fn beside(local: &Path) -> PartialFile {
        let mut name = OsString::from(".");
        name.push(local.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", Uuid::new_v4().simple()));
        PartialFile {
            path: local.with_file_name(name),
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn open(
    connection: &Connection,
    session_id: &str,
    path: &str,
    (offset, limit): (i64, i64),
) -> Result<Streaming<ReadResponse>, Failure> {
    connection
        .call(|| {
            let mut files = connection.files();
            let request = ReadRequest {
                namespace: connection.namespace(),
                session_id: session_id.to_owned(),
                path: path.to_owned(),
                offset,
                limit,
            };
            async move { files.read(request).await }
        })
        .await
}

async fn next_piece(
    connection: &Connection,
    stream: &mut Streaming<ReadResponse>,
) -> Result<Option<Vec<u8>>, Failure> {
    match tokio::time::timeout(READ_LIMIT, stream.message()).await {
        Ok(Ok(Some(response))) => Ok(Some(response.data.to_vec())),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(connection.explain(&status)),
        Err(_) => Err(Failure::Own(format!(
            "{} sent nothing for 30 s; the file was not read to its end",
            connection.endpoint()
        ))),
    }
}

async fn write_piece(sink: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    sink.write_all(data).await?;
    sink.flush().await
}
