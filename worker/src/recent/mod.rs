//! Results that were acknowledged not long ago, kept for the case that the store is restored from a copy in which their
//! tasks still run.
//!
//! [`results`] is what is known of them in memory, and what the bounds do to them; [`shelf`] is where they lie on disk.

mod results;
mod shelf;

pub use results::{RecentLimits, RecentResults};
pub use shelf::StoreKey;
