//! Traces: [`context`] is the trace that something belongs to, as W3C writes it; [`span`] is a step in one.

pub mod context;
pub mod span;
