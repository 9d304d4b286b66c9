//! What a task may reach, and what it may use of the machine.
//!
//! - [`level`] are the words, [`request`] is what a task asks for, [`plan`] what the worker makes of it: raised to its
//!   minimum, refused where it cannot be given; `paths` decides on the paths that a task names;
//! - [`probe`] tries at the worker's start what this machine can really give, [`labels`] tells the control plane;
//! - [`confinement`] is put on a process between fork and exec: `landlock` holds the files, signals and ports, `seccomp`
//!   the system calls, and `privileges` takes away what a superuser may;
//! - [`cgroup`] makes a group for each run, for limits and for killing in one step.
//!
//! Everything that a confined process needs is prepared before the fork. Afterwards there are only system calls, and one
//! that fails keeps the program from being executed: nothing runs with less than was asked for.

pub mod cgroup;
pub mod confinement;
mod labels;
mod landlock;
mod level;
mod paths;
mod plan;
mod privileges;
mod probe;
mod request;
mod seccomp;
mod set_id;

pub use cgroup::CgroupChoice;
pub use confinement::Confinement;
pub use labels::RESERVED_LABELS;
pub use level::IsolationLevel;
pub use plan::{
    Isolation, IsolationConfig, IsolationConfigError, IsolationRefusal, RunIsolation, RunPlaces,
    WorkerPlaces,
};
pub use request::{IsolationRequest, Limits, RequestedLevel};
