//! Where the records of releases are. Included by the tests that write and check them, each with a part of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// One recorded release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major, minor, patch.
    pub version: [u64; 3],
    pub folder: PathBuf,
}

impl Release {
    /// A file of the record.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The content of a file of the record.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Every recorded release, the oldest first. Where `RECORD_RELEASE` in the environment names a folder, a part of the
/// record of this version is first written there by `record`, `once` in this process.
pub fn releases(once: &Once, record: impl FnOnce(&Release)) -> Vec<Release> {
    if let Some(folder) = std::env::var_os("RECORD_RELEASE") {
        once.call_once(|| {
            let release = Release {
                version: own_version(),
                folder: PathBuf::from(folder),
            };
            fs::create_dir_all(&release.folder).expect("a folder for the record");
            record(&release);
        });
    }
    let entries = fs::read_dir(folder()).expect("the folder of records can be read");
    let mut found: Vec<Release> = entries
        .flatten()
        .filter_map(|entry| {
            Some(Release {
                version: parse(entry.file_name().to_str()?)?,
                folder: entry.path(),
            })
        })
        .collect();
    found.sort();
    assert!(
        !found.is_empty(),
        "no release is recorded: run scripts/record-release"
    );
    found
}

/// The record of this version.
pub fn own(releases: &[Release]) -> &Release {
    releases
        .iter()
        .find(|release| release.version == own_version())
        .expect("this version is recorded: run scripts/record-release")
}

fn own_version() -> [u64; 3] {
    parse(env!("CARGO_PKG_VERSION")).expect("versions are three numbers")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat")
}

pub fn parse(version: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}
