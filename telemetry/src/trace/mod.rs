//! Traces: [`context`] is the trace that something belongs to, as W3C writes it; [`span`] is a step in one,
//! [`current`] the trace of the call at hand.

pub mod context;
pub mod current;
pub mod span;
