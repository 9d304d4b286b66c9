//! Where the processes of a task look for programs: `taskyard` is among them.

use std::path::{Path, PathBuf};

/// The program that `taskyard self` is a verb of.
const PROGRAM: &str = "taskyard";

/// A task's PATH with the folder of this worker's own `taskyard` at its end, unless one is found in it already. What
/// the owner set comes first, and an empty one stays empty. A worker under another name adds nothing.
pub fn with_own_program(path: String) -> String {
    match std::env::current_exe() {
        Ok(program) => with_folder_of(path, &program),
        Err(_) => path,
    }
}

fn with_folder_of(path: String, program: &Path) -> String {
    let folder = program
        .file_name()
        .filter(|name| *name == PROGRAM)
        .and_then(|_| program.parent())
        .and_then(Path::to_str)
        // a colon cannot be escaped in a PATH
        .filter(|folder| !folder.is_empty() && !folder.contains(':'));
    let Some(folder) = folder else {
        return path;
    };
    if path.is_empty() || has_program(&path) {
        return path;
    }
    format!("{path}:{folder}")
}

/// Whether it is found by the whole folders of a PATH; a relative one means something else in each directory.
fn has_program(path: &str) -> bool {
    path.split(':')
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .any(|folder| folder.join(PROGRAM).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_own_folder_comes_last_and_only_where_it_is_needed() {
        let folder = std::env::temp_dir().join(format!("search-path-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("created");
        let installed = folder.join(PROGRAM);
        std::fs::write(&installed, "").expect("written");
        let own = Path::new("/opt/yard/taskyard");
        let added = |path: &str| with_folder_of(path.to_owned(), own);
        assert_eq!(added("/no/bin:/no/sbin"), "/no/bin:/no/sbin:/opt/yard");
        assert_eq!(
            added("bin"),
            "bin:/opt/yard",
            "a relative folder says nothing"
        );
        assert_eq!(added(""), "");
        let found = format!("/no/bin:{}", folder.display());
        assert_eq!(added(&found), found);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_worker_under_another_name_adds_nothing() {
        for program in [
            "/opt/yard/probe",
            "/opt/yard/taskyard (deleted)",
            "/a:b/taskyard",
        ] {
            let path = with_folder_of("/no/bin".to_owned(), Path::new(program));
            assert_eq!(path, "/no/bin", "{program}");
        }
    }
}
