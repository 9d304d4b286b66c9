//! The isolation of one run: what the task asks for, settled and put into the launch.

use std::path::PathBuf;
use std::sync::Arc;

use super::services::chain;
use crate::isolation::{Isolation, IsolationLevel, IsolationRefusal, RunIsolation, RunPlaces};
use crate::lease::{CommandWork, ErrorFacts, Lease, StartFault};
use crate::process::Launch;
use crate::workspace::Workspace;

const UNAVAILABLE_HINT: &str = "`taskyard workers -o wide` shows what each worker can give; ask for less, or start a worker that can";
const HOME: &str = "HOME";

/// Settles what the run gets and tells the launch. The workspace is there.
pub async fn isolate(
    isolation: &Arc<Isolation>,
    lease: &Lease,
    work: &CommandWork,
    workspace: &Workspace,
    launch: &mut Launch,
) -> Result<RunIsolation, ErrorFacts> {
    let places = RunPlaces {
        name: lease.directory_name(),
        cwd: launch.cwd.clone(),
        writable: vec![
            workspace.work(),
            workspace.temporary(),
            workspace.artifacts(),
            workspace.result_directory(),
            workspace.home(),
        ],
        readable: readable(work, workspace).await,
    };
    let (isolation, wanted) = (isolation.clone(), work.isolation.clone());
    let planning = tokio::task::spawn_blocking(move || isolation.plan(&wanted, places)).await;
    let planned = match planning {
        Ok(planned) => planned.map_err(|refusal| refused(&refusal))?,
        Err(join_error) => {
            let message = format!("the worker failed to settle the isolation: {join_error}");
            return Err(ErrorFacts::of_worker(message, ""));
        }
    };
    if planned.level > IsolationLevel::None {
        give_a_home(work, workspace, launch);
        check_privileges(launch)?;
    }
    launch.confinement.clone_from(&planned.confinement);
    launch.group = planned.group.as_ref().map(|group| group.path().to_owned());
    Ok(planned)
}

/// What the run finds beside its own directories.
async fn readable(work: &CommandWork, workspace: &Workspace) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if !work.input_json.is_empty() {
        paths.push(workspace.input());
    }
    let secrets = workspace.secrets();
    if tokio::fs::try_exists(&secrets).await.unwrap_or(false) {
        paths.push(secrets);
    }
    paths
}

/// The worker's own home is out of reach, and programs that may not look into their home fail for it.
fn give_a_home(work: &CommandWork, workspace: &Workspace, launch: &mut Launch) {
    let is_asked_for =
        work.env.contains_key(HOME) || work.inherit_env.iter().any(|name| name == HOME);
    if is_asked_for {
        return;
    }
    for (name, value) in &mut launch.env {
        if name == HOME {
            *value = workspace.home().to_string_lossy().into_owned();
        }
    }
}

/// What only a privileged worker could give is nothing for a restricted task, as its capabilities are not: neither more
/// than the worker's own limits, nor a priority before the worker's.
fn check_privileges(launch: &Launch) -> Result<(), ErrorFacts> {
    if let Some(limit) = launch.rlimits.iter().find(|limit| limit.exceeds_our_own()) {
        let name = limit.resource.name();
        return Err(ErrorFacts::start_failed(
            StartFault::Rlimit,
            format!(
                "the limit {name} is above what the worker has itself, which no restricted task gets; ask for less"
            ),
        ));
    }
    if launch.nice.is_some_and(|nice| nice < own_nice()) {
        return Err(ErrorFacts::start_failed(
            StartFault::Nice,
            "the priority is above the worker's own, which no restricted task gets; ask for a larger `nice`".to_owned(),
        ));
    }
    Ok(())
}

fn own_nice() -> i32 {
    // A failure would be no process of ours.
    rustix::process::getpriority_process(None).unwrap_or(0)
}

fn refused(refusal: &IsolationRefusal) -> ErrorFacts {
    match refusal {
        IsolationRefusal::Unavailable { .. } => {
            ErrorFacts::isolation_unavailable(chain(refusal), UNAVAILABLE_HINT)
        }
        IsolationRefusal::Path(_) => ErrorFacts::start_failed(StartFault::Path, chain(refusal)),
    }
}

/// The facts about a confinement that the machine refused when it was put on.
pub fn isolation_failed(message: String) -> ErrorFacts {
    ErrorFacts::isolation_unavailable(message, UNAVAILABLE_HINT)
}
