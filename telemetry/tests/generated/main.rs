//! The dashboard and the alerts are written from the tables here, which name metrics by their statics, so that none can
//! be named that does not exist. `UPDATE=1 cargo test -p taskyard-telemetry` writes both anew.

mod alerts;
mod dashboard;

use std::{collections::BTreeSet, fs, path::PathBuf};
use taskyard_telemetry::metrics::{instrument::Kind, table::ALL};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn ensure_fresh(file: &str, wanted: &str) {
    let path = folder().join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).expect("is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{file} is not what its table says; run UPDATE=1 cargo test -p taskyard-telemetry"
    );
}

#[test]
fn the_dashboard_is_fresh() {
    ensure_fresh("dashboards/taskyard.json", &dashboard::text());
}

#[test]
fn the_alerts_are_fresh() {
    ensure_fresh("alerts/taskyard.rules.yaml", &alerts::text());
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let mut seen = BTreeSet::new();
    for spec in ALL.iter().map(|metric| metric.spec()) {
        let name = spec.name;
        assert!(seen.insert(name), "{name} twice");
        let is_ours = name.starts_with("taskyard_") || spec.convention.is_some();
        assert!(is_ours, "{name}");
        assert_eq!(
            name.ends_with("_total"),
            spec.kind == Kind::Counter,
            "{name}"
        );
        assert_eq!(name.contains("_seconds"), spec.unit == "s", "{name}");
        assert_eq!(name.contains("_bytes"), spec.unit == "By", "{name}");
        // by OTLP the name of a gauge of unit 1 ends in _ratio once Prometheus has it
        assert_ne!(spec.unit, "1", "{name}");
        for taken in ["namespace", "pod", "service", "job", "instance", "endpoint"] {
            let clashes = spec.labels.contains(&taken);
            assert!(!clashes, "{name}: Prometheus sets {taken} by itself");
        }
        for values in spec.series {
            assert_eq!(spec.kind, Kind::Counter, "{name}");
            assert_eq!(values.len(), spec.labels.len(), "{name}");
        }
        assert!(spec.help.ends_with('.'), "{name}: {}", spec.help);
        for label in spec.labels {
            let is_unbounded = ["task", "session", "worker", "id"].contains(label);
            assert!(!is_unbounded, "{name}: {label}");
        }
    }
}

#[test]
fn counters_that_alerts_are_built_on_begin_at_zero() {
    for alert in alerts::ALERTS {
        for metric in alert.metrics {
            let spec = metric.spec();
            let begins = spec.labels.is_empty() || !spec.series.is_empty();
            assert!(
                spec.kind != Kind::Counter || begins,
                "{} does not see the first event of {}",
                alert.name,
                spec.name
            );
        }
    }
}

#[test]
fn the_docs_name_every_metric() {
    let docs = fs::read_to_string(folder().join("../docs/telemetry.md")).expect("is readable");
    for spec in ALL.iter().map(|metric| metric.spec()) {
        assert!(docs.contains(&format!("`{}`", spec.name)), "{}", spec.name);
    }
}

#[test]
fn every_alert_has_its_section_in_the_run_book_and_no_section_is_left_over() {
    let book = fs::read_to_string(folder().join("../docs/runbook.md")).expect("is readable");
    let sections: BTreeSet<&str> = book
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Taskyard"))
        .collect();
    let alerts: BTreeSet<&str> = alerts::ALERTS.iter().map(|alert| alert.name).collect();
    assert_eq!(sections, alerts);
    for part in ["**Means.**", "**Look.**", "**Do.**"] {
        assert_eq!(book.matches(part).count(), alerts.len(), "{part}");
    }
}
