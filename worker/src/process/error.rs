//! Why a process could not be started, told or followed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::lease::StartFault;

/// Why a process was not started. Nothing of it is left running. [`StartError::fault_of_the_work`] tells the caller's
/// mistakes from this machine's troubles.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the command is empty: name a program")]
    EmptyProgram,
    #[error("a NUL byte in {field}: the operating system cannot pass it on")]
    NulByte { field: &'static str },
    #[error("bad environment variable name {name:?}: it must not be empty or contain '='")]
    BadEnvName { name: String },
    #[error("the path in {field} is not valid UTF-8")]
    PathNotUtf8 { field: &'static str },
    #[error("the caps of the {field} are too large")]
    SpoolTooLarge { field: &'static str },
    #[error(
        "arguments and environment take {bytes} bytes, more than the {max} that can be handed over"
    )]
    LaunchTooLarge { bytes: usize, max: usize },
    #[error("program {program:?} was not found: check its name and the task's PATH")]
    ProgramNotFound { program: String },
    #[error("program {program:?} exists, but the interpreter that it names was not found")]
    InterpreterNotFound { program: String },
    #[error("program {program:?} may not be executed: check its mode and that of its directories")]
    ProgramNotExecutable { program: String },
    #[error(
        "program {program:?} may not be executed: {interpreter:?}, the interpreter that it names, is not executable; check its mode"
    )]
    InterpreterNotExecutable {
        program: String,
        interpreter: String,
    },
    #[error(
        "program {program:?} has no executable format: a script needs a #! line, or a shell in front"
    )]
    NotAnExecutableFormat { program: String },
    #[error(
        "arguments and environment are too long for the operating system: pass them by file or on stdin"
    )]
    ArgumentsTooLong,
    #[error("cannot enter the working directory {path}")]
    WorkingDirectory { path: PathBuf, source: io::Error },
    #[error(
        "the limit {name} cannot be set: it is above what the worker may give; ask for less, or run the worker with the right to"
    )]
    Rlimit { name: String, source: io::Error },
    #[error(
        "the priority cannot be set: below the worker's own it takes a worker with the right to"
    )]
    Nice { source: io::Error },
    #[error("cannot become the user {uid}")]
    Identity { uid: u32, source: io::Error },
    #[error("cannot open {path} as standard input")]
    StdinFile { path: PathBuf, source: io::Error },
    #[error("cannot execute {program:?}")]
    Execute { program: String, source: io::Error },
    #[error("the deadline passed before the program was started")]
    DeadlinePassed,
    #[error("the isolation that the task asks for cannot be given: {what}")]
    Isolation {
        what: &'static str,
        source: io::Error,
    },
    #[error("cannot create the spool {path}")]
    Spool { path: PathBuf, source: io::Error },
    #[error("cannot prepare the process ({step})")]
    Prepare { step: String, source: io::Error },
    #[error("cannot start the exec shim {program}")]
    Shim { program: PathBuf, source: io::Error },
    #[error("the exec shim ended before it could tell that the program runs")]
    ShimGone,
    #[error("the exec shim answered with something that is not understood: {what}")]
    ShimProtocol { what: String },
    #[error("the program was not started within {}", humane(.0))]
    TimedOut(Duration),
    #[error("the start was given up: the task is canceled, its lease lost, or the worker ends")]
    GivenUp,
}

impl StartError {
    /// What is wrong with the work, where the same launch would fail on a healthy machine as well, so that trying again is
    /// of no use; none: it is this machine's trouble.
    pub fn fault_of_the_work(&self) -> Option<StartFault> {
        Some(match self {
            StartError::EmptyProgram
            | StartError::NulByte { .. }
            | StartError::PathNotUtf8 { .. }
            | StartError::SpoolTooLarge { .. } => StartFault::Command,
            StartError::BadEnvName { .. } => StartFault::Env,
            StartError::LaunchTooLarge { .. } | StartError::ArgumentsTooLong => StartFault::TooLong,
            StartError::ProgramNotFound { .. } => StartFault::NoProgram,
            StartError::InterpreterNotFound { .. } => StartFault::NoInterpreter,
            StartError::ProgramNotExecutable { .. }
            | StartError::InterpreterNotExecutable { .. } => StartFault::NotExecutable,
            StartError::NotAnExecutableFormat { .. } => StartFault::NoFormat,
            StartError::WorkingDirectory { .. } => StartFault::Cwd,
            StartError::Rlimit { .. } => StartFault::Rlimit,
            StartError::Nice { .. } => StartFault::Nice,
            StartError::Identity { .. } => StartFault::User,
            StartError::StdinFile { .. } => StartFault::Stdin,
            StartError::Execute { source, .. } if !may_pass(source) => StartFault::NotStartable,
            StartError::Execute { .. }
            | StartError::Isolation { .. }
            | StartError::DeadlinePassed
            | StartError::Spool { .. }
            | StartError::Prepare { .. }
            | StartError::Shim { .. }
            | StartError::ShimGone
            | StartError::ShimProtocol { .. }
            | StartError::TimedOut(_)
            | StartError::GivenUp => return None,
        })
    }

    /// True where the shim did not say itself that nothing was started.
    pub(super) fn leaves_a_doubt(&self) -> bool {
        matches!(
            self,
            StartError::ShimGone
                | StartError::ShimProtocol { .. }
                | StartError::TimedOut(_)
                | StartError::GivenUp
        )
    }

    /// True where the machine, or the worker's share of it, is too small for one more process at the moment.
    pub fn is_shortage(&self) -> bool {
        let (StartError::Shim { source, .. }
        | StartError::Spool { source, .. }
        | StartError::Prepare { source, .. }
        | StartError::Execute { source, .. }) = self
        else {
            return false;
        };
        is_shortage(source)
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOMEM)
    )
}

/// Whether the system may execute in a while, or on another machine, what it did not execute now.
fn may_pass(error: &io::Error) -> bool {
    is_shortage(error)
        || matches!(
            error.raw_os_error(),
            Some(libc::ETXTBSY | libc::EIO | libc::ETIMEDOUT) | None
        )
}

impl StartError {
    /// The operating system's number of what went wrong, where it said one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            StartError::ProgramNotFound { .. } | StartError::InterpreterNotFound { .. } => {
                Some(libc::ENOENT)
            }
            StartError::ProgramNotExecutable { .. }
            | StartError::InterpreterNotExecutable { .. } => Some(libc::EACCES),
            StartError::NotAnExecutableFormat { .. } => Some(libc::ENOEXEC),
            StartError::ArgumentsTooLong | StartError::LaunchTooLarge { .. } => Some(libc::E2BIG),
            StartError::WorkingDirectory { source, .. }
            | StartError::Rlimit { source, .. }
            | StartError::Nice { source }
            | StartError::Identity { source, .. }
            | StartError::Isolation { source, .. }
            | StartError::StdinFile { source, .. }
            | StartError::Execute { source, .. }
            | StartError::Spool { source, .. }
            | StartError::Prepare { source, .. }
            | StartError::Shim { source, .. } => source.raw_os_error(),
            StartError::EmptyProgram
            | StartError::NulByte { .. }
            | StartError::BadEnvName { .. }
            | StartError::PathNotUtf8 { .. }
            | StartError::SpoolTooLarge { .. }
            | StartError::DeadlinePassed
            | StartError::ShimGone
            | StartError::ShimProtocol { .. }
            | StartError::TimedOut(_)
            | StartError::GivenUp => None,
        }
    }
}

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The shim went away without telling the end, so how the process ended is unknown. What was found of it was
    /// killed: `killed` processes, of which `survivors` were still there at the end of the search.
    #[error("the exec shim was lost; {killed} of its processes were killed, {survivors} are left")]
    ShimLost { killed: u32, survivors: u32 },
    #[error("the end was already told")]
    AlreadyEnded,
}

/// Why a command could not be given.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The process has ended or its shim is lost; the next event tells which.
    #[error("the process is gone")]
    Gone,
    /// The shim does not read its commands: it is frozen. See `Process::force_end`.
    #[error("the exec shim does not take commands")]
    ShimFrozen,
}

fn humane(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let fault = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            let program = "./program".to_owned();
            StartError::Execute { program, source }.fault_of_the_work()
        };
        for errno in [
            libc::ELOOP,
            libc::ENAMETOOLONG,
            libc::EISDIR,
            libc::EPERM,
            libc::EINVAL,
            libc::ELIBBAD,
            libc::ENOTDIR,
            libc::ENODEV,
        ] {
            assert_eq!(fault(errno), Some(StartFault::NotStartable), "{errno}");
        }
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::ENOMEM,
            libc::ETXTBSY,
            libc::EIO,
            libc::ETIMEDOUT,
        ] {
            assert_eq!(fault(errno), None, "{errno}");
        }
    }
}
