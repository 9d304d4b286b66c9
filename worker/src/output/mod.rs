//! What a process printed: kept by the shim in a [`spool`], read from there by the worker.

mod cursor;
pub mod spool;
pub mod upload;
