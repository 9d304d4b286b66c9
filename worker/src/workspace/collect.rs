//! Which files of a working directory a task wants stored, and what stands in the way of others.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::lease::{CollectRule, CollectedFile, SkippedFile};

const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const ALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const DEPTH_MAX: usize = 64;
/// Directory entries that are looked at, so that a directory full of junk has an end.
const ENTRIES_MAX: usize = 200_000;
/// Files of which it is said why they were skipped; the others are counted.
const TOLD_MAX: usize = 100;

/// What was found below a working directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Sorted by where they go; each place once.
    pub files: Vec<CollectedFile>,
    /// What a rule means and is left out, the first of it.
    pub skipped: Vec<SkippedFile>,
    /// How many were left out in all.
    pub skipped_count: u64,
}

impl Selection {
    /// Leaves out files that were found.
    pub fn leave_out(&mut self, reason: &str, is_left_out: impl Fn(&CollectedFile) -> bool) {
        let (left_out, kept) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(is_left_out);
        self.files = kept;
        let left_out: Vec<CollectedFile> = left_out;
        for file in left_out {
            self.skip(&file.from, reason);
        }
    }

    fn skip(&mut self, from: &str, reason: &str) {
        self.skipped_count += 1;
        if self.skipped.len() < TOLD_MAX {
            self.skipped.push(SkippedFile {
                from: from.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
}

/// Finds what the rules mean below a directory, without following any symbolic link. It blocks.
pub fn select_files(directory: &Path, rules: &[CollectRule]) -> Selection {
    let mut selection = Selection::default();
    let mut rules: Vec<Rule<'_>> = rules
        .iter()
        .filter_map(|rule| match matcher(&rule.glob) {
            Some(glob) => Some(Rule {
                text: &rule.glob,
                glob,
                to: rule.to.trim_end_matches('/'),
                is_used: false,
            }),
            None => {
                selection.skip(&rule.glob, "it is no pattern that this worker can read");
                None
            }
        })
        .collect();
    if rules.is_empty() {
        return selection;
    }
    // by place, so that each is written once; later rules win
    let mut found: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let mut entries_seen = 0;
    let mut pending = vec![(directory.to_owned(), String::new(), 0)];
    while let Some((path, prefix, depth)) = pending.pop() {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let Some(entries) = is_directory.then(|| fs::read_dir(&path).ok()).flatten() else {
            selection.skip(&prefix, "the directory cannot be read");
            continue;
        };
        for entry in entries.flatten() {
            entries_seen += 1;
            if entries_seen > ENTRIES_MAX {
                selection.skip(
                    &prefix,
                    "the working directory has too many entries; the rest was not looked at",
                );
                pending.clear();
                break;
            }
            let file_name = entry.file_name();
            let relative: PathBuf = Path::new(&prefix).join(&file_name);
            let name = relative.to_string_lossy().into_owned();
            let Ok(metadata) = entry.metadata() else {
                selection.skip(&name, "it cannot be looked at, or is gone");
                continue;
            };
            if metadata.is_dir() {
                if depth < DEPTH_MAX {
                    pending.push((entry.path(), name, depth + 1));
                } else {
                    selection.skip(&name, "the directory lies too deep");
                }
                continue;
            }
            let mut wanted = Vec::new();
            let mut is_on_the_way = false;
            for rule in &mut rules {
                if rule.glob.is_match(&relative) {
                    rule.is_used = true;
                    wanted.push(rule.to);
                } else if metadata.is_symlink() && rule.leads_through(&name) {
                    rule.is_used = true;
                    is_on_the_way = true;
                }
            }
            if wanted.is_empty() {
                if is_on_the_way {
                    selection.skip(&name, "it is a symbolic link, which is not followed");
                }
                continue;
            }
            if let Err(reason) = check(&metadata, file_name.as_bytes(), &name) {
                selection.skip(&name, reason);
                continue;
            }
            for to in wanted {
                found.insert(format!("{to}/{name}"), (name.clone(), metadata.len()));
            }
        }
    }
    for rule in rules.iter().filter(|rule| !rule.is_used) {
        selection.skip(
            rule.text,
            "no file of the working directory fits this pattern",
        );
    }
    let mut all_bytes = 0;
    for (to, (from, bytes)) in found {
        if to.len() > 1_024 {
            selection.skip(
                &from,
                "its path in the session would be longer than 1,024 bytes",
            );
        } else if selection.files.len() == FILES_MAX {
            selection.skip(&from, "more than 200 files");
        } else if all_bytes + bytes > ALL_BYTES_MAX {
            selection.skip(&from, "more than 256 MiB in all");
        } else {
            all_bytes += bytes;
            selection.files.push(CollectedFile { from, to });
        }
    }
    selection
}

/// A rule that can be applied.
struct Rule<'a> {
    text: &'a str,
    glob: GlobMatcher,
    /// Without a slash at its end.
    to: &'a str,
    /// Whether anything fits it, be it stored or not.
    is_used: bool,
}

impl Rule<'_> {
    /// Whether the pattern names what is below this very path.
    fn leads_through(&self, path: &str) -> bool {
        let below = self.text.strip_prefix(path);
        below.is_some_and(|below| below.starts_with('/'))
    }
}

fn check(metadata: &fs::Metadata, file_name: &[u8], name: &str) -> Result<(), &'static str> {
    if metadata.is_symlink() {
        return Err("it is a symbolic link");
    }
    let kind = metadata.file_type();
    if kind.is_fifo() {
        return Err("it is a named pipe");
    }
    if kind.is_socket() {
        return Err("it is a socket");
    }
    if !kind.is_file() {
        return Err("it is no regular file");
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err("it is larger than 16 MiB");
    }
    if std::str::from_utf8(file_name).is_err() || name.chars().any(char::is_control) {
        return Err("its name is no clean text");
    }
    Ok(())
}

/// By the rules by which the server checks what is written.
fn matcher(glob: &str) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .ok()?;
    Some(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn rule(glob: &str, to: &str) -> CollectRule {
        CollectRule {
            glob: glob.to_owned(),
            to: to.to_owned(),
        }
    }

    fn places(selection: &Selection) -> Vec<&str> {
        selection
            .files
            .iter()
            .map(|file| file.to.as_str())
            .collect()
    }

    #[test]
    fn patterns_choose_files_and_folders_keep_their_shape() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        fs::create_dir_all(root.join("out/deep")).expect("created");
        for name in ["a.txt", "b.md", "out/c.txt", "out/deep/d.txt"] {
            fs::write(root.join(name), name).expect("written");
        }
        let selection = select_files(root, &[rule("*.txt", "/r"), rule("out/**", "/")]);
        assert_eq!(
            places(&selection),
            ["/out/c.txt", "/out/deep/d.txt", "/r/a.txt"]
        );
        assert_eq!(selection.files[2].from, "a.txt");
        assert_eq!(selection.skipped_count, 0);
    }

    #[test]
    fn links_devices_and_large_files_are_named_and_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        fs::create_dir(root.join("real")).expect("created");
        symlink("/etc/passwd", root.join("real/passwd")).expect("linked");
        symlink("/etc", root.join("etc")).expect("linked");
        fs::write(root.join("new\nline"), b"x").expect("written");
        let large = fs::File::create(root.join("large")).expect("created");
        large.set_len(FILE_BYTES_MAX + 1).expect("sparse");
        let selection = select_files(root, &[rule("**", "/r")]);
        assert!(selection.files.is_empty(), "{selection:?}");
        let mut skipped: Vec<&str> = selection
            .skipped
            .iter()
            .map(|one| one.from.as_str())
            .collect();
        skipped.sort_unstable();
        assert_eq!(skipped, ["etc", "large", "new\nline", "real/passwd"]);
    }

    #[test]
    fn sockets_links_on_the_way_and_patterns_that_fit_nothing_are_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        fs::write(root.join("there.txt"), b"x").expect("written");
        symlink("/etc", root.join("out")).expect("linked");
        symlink("/etc", root.join("other")).expect("linked");
        let socket = std::os::unix::net::UnixListener::bind(root.join("s.sock"));
        let _socket = socket.expect("bound");
        let rules = [
            rule("*.txt", "/r"),
            rule("*.sock", "/r"),
            rule("out/**", "/r"),
            rule("coverage/*.xml", "/r"),
        ];
        let selection = select_files(root, &rules);
        assert_eq!(places(&selection), ["/r/there.txt"]);
        let mut skipped: Vec<(&str, &str)> = selection
            .skipped
            .iter()
            .map(|one| (one.from.as_str(), one.reason.as_str()))
            .collect();
        skipped.sort_unstable();
        let expected = [
            (
                "coverage/*.xml",
                "no file of the working directory fits this pattern",
            ),
            ("out", "it is a symbolic link, which is not followed"),
            ("s.sock", "it is a socket"),
        ];
        assert_eq!(skipped, expected);
        assert_eq!(selection.skipped_count, 3);
    }

    #[test]
    fn there_is_an_end_to_the_number_of_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for index in 0..FILES_MAX + 150 {
            fs::write(directory.path().join(format!("{index:04}")), b"").expect("written");
        }
        let selection = select_files(directory.path(), &[rule("*", "/r")]);
        assert_eq!(selection.files.len(), FILES_MAX);
        assert_eq!(
            (selection.skipped.len(), selection.skipped_count),
            (TOLD_MAX, 150)
        );
    }
}
