//! Which files a run left as artifacts.

use std::fs;
use std::path::Path;

const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const ALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const DEPTH_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 512;
/// Directory entries that are looked at, so that a directory full of junk has an end.
const ENTRIES_MAX: usize = 10_000;

/// What was found below an artifacts directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Names relative to the directory, sorted.
    pub names: Vec<String>,
    /// How many things were left out: links, devices, odd names, and what is beyond the bounds.
    pub skipped: usize,
}

/// Lists regular files below `directory`, without following any symbolic link. It blocks.
pub fn list_artifacts(directory: &Path) -> Listing {
    let mut found = Vec::new();
    let mut skipped = 0;
    let mut entries_seen = 0;
    let mut pending = vec![(directory.to_owned(), String::new(), 0)];
    while let Some((path, prefix, depth)) = pending.pop() {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let Some(entries) = is_directory.then(|| fs::read_dir(&path).ok()).flatten() else {
            skipped += 1;
            continue;
        };
        for entry in entries.flatten() {
            entries_seen += 1;
            if entries_seen > ENTRIES_MAX {
                skipped += 1;
                pending.clear();
                break;
            }
            let file_name = entry.file_name();
            let Some(name) = file_name
                .to_str()
                .filter(|name| !name.chars().any(char::is_control))
            else {
                skipped += 1;
                continue;
            };
            let name = format!("{prefix}{name}");
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() && depth < DEPTH_MAX => {
                    pending.push((entry.path(), format!("{name}/"), depth + 1));
                }
                Ok(metadata)
                    if metadata.is_file()
                        && metadata.len() <= FILE_BYTES_MAX
                        && name.len() <= NAME_BYTES_MAX =>
                {
                    found.push((name, metadata.len()));
                }
                Ok(_) | Err(_) => skipped += 1,
            }
        }
    }
    found.sort();
    let mut listing = Listing {
        names: Vec::new(),
        skipped,
    };
    let mut all_bytes = 0;
    for (name, bytes) in found {
        if listing.names.len() == FILES_MAX || all_bytes + bytes > ALL_BYTES_MAX {
            listing.skipped += 1;
            continue;
        }
        all_bytes += bytes;
        listing.names.push(name);
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_within_the_bounds_are_listed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("artifacts");
        fs::create_dir_all(root.join("sub")).expect("created");
        fs::write(root.join("b.txt"), b"b").expect("written");
        fs::write(root.join("sub/a.txt"), b"a").expect("written");
        fs::write(root.join("new\nline"), b"x").expect("written");
        symlink("/etc/passwd", root.join("passwd")).expect("linked");
        symlink("/etc", root.join("etc")).expect("linked");
        let large = fs::File::create(root.join("large")).expect("created");
        large.set_len(FILE_BYTES_MAX + 1).expect("sparse");
        let listing = list_artifacts(&root);
        assert_eq!(
            listing,
            Listing {
                names: vec!["b.txt".to_owned(), "sub/a.txt".to_owned()],
                skipped: 4
            }
        );
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_not_followed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("artifacts");
        symlink("/etc", &root).expect("linked");
        assert_eq!(
            list_artifacts(&root),
            Listing {
                names: Vec::new(),
                skipped: 1
            }
        );
    }

    #[test]
    fn there_is_an_end_to_the_number_of_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for index in 0..FILES_MAX + 5 {
            fs::write(directory.path().join(format!("{index:04}")), b"").expect("written");
        }
        let listing = list_artifacts(directory.path());
        assert_eq!((listing.names.len(), listing.skipped), (FILES_MAX, 5));
    }
}
