//! The session's virtual file system: which paths exist and whose they are.

pub mod path;

pub use path::{PathError, SessionPath};
