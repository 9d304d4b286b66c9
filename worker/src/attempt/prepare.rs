//! From what was asked for to what the shim launches.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lease::{CommandWork, ErrorFacts, Offer, StartFault};
use crate::workspace::{Workspace, WorkspaceError, hand_over};
use crate::{
    boot_time::BootTime,
    process::{
        Identity, IdentityError, Launch, LimitedResource, Rlimit, SpoolSpec, StartError, Stdin,
        errno_name, resolve_identity,
    },
};

use super::isolate::isolation_failed;
use super::search_path::with_own_program;
use super::secrets::ResolvedSecrets;
use super::services::{StorageHealth, chain, is_trouble_of_the_disk};

/// How long, after the exit of the root, output may still come from descendants.
const PIPE_DRAIN: Duration = Duration::from_secs(2);
const DISK_HINT: &str = "check the worker's data directory: space, quota and permissions";
/// Copied from the worker, with what is used where the worker has none.
const BASE_ENV: [(&str, &str); 3] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/"),
    ("LANG", "C.UTF-8"),
];

/// Fills the workspace and says what to launch.
pub async fn prepare(
    offer: &Offer,
    work: &CommandWork,
    workspace: &Workspace,
    socket: &Path,
    deadline: BootTime,
    secrets: ResolvedSecrets,
    storage: &StorageHealth,
) -> Result<Launch, ErrorFacts> {
    let prepared = workspace
        .prepare(&work.cwd, &work.input_json, work.stdin.as_ref())
        .await;
    let cwd = prepared.map_err(|error| workspace_failed(&error, storage))?;
    let masked = secrets.values();
    let mut secret_variables = secrets.variables;
    let (variables, files): (Vec<String>, Vec<_>) = secrets
        .files
        .into_iter()
        .map(|file| (file.variable, (file.name, file.content)))
        .unzip();
    let written = workspace.write_secrets(files).await;
    let paths = written.map_err(|error| workspace_failed(&error, storage))?;
    secret_variables.extend(variables.into_iter().zip(paths.into_iter().map(path_text)));
    let [stdout, stderr] = workspace.spools();
    let spool = |path| SpoolSpec {
        path,
        head_cap: work.head_cap,
        tail_cap: work.tail_cap,
    };
    let identity = find_identity(work).await?;
    let rlimits = find_rlimits(work)?;
    let stdin = if work.stdin_live {
        Stdin::Live
    } else if work.stdin.is_some() || !work.stdin_file.is_empty() {
        Stdin::File(workspace.stdin())
    } else {
        Stdin::Null
    };
    Ok(Launch {
        argv: work.argv.clone(),
        env: environment(
            offer,
            work,
            secret_variables,
            workspace,
            socket,
            identity.as_ref(),
        ),
        cwd,
        umask: work.umask,
        nice: work.nice,
        rlimits,
        identity,
        stdin,
        terminal: work.terminal.as_ref().map(|terminal| terminal.size),
        secrets: masked,
        stdout: spool(stdout),
        stderr: spool(stderr),
        drain: PIPE_DRAIN,
        deadline,
        survival: None,
        confinement: None,
        group: None,
    })
}

/// Variables that the work finds beside those of its spec, which win over them.
pub fn add_variables(launch: &mut Launch, variables: Vec<(String, String)>, work: &CommandWork) {
    let variables = variables
        .into_iter()
        .filter(|(name, _)| !is_ours(name) && !work.env.contains_key(name));
    for (name, value) in variables {
        match launch.env.iter_mut().find(|(other, _)| *other == name) {
            Some((_, earlier)) => *earlier = value,
            None => launch.env.push((name, value)),
        }
    }
}

/// Gives the directories of the run to the user that it runs as, if that is not the worker's own.
pub async fn hand_over_to_user(
    launch: &Launch,
    workspace: &Workspace,
    socket: &Path,
) -> Result<(), ErrorFacts> {
    let Some(identity) = launch.identity.clone() else {
        return Ok(());
    };
    let (workspace, socket) = (workspace.clone(), socket.to_owned());
    let given =
        tokio::task::spawn_blocking(move || hand_over(&workspace, &socket, &identity)).await;
    given
        .unwrap_or_else(|join_error| Err(std::io::Error::other(join_error)))
        .map_err(|error| {
            let message = format!(
                "the task's directory cannot be handed to its user: {}",
                chain(&error)
            );
            ErrorFacts::of_worker(message, DISK_HINT)
        })
}

/// The facts about a launch that failed. The message ends with the name of the operating system's error, where there was
/// one.
pub fn start_failed(error: &StartError, storage: &StorageHealth) -> ErrorFacts {
    if let Some(fault) = error.fault_of_the_work() {
        let facts = ErrorFacts::start_failed(fault, with_errno(error, error.errno()));
        if fault == StartFault::NotStartable {
            return facts.because(error.errno().and_then(errno_name));
        }
        return facts;
    }
    if let StartError::Isolation { .. } = error {
        return isolation_failed(chain(error));
    }
    if let StartError::Spool { source, .. } = error {
        storage.report_failure(source);
        return ErrorFacts::of_worker(chain(error), DISK_HINT).because(word_of(source));
    }
    if error.is_shortage() {
        storage.report_failure(error);
    }
    ErrorFacts::of_worker(with_errno(error, error.errno()), "")
        .because(error.errno().and_then(errno_name))
}

fn word_of(error: &std::io::Error) -> Option<&'static str> {
    error.raw_os_error().and_then(errno_name)
}

fn find_rlimits(work: &CommandWork) -> Result<Vec<Rlimit>, ErrorFacts> {
    let limits = work.rlimits.iter().map(|(name, (soft, hard))| {
        let resource = LimitedResource::from_name(name).ok_or_else(|| {
            let message = format!("this worker knows no limit on {name:?}");
            ErrorFacts::start_failed(StartFault::Rlimit, message)
        })?;
        Ok(Rlimit {
            resource,
            soft: *soft,
            hard: *hard,
        })
    });
    limits.collect()
}

async fn find_identity(work: &CommandWork) -> Result<Option<Identity>, ErrorFacts> {
    if work.user.is_empty() && work.group.is_empty() {
        return Ok(None);
    }
    let (user, group) = (work.user.clone(), work.group.clone());
    let found = tokio::task::spawn_blocking(move || resolve_identity(&user, &group)).await;
    match found {
        Ok(found) => found.map_err(|error| match &error {
            IdentityError::NoUser { .. }
            | IdentityError::NoGroup { .. }
            | IdentityError::NotPermitted { .. } => {
                ErrorFacts::start_failed(StartFault::User, with_errno(&error, error.errno()))
            }
            IdentityError::Database(_) => ErrorFacts::of_worker(chain(&error), ""),
        }),
        Err(join_error) => Err(ErrorFacts::of_worker(
            format!("the worker failed to look up the task's user: {join_error}"),
            "",
        )),
    }
}

fn with_errno(error: &dyn std::error::Error, errno: Option<i32>) -> String {
    match errno.and_then(errno_name) {
        Some(name) => format!("{} ({name})", chain(error)),
        None => chain(error),
    }
}

/// The facts about a socket that cannot be made.
pub fn socket_failed(error: &std::io::Error, storage: &StorageHealth) -> ErrorFacts {
    if is_trouble_of_the_disk(error) {
        storage.report_failure(error);
    }
    ErrorFacts::of_worker(
        format!("the worker cannot make the task's socket: {error}"),
        DISK_HINT,
    )
    .because(word_of(error))
}

/// The facts about a ledger that cannot be written.
pub fn ledger_failed(error: &std::io::Error, storage: &StorageHealth) -> ErrorFacts {
    storage.report_failure(error);
    ErrorFacts::of_worker(
        format!("the worker cannot write its ledger: {error}"),
        DISK_HINT,
    )
    .because(word_of(error))
}

fn workspace_failed(error: &WorkspaceError, storage: &StorageHealth) -> ErrorFacts {
    match error {
        WorkspaceError::CwdLeaves { .. } => ErrorFacts::start_failed(StartFault::Cwd, chain(error)),
        WorkspaceError::Io { source, .. } => {
            if is_trouble_of_the_disk(source) {
                storage.report_failure(source);
                ErrorFacts::of_worker(chain(error), DISK_HINT).because(word_of(source))
            } else {
                // A directory that cannot exist, such as a name that is too long.
                ErrorFacts::start_failed(StartFault::Cwd, chain(error))
            }
        }
    }
}

/// The whole environment. Later entries win, so each name is set once and nothing can pose as ours.
fn environment(
    offer: &Offer,
    work: &CommandWork,
    secrets: Vec<(String, String)>,
    workspace: &Workspace,
    socket: &Path,
    identity: Option<&Identity>,
) -> Vec<(String, String)> {
    let mut env = std::collections::BTreeMap::new();
    for (name, fallback) in BASE_ENV {
        env.insert(
            name.to_owned(),
            std::env::var(name).unwrap_or_else(|_| fallback.to_owned()),
        );
    }
    if let Some(account) = identity.and_then(|identity| identity.account.as_ref()) {
        env.insert("HOME".to_owned(), account.home.clone());
        env.insert("USER".to_owned(), account.name.clone());
        env.insert("LOGNAME".to_owned(), account.name.clone());
    }
    if let Some(terminal) = &work.terminal {
        env.insert("TERM".to_owned(), terminal.term.clone());
    }
    env.insert("TMPDIR".to_owned(), path_text(workspace.temporary()));
    for name in work
        .inherit_env
        .iter()
        .filter(|name| !is_ours(name) && !name.is_empty() && !name.contains('\0'))
    {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.clone(), value);
        }
    }
    env.extend(
        work.env
            .clone()
            .into_iter()
            .filter(|(name, _)| !is_ours(name)),
    );
    env.extend(secrets.into_iter().filter(|(name, _)| !is_ours(name)));
    env.entry("PATH".to_owned())
        .and_modify(|path| *path = with_own_program(std::mem::take(path)));
    let mut ours = vec![
        ("TASKYARD_TASK_ID", offer.lease.task_id.clone()),
        ("TASKYARD_SESSION_ID", offer.session_id.clone()),
        ("TASKYARD_NAMESPACE", offer.namespace.clone()),
        ("TASKYARD_ATTEMPT", offer.attempt.to_string()),
        ("TASKYARD_RUN", offer.run.to_string()),
        ("TASKYARD_LEASE_EPOCH", offer.lease.epoch.to_string()),
        ("TASKYARD_SOCKET", path_text(socket.to_owned())),
        ("TASKYARD_RESULT", path_text(workspace.result())),
        ("TASKYARD_ARTIFACTS", path_text(workspace.artifacts())),
    ];
    if !work.input_json.is_empty() {
        ours.push(("TASKYARD_INPUT", path_text(workspace.input())));
    }
    env.extend(
        ours.into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    env.into_iter().collect()
}

fn path_text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

fn is_ours(name: &str) -> bool {
    name.starts_with("TASKYARD_")
}
