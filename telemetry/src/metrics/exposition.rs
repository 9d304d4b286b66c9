//! The page that Prometheus reads, in its text format 0.0.4.

use super::{
    instrument::{Kind, Spec},
    table::ALL,
};
use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, Histogram, Metric, MetricData, ResourceMetrics,
};
use std::{collections::BTreeMap, fmt::Write};

/// Content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes what was collected, by name. A metric that has nothing to say yet is named all the same.
#[must_use]
pub fn page(collected: &ResourceMetrics) -> String {
    let metrics: BTreeMap<&str, &Metric> = collected
        .scope_metrics()
        .flat_map(|scope| scope.metrics())
        .map(|metric| (metric.name(), metric))
        .collect();
    let mut specs: Vec<&Spec> = ALL.iter().map(|metric| metric.spec()).collect();
    specs.sort_by_key(|spec| spec.name);
    let mut text = String::with_capacity(16 << 10);
    for spec in specs {
        // writing into a string does not fail
        let _ = write_family(&mut text, spec, metrics.get(spec.otlp_name()).copied());
    }
    text
}

fn write_family(text: &mut String, spec: &Spec, metric: Option<&Metric>) -> std::fmt::Result {
    let name = spec.name;
    let kind = match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    writeln!(text, "# HELP {name} {}", escaped(spec.help, false))?;
    writeln!(text, "# TYPE {name} {kind}")?;
    match metric.map(Metric::data) {
        Some(AggregatedMetrics::F64(data)) => write_points(text, name, data),
        Some(AggregatedMetrics::U64(data)) => write_points(text, name, data),
        Some(AggregatedMetrics::I64(data)) => write_points(text, name, data),
        None => Ok(()),
    }
}

fn write_points<T: Copy + std::fmt::Display>(
    text: &mut String,
    name: &str,
    data: &MetricData<T>,
) -> std::fmt::Result {
    match data {
        MetricData::Gauge(gauge) => {
            let points = gauge.data_points();
            let mut lines: Vec<String> = points
                .map(|point| {
                    format!(
                        "{name}{} {}",
                        labels(point.attributes(), None),
                        point.value()
                    )
                })
                .collect();
            lines.sort();
            write_lines(text, &lines)
        }
        MetricData::Sum(sum) => {
            let points = sum.data_points();
            let mut lines: Vec<String> = points
                .map(|point| {
                    format!(
                        "{name}{} {}",
                        labels(point.attributes(), None),
                        point.value()
                    )
                })
                .collect();
            lines.sort();
            write_lines(text, &lines)
        }
        MetricData::Histogram(histogram) => write_histogram(text, name, histogram),
        // no instrument of ours makes one
        MetricData::ExponentialHistogram(_) => Ok(()),
    }
}

fn write_lines(text: &mut String, lines: &[String]) -> std::fmt::Result {
    for line in lines {
        writeln!(text, "{line}")?;
    }
    Ok(())
}

fn write_histogram<T: Copy + std::fmt::Display>(
    text: &mut String,
    name: &str,
    histogram: &Histogram<T>,
) -> std::fmt::Result {
    for point in histogram.data_points() {
        let attributes: Vec<&KeyValue> = point.attributes().collect();
        let mut below = 0;
        let bounds = point.bounds().map(|bound| bound.to_string());
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, count) in bounds.zip(point.bucket_counts()) {
            below += count;
            let labels = labels(attributes.iter().copied(), Some(&bound));
            writeln!(text, "{name}_bucket{labels} {below}")?;
        }
        let labels = labels(attributes.iter().copied(), None);
        writeln!(text, "{name}_sum{labels} {}", point.sum())?;
        writeln!(text, "{name}_count{labels} {}", point.count())?;
    }
    Ok(())
}

/// `{a="x",le="0.5"}`, or nothing.
fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>, bound: Option<&str>) -> String {
    let mut pairs: Vec<String> = attributes
        .map(|attribute| {
            let key = attribute.key.as_str().replace(['.', '-'], "_");
            format!("{key}=\"{}\"", escaped(&attribute.value.as_str(), true))
        })
        .collect();
    pairs.sort();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

fn escaped(text: &str, is_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_escaped() {
        let attributes = [
            KeyValue::new("b", "say \"x\"\n"),
            KeyValue::new("a.c", "y\\"),
        ];
        assert_eq!(
            labels(attributes.iter(), Some("0.5")),
            r#"{a_c="y\\",b="say \"x\"\n",le="0.5"}"#
        );
        assert_eq!(labels([].iter(), None), "");
    }
}
