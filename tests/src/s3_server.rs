//! A real S3 server over a directory, within the test, which can be away for a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const ACCESS_KEY: &str = "yard";
const SECRET_KEY: &str = "yard-secret";
const BUCKET: &str = "yard-bucket";

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    folder: TempDir,
    address: SocketAddr,
    is_away: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl S3Server {
    /// Starts one on a free port, with one bucket.
    pub async fn start() -> S3Server {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        std::fs::create_dir(folder.path().join(BUCKET))
            .unwrap_or_else(|error| panic!("no bucket: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("no address: {error}"));
        let is_away = watch::Sender::new(false);
        let service = service(folder.path());
        let serving = tokio::spawn(serve(listener, service, is_away.subscribe()));
        S3Server {
            folder,
            address,
            is_away,
            serving,
        }
    }

    /// The URL for `--object-store`.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/some/prefix")
    }

    /// What a client's environment must say.
    pub fn env(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Where the bucket's objects lie.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Is away from here on: all connections are cut, new ones at once. The port stays its own.
    pub fn go_away(&self) {
        self.is_away.send_replace(true);
    }

    /// Is back.
    pub fn come_back(&self) {
        self.is_away.send_replace(false);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, service: S3Service, mut is_away: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = is_away.changed() => {
                connections.abort_all();
                continue;
            }
        };
        if *is_away.borrow() {
            continue;
        }
        if let Ok((socket, _)) = accepted {
            let service = service.clone();
            connections.spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                // a client that breaks off is its own affair
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }
}

fn service(root: &Path) -> S3Service {
    let files =
        FileSystem::new(root).unwrap_or_else(|error| panic!("no S3 over {root:?}: {error:?}"));
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    service.build()
}
