//! Where things are kept when nobody says otherwise.

use std::env;
use std::path::PathBuf;

/// The data directory of `taskyard dev`: `/var/lib/taskyard` for root, else `$XDG_DATA_HOME/taskyard`, else
/// `~/.local/share/taskyard`. Root's is not below its home because the user that runs PostgreSQL for root cannot look
/// in there.
pub fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/taskyard");
    }
    user_directory("XDG_DATA_HOME", ".local/share")
}

/// The cache that the set-up script fills: `$TASKYARD_CACHE_DIR`, else `/var/cache/taskyard` for root, else
/// `$XDG_CACHE_HOME/taskyard`, else `~/.cache/taskyard`.
pub fn default_cache_dir() -> PathBuf {
    if let Some(chosen) = non_empty("TASKYARD_CACHE_DIR") {
        return chosen;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/taskyard");
    }
    user_directory("XDG_CACHE_HOME", ".cache")
}

/// A user without a home (a bare container) gets a directory of its own in the temporary one: it does not outlive
/// the machine, but then neither does that user.
fn user_directory(variable: &str, below_home: &str) -> PathBuf {
    if let Some(base) = non_empty(variable).filter(|base| base.is_absolute()) {
        return base.join("taskyard");
    }
    match non_empty("HOME").filter(|home| home.is_absolute() && home.is_dir()) {
        Some(home) => home.join(below_home).join("taskyard"),
        None => {
            let uid = rustix::process::geteuid().as_raw();
            env::temp_dir().join(format!("taskyard-user-{uid}"))
        }
    }
}

fn non_empty(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
