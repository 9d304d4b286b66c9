//! The verbs on a session's files. Most files are stored as they were written; those of the system below `/.tasks` are
//! partly rendered from what the store knows of a task: `result.json` from its end, the logs from its output.

mod content;
mod delete_files;
mod file_reader;
mod file_room;
mod file_walk;
mod grep_files;
mod grep_position;
mod grep_search;
mod incoming;
mod list_below;
mod list_files;
mod log_view;
mod node;
mod read_file;
mod stat_file;
mod system_path;
mod write_file;

pub use content::{CHUNK_BYTES, FileContent, MAX_FILE_BYTES};
pub use delete_files::delete_files;
pub use file_reader::{FilePart, FileReader};
pub use file_room::FileRoom;
pub use grep_files::grep_files;
pub use incoming::{IncomingFile, in_time};
pub use list_below::list_below;
pub use list_files::list_files;
pub(crate) use node::{Node, find_node};
pub use read_file::{open_file, read_file};
pub(crate) use stat_file::parse_path;
pub use stat_file::stat_file;
pub use system_path::task_folder;
pub(crate) use system_path::{COLLECT, OUTPUT};
pub use write_file::write_file;
pub(crate) use write_file::written_file;
