//! Clusters on a real PostgreSQL: what people do to them, and what crashes do.

mod directory;
mod restart;
mod scratch;
mod support;
