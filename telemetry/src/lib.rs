//! What Taskyard tells about itself: metrics, traces, logs, and whether it is well. Server, worker and command line
//! share it; it knows none of them.
//!
//! - [`metrics::table`] is the list of all metrics; whoever does something counts it there;
//! - [`trace`] takes a trace from a caller through the queue to the process that runs;
//! - [`pipeline`] exports both, as the standard variables of OpenTelemetry say;
//! - [`log_filter`] is what is logged, and can be changed while the program runs;
//! - [`admin`] is the port for probes and scrapes.

pub mod admin;
mod exporter;
pub mod log_filter;
pub mod metrics;
pub mod pipeline;
pub mod settings;
pub mod trace;
