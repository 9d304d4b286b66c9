//! What is told of each call: its time in the metrics and, where its caller belongs to a trace or it begins work, a span
//! with the trace that goes on from it.

use super::deadline;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::{
    collections::HashSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use taskyard_telemetry::{
    metrics::table,
    trace::{
        context::{TRACEPARENT, TRACESTATE, TraceContext},
        current,
        span::{Span, SpanKind},
    },
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

/// Streams: they last as long as their callers please, so their times say nothing.
const STREAMS: [&str; 4] = ["Attach", "PushOutput", "Watch", "TailOutput"];
/// Calls that wait for something on purpose.
const WAITS: [&str; 7] = [
    "WaitTasks",
    "TakeWakes",
    "AcquireLeases",
    "ReadInput",
    "ReadTerminalSize",
    "ReceiveMessages",
    "Ask",
];
/// A caller whose time was up is gone a little before our clock, which began later, says so.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(100);
/// Calls that make work: they begin a trace where the caller has none.
const BEGINNINGS: [&str; 4] = ["CreateTask", "BatchCreateTasks", "RetryTask", "CloneTask"];

/// The names of all methods that there are, so that nobody can make new ones up.
static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(taskyard_proto::FILE_DESCRIPTOR_SET);
    let files = files.map(|set| set.file).unwrap_or_default();
    let paths = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let methods = service.method.iter();
            methods.map(move |method| {
                format!("{}.{}/{}", file.package(), service.name(), method.name())
            })
        })
    });
    paths.collect()
});

/// That a call waits for something because its request asks for it; its time says nothing then.
#[derive(Clone, Debug, Default)]
struct WaitsOnPurpose(Arc<AtomicBool>);

/// To be told by methods that wait where their request asks for it.
pub(super) fn note_wait<T>(request: &tonic::Request<T>, wait: impl Fn(&T) -> bool) {
    if let Some(noted) = request.extensions().get::<WaitsOnPurpose>()
        && wait(request.get_ref())
    {
        noted.0.store(true, Ordering::Relaxed);
    }
}

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallTelemetryLayer;

/// A service whose calls are told of.
#[derive(Clone, Debug)]
pub struct CallTelemetry<S> {
    inner: S,
}

impl<S> Layer<S> for CallTelemetryLayer {
    type Service = CallTelemetry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallTelemetry { inner }
    }
}

impl<S> Service<Request<Body>> for CallTelemetry<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        let Some(path) = METHODS.get(path).map(String::as_str) else {
            return self.inner.call(request).boxed();
        };
        let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
        if STREAMS.contains(&name) {
            return self.inner.call(request).boxed();
        }
        let caller = trace_of(request.headers());
        let mut span = Span::begin(
            path.to_owned(),
            SpanKind::Server,
            &caller,
            BEGINNINGS.contains(&name),
        );
        span.set("rpc.system.name", "grpc").set("rpc.method", path);
        let waits = WaitsOnPurpose(Arc::new(AtomicBool::new(WAITS.contains(&name))));
        request.extensions_mut().insert(waits.clone());
        let mut told = Told {
            path,
            began_at: Instant::now(),
            time: deadline::in_headers(request.headers()),
            waits,
            code: None,
            span,
        };
        let span = &told.span;
        let context = span.context().clone();
        let logged = if context.is_none() {
            tracing::Span::none()
        } else {
            tracing::info_span!("call", rpc.method = name, trace.id = context.trace_id())
        };
        let answering = current::within(context, self.inner.call(request)).instrument(logged);
        async move {
            let answer = answering.await;
            told.code = Some(answer.as_ref().map_or(Code::Unknown, code_of));
            drop(told);
            answer
        }
        .boxed()
    }
}

/// What is told of a call when it is over: also of one whose caller did not wait for the answer.
struct Told {
    path: &'static str,
    began_at: Instant,
    /// How long its caller waits.
    time: Option<Duration>,
    waits: WaitsOnPurpose,
    /// How it was answered; none: its caller is gone.
    code: Option<Code>,
    span: Span,
}

impl Drop for Told {
    fn drop(&mut self) {
        let took = self.began_at.elapsed();
        let code = self.code.unwrap_or_else(|| given_up(took, self.time));
        let word = word_of(code);
        if !self.waits.0.load(Ordering::Relaxed) {
            table::RPC_DURATION.record_time(took, &["grpc", self.path, word]);
        }
        self.span.set("rpc.response.status_code", word);
        if is_our_failure(code) {
            self.span.fail(word, "");
        }
    }
}

/// Why a caller did not wait for its answer.
fn given_up(took: Duration, time: Option<Duration>) -> Code {
    if time.is_some_and(|time| took + CLOCK_TOLERANCE >= time) {
        Code::DeadlineExceeded
    } else {
        Code::Cancelled
    }
}

/// Which trace the caller belongs to.
fn trace_of(headers: &HeaderMap) -> TraceContext {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    TraceContext::read(text(TRACEPARENT), text(TRACESTATE))
}

/// A unary answer has its status in the head if it is an error; else it is well, as far as is known here.
fn code_of(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

/// As the conventions have it: the codes that say that the server failed, not the caller.
fn is_our_failure(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

fn word_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_lists_is_a_method() {
        for name in STREAMS.iter().chain(&WAITS).chain(&BEGINNINGS) {
            let ending = format!("/{name}");
            assert!(METHODS.iter().any(|path| path.ends_with(&ending)), "{name}");
        }
        assert!(METHODS.contains("taskyard.v1.SessionTaskService/CreateTask"));
    }
}
