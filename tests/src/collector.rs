//! A collector of traces and metrics: OTLP over gRPC on a port of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::wait::{SOON, until};

/// One step of a trace.
#[derive(Debug, Clone)]
pub struct CollectedSpan {
    /// Who told of it.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// In hexadecimal.
    pub trace: String,
    /// In hexadecimal.
    pub id: String,
    /// In hexadecimal; empty: none.
    pub parent: String,
    /// Nanoseconds since 1970.
    pub from: u64,
    /// Nanoseconds since 1970.
    pub to: u64,
    /// Attributes, as text.
    pub attributes: BTreeMap<String, String>,
}

/// A running collector; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub struct Collector {
    address: SocketAddr,
    kept: Kept,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    metrics: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap_or_else(|error| panic!("no port for a collector: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("no address: {error}"));
        let kept = Kept::default();
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(kept.clone()))
            .add_service(MetricsServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Collector { address, kept }
    }

    /// The variables with which a program sends everything here, soon.
    pub fn variables(&self) -> [(String, String); 3] {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        [
            pair(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{}", self.address),
            ),
            pair("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
            pair("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
        ]
    }

    /// The spans of a trace, by their beginnings.
    pub fn trace(&self, trace: &str) -> Vec<CollectedSpan> {
        let spans = lock(&self.kept.spans);
        let mut spans: Vec<_> = spans
            .iter()
            .filter(|span| span.trace == trace)
            .cloned()
            .collect();
        spans.sort_by_key(|span| span.from);
        spans
    }

    /// All spans.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        lock(&self.kept.spans).clone()
    }

    /// Waits until the trace has a span of each of these names; its spans then.
    pub async fn whole_trace(&self, trace: &str, names: &[&str]) -> Vec<CollectedSpan> {
        until("the trace to be whole", SOON, async || {
            let spans = self.trace(trace);
            names
                .iter()
                .all(|name| spans.iter().any(|span| span.name == *name))
        })
        .await;
        self.trace(trace)
    }

    /// Which metrics came, with who told of each.
    pub fn metrics(&self) -> BTreeMap<String, String> {
        lock(&self.kept.metrics).clone()
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for group in request.into_inner().resource_spans {
            let resource = group.resource.unwrap_or_default();
            let service = texts(&resource.attributes).remove("service.name");
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            lock(&self.spans).extend(spans.map(|span| CollectedSpan {
                service: service.clone().unwrap_or_default(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                from: span.start_time_unix_nano,
                to: span.end_time_unix_nano,
                attributes: texts(&span.attributes),
                name: span.name,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for group in request.into_inner().resource_metrics {
            let resource = group.resource.unwrap_or_default();
            let service = texts(&resource.attributes).remove("service.name");
            let metrics = group
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics);
            lock(&self.metrics)
                .extend(metrics.map(|metric| (metric.name, service.clone().unwrap_or_default())));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The spans of a trace as a tree, for people: how long after the first each began, and how long it took.
pub fn tree(spans: &[CollectedSpan]) -> String {
    let began_at = spans.iter().map(|span| span.from).min().unwrap_or(0);
    let is_below = |span: &CollectedSpan, above: &str| span.parent == above;
    let is_known = |id: &str| spans.iter().any(|span| span.id == id);
    let mut text = String::new();
    let mut roots: Vec<_> = spans
        .iter()
        .filter(|span| !is_known(&span.parent))
        .collect();
    roots.sort_by_key(|span| span.from);
    let mut open: Vec<(usize, &CollectedSpan)> =
        roots.into_iter().rev().map(|span| (0, span)).collect();
    while let Some((depth, span)) = open.pop() {
        let after = (span.from - began_at) / 1_000;
        let took = span.to.saturating_sub(span.from) / 1_000;
        let name = format!("{}{}", "  ".repeat(depth), span.name);
        text.push_str(&format!(
            "{name:<58} {:<16} +{:>7.1} ms {:>7.1} ms  {}\n",
            span.service,
            after as f64 / 1_000.0,
            took as f64 / 1_000.0,
            span.id
        ));
        let mut below: Vec<_> = spans
            .iter()
            .filter(|inner| is_below(inner, &span.id))
            .collect();
        below.sort_by_key(|span| span.from);
        open.extend(below.into_iter().rev().map(|span| (depth + 1, span)));
    }
    text
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _others_are_not_used => String::new(),
    };
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), text(attribute)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
