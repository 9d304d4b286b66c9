//! Logs, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Which logs are wanted, in the syntax of tracing: `debug`, `warn,taskyard_server=debug`.
const VARIABLE: &str = "TASKYARD_LOG";

/// Starts logging at what the variable says, else at `default_level`.
pub fn start(default_level: &str) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default_level)).map_err(|error| {
        Failure::Usage(format!("{VARIABLE} makes no sense ({error}); write it like debug or warn,taskyard_server=debug"))
    })?;
    let has_colour = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(has_colour)
        .init();
    Ok(())
}
