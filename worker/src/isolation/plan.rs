//! What the worker gives, and what it makes of what one task asks for.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::cgroup::{CgroupChoice, Controllers, Groups, RunGroup};
use super::confinement::Confinement;
use super::level::IsolationLevel;
use super::paths::{Borders, PathRefusal};
use super::probe;
use super::request::{IsolationRequest, RequestedLevel};

/// What an operator says about the isolation of a worker's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationConfig {
    /// Tasks that ask for less are raised to it. A worker that cannot give it does not start.
    pub min: IsolationLevel,
    /// The most that is given, whatever the machine can.
    pub max: IsolationLevel,
    /// Where the paths lie that tasks may name; absent: anywhere, or nowhere where `min` is not `None`.
    pub nameable: Option<Vec<PathBuf>>,
    /// Directories that no task may name, beside the worker's own.
    pub private: Vec<PathBuf>,
    /// Where each run gets a cgroup; absent: nowhere.
    pub cgroup: Option<CgroupChoice>,
}

impl Default for IsolationConfig {
    fn default() -> IsolationConfig {
        IsolationConfig {
            min: IsolationLevel::None,
            max: IsolationLevel::Restricted,
            nameable: None,
            private: Vec::new(),
            cgroup: None,
        }
    }
}

/// Where a worker has what isolation is about.
#[derive(Debug, Clone)]
pub struct WorkerPlaces {
    pub data_directory: PathBuf,
    pub sockets: PathBuf,
    /// A file of the worker's own that no restricted task can read.
    pub secret: PathBuf,
    /// The program of the worker, which tasks use as `taskyard self`.
    pub program: PathBuf,
    /// Tells the groups of this worker from those of others.
    pub place_id: [u8; 16],
    /// Names of runs of the boot before that may still run.
    pub kept: Vec<String>,
}

/// Where a run has what is its own.
#[derive(Debug, Clone, Default)]
pub struct RunPlaces {
    /// Unique among the runs of the worker.
    pub name: String,
    pub cwd: PathBuf,
    /// Directories made for this run.
    pub writable: Vec<PathBuf>,
    /// Files made for this run.
    pub readable: Vec<PathBuf>,
}

/// What a worker can give, and what it insists on.
#[derive(Debug)]
pub struct Isolation {
    min: IsolationLevel,
    /// The version of Landlock, or why there is no `restricted`.
    landlock_abi: Result<u32, String>,
    borders: Borders,
    program: PathBuf,
    groups: Option<Groups>,
}

/// Why a worker cannot be what its operator asks for.
#[derive(Debug, thiserror::Error)]
pub enum IsolationConfigError {
    #[error("tasks cannot be isolated as --isolation-min says: {reason}")]
    MinUnavailable { reason: String },
    #[error("the path {path}, which restricted tasks need or may name, cannot be used")]
    Path { path: PathBuf, source: io::Error },
    #[error(
        "cannot use the cgroup {path}: it must be a directory of cgroup v2 that this user can write"
    )]
    Cgroup { path: PathBuf, source: io::Error },
}

/// What is put on one run.
#[derive(Debug, Default)]
pub struct RunIsolation {
    pub level: IsolationLevel,
    pub confinement: Option<Confinement>,
    pub group: Option<RunGroup>,
}

/// Why a run is not started.
#[derive(Debug, thiserror::Error)]
pub enum IsolationRefusal {
    /// This worker cannot give it.
    #[error("this worker cannot give the isolation that the task asks for: {reason}")]
    Unavailable { reason: String },
    /// The task names a path that it does not get.
    #[error(transparent)]
    Path(#[from] PathRefusal),
}

impl RunIsolation {
    /// What was put on a run that outlived the boot before.
    pub fn left(level: IsolationLevel, group: Option<PathBuf>) -> RunIsolation {
        RunIsolation {
            level,
            confinement: None,
            group: group.map(RunGroup::left_at),
        }
    }

    /// The run may outlive the worker: what is dropped stays as it is.
    pub fn leave(&mut self) {
        if let Some(group) = &mut self.group {
            group.leave();
        }
    }

    /// The run is over: what is dropped is removed.
    pub fn reclaim(&mut self) {
        if let Some(group) = &mut self.group {
            group.reclaim();
        }
    }
}

impl Isolation {
    /// Finds out what can be given, and makes what it needs. It blocks for a moment.
    ///
    /// # Errors
    /// What the operator asks for is not there.
    pub fn open(
        config: &IsolationConfig,
        places: &WorkerPlaces,
    ) -> Result<Isolation, IsolationConfigError> {
        let own = [&places.data_directory, &places.sockets];
        let private = own.into_iter().chain(&config.private);
        // What is not there yet comes to be under the name that it has now.
        let private = private.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        let nameable = match &config.nameable {
            None if config.min > IsolationLevel::None => Some(Vec::new()),
            None => None,
            Some(paths) => Some(real_paths(paths)?),
        };
        let borders = Borders {
            private: private.collect(),
            nameable,
        };
        let landlock_abi = if config.max < IsolationLevel::Restricted {
            Err("it was started with --isolation-max none".to_owned())
        } else if let Some((root, private)) = borders.exposed() {
            Err(format!(
                "{} lies in {}, which every restricted task can read; put it elsewhere (--data-dir, TASKYARD_TOKEN_FILE)",
                private.display(),
                root.display()
            ))
        } else {
            probe::restricted(&places.secret)
        };
        match &landlock_abi {
            Ok(abi) => tracing::info!(
                isolation = "restricted",
                landlock.abi = abi,
                "tasks can be isolated"
            ),
            Err(reason) if config.min > IsolationLevel::None => {
                return Err(IsolationConfigError::MinUnavailable {
                    reason: reason.clone(),
                });
            }
            Err(reason) => {
                tracing::info!(isolation = "none", reason, "tasks cannot be isolated here")
            }
        }
        Ok(Isolation {
            min: config.min,
            landlock_abi,
            borders,
            program: real_program(&places.program)?,
            groups: open_groups(config.cgroup.as_ref(), places)?,
        })
    }

    /// The version of Landlock behind `restricted`, or why that level cannot be given.
    pub fn landlock_abi(&self) -> Result<u32, &str> {
        match &self.landlock_abi {
            Ok(abi) => Ok(*abi),
            Err(reason) => Err(reason),
        }
    }

    /// The level that no task goes below.
    pub fn least(&self) -> IsolationLevel {
        self.min
    }

    /// What groups can limit; none: runs get no groups.
    pub fn controllers(&self) -> Option<Controllers> {
        self.groups.as_ref().map(Groups::controllers)
    }

    /// Settles what one run gets, and makes its group. It blocks for a moment.
    ///
    /// # Errors
    /// All that was asked for, or nothing: see [`IsolationRefusal`].
    pub fn plan(
        &self,
        wanted: &IsolationRequest,
        places: RunPlaces,
    ) -> Result<RunIsolation, IsolationRefusal> {
        let unavailable = |reason: String| IsolationRefusal::Unavailable { reason };
        let RequestedLevel::Known(level) = wanted.level else {
            return Err(unavailable("it does not know what is asked for".to_owned()));
        };
        if level < IsolationLevel::Restricted && wanted.without_network {
            return Err(unavailable(
                "without a network is for `restricted` only".to_owned(),
            ));
        }
        let level = level.max(self.min);
        let confinement = match level {
            IsolationLevel::None => None,
            IsolationLevel::Restricted => {
                if let Err(reason) = &self.landlock_abi {
                    return Err(unavailable(reason.clone()));
                }
                Some(self.confine(wanted, &places)?)
            }
        };
        Ok(RunIsolation {
            level,
            confinement,
            group: self.group(wanted, &places.name)?,
        })
    }

    fn confine(
        &self,
        wanted: &IsolationRequest,
        places: &RunPlaces,
    ) -> Result<Confinement, IsolationRefusal> {
        let mut writable = Vec::new();
        let mut readable = vec![self.program.clone()];
        for path in &places.writable {
            writable.push(real_path(path)?);
        }
        for path in &places.readable {
            readable.push(real_path(path)?);
        }
        // A directory that is not made for the run is named by the task as well.
        if !places
            .writable
            .iter()
            .any(|own| places.cwd.starts_with(own))
        {
            writable.push(self.borders.admit(&places.cwd)?);
        }
        // What is relative lies below the working directory, and that is within reach as a whole.
        for path in absolute(&wanted.writable) {
            writable.push(self.borders.admit(path)?);
        }
        for path in absolute(&wanted.readable) {
            readable.push(self.borders.admit(path)?);
        }
        Ok(Confinement {
            without_network: wanted.without_network,
            writable,
            readable,
        })
    }

    fn group(
        &self,
        wanted: &IsolationRequest,
        name: &str,
    ) -> Result<Option<RunGroup>, IsolationRefusal> {
        let limits = &wanted.limits;
        let unavailable = |reason: &str| IsolationRefusal::Unavailable {
            reason: reason.to_owned(),
        };
        let Some(groups) = &self.groups else {
            return if limits.is_empty() {
                Ok(None)
            } else {
                Err(unavailable("it keeps no limits; start it with --cgroup"))
            };
        };
        let controllers = groups.controllers();
        let asked = [
            (limits.memory_bytes.is_some(), controllers.memory, "memory"),
            (limits.cpu_millis.is_some(), controllers.cpu, "cpu"),
            (limits.processes.is_some(), controllers.pids, "pids"),
        ];
        if let Some((_, _, missing)) = asked.iter().find(|(asked, there, _)| *asked && !there) {
            return Err(unavailable(&format!(
                "its cgroup has no controller `{missing}`"
            )));
        }
        match groups.make(name, limits) {
            Ok(group) => Ok(Some(group)),
            Err(error) if limits.is_empty() => {
                tracing::warn!(%error, "a run gets no cgroup");
                Ok(None)
            }
            Err(error) => Err(unavailable(&format!(
                "its cgroup does not take them: {error}"
            ))),
        }
    }
}

fn absolute(paths: &[String]) -> impl Iterator<Item = &Path> {
    paths
        .iter()
        .map(Path::new)
        .filter(|path| path.is_absolute())
}

fn real_path(path: &Path) -> Result<PathBuf, PathRefusal> {
    path.canonicalize().map_err(|source| PathRefusal::Unusable {
        path: path.to_owned(),
        source,
    })
}

fn real_program(program: &Path) -> Result<PathBuf, IsolationConfigError> {
    program
        .canonicalize()
        .map_err(|source| IsolationConfigError::Path {
            path: program.to_owned(),
            source,
        })
}

fn real_paths(paths: &[PathBuf]) -> Result<Vec<PathBuf>, IsolationConfigError> {
    let real = paths.iter().map(|path| {
        path.canonicalize()
            .map_err(|source| IsolationConfigError::Path {
                path: path.clone(),
                source,
            })
    });
    real.collect()
}

fn open_groups(
    choice: Option<&CgroupChoice>,
    places: &WorkerPlaces,
) -> Result<Option<Groups>, IsolationConfigError> {
    let Some(choice) = choice else {
        return Ok(None);
    };
    match (Groups::open(choice, places.place_id, &places.kept), choice) {
        (Ok(groups), _) => {
            let found = groups.controllers();
            tracing::info!(
                path = %groups.path().display(),
                memory = found.memory,
                cpu = found.cpu,
                pids = found.pids,
                "each run gets a cgroup"
            );
            Ok(Some(groups))
        }
        (Err(error), CgroupChoice::Auto) => {
            let error: &dyn Error = &error;
            tracing::warn!(error, "runs get no cgroups");
            Ok(None)
        }
        (Err(source), CgroupChoice::Below(path)) => Err(IsolationConfigError::Cgroup {
            path: path.clone(),
            source,
        }),
    }
}
