
pub mod pattern;
