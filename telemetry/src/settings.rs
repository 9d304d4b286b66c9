//! What the standard variables of OpenTelemetry say, as far as the SDK does not read them itself.

use std::time::Duration;

/// Pause between two batches of spans, where `OTEL_BSP_SCHEDULE_DELAY` says nothing.
const SPAN_DELAY: Duration = Duration::from_secs(2);

/// What can be said of which traces are taken.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

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
    /// A place that is no address.
    #[error(
        "{variable}={endpoint} is no address; write it like http://collector:4317 or https://collector.example:4317"
    )]
    Endpoint {
        /// The variable.
        variable: &'static str,
        /// What it says.
        endpoint: String,
    },
    /// A sampler that there is not.
    #[error(
        "OTEL_TRACES_SAMPLER={sampler} is not known; it is one of {}", SAMPLERS.join(", ")
    )]
    Sampler {
        /// What it says.
        sampler: String,
    },
    /// A share of traces that is none.
    #[error("OTEL_TRACES_SAMPLER_ARG={share} is no share; write a number from 0 to 1, such as 0.1")]
    Share {
        /// What it says.
        share: String,
    },
    /// The exporter refuses its settings.
    #[error("the OTEL_EXPORTER_OTLP_ variables make no sense: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) exports_traces: bool,
    pub(crate) exports_metrics: bool,
    /// Whether the environment names the service.
    pub(crate) is_named: bool,
    /// Whether it names the version.
    pub(crate) has_version: bool,
    /// Whether it names this instance of the service.
    pub(crate) has_instance: bool,
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
        for (name, is_used) in [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                exports_traces || exports_metrics,
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", exports_traces),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", exports_metrics),
        ] {
            if let Some(endpoint) = said(name).filter(|endpoint| is_used && !is_address(endpoint)) {
                return Err(SettingsError::Endpoint {
                    variable: name,
                    endpoint,
                });
            }
        }
        if exports_traces && let Some(sampler) = said("OTEL_TRACES_SAMPLER") {
            if !SAMPLERS.contains(&sampler.as_str()) {
                return Err(SettingsError::Sampler { sampler });
            }
            let is_share = |share: &String| {
                share
                    .parse()
                    .is_ok_and(|share: f64| (0.0..=1.0).contains(&share))
            };
            if sampler.ends_with("traceidratio")
                && let Some(share) =
                    said("OTEL_TRACES_SAMPLER_ARG").filter(|share| !is_share(share))
            {
                return Err(SettingsError::Share { share });
            }
        }
        let attributes = said("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let names = |key: &str| {
            let mut pairs = attributes
                .split(',')
                .filter_map(|pair| pair.split_once('='));
            pairs.any(|(name, _)| name.trim() == key)
        };
        Ok(Self {
            exports_traces,
            exports_metrics,
            is_named: said("OTEL_SERVICE_NAME").is_some() || names("service.name"),
            has_version: names("service.version"),
            has_instance: names("service.instance.id"),
            span_delay: said("OTEL_BSP_SCHEDULE_DELAY")
                .and_then(|text| text.parse().ok())
                .map_or(SPAN_DELAY, Duration::from_millis),
        })
    }
}

/// Whether a collector can be there.
fn is_address(endpoint: &str) -> bool {
    endpoint.trim().parse().is_ok_and(|uri: http::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    })
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
        let settings = read(&[named]).expect("settings");
        assert!(settings.is_named && !settings.has_instance && !settings.has_version);
        let named = ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=a");
        let settings = read(&[named]).expect("settings");
        assert!(settings.has_instance && !settings.is_named);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_at_the_start() {
        let place = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        for bad in ["notaurl", "collector:4317", "ftp://collector", "http://"] {
            let refused = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]);
            let is_refused = matches!(refused, Err(SettingsError::Endpoint { .. }));
            assert!(is_refused, "{bad}");
        }
        let sampled = |sampler, share| {
            let share = ("OTEL_TRACES_SAMPLER_ARG", share);
            read(&[place, ("OTEL_TRACES_SAMPLER", sampler), share])
        };
        let refused = sampled("nonsense", "").expect_err("is refused");
        assert!(refused.to_string().contains("parentbased_traceidratio"));
        assert!(matches!(
            sampled("traceidratio", "ten"),
            Err(SettingsError::Share { .. })
        ));
        assert!(sampled("parentbased_traceidratio", "0.1").is_ok());
        assert!(sampled("always_off", "").is_ok());
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
