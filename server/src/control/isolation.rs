//! What a task may reach: what can be asked for, which workers can give it, and what it passes on to its children.

use super::refusal::Refusal;
use std::collections::BTreeMap;
use taskyard_proto::v1::{
    Isolation, IsolationLevel, NetworkAccess, ResourceLimits, TaskSecret, TaskSpec,
};

/// How the labels begin that say what a worker can give: tasks get them by what they ask for.
const RESERVED_LABELS: &str = "taskyard.dev/";
/// The one of them that tasks ask for by themselves: the pool that a worker is of.
const POOL_LABEL: &str = "taskyard.dev/pool";
const LEVEL_LABEL: (&str, &str) = ("taskyard.dev/isolation", "restricted");
const MEMORY_LABEL: (&str, &str) = ("taskyard.dev/limit-memory", "cgroup");
const CPU_LABEL: (&str, &str) = ("taskyard.dev/limit-cpu", "cgroup");
const PROCESSES_LABEL: (&str, &str) = ("taskyard.dev/limit-processes", "cgroup");

const MAX_PATHS: usize = 64;
const MAX_PATH: usize = 4_096;
const MIN_MEMORY: i64 = 1 << 20;
const MIN_CPU_MILLIS: i32 = 10;
const MAX_CPU_MILLIS: i32 = 1_000_000;
const MAX_PROCESSES: i32 = 4_000_000;

const FIELD: &str = "task.spec.isolation";

/// Checks what a task asks for, for the executor that will run it.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check(spec: &TaskSpec, executor: &str) -> Result<(), Refusal> {
    if let Some(label) = spec
        .worker_labels
        .keys()
        .find(|label| label.starts_with(RESERVED_LABELS) && *label != POOL_LABEL)
    {
        return Err(Refusal::invalid(
            "task.spec.worker_labels",
            format!("{label:?} is the system's; say what is needed in `isolation`"),
        ));
    }
    let Some(isolation) = &spec.isolation else {
        return Ok(());
    };
    if executor != super::definition::COMMAND {
        return Err(Refusal::invalid(
            FIELD,
            "is for the executor `command` only",
        ));
    }
    let Ok(level) = IsolationLevel::try_from(isolation.level) else {
        return Err(Refusal::invalid(
            format!("{FIELD}.level"),
            "is no known level",
        ));
    };
    let Ok(network) = NetworkAccess::try_from(isolation.network) else {
        return Err(Refusal::invalid(
            format!("{FIELD}.network"),
            "is no known network access",
        ));
    };
    let is_restricted = level == IsolationLevel::Restricted;
    if network == NetworkAccess::None && !is_restricted {
        return Err(Refusal::invalid(
            format!("{FIELD}.network"),
            "`none` needs the level `restricted`",
        ));
    }
    for (name, paths) in [
        ("writable_paths", &isolation.writable_paths),
        ("readable_paths", &isolation.readable_paths),
    ] {
        let field = format!("{FIELD}.{name}");
        if !paths.is_empty() && !is_restricted {
            return Err(Refusal::invalid(field, "needs the level `restricted`"));
        }
        check_paths(&field, paths)?;
    }
    isolation.limits.as_ref().map_or(Ok(()), check_limits)
}

/// The labels that a worker must carry to be offered a task: those that it names, and those that follow from what it
/// asks for.
#[must_use]
pub fn required_labels(spec: &TaskSpec) -> BTreeMap<String, String> {
    let isolation = spec.isolation.clone().unwrap_or_default();
    let limits = isolation.limits.unwrap_or_default();
    let mut labels = spec.worker_labels.clone();
    let needed = [
        (is_restricted(&isolation), LEVEL_LABEL),
        (limits.memory_bytes.is_some(), MEMORY_LABEL),
        (limits.cpu_millis.is_some(), CPU_LABEL),
        (limits.processes.is_some(), PROCESSES_LABEL),
    ];
    for (_, (key, value)) in needed.into_iter().filter(|(is_needed, _)| *is_needed) {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// Gives a task that is created from inside another what that one is held by. What it does not say it takes from there.
///
/// # Errors
/// [`Refusal::InvalidField`] where it asks for more.
pub fn inherit(parent: &TaskSpec, child: &mut TaskSpec) -> Result<(), Refusal> {
    inherit_user(parent, child)?;
    let Some(above) = &parent.isolation else {
        return Ok(());
    };
    let mut below = match child.isolation.take() {
        Some(below) => below,
        None => Isolation {
            limits: None,
            ..above.clone()
        },
    };
    below.limits = narrow_limits(above.limits.as_ref(), below.limits.take())?;
    if is_restricted(above) {
        narrow(parent, above, &mut below)?;
        check_start(parent, above, child)?;
        resources::inherit(parent, child)?;
    }
    child.isolation = Some(below);
    Ok(())
}

/// Refuses a child of a restricted task what that task cannot read itself: variables and files of the worker. Values are
/// refused from inside any task.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check_secrets(parent: &TaskSpec, secrets: &[TaskSecret]) -> Result<(), Refusal> {
    if secrets.is_empty() || !parent.isolation.as_ref().is_some_and(is_restricted) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "task.secrets",
        "from inside a restricted task there are none; leave them out",
    ))
}

/// Whoever was given another user than the worker's does not come back to that one by a child, at any level; and what is
/// restricted does not get another one.
fn inherit_user(parent: &TaskSpec, child: &mut TaskSpec) -> Result<(), Refusal> {
    let is_restricted = parent.isolation.as_ref().is_some_and(is_restricted);
    let above = parent.command.as_ref();
    let (user, group) = above.map_or(("", ""), |above| (&above.user, &above.group));
    let Some(below) = &mut child.command else {
        return Ok(());
    };
    let is_bound = is_restricted || !user.is_empty() || !group.is_empty();
    for (name, own, given) in [
        ("user", &mut below.user, user),
        ("group", &mut below.group, group),
    ] {
        if own.is_empty() {
            given.clone_into(own);
        } else if is_bound && own != given {
            return Err(Refusal::invalid(
                format!("task.spec.command.{name}"),
                format!(
                    "the task that this is created from has not got {own:?} itself; leave it out"
                ),
            ));
        }
    }
    Ok(())
}

fn narrow(parent: &TaskSpec, above: &Isolation, below: &mut Isolation) -> Result<(), Refusal> {
    match below.level() {
        IsolationLevel::Unspecified => below.set_level(IsolationLevel::Restricted),
        IsolationLevel::Restricted => {}
        IsolationLevel::None => {
            return Err(Refusal::invalid(
                format!("{FIELD}.level"),
                "from inside a restricted task only `restricted`; leave it out",
            ));
        }
    }
    match (above.network(), below.network()) {
        (NetworkAccess::None, NetworkAccess::Unspecified) => {
            below.set_network(NetworkAccess::None);
        }
        (NetworkAccess::None, NetworkAccess::Allowed) => {
            return Err(Refusal::invalid(
                format!("{FIELD}.network"),
                "from inside a task without a network only `none`; leave it out",
            ));
        }
        (NetworkAccess::Unspecified | NetworkAccess::Allowed, _)
        | (NetworkAccess::None, NetworkAccess::None) => {}
    }
    let is_given = |path: &String, also: &[String]| {
        !path.starts_with('/') || is_writable(parent, above, path) || covers(also, path)
    };
    let lists = [
        ("writable_paths", &below.writable_paths, &[][..]),
        (
            "readable_paths",
            &below.readable_paths,
            &above.readable_paths[..],
        ),
    ];
    for (name, paths, also) in lists {
        if let Some(path) = paths.iter().find(|path| !is_given(path, also)) {
            return Err(Refusal::invalid(
                format!("{FIELD}.{name}"),
                format!("{path:?} is not within reach of the task that this is created from"),
            ));
        }
    }
    Ok(())
}

/// What a command says beside its isolation that reaches out of it.
fn check_start(parent: &TaskSpec, above: &Isolation, child: &TaskSpec) -> Result<(), Refusal> {
    let Some(command) = &child.command else {
        return Ok(());
    };
    if command.cwd.starts_with('/') && !is_writable(parent, above, &command.cwd) {
        return Err(Refusal::invalid(
            "task.spec.command.cwd",
            "is not within reach of the task that this is created from; use a relative one",
        ));
    }
    let given: &[String] = parent
        .command
        .as_ref()
        .map_or(&[], |command| &command.inherit_env);
    if let Some(name) = command
        .inherit_env
        .iter()
        .find(|name| !given.contains(name))
    {
        return Err(Refusal::invalid(
            "task.spec.command.inherit_env",
            format!("the restricted task that this is created from did not get {name:?} itself"),
        ));
    }
    Ok(())
}

/// Whether a task may write below an absolute path. Its own directory has no name here.
fn is_writable(spec: &TaskSpec, isolation: &Isolation, path: &str) -> bool {
    let cwd = spec.command.as_ref().map(|command| command.cwd.clone());
    let cwd: Vec<String> = cwd.into_iter().filter(|cwd| cwd.starts_with('/')).collect();
    covers(&isolation.writable_paths, path) || covers(&cwd, path)
}

/// Whether a clean absolute path is one of `roots` or below one. Workers refuse paths with symbolic links in them, so that
/// the names tell.
fn covers(roots: &[String], path: &str) -> bool {
    let is_clean = path.split('/').skip(1).all(is_part);
    is_clean
        && roots.iter().any(|root| {
            let root = root.trim_end_matches('/');
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

fn narrow_limits(
    above: Option<&ResourceLimits>,
    below: Option<ResourceLimits>,
) -> Result<Option<ResourceLimits>, Refusal> {
    let Some(above) = above else {
        return Ok(below);
    };
    let below = below.unwrap_or_default();
    Ok(Some(ResourceLimits {
        memory_bytes: narrow_limit("memory_bytes", above.memory_bytes, below.memory_bytes)?,
        cpu_millis: narrow_limit("cpu_millis", above.cpu_millis, below.cpu_millis)?,
        processes: narrow_limit("processes", above.processes, below.processes)?,
    }))
}

fn narrow_limit<N: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    above: Option<N>,
    below: Option<N>,
) -> Result<Option<N>, Refusal> {
    match (above, below) {
        (Some(above), Some(below)) if below > above => Err(Refusal::invalid(
            format!("{FIELD}.limits.{name}"),
            format!("must be at most {above}, as for the task that this is created from"),
        )),
        (_, Some(below)) => Ok(Some(below)),
        (above, None) => Ok(above),
    }
}

fn check_paths(field: &str, paths: &[String]) -> Result<(), Refusal> {
    if paths.len() > MAX_PATHS {
        return Err(Refusal::invalid(
            field,
            format!("at most {MAX_PATHS} paths are allowed"),
        ));
    }
    for path in paths {
        let relative = path.strip_prefix('/').unwrap_or(path);
        if path.len() > MAX_PATH || path.contains('\0') || !relative.split('/').all(is_part) {
            return Err(Refusal::invalid(
                field,
                format!(
                    "{path:?} is no clean path: names joined by single slashes, no `.` and `..`, at most {MAX_PATH} bytes"
                ),
            ));
        }
    }
    Ok(())
}

fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
}

fn check_limits(limits: &ResourceLimits) -> Result<(), Refusal> {
    if limits.memory_bytes.is_some_and(|bytes| bytes < MIN_MEMORY) {
        return Err(Refusal::invalid(
            format!("{FIELD}.limits.memory_bytes"),
            format!("must be at least {MIN_MEMORY}"),
        ));
    }
    for (name, limit, min, max) in [
        (
            "cpu_millis",
            limits.cpu_millis,
            MIN_CPU_MILLIS,
            MAX_CPU_MILLIS,
        ),
        ("processes", limits.processes, 1, MAX_PROCESSES),
    ] {
        if limit.is_some_and(|limit| !(min..=max).contains(&limit)) {
            return Err(Refusal::invalid(
                format!("{FIELD}.limits.{name}"),
                format!("must be from {min} to {max}"),
            ));
        }
    }
    Ok(())
}

fn is_restricted(isolation: &Isolation) -> bool {
    isolation.level() == IsolationLevel::Restricted
}

mod resources;

#[cfg(test)]
mod tests;
