//! Where the programs under test are.

use std::env;
use std::path::{Path, PathBuf};

/// The one binary.
pub fn taskyard() -> PathBuf {
    built("taskyard")
}

/// Runs a command with a Postgres of its own.
pub fn scratch_postgres() -> PathBuf {
    built("taskyard-scratch-postgres")
}

/// The child that misbehaves on demand.
pub fn probe() -> String {
    built("probe").display().to_string()
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Test executables lie in `deps/`, next to which cargo puts the programs.
fn built(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap_or_else(|error| panic!("cannot find this test: {error}"));
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not built; run `cargo build --workspace --bins` first, or use `make test`"
        )
    })
}
