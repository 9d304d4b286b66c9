//! Exporters that say when a collector goes away, once, and count what becomes of each batch.

use crate::metrics::table;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Whether the collector took the last batch.
#[derive(Debug)]
struct Watch {
    signal: &'static str,
    is_away: AtomicBool,
}

impl Watch {
    fn new(signal: &'static str) -> Self {
        Self {
            signal,
            is_away: AtomicBool::new(false),
        }
    }

    fn note(&self, result: &OTelSdkResult) {
        let (signal, is_away) = (self.signal, result.is_err());
        let outcome = if is_away { "failed" } else { "sent" };
        table::TELEMETRY_EXPORTS.add(1, &[signal, outcome]);
        let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
        match result {
            Err(error) if !was_away => {
                tracing::warn!(%error, "the collector does not take {signal}; they are dropped until it does");
            }
            Ok(()) if was_away => tracing::info!("the collector takes {signal} again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// An exporter of spans.
#[derive(Debug)]
pub(crate) struct WatchedSpans<E> {
    inner: E,
    watch: Watch,
}

impl<E> WatchedSpans<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self {
            inner,
            watch: Watch::new("traces"),
        }
    }
}

impl<E: SpanExporter> SpanExporter for WatchedSpans<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        self.watch.note(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter of metrics.
#[derive(Debug)]
pub(crate) struct WatchedMetrics<E> {
    inner: E,
    watch: Watch,
}

impl<E> WatchedMetrics<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self {
            inner,
            watch: Watch::new("metrics"),
        }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for WatchedMetrics<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.watch.note(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
