//! From instruments and spans to whoever reads them: the page of the admin port, and a collector by OTLP.

use crate::{
    exporter::{WatchedMetrics, WatchedSpans},
    metrics::{exposition, labels::MAX_SERIES, table},
    settings::Settings,
};
use opentelemetry::{KeyValue, metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Instrument, InstrumentKind, ManualReader, PeriodicReader, Pipeline as MetricPipeline,
        SdkMeterProvider, Stream, Temporality, data::ResourceMetrics, reader::MetricReader,
    },
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SdkTracer,
        SdkTracerProvider,
    },
};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

/// How long the last spans and metrics may take on their way out.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Spans that wait to be sent; beyond that they are dropped.
const MAX_WAITING_SPANS: usize = 8_192;
/// Name of what makes our spans and metrics.
const SCOPE: &str = "taskyard";

/// For how long somebody who read the page is expected to come again.
const READ_FOR: Duration = Duration::from_secs(10 * 60);

static LAST_READ: Mutex<Option<Instant>> = Mutex::new(None);
static CURRENT: OnceLock<Pipeline> = OnceLock::new();

/// Which program this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The control plane.
    Server,
    /// A worker.
    Worker,
    /// Both, in one process.
    Dev,
    /// A client; it has no metrics.
    Client,
}

impl Component {
    /// Its name in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
            Self::Dev => "dev",
            Self::Client => "client",
        }
    }

    fn service_name(self) -> &'static str {
        match self {
            Self::Server => "taskyard-server",
            Self::Worker => "taskyard-worker",
            Self::Dev => "taskyard",
            Self::Client => "taskyard-client",
        }
    }
}

struct Pipeline {
    page: SharedReader,
    meters: SdkMeterProvider,
    exports_metrics: bool,
    tracing: Option<(SdkTracerProvider, SdkTracer)>,
}

/// A reader that the provider and the page share.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<MetricPipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, collected: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(collected)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Sends the last spans and metrics when the program ends.
#[derive(Debug)]
#[must_use = "finish() sends what waits"]
pub struct Flush(());

impl Flush {
    /// Sends what waits, for at most 3 seconds.
    pub async fn finish(self) {
        let flushing = tokio::task::spawn_blocking(|| {
            if let Some(pipeline) = CURRENT.get() {
                // a collector that is away was told of when it went
                if let Some((spans, _)) = &pipeline.tracing {
                    drop(spans.shutdown_with_timeout(FLUSH_TIMEOUT));
                }
                drop(pipeline.meters.shutdown_with_timeout(FLUSH_TIMEOUT));
            }
        });
        drop(tokio::time::timeout(FLUSH_TIMEOUT, flushing).await);
    }
}

/// Starts telemetry as the environment says; to be called once, inside the runtime, before anything is counted.
///
/// # Errors
/// [`crate::settings::SettingsError`] for settings that make no sense.
pub fn start(component: Component) -> Result<Flush, crate::settings::SettingsError> {
    let settings = Settings::from_environment()?;
    let resource = resource(component, &settings);
    let tracing = if settings.exports_traces {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING_SPANS)
            .with_scheduled_delay(settings.span_delay)
            .build();
        let processor = BatchSpanProcessor::builder(WatchedSpans::new(exporter))
            .with_batch_config(batches)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(RandomIdGenerator::default())
            .with_span_processor(processor)
            .with_resource(resource.clone())
            .build();
        let tracer = provider.tracer(SCOPE);
        Some((provider, tracer))
    } else {
        None
    };
    let exporter = if settings.exports_metrics && component != Component::Client {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .build()?;
        Some(WatchedMetrics::new(exporter))
    } else {
        None
    };
    CURRENT.get_or_init(|| build(resource, exporter, tracing));
    table::BUILD_INFO.set(1, &[env!("CARGO_PKG_VERSION"), component.as_str()]);
    Ok(Flush(()))
}

/// Who tells: what the environment says of it comes first.
fn resource(component: Component, settings: &Settings) -> Resource {
    let mut resource = Resource::builder();
    if !settings.is_named {
        resource = resource.with_service_name(component.service_name());
    }
    if !settings.has_version {
        resource =
            resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    if !settings.has_instance {
        // without one the series of two servers would be one
        let id = RandomIdGenerator::default().new_trace_id();
        resource = resource.with_attribute(KeyValue::new("service.instance.id", id.to_string()));
    }
    resource.build()
}

/// Counts from now on, if nobody has started telemetry.
pub(crate) fn ensure() {
    CURRENT.get_or_init(|| build(Resource::builder().build(), None, None));
}

fn build(
    resource: Resource,
    exporter: Option<WatchedMetrics<opentelemetry_otlp::MetricExporter>>,
    tracing: Option<(SdkTracerProvider, SdkTracer)>,
) -> Pipeline {
    let page = SharedReader(Arc::new(ManualReader::builder().build()));
    let mut meters = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_view(kept_series)
        .with_reader(page.clone());
    let exports_metrics = exporter.is_some();
    if let Some(exporter) = exporter {
        meters = meters.with_reader(PeriodicReader::builder(exporter).build());
    }
    let meters = meters.build();
    let meter = meters.meter(SCOPE);
    for register in table::REGISTERED {
        register(&meter);
    }
    Pipeline {
        page,
        meters,
        exports_metrics,
        tracing,
    }
}

/// The SDK keeps 2,000 series of an instrument, and drops the values of all beyond. The gauges cap theirs themselves.
fn kept_series(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::ObservableGauge {
        return None;
    }
    let stream = Stream::builder().with_cardinality_limit(MAX_SERIES);
    stream.build().ok()
}

/// Whether anybody reads metrics: a collector, or somebody who asked for the page in the last ten minutes.
#[must_use]
pub fn is_read() -> bool {
    let is_exported = CURRENT
        .get()
        .is_some_and(|pipeline| pipeline.exports_metrics);
    let last = *LAST_READ.lock().unwrap_or_else(PoisonError::into_inner);
    is_exported || last.is_some_and(|last| last.elapsed() < READ_FOR)
}

/// The page of metrics as they stand.
#[must_use]
pub fn metrics_page() -> String {
    ensure();
    *LAST_READ.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    let mut collected = ResourceMetrics::default();
    match CURRENT.get() {
        Some(pipeline) if pipeline.page.collect(&mut collected).is_ok() => {
            exposition::page(&collected)
        }
        Some(_) | None => String::new(),
    }
}

/// What makes spans, where they are exported.
pub(crate) fn tracer() -> Option<&'static SdkTracer> {
    let (_, tracer) = CURRENT.get()?.tracing.as_ref()?;
    Some(tracer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_kind_are_told_apart_and_the_environment_comes_first() {
        let settings = Settings::default();
        let text = |resource: &Resource, key: &'static str| {
            let value = resource.get(&opentelemetry::Key::new(key));
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        let resources = [1, 2].map(|_| resource(Component::Server, &settings));
        let ids = [0, 1].map(|at: usize| text(&resources[at], "service.instance.id"));
        assert!(ids[0] != ids[1] && ids[0].len() == 32, "{ids:?}");
        let [first, _] = resources;
        assert_eq!(text(&first, "service.version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(text(&first, "service.name"), "taskyard-server");
        let named = Settings {
            has_instance: true,
            ..settings
        };
        let named = resource(Component::Server, &named);
        assert_eq!(text(&named, "service.instance.id"), "");
    }
}
