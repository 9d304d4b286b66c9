//! A task as people write it, in JSON or YAML.
//!
//! - [`model`] is the form of the file;
//! - [`scalar`] is how durations, sizes and times are written in it;
//! - [`rlimit`] is how limits on resources are written in it;
//! - [`schedule`] is the part of it that makes a monitor;
//! - [`parse`] reads it and says what is wrong, by file, line and field;
//! - [`definition`] makes the task for the server of it.

pub mod definition;
pub mod model;
pub mod parse;
pub mod rlimit;
pub mod scalar;
pub mod schedule;
