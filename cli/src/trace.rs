//! The trace that a command belongs to: that of its environment, or one that begins here where traces are exported.

use taskyard_telemetry::trace::context::{TRACEPARENT, TRACESTATE, TraceContext};
use taskyard_telemetry::trace::span::{Span, SpanKind};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// The span of a call that makes work; it ends when it is dropped.
pub fn calling(method: &'static str) -> Span {
    let above = TraceContext::from_environment();
    let mut span = Span::begin(method, SpanKind::Client, &above, true);
    span.set("rpc.system.name", "grpc")
        .set("rpc.method", method);
    span
}

/// The request, as part of that span's trace.
pub fn traced<T>(message: T, span: &Span) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let context = span.context();
    add(request.metadata_mut(), TRACEPARENT, context.traceparent());
    add(request.metadata_mut(), TRACESTATE, context.tracestate());
    request
}

fn add(metadata: &mut MetadataMap, name: &'static str, text: &str) {
    if let Ok(value) = AsciiMetadataValue::try_from(text)
        && !text.is_empty()
    {
        metadata.insert(name, value);
    }
}
