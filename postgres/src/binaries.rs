//! Finding PostgreSQL's programs.

use std::cmp::Reverse;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::paths::default_cache_dir;

/// The oldest major version that Taskyard's SQL runs on.
pub const OLDEST_MAJOR: u32 = 15;
/// The newest major version that Taskyard is tested on.
pub const NEWEST_MAJOR: u32 = 18;

/// The variable that overrules the search: the directory with `postgres` and `initdb`.
const OVERRIDE: &str = "TASKYARD_PG_BIN";

/// Where packagers put versions side by side: a directory, the start of the names in it, and what follows the version.
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// `postgres --version` takes milliseconds; a program that takes longer is not one to rely on.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// One copy of PostgreSQL's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Holds `postgres` and `initdb`. Symbolic links are resolved: the programs find their other files from here.
    pub bin_dir: PathBuf,
    /// Such as 15 for 15.14.
    pub major: u32,
    /// Such as 14 for 15.14; 0 for a version without it (`18beta1`).
    pub minor: u32,
}

/// The copies of PostgreSQL that can be used here, best first. There is always one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    best: Installation,
    others: Vec<Installation>,
}

/// Why there is no PostgreSQL to use.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The variable was set, so nothing else was tried.
    #[error(
        "TASKYARD_PG_BIN is {directory:?}, but {problem}; let it name the directory that holds the programs postgres \
         and initdb of Postgres 15 to 18, or unset it"
    )]
    Override { directory: PathBuf, problem: String },

    #[error(
        "no Postgres 15 to 18 was found; run `make setup`, which fetches one, or install one (`apt-get install \
         postgresql`, `dnf install postgresql-server`, `brew install postgresql@18`), or let TASKYARD_PG_BIN name the \
         directory of its programs; looked at:{looked_at}"
    )]
    NotFound {
        /// One indented line for each place, with what was wrong with it; begins with a line break.
        looked_at: String,
    },
}

impl Binaries {
    /// Looks for PostgreSQL 15 to 18: in `$TASKYARD_PG_BIN` and nowhere else if that is set; else on the machine,
    /// newest first; else in `cache_dir` (default: [`default_cache_dir`]), where the set-up script unpacks one.
    ///
    /// Runs `postgres --version` for each place, so it takes some milliseconds.
    pub fn find(cache_dir: Option<&Path>) -> Result<Binaries, FindError> {
        if let Some(directory) = env::var_os(OVERRIDE).filter(|value| !value.is_empty()) {
            return Self::only(Path::new(&directory));
        }
        let cache_dir = cache_dir.map_or_else(default_cache_dir, Path::to_path_buf);
        let mut search = Search::default();
        for directory in directories_on_machine() {
            search.look_at(&directory);
        }
        if search.found.is_empty() {
            search.note_usual_places();
        }
        search
            .found
            .sort_by_key(|found| Reverse((found.major, found.minor)));
        let n_on_machine = search.found.len();
        for directory in directories_in_cache(&cache_dir) {
            search.look_at(&directory);
        }
        search.found[n_on_machine..].sort_by_key(|found| Reverse((found.major, found.minor)));
        let mut found = search.found.into_iter();
        match found.next() {
            Some(best) => Ok(Binaries {
                best,
                others: found.collect(),
            }),
            None => Err(FindError::NotFound {
                looked_at: search.looked_at,
            }),
        }
    }

    /// Takes the programs in one directory and no others.
    pub fn only(directory: &Path) -> Result<Binaries, FindError> {
        match inspect(directory) {
            Ok(best) => Ok(Binaries {
                best,
                others: Vec::new(),
            }),
            Err(problem) => Err(FindError::Override {
                directory: directory.to_path_buf(),
                problem: problem.to_string(),
            }),
        }
    }

    /// The copy for a new cluster.
    pub fn best(&self) -> &Installation {
        &self.best
    }

    /// The copy for an existing cluster, which only its own major version can open.
    pub fn for_major(&self, major: u32) -> Option<&Installation> {
        self.all().find(|installation| installation.major == major)
    }

    /// Every usable copy, best first.
    pub fn all(&self) -> impl Iterator<Item = &Installation> {
        std::iter::once(&self.best).chain(&self.others)
    }
}

#[derive(Default)]
struct Search {
    found: Vec<Installation>,
    looked_at: String,
}

impl Search {
    fn look_at(&mut self, directory: &Path) {
        match inspect(directory) {
            Ok(installation) => {
                let is_known = self
                    .found
                    .iter()
                    .any(|known| known.bin_dir == installation.bin_dir);
                if !is_known {
                    self.found.push(installation);
                }
            }
            Err(problem) => {
                let _ = write!(self.looked_at, "\n  {}: {problem}", directory.display());
            }
        }
    }
}

impl Search {
    /// For the error, which otherwise would not show that places without any PostgreSQL were looked at.
    fn note_usual_places(&mut self) {
        let _ = write!(self.looked_at, "\n  PATH: no other postgres");
        for (parent, prefix, _) in VERSIONED {
            if versions_in(Path::new(parent), prefix).next().is_none() {
                let _ = write!(self.looked_at, "\n  {parent}/{prefix}*: not there");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("no {0} in it")]
    Missing(&'static str),
    #[error("{0} may not enter {1:?}, and Postgres runs as {0} here")]
    Unreachable(String, PathBuf),
    #[error("`postgres --version` failed: {0}")]
    Broken(String),
    #[error("its version is {0}")]
    OtherVersion(u32),
}

fn inspect(directory: &Path) -> Result<Installation, Unusable> {
    for program in ["postgres", "initdb"] {
        if !directory.join(program).is_file() {
            return Err(Unusable::Missing(program));
        }
    }
    let bin_dir = fs::canonicalize(directory.join("postgres"))
        .ok()
        .and_then(|postgres| postgres.parent().map(Path::to_path_buf))
        // A link to a `postgres` elsewhere without its `initdb` is used where it stands.
        .filter(|real| real.join("initdb").is_file())
        .or_else(|| fs::canonicalize(directory).ok())
        .ok_or(Unusable::Missing("postgres"))?;
    if let Ok(account) = Account::choose(None)
        && let Some(closed) = account.first_closed_directory(&bin_dir)
    {
        return Err(Unusable::Unreachable(account.name, closed));
    }
    let (major, minor) = version_of(&bin_dir.join("postgres"))?;
    if !(OLDEST_MAJOR..=NEWEST_MAJOR).contains(&major) {
        return Err(Unusable::OtherVersion(major));
    }
    Ok(Installation {
        bin_dir,
        major,
        minor,
    })
}

fn version_of(postgres: &Path) -> Result<(u32, u32), Unusable> {
    let broken = |error: std::io::Error| Unusable::Broken(error.to_string());
    let mut child = Command::new(postgres)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(broken)?;
    let started = Instant::now();
    // The one line it prints fits into the pipe, so it never waits for us.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(broken)? {
            break status;
        }
        if started.elapsed() > VERSION_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Unusable::Broken("no answer within 10 s".to_owned()));
        }
        thread::sleep(Duration::from_millis(1));
    };
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(4096).read_to_string(&mut line);
    }
    if !status.success() {
        return Err(Unusable::Broken(status.to_string()));
    }
    parse_version(&line).ok_or_else(|| Unusable::Broken(format!("it said {:?}", line.trim())))
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_version(line: &str) -> Option<(u32, u32)> {
    let version = line.split_once("(PostgreSQL) ")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = match version
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with('.')
    {
        true => numbers
            .next()
            .and_then(|minor| minor.parse().ok())
            .unwrap_or(0),
        false => 0,
    };
    Some((major, minor))
}

/// Every directory of PATH that holds a `postgres`, and the packagers' directories that exist.
fn directories_on_machine() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    directories.retain(|directory| directory.is_absolute() && directory.join("postgres").is_file());
    for (parent, prefix, below) in VERSIONED {
        directories
            .extend(versions_in(Path::new(parent), prefix).map(|version| version.join(below)));
    }
    directories.push(PathBuf::from("/usr/local/pgsql/bin"));
    directories
}

/// Programs in a cache that somebody else could have filled (one in the temporary directory, say) are not run.
fn directories_in_cache(cache_dir: &Path) -> Vec<PathBuf> {
    let copies = cache_dir.join("postgres");
    let ours = rustix::process::geteuid().as_raw();
    let is_trusted =
        fs::metadata(&copies).is_ok_and(|found| found.uid() == ours || found.uid() == 0);
    let mut directories = Vec::new();
    if is_trusted {
        directories.extend(versions_in(&copies, "").map(|copy| copy.join("bin")));
    }
    if directories.is_empty() {
        // Named so that the error can say that the cache was looked at.
        directories.push(copies);
    }
    directories
}

/// The entries of `parent` whose names are `prefix` and then a digit; a copy still being unpacked begins with a dot.
fn versions_in(parent: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(move |entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(prefix))
                .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read_from_what_packagers_print() {
        let debian = "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some((15, 14)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.6"), Some((18, 6)));
        assert_eq!(
            parse_version("postgres (PostgreSQL) 18beta1"),
            Some((18, 0))
        );
        assert_eq!(parse_version("postgres (EnterpriseDB) 15"), None);
        assert_eq!(parse_version(""), None);
    }
}
