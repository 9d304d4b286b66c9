//! The admin port: `/livez`, `/readyz`, `/startupz` and `/metrics`, over plain HTTP/1.1, for probes and scrapes. It only
//! tells; nothing can be changed here.

use crate::{metrics::exposition, pipeline};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Connections that are served at once; others wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Longest time of a connection, which serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until the head of a request has come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Longest time of a question whether the process is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Why a process is not ready, or nothing.
pub type Readiness<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Says whether what runs in the process is ready for work.
pub trait Probe: Send + Sync + 'static {
    /// Looks; the reason is for people.
    fn ready(&self) -> Readiness<'_>;
}

/// What the port tells. Clones are the same.
#[derive(Clone, Default)]
pub struct Admin {
    probe: Arc<OnceLock<Arc<dyn Probe>>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Everything is started; from now on this says whether it is ready. The first one stays.
    pub fn started(&self, probe: Arc<dyn Probe>) {
        drop(self.probe.set(probe));
    }

    /// Takes an address.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn bind(self, listen: SocketAddr) -> io::Result<BoundAdmin> {
        let listener = TcpListener::bind(listen).await?;
        let local_addr = listener.local_addr()?;
        Ok(BoundAdmin {
            admin: self,
            listener,
            local_addr,
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok"),
            "/startupz" => match self.probe.get() {
                Some(_) => text(StatusCode::OK, "ok"),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            },
            "/readyz" => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
            },
            "/metrics" => {
                let mut page = text(StatusCode::OK, "");
                *page.body_mut() = Full::from(pipeline::metrics_page());
                page.headers_mut().insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static(exposition::CONTENT_TYPE),
                );
                page
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /livez, /readyz, /startupz and /metrics",
            ),
        }
    }

    async fn readiness(&self) -> Result<(), String> {
        let probe = self.probe.get().ok_or_else(|| "starting".to_owned())?;
        timeout(READY_TIMEOUT, probe.ready())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", READY_TIMEOUT.as_secs())))
    }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An admin port that has its address.
#[derive(Debug)]
pub struct BoundAdmin {
    admin: Admin,
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl BoundAdmin {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = async {
                // the semaphore is never closed
                let slot = slots.clone().acquire_owned().await.ok()?;
                Some((self.listener.accept().await, slot))
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Some((Ok((stream, _)), slot)) => {
                    let (admin, shutdown) = (self.admin.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        let serving = timeout(CONNECTION_TIMEOUT, serve_one(admin, stream));
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            _ = serving => {}
                        }
                    });
                }
                Some((Err(error), _)) => {
                    tracing::debug!(%error, "a connection to the admin port was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }
}

async fn serve_one(admin: Admin, stream: TcpStream) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a request to the admin port broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Fixed(Result<(), String>);

    impl Probe for Fixed {
        fn ready(&self) -> Readiness<'_> {
            Box::pin(async { self.0.clone() })
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .expect("is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("is read");
        answer
    }

    #[tokio::test]
    async fn the_port_tells_and_takes_nothing() {
        let admin = Admin::default();
        let bound = admin
            .clone()
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let address = bound.local_addr();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(bound.serve(shutdown.clone()));
        assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
        assert!(
            ask(address, "GET /startupz")
                .await
                .starts_with("HTTP/1.1 503")
        );
        assert!(
            ask(address, "GET /readyz")
                .await
                .starts_with("HTTP/1.1 503")
        );
        admin.started(Arc::new(Fixed(Err("the database is away".to_owned()))));
        assert!(
            ask(address, "GET /startupz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        let unready = ask(address, "GET /readyz").await;
        assert!(unready.contains("503") && unready.contains("the database is away"));
        assert!(
            ask(address, "POST /readyz")
                .await
                .starts_with("HTTP/1.1 405")
        );
        assert!(ask(address, "GET /other").await.starts_with("HTTP/1.1 404"));
        let metrics = ask(address, "GET /metrics").await;
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(
            metrics.contains("\ntaskyard_tasks_created_total 0\n"),
            "{metrics}"
        );
        let long = format!("GET /{}", "x".repeat(MAX_HEAD_BYTES));
        assert!(!ask(address, &long).await.starts_with("HTTP/1.1 200"));
        shutdown.cancel();
        serving.await.expect("ends");
    }
}
