//! The units for systemd that an operator copies: systemd takes them, and the program their flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taskyard_tests::binaries;
use taskyard_tests::skip::skipped;

const UNITS: [&str; 2] = ["taskyard-server.service", "taskyard-worker.service"];
const PROGRAM: &str = "/usr/local/bin/taskyard";

fn unit(name: &str) -> String {
    let path = binaries::repository().join("packaging/systemd").join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_program_takes_the_flags_of_its_units() {
    for name in UNITS {
        let text = unit(name);
        let started = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let started = started.unwrap_or_else(|| panic!("{name} starts nothing"));
        let mut words = started.split_whitespace();
        assert_eq!(words.next(), Some(PROGRAM), "{name}");
        let mut command = Command::new(binaries::taskyard());
        let output = command.args(words).arg("--help").output();
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let verifier = Path::new("/usr/bin/systemd-analyze");
    if !verifier.exists() {
        skipped("there is no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    for name in UNITS {
        let path: PathBuf = folder.path().join(name);
        let program = binaries::taskyard().display().to_string();
        fs::write(&path, unit(name).replace(PROGRAM, &program)).expect("written");
        let verified = Command::new(verifier).arg("verify").arg(&path).output();
        let verified = verified.unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = String::from_utf8_lossy(&verified.stderr);
        // what it says of units of the machine's own is not about ours
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty(), "{name}: {ours:?}");
    }
}
