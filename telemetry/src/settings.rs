//! What the standard variables of OpenTelemetry say, as far as the SDK does not read them itself.

use std::time::Duration;

/// Pause between two batches of spans, where `OTEL_BSP_SCHEDULE_DELAY` says nothing.
const SPAN_DELAY: Duration = Duration::from_secs(2);

/// Why telemetry does not start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Another protocol than the one that is spoken.
    #[error(
        "{variable}={protocol} is not spoken here; leave it out or set it to grpc, and name the collector's gRPC port (4317) in OTEL_EXPORTER_OTLP_ENDPOINT"
    )]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it says.
        protocol: String,
    },
    /// The exporter refuses its settings.
    #[error("the OTEL_EXPORTER_OTLP_ variables make no sense: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) exports_traces: bool,
    pub(crate) exports_metrics: bool,
    /// Whether the environment names the service.
    pub(crate) is_named: bool,
    pub(crate) span_delay: Duration,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, SettingsError> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let said = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_on =
            !said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exports = |exporter: &str, endpoint: &str| {
            let has_place =
                said("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() || said(endpoint).is_some();
            is_on && has_place && said(exporter).is_none_or(|value| value != "none")
        };
        let exports_traces = exports("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let exports_metrics = exports(
            "OTEL_METRICS_EXPORTER",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        );
        if exports_traces || exports_metrics {
            for name in [
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            ] {
                if let Some(protocol) = said(name).filter(|protocol| protocol != "grpc") {
                    return Err(SettingsError::Protocol {
                        variable: name,
                        protocol,
                    });
                }
            }
        }
        let names_service = |pair: &str| pair.trim_start().starts_with("service.name=");
        Ok(Self {
            exports_traces,
            exports_metrics,
            is_named: said("OTEL_SERVICE_NAME").is_some()
                || said("OTEL_RESOURCE_ATTRIBUTES")
                    .is_some_and(|pairs| pairs.split(',').any(names_service)),
            span_delay: said("OTEL_BSP_SCHEDULE_DELAY")
                .and_then(|text| text.parse().ok())
                .map_or(SPAN_DELAY, Duration::from_millis),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        Settings::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_is_exported_unless_a_place_is_named() {
        let place = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let settings = read(&[]).expect("settings");
        assert!(!settings.exports_traces && !settings.exports_metrics);
        let settings = read(&[place]).expect("settings");
        assert!(settings.exports_traces && settings.exports_metrics && !settings.is_named);
        let settings = read(&[place, ("OTEL_SDK_DISABLED", "TRUE")]).expect("settings");
        assert!(!settings.exports_traces && !settings.exports_metrics);
        let settings = read(&[place, ("OTEL_METRICS_EXPORTER", "none")]).expect("settings");
        assert!(settings.exports_traces && !settings.exports_metrics);
        let named = ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=yard");
        assert!(read(&[named]).expect("settings").is_named);
    }

    #[test]
    fn another_protocol_is_refused_where_it_matters() {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert!(read(&[protocol]).is_ok());
        let place = (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://collector:4317",
        );
        assert!(matches!(
            read(&[protocol, place]),
            Err(SettingsError::Protocol { .. })
        ));
    }
}
