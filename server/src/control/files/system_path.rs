//! What the paths below `/.tasks` mean.

use taskyard_core::{id::TaskId, vfs::SessionPath};

/// A place below `/.tasks`. That a place has a meaning does not say that something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemPlace {
    /// `/.tasks`: a folder for each task.
    Tasks,
    /// `/.tasks/<id>`.
    Task(TaskId),
    /// `/.tasks/<id>/result.json`, rendered.
    Result(TaskId),
    /// `/.tasks/<id>/stdout.log` of the last run, or that of run N in `/.tasks/<id>/runs/<N>/`; rendered.
    Log {
        /// The task.
        task: TaskId,
        /// The run; none: the last one.
        run: Option<i32>,
        /// The stream.
        stream: LogStream,
    },
    /// `/.tasks/<id>/runs`: a folder for each run, where there were several.
    Runs(TaskId),
    /// `/.tasks/<id>/runs/<N>`.
    Run(TaskId, i32),
    /// Anything else below `/.tasks/<id>`: what its worker wrote.
    Stored(TaskId),
}

/// A stream that is shown as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// `stdout.log`.
    Stdout,
    /// `stderr.log`.
    Stderr,
}

/// Name of the rendered result.
pub const RESULT: &str = "result.json";
/// Name of the folder of runs.
pub const RUNS: &str = "runs";
/// Name of a structured result that is too large for `result.json`.
pub const OUTPUT: &str = "output.json";
/// Name of what says which files of the working directory were stored, and which were not.
pub const COLLECT: &str = "collect.json";
/// Name of the folder of artifacts.
pub const ARTIFACTS: &str = "artifacts";

impl LogStream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// Its file's name.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout.log",
            Self::Stderr => "stderr.log",
        }
    }

    /// Its number in the store.
    #[must_use]
    pub fn stored(self) -> i16 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|stream| stream.file_name() == name)
    }
}

impl SystemPlace {
    /// What a path below `/.tasks` means; none for one that means nothing. A task is named by its whole id.
    #[must_use]
    pub fn of(path: &SessionPath) -> Option<Self> {
        let parts: Vec<&str> = path.parts().collect();
        let (system, rest) = parts.split_first()?;
        if *system != &SessionPath::SYSTEM[1..] {
            return None;
        }
        let Some((id, rest)) = rest.split_first() else {
            return Some(Self::Tasks);
        };
        let task: TaskId = id.parse().ok()?;
        let log = |run, name| LogStream::named(name).map(|stream| Self::Log { task, run, stream });
        match rest {
            [] => Some(Self::Task(task)),
            [RESULT] => Some(Self::Result(task)),
            [RUNS] => Some(Self::Runs(task)),
            [RUNS, run] => Some(Self::Run(task, parse_run(run)?)),
            [RUNS, run, name] => log(Some(parse_run(run)?), name),
            [RUNS, ..] => None,
            [name] => Some(log(None, name).unwrap_or(Self::Stored(task))),
            [..] => Some(Self::Stored(task)),
        }
    }
}

/// The folder of a task.
#[must_use]
pub fn task_folder(task: TaskId) -> String {
    format!("{}/{task}", SessionPath::SYSTEM)
}

/// A run's number in its one spelling.
fn parse_run(text: &str) -> Option<i32> {
    let run: i32 = text.parse().ok()?;
    (run >= 1 && run.to_string() == text).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "task_0190aaaabbbb7ccc8dddeeeeffff0001";

    fn place(below_task: &str) -> Option<SystemPlace> {
        let path = format!("/.tasks/{ID}{below_task}");
        SystemPlace::of(&path.parse().expect("a clean path"))
    }

    #[test]
    fn each_path_of_a_task_has_its_meaning() {
        let task: TaskId = ID.parse().expect("a task id");
        let log = |run, stream| Some(SystemPlace::Log { task, run, stream });
        assert_eq!(place(""), Some(SystemPlace::Task(task)));
        assert_eq!(place("/result.json"), Some(SystemPlace::Result(task)));
        assert_eq!(place("/stdout.log"), log(None, LogStream::Stdout));
        assert_eq!(place("/stderr.log"), log(None, LogStream::Stderr));
        assert_eq!(place("/runs"), Some(SystemPlace::Runs(task)));
        assert_eq!(place("/runs/12"), Some(SystemPlace::Run(task, 12)));
        assert_eq!(place("/runs/2/stderr.log"), log(Some(2), LogStream::Stderr));
        assert_eq!(place("/output.json"), Some(SystemPlace::Stored(task)));
        assert_eq!(
            place("/artifacts/a/stdout.log"),
            Some(SystemPlace::Stored(task))
        );
    }

    #[test]
    fn other_paths_mean_nothing() {
        for below_task in [
            "/runs/0",
            "/runs/+1",
            "/runs/01",
            "/runs/x",
            "/runs/1/x",
            "/runs/1/stdout.log/x",
        ] {
            assert_eq!(place(below_task), None, "{below_task}");
        }
        for path in [
            "/",
            "/a",
            "/.tasks/t1",
            "/.tasks/task_0190",
            "/.tasks/TASK_0190aaaabbbb7ccc8dddeeeeffff0001",
        ] {
            assert_eq!(
                SystemPlace::of(&path.parse().expect("a clean path")),
                None,
                "{path}"
            );
        }
        let tasks = SystemPlace::of(&"/.tasks".parse().expect("a clean path"));
        assert_eq!(tasks, Some(SystemPlace::Tasks));
    }
}
