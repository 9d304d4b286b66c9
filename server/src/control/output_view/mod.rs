//! Views of output as text, for readers with little room. Pure: bytes of a stream go in, in pieces of any size; a text
//! within a budget and exact counts of what is not in it come out.
//!
//! Reading order: [`text_lines`] (from bytes to clean lines), [`error_lines`] (which lines look like errors),
//! [`test_lines`] (what lines are to a run of tests), [`extract`] (which lines are shown), [`line_range`] (those that are named by their numbers), [`view`] (all together). [`line_search`] looks for one line among the same
//! clean ones while they come; [`line_starts`] finds where the last ones begin, among the raw bytes.

mod error_lines;
mod extract;
mod gap;
mod line_range;
mod line_search;
mod line_starts;
mod test_lines;
mod text_lines;
mod view;

pub use line_search::{Found, LineSearch};
pub use line_starts::LineStarts;
pub use view::{Shown, View, ViewKind};

use gap::gap_marker;
