//! The way to a server: where it is, how it is called, and how long a call may take.

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskyard_proto::v1::admin_service_client::AdminServiceClient;
use taskyard_proto::v1::session_file_service_client::SessionFileServiceClient;
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::webhook_service_client::WebhookServiceClient;
use taskyard_worker::access::dial::transport;
use taskyard_worker::access::{AccessError, AccessSettings, AuthorizedChannel, Bearer};
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Response, Status};

use crate::arguments::GlobalArguments;
use crate::backoff::Backoff;
use crate::console;
use crate::failure::{
    Failure, connection_cause, is_lost_connection, is_transient, is_unknown_task, time_to_come_back,
};
use crate::first_connection::{CONNECT_LIMIT, FirstConnection};

/// Longest time for a call with one answer, unless the call itself waits for something.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a call that is safe to repeat is repeated while the server does not answer.
pub const RETRY_BUDGET: Duration = Duration::from_secs(10);
/// The same inside a task: work should outlast a server that is being replaced.
const RETRY_BUDGET_INSIDE: Duration = Duration::from_secs(300);
/// How long a call is repeated that the server refuses for a limit, with a time to come back.
pub const LIMIT_BUDGET: Duration = Duration::from_secs(300);
/// How long a wait goes on while the server cannot be reached.
const WAITING_PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT_INSIDE: Duration = Duration::from_secs(300);
/// A ping on a silent connection this often, and the time for its answer: dead peers are noticed in streams, too.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// Largest answer: a full page of tasks with their specs stays below it.
const LARGEST_ANSWER: usize = 256 << 20;

/// A server that was reached at least once. Cheap to clone; reconnects by itself.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: AuthorizedChannel,
    endpoint: String,
    namespace: String,
    /// Where this goes through the socket of a task.
    socket: Option<PathBuf>,
}

impl Connection {
    /// Connects to what the command line says; see [`Connection::to`].
    pub async fn open(arguments: &GlobalArguments) -> Result<Connection, Failure> {
        match &arguments.socket {
            Some(socket) => Connection::through(socket, arguments).await,
            None => Connection::to(&arguments.endpoint, &arguments.namespace).await,
        }
    }

    /// Connects to the socket of the task inside which this runs.
    async fn through(socket: &Path, arguments: &GlobalArguments) -> Result<Connection, Failure> {
        let gone = |cause: &str| gone(&arguments.endpoint, cause);
        let target = format!("unix:{}", socket.display());
        let connecting = Endpoint::from_shared(target)
            .map_err(|error| Failure::own(&error))?
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .user_agent(concat!("taskyard-cli/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Failure::own(&error))?;
        match tokio::time::timeout(CONNECT_LIMIT, connecting.connect()).await {
            // who calls from inside a task is known by the socket
            Ok(Ok(channel)) => Ok(Connection {
                channel: AuthorizedChannel::new(channel, Bearer::none()),
                endpoint: arguments.endpoint.clone(),
                namespace: String::new(),
                socket: Some(socket.to_owned()),
            }),
            Ok(Err(error)) => Err(gone(&connection_cause(&error))),
            Err(_) => Err(gone("no answer within 5 s")),
        }
    }

    /// Connects, and makes sure that a server answers there: each within five seconds.
    pub async fn to(endpoint: &str, namespace: &str) -> Result<Connection, Failure> {
        let uri = parse_endpoint(endpoint).map_err(Failure::Usage)?;
        let shown = endpoint.trim_end_matches('/').to_owned();
        let access = AccessSettings::from_environment().map_err(usage)?;
        let bearer = access.bearer().map_err(usage)?;
        let dialer = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => {
                let port = uri.port_u16().unwrap_or(443);
                Some(access.dialer(host, port).map_err(usage)?)
            }
            (Some(_) | None, _) => None,
        };
        let connecting = transport(&uri)
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_LIMIT)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .user_agent(concat!("taskyard-cli/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Failure::own(&error))?;
        let channel = FirstConnection {
            endpoint: &shown,
            connecting,
            dialer,
            bearer,
        }
        .make()
        .await?;
        Ok(Connection {
            channel,
            endpoint: shown,
            namespace: namespace.to_owned(),
            socket: None,
        })
    }

    /// For the work itself; served inside a task only.
    pub fn agent(&self) -> TaskAgentServiceClient<AuthorizedChannel> {
        TaskAgentServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Longest wait in one call; a longer one is made of several. Inside a task each new one would take the slot back
    /// for a moment.
    pub fn longest_wait(&self) -> Duration {
        if self.socket.is_some() {
            LONGEST_WAIT_INSIDE
        } else {
            LONGEST_WAIT
        }
    }

    /// How long to try while the server cannot be reached, where the caller waits anyway. Work that waits for others has
    /// nothing better to do: it ends with its lease.
    pub fn waiting_patience(&self) -> Duration {
        if self.socket.is_some() {
            Duration::MAX
        } else {
            WAITING_PATIENCE
        }
    }

    pub fn tasks(&self) -> SessionTaskServiceClient<AuthorizedChannel> {
        SessionTaskServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub fn files(&self) -> SessionFileServiceClient<AuthorizedChannel> {
        SessionFileServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub fn webhooks(&self) -> WebhookServiceClient<AuthorizedChannel> {
        WebhookServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<AuthorizedChannel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The tenant of every call.
    pub fn namespace(&self) -> String {
        self.namespace.clone()
    }

    /// The address as a person gave it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a status from this server means to a person.
    pub fn explain(&self, status: &Status) -> Failure {
        if self.socket.is_some() && is_lost_connection(status) {
            return gone(&self.endpoint, status.message());
        }
        if self.socket.is_some() && is_unknown_task(status) {
            let message = status.message();
            return Failure::Refused(format!(
                "{message} below this task; `taskyard self list` shows its children"
            ));
        }
        Failure::of_status(status, &self.endpoint)
    }

    /// One call with one answer that is made once.
    pub async fn call_once<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        bounded(limit, call)
            .await
            .map_err(|status| self.explain(&status))
    }

    /// One call with one answer that is safe to repeat, and is repeated for some seconds while the server restarts.
    pub async fn call<T, F>(&self, make_call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let budget = if self.socket.is_some() {
            RETRY_BUDGET_INSIDE
        } else {
            RETRY_BUDGET
        };
        self.call_within(CALL_LIMIT, budget, make_call).await
    }

    /// The task whose socket this goes through is over: nobody will answer any more.
    pub fn is_over(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| !socket.exists())
    }

    /// As `call`, with a limit for each try and a budget for trying. A server that says when to come back, since there is
    /// too much of something, is obeyed for five minutes more.
    pub async fn call_within<T, F>(
        &self,
        limit: Duration,
        budget: Duration,
        mut make_call: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::within(budget);
        let mut limited = Backoff::within(budget.max(LIMIT_BUDGET));
        loop {
            let status = match bounded(limit, make_call()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if time_to_come_back(&status).is_some() {
                if !limited.is_failing() {
                    console::note(&format!(
                        "{}; trying again for up to 5 min",
                        console::clean(status.message())
                    ));
                }
                if self.is_over() || !limited.pause_after(&status).await {
                    return Err(self.explain(&status));
                }
                continue;
            }
            let is_said_by_server = status.code() == Code::Unavailable && status.source().is_none();
            let is_worth_a_try = is_said_by_server
                || is_lost_connection(&status)
                || (is_transient(&status) && backoff.is_failing());
            if !is_worth_a_try || self.is_over() || !backoff.pause().await {
                return Err(self.explain(&status));
            }
        }
    }
}

/// What the environment says of the way to the server cannot be used.
fn usage(error: AccessError) -> Failure {
    Failure::Usage(error.to_string())
}

/// The socket of a task cannot be reached.
fn gone(endpoint: &str, cause: &str) -> Failure {
    Failure::Own(format!(
        "cannot reach {endpoint}: {cause}; it is there for as long as the attempt runs"
    ))
}

/// Checks an address before anything is done with it: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
pub fn parse_endpoint(text: &str) -> Result<Uri, String> {
    let complaint = |why: &str| {
        format!("`{text}` is not an endpoint: {why}; write it like http://127.0.0.1:8275")
    };
    let uri: Uri = text
        .parse()
        .map_err(|error: tonic::codegen::http::uri::InvalidUri| complaint(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) | None => return Err(complaint("it must start with http:// or https://")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(complaint("it names no host"));
    }
    let has_port_text = uri
        .authority()
        .is_some_and(|authority| authority.as_str().len() > uri.host().map_or(0, str::len));
    if has_port_text && uri.port_u16().is_none() {
        return Err(complaint("its port is not a number up to 65535"));
    }
    if uri
        .path_and_query()
        .is_some_and(|path| path.as_str() != "/")
    {
        return Err(complaint("it must not have a path"));
    }
    Ok(uri)
}

/// The limit is kept here as well as by the server: one that hangs would not keep it.
async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_checked_before_it_is_used() {
        for good in [
            "http://127.0.0.1:8275",
            "http://server.example:80/",
            "http://[::1]:8275",
            "https://server.example",
        ] {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("127.0.0.1:8275", "http"),
            ("localhost", "must start with http://"),
            ("http://x:1/api", "path"),
            ("http://x:1?a=b", "path"),
            ("ftp://x", "must start with http://"),
            ("http://", "not an endpoint"),
            ("http://x:99999999", "not an endpoint"),
            ("", "not an endpoint"),
        ] {
            let error = parse_endpoint(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_told_with_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let failure = Connection::to(&format!("http://{address}"), "")
            .await
            .expect_err("nobody listens");
        let text = failure.to_string();
        assert_eq!(
            text,
            format!(
                "cannot reach http://{address}: connection refused; start one with `taskyard dev`, or set --endpoint"
            )
        );
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_grpc_is_told_apart() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 16];
                let _ = socket.read(&mut request).await;
                let _ = socket
                    .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            }
        });
        let failure = Connection::to(&format!("http://{address}"), "")
            .await
            .expect_err("no gRPC there");
        let text = failure.to_string();
        assert!(
            text.contains("does not speak gRPC") || text.contains("closed the connection"),
            "{text}"
        );
    }
}
