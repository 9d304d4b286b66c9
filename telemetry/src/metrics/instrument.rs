//! The kinds of metrics. All are statics of [`super::table`]; they cost nothing but memory until a pipeline reads them.

use crate::pipeline;
use opentelemetry::{
    KeyValue,
    metrics::{self as otel, Meter},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down; read when it is asked for.
    Gauge,
    /// How often values fell below each of these bounds.
    Histogram(&'static [f64]),
}

/// One metric, as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name in Prometheus, with its unit; by OTLP the same, unless `convention` names it.
    pub name: &'static str,
    /// Name of the semantic conventions of OpenTelemetry, where they have one.
    pub convention: Option<&'static str>,
    /// What it is.
    pub kind: Kind,
    /// Unit in UCUM, such as `s`, `By`, `{task}`.
    pub unit: &'static str,
    /// A sentence for people.
    pub help: &'static str,
    /// Names of its labels, in the order in which values are given. None of them grows with the number of tasks.
    pub labels: &'static [&'static str],
    /// All values that the labels of a counter can have, a row for each set. Its series begin at 0 with the process, so that
    /// a rate over the first event is not empty. None: its series begin with their first event.
    pub series: &'static [&'static [&'static str]],
}

impl Spec {
    /// Its name by OTLP.
    #[must_use]
    pub fn otlp_name(&self) -> &'static str {
        self.convention.unwrap_or(self.name)
    }

    fn attributes(&self, values: &[&str]) -> Vec<KeyValue> {
        debug_assert_eq!(self.labels.len(), values.len(), "labels of {}", self.name);
        self.labels
            .iter()
            .zip(values)
            .map(|(label, value)| KeyValue::new(*label, (*value).to_owned()))
            .collect()
    }
}

/// Counts what happened.
#[derive(Debug)]
pub struct Counter {
    spec: Spec,
    instrument: OnceLock<otel::Counter<u64>>,
}

/// Keeps how values are spread.
#[derive(Debug)]
pub struct Histogram {
    spec: Spec,
    instrument: OnceLock<otel::Histogram<f64>>,
}

/// Says how things stand.
#[derive(Debug)]
pub struct Gauge {
    spec: Spec,
    values: Mutex<BTreeMap<Vec<String>, f64>>,
    registered: OnceLock<otel::ObservableGauge<f64>>,
}

/// A metric of any kind.
pub trait Metric: Sync {
    /// What it is.
    fn spec(&self) -> &Spec;

    /// Makes its instrument.
    fn register(&'static self, meter: &Meter);
}

impl Counter {
    /// A counter; its kind is set here.
    #[must_use]
    pub const fn new(spec: Spec) -> Self {
        Self {
            spec,
            instrument: OnceLock::new(),
        }
    }

    /// Adds, for these values of the labels.
    pub fn add(&'static self, count: u64, labels: &[&str]) {
        if self.instrument.get().is_none() {
            pipeline::ensure();
        }
        debug_assert!(
            self.spec.series.is_empty() || self.spec.series.contains(&labels),
            "{} has no series {labels:?}",
            self.spec.name
        );
        if let Some(instrument) = self.instrument.get() {
            instrument.add(count, &self.spec.attributes(labels));
        }
    }
}

impl Histogram {
    /// A histogram.
    #[must_use]
    pub const fn new(spec: Spec) -> Self {
        Self {
            spec,
            instrument: OnceLock::new(),
        }
    }

    /// Notes a value.
    pub fn record(&'static self, value: f64, labels: &[&str]) {
        if self.instrument.get().is_none() {
            pipeline::ensure();
        }
        if let Some(instrument) = self.instrument.get() {
            instrument.record(value, &self.spec.attributes(labels));
        }
    }

    /// Notes a time, in seconds.
    pub fn record_time(&'static self, time: Duration, labels: &[&str]) {
        self.record(time.as_secs_f64(), labels);
    }
}

impl Gauge {
    /// A gauge that says nothing yet.
    #[must_use]
    pub const fn new(spec: Spec) -> Self {
        Self {
            spec,
            values: Mutex::new(BTreeMap::new()),
            registered: OnceLock::new(),
        }
    }

    /// How it stands for these values of the labels.
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is counted here stays far below 2^52"
    )]
    pub fn set(&'static self, value: usize, labels: &[&str]) {
        self.set_exact(value as f64, labels);
    }

    /// As [`Gauge::set`], for what is no count.
    pub fn set_exact(&'static self, value: f64, labels: &[&str]) {
        self.lock().insert(owned(labels), value);
    }

    /// How it stands altogether: what is not named is forgotten.
    pub fn replace(&'static self, values: impl IntoIterator<Item = (Vec<String>, f64)>) {
        *self.lock() = values.into_iter().collect();
    }

    /// One more, for as long as the answer lives.
    #[must_use]
    pub fn hold(&'static self, labels: &[&str]) -> Held {
        let labels = owned(labels);
        *self.lock().entry(labels.clone()).or_default() += 1.0;
        Held {
            gauge: self,
            labels,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, f64>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// One of what a gauge counts.
#[derive(Debug)]
pub struct Held {
    gauge: &'static Gauge,
    labels: Vec<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(count) = self.gauge.lock().get_mut(&self.labels) {
            *count -= 1.0;
        }
    }
}

impl Metric for Counter {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn register(&'static self, meter: &Meter) {
        self.instrument.get_or_init(|| {
            let made = meter
                .u64_counter(self.spec.otlp_name())
                .with_unit(self.spec.unit)
                .with_description(self.spec.help)
                .build();
            // a counter that nothing was counted by yet is 0, not absent
            if self.spec.labels.is_empty() {
                made.add(0, &[]);
            }
            for values in self.spec.series {
                made.add(0, &self.spec.attributes(values));
            }
            made
        });
    }
}

impl Metric for Histogram {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn register(&'static self, meter: &Meter) {
        self.instrument.get_or_init(|| {
            let builder = meter
                .f64_histogram(self.spec.otlp_name())
                .with_unit(self.spec.unit)
                .with_description(self.spec.help);
            match self.spec.kind {
                Kind::Histogram(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
                Kind::Counter | Kind::Gauge => builder.build(),
            }
        });
    }
}

impl Metric for Gauge {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn register(&'static self, meter: &Meter) {
        self.registered.get_or_init(|| {
            meter
                .f64_observable_gauge(self.spec.otlp_name())
                .with_unit(self.spec.unit)
                .with_description(self.spec.help)
                .with_callback(move |observer| {
                    for (labels, value) in self.lock().iter() {
                        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                        observer.observe(*value, &self.spec.attributes(&labels));
                    }
                })
                .build()
        });
    }
}
