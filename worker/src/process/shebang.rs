//! What a script names to run it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Launch;

/// As much of a script as the system looks at.
const HEAD_BYTES: u64 = 256;

/// Any of the three permissions to execute.
const EXECUTABLE: u32 = 0o111;

/// The interpreter of a launch's program, where it is that which cannot be executed, and not the program. None also where
/// the worker cannot see it: this is only for a better word.
pub(super) fn unexecutable_interpreter(launch: &Launch) -> Option<String> {
    let program = find_program(launch)?;
    let interpreter = interpreter_of(&program)?;
    let found = launch.cwd.join(&interpreter).metadata().ok()?;
    (!is_executable(&found)).then_some(interpreter)
}

/// The first of the places where the program may be that has an executable file.
fn find_program(launch: &Launch) -> Option<PathBuf> {
    let program = launch.argv.first()?;
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|found| is_executable(&found));
    if program.contains('/') {
        return Some(launch.cwd.join(program)).filter(is_program);
    }
    let path = launch.env.iter().rfind(|(name, _)| name == "PATH");
    let (_, path) = path?;
    path.split(':')
        .map(|directory| launch.cwd.join(directory).join(program))
        .find(is_program)
}

fn is_executable(found: &Metadata) -> bool {
    found.is_file() && found.mode() & EXECUTABLE != 0
}

fn interpreter_of(script: &Path) -> Option<String> {
    // What was a file a moment ago may be a pipe now, which would be waited for.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(script)
        .ok()?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    named_in(&head)
}

fn named_in(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let word = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .find(|word| !word.is_empty())?;
    String::from_utf8(word.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word_of_a_first_line() {
        assert_eq!(named_in(b"#!/bin/sh\n"), Some("/bin/sh".to_owned()));
        assert_eq!(named_in(b"#! \t/bin/env sh"), Some("/bin/env".to_owned()));
        assert_eq!(named_in(b"#!\n/bin/sh"), None);
        assert_eq!(named_in(b"/bin/sh"), None);
        assert_eq!(named_in(b""), None);
    }
}
