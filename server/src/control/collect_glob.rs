//! The patterns of a task's `collect`, and which paths they let a worker write.

use globset::{GlobBuilder, GlobMatcher};
use taskyard_core::vfs::{RelativePath, SessionPath};
use taskyard_proto::v1::TaskCollect;

const MAX_GLOB_BYTES: usize = 256;

/// A pattern over paths relative to the working directory. The worker reads it by the same rules.
#[derive(Clone, Debug)]
pub struct CollectGlob(GlobMatcher);

impl CollectGlob {
    /// Reads a pattern: `*`, `?`, `[...]` and `{a,b}` within a part, `**` for any number of parts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(glob: &str) -> Result<Self, String> {
        if glob.is_empty() || glob.len() > MAX_GLOB_BYTES {
            return Err(format!("must have 1 to {MAX_GLOB_BYTES} bytes"));
        }
        if glob.starts_with('/') || glob.split('/').any(|part| part == ".." || part == ".") {
            return Err(
                "must be relative to the working directory, without `.` and `..`".to_owned(),
            );
        }
        if glob.chars().any(char::is_control) {
            return Err("must not hold control characters".to_owned());
        }
        GlobBuilder::new(glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map(|glob| Self(glob.compile_matcher()))
            .map_err(|error| format!("is no pattern: {}", error.kind()))
    }

    fn matches(&self, path: &RelativePath) -> bool {
        self.0.is_match(path.as_str())
    }
}

/// Whether a task's `collect` lets its worker write this path.
#[must_use]
pub fn allows(collect: &[TaskCollect], path: &SessionPath) -> bool {
    !path.is_system()
        && collect.iter().any(|rule| {
            let glob = CollectGlob::parse(&rule.glob).ok();
            let below = rule
                .to
                .parse()
                .ok()
                .and_then(|to| RelativePath::of(path, &to));
            matches!((glob, below), (Some(glob), Some(below)) if glob.matches(&below))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows_path(glob: &str, to: &str, path: &str) -> bool {
        let rule = TaskCollect {
            glob: glob.to_owned(),
            to: to.to_owned(),
        };
        allows(&[rule], &path.parse().expect("a path"))
    }

    #[test]
    fn a_worker_may_write_what_the_pattern_means_below_the_folder() {
        assert!(allows_path("out/*.txt", "/results", "/results/out/a.txt"));
        assert!(allows_path("**/*.txt", "/", "/deep/er/a.txt"));
        assert!(allows_path("a", "/r", "/r/a"));
        for (glob, to, path) in [
            ("out/*.txt", "/results", "/results/out/deep/a.txt"),
            ("out/*.txt", "/results", "/results/out/a.md"),
            ("**", "/results", "/other/a"),
            ("**", "/results", "/results"),
            ("**", "/results", "/resultsx/a"),
            ("**", "/", "/.tasks/task_1/result.json"),
        ] {
            assert!(!allows_path(glob, to, path), "{glob} {to} {path}");
        }
    }

    #[test]
    fn patterns_that_leave_or_make_no_sense_are_refused() {
        let long = "x".repeat(257);
        for glob in ["", "/a", "../a", "a/../b", "a\nb", "[", "{a", &long] {
            assert!(CollectGlob::parse(glob).is_err(), "{glob:?}");
        }
        assert!(CollectGlob::parse("{a,b}/[0-9]*/**/c?.txt").is_ok());
    }
}
