//! Masking: the values of a task's secrets, in what the work writes and says, become `***`.
//!
//! - `forms` knows how a value is commonly written: as it is, in base64, in a URL, in JSON, …;
//! - `automaton` finds all forms of all values at once, byte by byte;
//! - [`stream`] masks output, however it is cut;
//! - [`text`] masks what is there whole: texts and JSON.
//!
//! It is a guard against accidents, not a boundary: work that means to can always write a value so that nobody finds it.

mod automaton;
mod forms;
pub mod stream;
pub mod text;

pub use stream::MaskedStream;
pub use text::Masks;
