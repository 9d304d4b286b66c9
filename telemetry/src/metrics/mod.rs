//! Metrics: [`table`] has all of them, [`instrument`] the kinds, [`labels`] keeps their number bounded, [`exposition`]
//! writes the page that Prometheus reads.

pub mod exposition;
pub mod instrument;
pub mod labels;
pub mod table;
