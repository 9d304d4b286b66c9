//! The units for systemd that an operator copies: systemd takes them, and the program their flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taskyard_tests::binaries;
use taskyard_tests::skip::skipped;

const UNITS: [&str; 2] = ["taskyard-server.service", "taskyard-worker.service"];
pub const PROGRAM: &str = "/usr/local/bin/taskyard";

/// What a unit says.
pub fn unit(name: &str) -> String {
    let path = binaries::repository().join("packaging/systemd").join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The program with its flags that the unit starts.
pub fn started<'a>(name: &str, unit: &'a str) -> &'a str {
    let started = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    started.unwrap_or_else(|| panic!("{name} starts nothing"))
}

#[test]
fn the_program_takes_the_flags_of_its_units() {
    for name in UNITS {
        let text = unit(name);
        let mut words = started(name, &text).split_whitespace();
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
        let sound = unit(name).replace(PROGRAM, &program);
        // else nothing below would be worth anything
        let odd = sound.replace("[Service]\n", "[Service]\nRestartSec=sometimes\n");
        for (text, is_sound) in [(sound, true), (odd, false)] {
            fs::write(&path, text).expect("written");
            let verified = Command::new(verifier)
                // what is wrong with units of the machine's own is not about ours
                .args(["verify", "--recursive-errors=no", "--man=no"])
                .arg(&path)
                .output();
            let verified = verified.unwrap_or_else(|error| panic!("{name}: {error}"));
            let said = String::from_utf8_lossy(&verified.stderr);
            if said.contains("unrecognized option") {
                skipped(
                    "this systemd-analyze, older than 250, tells no unit's faults from another's",
                );
                return;
            }
            assert_eq!(verified.status.success(), is_sound, "{name}: {said}");
        }
    }
}
