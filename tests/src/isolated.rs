//! Tasks that ask for isolation.

use taskyard_proto::v1::{Isolation, IsolationLevel, TaskDefinition};

use crate::binaries;

/// The level `restricted`, with the programs of these tests within reach.
pub fn restricted() -> Isolation {
    let probe = std::path::PathBuf::from(binaries::probe());
    let programs = [probe, binaries::taskyard()];
    let real = programs.map(|program| program.canonicalize().expect("it is built"));
    Isolation {
        level: IsolationLevel::Restricted.into(),
        readable_paths: real.map(|path| path.display().to_string()).to_vec(),
        ..Isolation::default()
    }
}

/// Has a task ask for the level `restricted`, and for what `change` says.
pub fn with_isolation(
    mut task: TaskDefinition,
    change: impl FnOnce(&mut Isolation),
) -> TaskDefinition {
    let mut isolation = restricted();
    change(&mut isolation);
    task.spec.get_or_insert_default().isolation = Some(isolation);
    task
}
