//! The options that the verbs share which print messages or wakes as they come.

use std::time::Duration;

use clap::Args;

use crate::quantity::parse_duration;
use crate::view::output_format::OutputFormat;

/// How each is written; a stream has no form with every field.
#[derive(Debug, Clone, Args)]
pub struct LineFormat {
    /// Format: table (for people), wide, json, yaml, name (an id alone)
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: OutputFormat,
}

/// For how long to look.
#[derive(Debug, Clone, Args)]
pub struct WaitOrFollow {
    /// Wait this long for the first one, if there is none
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "follow", allow_hyphen_values = true)]
    pub wait: Option<Duration>,
    /// Go on until interrupted
    #[arg(short, long)]
    pub follow: bool,
}

/// Where in a thread to begin.
#[derive(Debug, Clone, Args)]
pub struct After {
    /// Begin after the message with this number, 0 for the first
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..), allow_negative_numbers = true)]
    pub after: Option<i64>,
}
