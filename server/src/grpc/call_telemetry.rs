//! What is told of each call: its time in the metrics and, where its caller belongs to a trace or it begins work, a span
//! with the trace that goes on from it.

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::{
    collections::HashSet,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
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
const WAITS: [&str; 5] = [
    "WaitTasks",
    "TakeWakes",
    "AcquireLeases",
    "ReadInput",
    "ReceiveMessages",
];
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        let Some(path) = METHODS.get(path) else {
            return self.inner.call(request).boxed();
        };
        let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
        if STREAMS.contains(&name) {
            return self.inner.call(request).boxed();
        }
        let caller = trace_of(request.headers());
        let mut span = Span::begin(
            path.clone(),
            SpanKind::Server,
            &caller,
            BEGINNINGS.contains(&name),
        );
        span.set("rpc.system.name", "grpc")
            .set("rpc.method", path.clone());
        let began_at = Instant::now();
        let context = span.context().clone();
        let logged = if context.is_none() {
            tracing::Span::none()
        } else {
            tracing::info_span!("call", rpc.method = name, trace.id = context.trace_id())
        };
        let answering = current::within(context, self.inner.call(request)).instrument(logged);
        async move {
            let answer = answering.await;
            let code = answer.as_ref().map_or(Code::Unknown, code_of);
            let word = word_of(code);
            if !WAITS.contains(&name) {
                table::RPC_DURATION.record_time(began_at.elapsed(), &["grpc", path, word]);
            }
            span.set("rpc.response.status_code", word);
            if is_our_failure(code) {
                span.fail(word, "");
            }
            answer
        }
        .boxed()
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
