//! Which paths are within reach: what every restricted task gets, and what a task may name beside it.

use std::io;
use std::path::{Path, PathBuf};

/// Programs, libraries and what tells them about the machine: to read and to execute.
pub const SYSTEM_ROOTS: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/run/systemd/resolve",
    // What belongs to other processes in it is held by Landlock's own rule.
    "/proc",
    "/sys/devices",
    "/sys/fs/cgroup",
];
/// Of this one what everybody may read only.
pub const ETC: &str = "/etc";
/// Devices that ordinary programs use, and none that leads to a disk or to memory. A task has its own terminal open
/// already, and finds it as `/dev/tty`; in `/dev/pts` lie those of others.
pub const DEVICES: [&str; 7] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
];
/// Nobody names these as a whole, nor anything below the first two.
const KERNEL_ROOTS: [&str; 2] = ["/proc", "/sys"];
const DEVICE_ROOT: &str = "/dev";

/// What no task gets by naming it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Borders {
    /// The worker's own directories; without symbolic links.
    pub private: Vec<PathBuf>,
    /// Where named paths must lie; absent: anywhere else.
    pub nameable: Option<Vec<PathBuf>>,
}

/// Why a named path is not given.
#[derive(Debug, thiserror::Error)]
pub enum PathRefusal {
    #[error("the path {path}, which `isolation` names, cannot be used on this worker")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the path {path}, which `isolation` names, leads over a symbolic link: name {real}")]
    Link { path: PathBuf, real: PathBuf },
    #[error(
        "the path {path} cannot be given to a restricted task: the worker's own files lie in it, or it is one of them"
    )]
    Private { path: PathBuf },
    #[error("the path {path} cannot be given to a restricted task: it leads into the kernel")]
    Kernel { path: PathBuf },
    #[error(
        "this worker does not let tasks name the path {path}: it must lie in one of its --isolation-paths ({allowed})"
    )]
    NotNameable { path: PathBuf, allowed: String },
}

impl Borders {
    /// Whether a path may be given. One that leads over a symbolic link may not: a task that can write above it could make
    /// it mean anything for the next.
    pub fn admit(&self, path: &Path) -> Result<PathBuf, PathRefusal> {
        let real = std::fs::canonicalize(path).map_err(|source| PathRefusal::Unusable {
            path: path.to_owned(),
            source,
        })?;
        // Compared by their parts: a slash at the end makes no difference.
        if real != path {
            return Err(PathRefusal::Link {
                path: path.to_owned(),
                real,
            });
        }
        self.check(&real)?;
        Ok(real)
    }

    fn check(&self, real: &Path) -> Result<(), PathRefusal> {
        let path = || real.to_owned();
        if self.private.iter().any(|private| touches(real, private)) {
            return Err(PathRefusal::Private { path: path() });
        }
        let is_kernel = KERNEL_ROOTS
            .iter()
            .any(|root| touches(real, Path::new(root)))
            || Path::new(DEVICE_ROOT).starts_with(real);
        if is_kernel {
            return Err(PathRefusal::Kernel { path: path() });
        }
        match &self.nameable {
            Some(allowed) if !allowed.iter().any(|root| real.starts_with(root)) => {
                let allowed: Vec<String> = allowed
                    .iter()
                    .map(|root| root.display().to_string())
                    .collect();
                Err(PathRefusal::NotNameable {
                    path: path(),
                    allowed: if allowed.is_empty() {
                        "there is none".to_owned()
                    } else {
                        allowed.join(", ")
                    },
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What every restricted task reads that one of the worker's own directories lies in; none: as it should be.
    pub fn exposed(&self) -> Option<(&Path, &Path)> {
        let roots = SYSTEM_ROOTS.iter().copied().chain([ETC]);
        let mut real = roots.filter_map(|root| {
            std::fs::canonicalize(root)
                .ok()
                .map(|real| (Path::new(root), real))
        });
        real.find_map(|(root, real)| {
            let private = self
                .private
                .iter()
                .find(|private| private.starts_with(&real))?;
            Some((root, private.as_path()))
        })
    }
}

/// One of the two lies in the other.
fn touches(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_workers_files_nor_what_holds_them_can_be_named() {
        let borders = Borders {
            private: vec![PathBuf::from("/var/lib/yard/worker")],
            nameable: None,
        };
        for path in ["/", "/var", "/var/lib/yard", "/var/lib/yard/worker/ledger"] {
            let refused = borders.check(Path::new(path));
            assert!(
                matches!(refused, Err(PathRefusal::Private { .. })),
                "{path}: {refused:?}"
            );
        }
        for path in ["/srv", "/var/lib/yard/worker2", "/dev/shm", "/home/me"] {
            assert!(borders.check(Path::new(path)).is_ok(), "{path}");
        }
        for path in ["/proc", "/proc/sys/kernel", "/sys/kernel", "/dev"] {
            let refused = borders.check(Path::new(path));
            assert!(
                matches!(refused, Err(PathRefusal::Kernel { .. })),
                "{path}: {refused:?}"
            );
        }
    }

    #[test]
    fn an_operator_says_where_named_paths_lie() {
        let borders = Borders {
            private: Vec::new(),
            nameable: Some(vec![PathBuf::from("/srv/projects")]),
        };
        assert!(borders.check(Path::new("/srv/projects/a")).is_ok());
        for path in ["/srv", "/srv/projects2", "/home"] {
            let refused = borders.check(Path::new(path));
            assert!(
                matches!(refused, Err(PathRefusal::NotNameable { .. })),
                "{path}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_link_is_followed_nowhere() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().canonicalize().expect("its real path");
        let private = root.join("private");
        std::fs::create_dir(&private).expect("made");
        std::os::unix::fs::symlink(&private, root.join("innocent")).expect("linked");
        let borders = Borders {
            private: vec![private],
            nameable: None,
        };
        let refused = borders.admit(&root.join("innocent"));
        assert!(
            matches!(refused, Err(PathRefusal::Link { .. })),
            "{refused:?}"
        );
        let missing = borders.admit(&root.join("nothing"));
        assert!(
            matches!(missing, Err(PathRefusal::Unusable { .. })),
            "{missing:?}"
        );
    }

    #[test]
    fn a_data_directory_among_the_systems_programs_is_noticed() {
        let inside = Borders {
            private: vec![PathBuf::from("/usr/share/yard")],
            nameable: None,
        };
        assert_eq!(
            inside.exposed(),
            Some((Path::new("/usr"), Path::new("/usr/share/yard")))
        );
        let outside = Borders {
            private: vec![PathBuf::from("/var/lib/yard")],
            nameable: None,
        };
        assert_eq!(outside.exposed(), None);
    }
}
