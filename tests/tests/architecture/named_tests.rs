//! Tests that a document names are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The tests of a set of Rust files, by the stem of their file.
pub type TestsByFile = BTreeMap<String, BTreeSet<String>>;

/// Adds the tests that `source` holds: functions right below an attribute that ends in `test`.
pub fn add_tests(tests: &mut TestsByFile, file: &Path, source: &str) {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let found = tests.entry(stem.into_owned()).or_default();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            let name = attribute.split(['(', ']']).next().unwrap_or_default();
            is_test |= name.split("::").last() == Some("test");
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line);
        if let Some(function) = function.strip_prefix("fn ")
            && is_test
        {
            let name = function.split('(').next().unwrap_or_default();
            found.insert(name.to_owned());
        }
        is_test = false;
    }
}

/// What is wrong with the tests that a document's tables name: each row names one in its last column, as `file::test`.
pub fn problems(document: &str, tests: &TestsByFile) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(document.lines()) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        let last = cells.last().copied().unwrap_or_default();
        let is_row = line.starts_with('|') && !line.starts_with("|---");
        if !is_row || last.trim() == "shown by" {
            continue;
        }
        let named: Vec<(&str, &str)> = last
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|word| word.split_once("::"))
            .collect();
        if named.is_empty() {
            problems.push(format!("line {number} names no test"));
        }
        for (file, test) in named {
            if !tests.get(file).is_some_and(|found| found.contains(test)) {
                problems.push(format!("line {number}: there is no test {file}::{test}"));
            }
        }
    }
    problems
}
