//! Who may use the socket of an attempt.

use tokio::net::UnixStream;

use crate::shim::tree;

/// A walk up the tree misses a process whose parent ends in that moment; its next parent is the shim, which a walk right
/// after that finds. So often is looked again.
const WALKS: usize = 3;

/// Whether the process that made this connection is the attempt's shim or below it; daemons are, since the shim is what
/// they are handed to. `Err` has its process id, where there is one.
///
/// The kernel says who connected. This keeps other tasks of the worker, and other programs of its user, whom the
/// permissions of the socket let in, from speaking in the name of the attempt by mistake or out of curiosity. It is no
/// wall against one who runs as the same user and means harm: that one can trace a process of the task, or be handed an
/// open connection by it. Nor does it tell whether the process that connected still is the one that speaks: a process
/// that connected, handed the connection on and ended is gone, and its id may be given to another.
pub(super) fn check(stream: &UnixStream, shim_pid: Option<u32>) -> Result<(), Option<i32>> {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // Zero: a process that this worker's process namespace does not show.
    let pid = pid.filter(|pid| *pid > 0).ok_or(None)?;
    let shim_pid = shim_pid.and_then(|shim| i32::try_from(shim).ok());
    let shim_pid = shim_pid.ok_or(Some(pid))?;
    let is_inside = pid == shim_pid || (0..WALKS).any(|_| tree::is_descendant(shim_pid, pid));
    if is_inside { Ok(()) } else { Err(Some(pid)) }
}
