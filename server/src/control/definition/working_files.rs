//! Files that a run finds in its working directory, and what of it is stored afterwards.

use crate::control::{collect_glob::CollectGlob, refusal::Refusal};
use taskyard_core::vfs::{RelativePath, SessionPath};
use taskyard_proto::v1::{TaskCollect, TaskInput, TaskSpec};

use super::COMMAND;

const MAX_INPUTS: usize = 64;
const MAX_COLLECTS: usize = 32;
const MAX_MODE: u32 = 0o777;

/// Checks both lists.
pub(super) fn check(spec: &TaskSpec, executor: &str) -> Result<(), Refusal> {
    let fields = [
        ("task.spec.files", spec.files.len(), MAX_INPUTS),
        ("task.spec.collect", spec.collect.len(), MAX_COLLECTS),
    ];
    for (field, length, most) in fields {
        if length == 0 {
            continue;
        }
        if executor != COMMAND {
            return Err(Refusal::invalid(
                field,
                "is for the executor `command` only",
            ));
        }
        if length > most {
            return Err(Refusal::invalid(
                field,
                format!("at most {most} are allowed"),
            ));
        }
        let cwd = spec.command.as_ref().map_or("", |command| &command.cwd);
        if cwd.starts_with('/') {
            return Err(Refusal::invalid(
                field,
                "needs a working directory of the task's own: `command.cwd` must not be absolute",
            ));
        }
    }
    for (index, input) in spec.files.iter().enumerate() {
        check_input(&format!("task.spec.files[{index}]"), input)?;
        let is_same = |earlier: &TaskInput| earlier.path == input.path && earlier.to == input.to;
        if let Some(earlier) = spec.files[..index].iter().position(is_same) {
            return Err(Refusal::invalid(
                format!("task.spec.files[{index}]"),
                format!("puts the same there as files[{earlier}]; name it once"),
            ));
        }
    }
    for (index, collect) in spec.collect.iter().enumerate() {
        check_collect(&format!("task.spec.collect[{index}]"), collect)?;
    }
    Ok(())
}

fn check_input(field: &str, input: &TaskInput) -> Result<(), Refusal> {
    let path: SessionPath = input
        .path
        .parse()
        .map_err(|problem| Refusal::invalid(format!("{field}.path"), format!("{problem}")))?;
    if path.is_root() {
        return Err(Refusal::invalid(
            format!("{field}.path"),
            "must be a file, or a folder other than `/`",
        ));
    }
    if !input.to.is_empty() {
        input.to.parse::<RelativePath>().map_err(|_| {
            Refusal::invalid(
                format!("{field}.to"),
                "must be a path within the working directory, such as `in/plan.md`: no `/` at its ends, no `.` or `..`",
            )
        })?;
    }
    if input.mode.is_some_and(|mode| mode > MAX_MODE) {
        return Err(Refusal::invalid(
            format!("{field}.mode"),
            "must be at most 0o777",
        ));
    }
    Ok(())
}

fn check_collect(field: &str, collect: &TaskCollect) -> Result<(), Refusal> {
    CollectGlob::parse(&collect.glob)
        .map_err(|problem| Refusal::invalid(format!("{field}.glob"), problem))?;
    let to: SessionPath = collect
        .to
        .parse()
        .map_err(|problem| Refusal::invalid(format!("{field}.to"), format!("{problem}")))?;
    if to.is_system() {
        return Err(Refusal::invalid(
            format!("{field}.to"),
            "must not lie in `/.tasks`, which is the system's",
        ));
    }
    Ok(())
}
