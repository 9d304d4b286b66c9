//! The session's virtual file system: which paths exist and whose they are.

pub mod path;
pub mod relative;

pub use path::{PathError, SessionPath};
pub use relative::RelativePath;
