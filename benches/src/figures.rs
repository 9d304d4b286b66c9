//! What was measured, and how it is told.

use std::time::Duration;

/// One benchmark: what Taskyard did, and the baseline beside it.
#[derive(Debug)]
pub struct Row {
    /// What was done.
    pub what: &'static str,
    /// Taskyard's figure.
    pub ours: Figure,
    /// What the baseline is.
    pub baseline_is: &'static str,
    /// The baseline's figure.
    pub baseline: Figure,
}

/// A figure with its unit.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    /// Things in a second; more is better.
    PerSecond(f64),
    /// Mebibytes in a second; more is better.
    MibPerSecond(f64),
    /// Bytes; less is better.
    Bytes(f64),
    /// Half of all took at most the first, 99 of 100 at most the second; less is better.
    Took {
        /// The median.
        median: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
}

impl Figure {
    /// Median and 99th percentile of what was measured.
    pub fn took(mut samples: Vec<Duration>) -> Figure {
        samples.sort_unstable();
        let at = |share: usize| {
            let index = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
            samples.get(index).copied().unwrap_or_default()
        };
        Figure::Took {
            median: at(50),
            p99: at(99),
        }
    }

    /// How often something was done in a time.
    pub fn rate(count: usize, time: Duration) -> Figure {
        Figure::PerSecond(count as f64 / time.as_secs_f64())
    }

    fn text(self) -> String {
        match self {
            Figure::PerSecond(rate) => format!("{rate:.0}/s"),
            Figure::MibPerSecond(rate) => format!("{rate:.0} MiB/s"),
            Figure::Bytes(bytes) if bytes < 10_240.0 => format!("{bytes:.0} B"),
            Figure::Bytes(bytes) if bytes < 10_485_760.0 => format!("{:.0} KiB", bytes / 1024.0),
            Figure::Bytes(bytes) => format!("{:.0} MiB", bytes / 1_048_576.0),
            Figure::Took { median, p99 } => {
                format!(
                    "{:.1} ms (p99 {:.1} ms)",
                    milliseconds(median),
                    milliseconds(p99)
                )
            }
        }
    }

    fn value(self) -> f64 {
        match self {
            Figure::PerSecond(number) | Figure::MibPerSecond(number) | Figure::Bytes(number) => {
                number
            }
            Figure::Took { median, .. } => milliseconds(median),
        }
    }
}

/// Prints a line for each row.
pub fn print(rows: &[Row]) {
    for row in rows {
        println!(
            "{}: {}\n  {}: {}, ratio {:.2}",
            row.what,
            row.ours.text(),
            row.baseline_is,
            row.baseline.text(),
            row.ours.value() / row.baseline.value()
        );
    }
}

/// Prints what the figures were measured with, and a table of them, in Markdown, to be pasted into a document.
pub fn print_markdown(rows: &[Row], measured_with: &str) {
    println!("{measured_with}\n");
    println!("| what | Taskyard | baseline | | ratio |\n| --- | --- | --- | --- | --- |");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {:.2} |",
            row.what,
            row.ours.text(),
            row.baseline_is,
            row.baseline.text(),
            row.ours.value() / row.baseline.value()
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
