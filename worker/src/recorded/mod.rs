//! What an earlier release's worker left on disk, and what its shims say, is understood by this one: a worker is replaced
//! while its runs go on. The records are `worker.json` in `compat/`; `scripts/record-release` writes that of this version.

mod checks;
mod recent;
#[path = "../../../compat/releases.rs"]
mod releases;
mod samples;
