//! The product through its public entry points.

mod lifecycle;
