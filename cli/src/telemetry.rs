//! Logs, on standard error, and what is exported.

use std::io::{self, IsTerminal};

use taskyard_telemetry::log_filter;
use taskyard_telemetry::pipeline::{self, Component, Flush};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::failure::Failure;

/// Which logs are wanted, in the syntax of tracing: `debug`, `warn,taskyard_server=debug`.
const VARIABLE: &str = "TASKYARD_LOG";
/// How they are written: `text`, or `json`, one object a line.
const FORMAT_VARIABLE: &str = "TASKYARD_LOG_FORMAT";

/// Starts logging at what the variable says, else at `default_level`.
pub fn start(default_level: &str) -> Result<(), Failure> {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let wanted = said(VARIABLE);
    let filter = log_filter::layer(wanted.as_deref().unwrap_or(default_level))
        .map_err(|error| Failure::Usage(format!("{VARIABLE} {error}")))?;
    let lines = match said(FORMAT_VARIABLE).as_deref() {
        None | Some("text") => text_lines(),
        Some("json") => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
        Some(other) => {
            return Err(Failure::Usage(format!(
                "{FORMAT_VARIABLE}={other} makes no sense; write text or json"
            )));
        }
    };
    tracing_subscriber::registry()
        .with(lines.and_then(filter))
        .init();
    Ok(())
}

fn text_lines() -> Box<dyn Layer<Registry> + Send + Sync> {
    let has_colour = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(has_colour)
        .boxed()
}

/// Starts to export traces and metrics, where the environment names a collector. A client works without as well.
pub fn export(component: Component) -> Result<Option<Flush>, Failure> {
    match pipeline::start(component) {
        Ok(flush) => Ok(Some(flush)),
        Err(error) if component == Component::Client => {
            tracing::warn!(%error, "this command is in no trace");
            Ok(None)
        }
        Err(error) => Err(Failure::Usage(error.to_string())),
    }
}
