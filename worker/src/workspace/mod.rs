//! The directory of one lease, what is put into it before a run and what is taken out of it after.

mod artifacts;
mod beneath;
mod collect;
mod directory;
mod handover;
mod result;

pub use artifacts::list_artifacts;
pub use beneath::{create_beneath, move_beneath, open_beneath, write_all};
pub use collect::select_files;
pub use directory::{Workspace, WorkspaceError, Workspaces};
pub use handover::hand_over;
pub use result::{
    Collected, RESULT_BYTES_MAX, ResultProblem, check_json, open_regular, read_result_file,
};
