//! `-o table|wide|json|yaml|name`.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::console;
use crate::failure::Failure;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// The flags of every verb that shows records.
#[derive(Debug, Clone, Args)]
pub struct OutputArguments {
    /// Format: table, wide, json, yaml, name
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: OutputFormat,
    /// With json and yaml: every field, null where there is nothing
    #[arg(long)]
    pub full: bool,
}

/// Writes a value as JSON or YAML text, ended by a newline.
pub fn print_record(format: OutputFormat, value: &impl Serialize) -> Result<(), Failure> {
    let text = match format {
        OutputFormat::Yaml => {
            serde_yaml_ng::to_string(value).map_err(|error| Failure::own(&error))?
        }
        OutputFormat::Table | OutputFormat::Wide | OutputFormat::Json | OutputFormat::Name => {
            let mut text =
                serde_json::to_string_pretty(value).map_err(|error| Failure::own(&error))?;
            text.push('\n');
            text
        }
    };
    console::print(&text)
}

/// Writes a value as one line of JSON.
pub fn print_line(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value).map_err(|error| Failure::own(&error))?;
    text.push('\n');
    console::print(&text)
}
