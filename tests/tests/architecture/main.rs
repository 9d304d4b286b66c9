//! Who may import whom, held by reading the sources. The rules and their reasons are in ARCHITECTURE.md.
//!
//! Comments and string literals are removed first, `use` trees are expanded, and `self::` and `super::` are resolved,
//! so a rule sees full paths such as `crate::store::Tasks` or `sqlx::query`.

mod named_tests;
mod reader;
mod state_writes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reader::{paths_in, without_comments, without_comments_and_strings, words};
use state_writes::writes_live_state;

/// Nothing in `folder` names a path that begins with one of `forbidden`.
struct Rule {
    folder: &'static str,
    /// Below `folder`, these are left out.
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const GRPC: &[&str] = &[
    "tonic",
    "tonic_types",
    "tonic_prost",
    "prost",
    "prost_types",
    "taskyard_proto",
];

const RULES: &[Rule] = &[
    Rule {
        folder: "core/src",
        except: &[],
        forbidden: &["tokio", "sqlx", "tonic", "prost", "serde", "taskyard_proto"],
        reason: "core depends on the standard library only",
    },
    Rule {
        folder: "proto/src",
        except: &[],
        forbidden: &["taskyard_core"],
        reason: "proto and core do not know each other",
    },
    Rule {
        folder: "telemetry/src",
        except: &[],
        forbidden: &[
            "sqlx",
            "taskyard_core",
            "taskyard_proto",
            "taskyard_server",
            "taskyard_worker",
        ],
        reason: "telemetry is below all that it is told by",
    },
    Rule {
        folder: "server/src/control",
        except: &[],
        forbidden: &[
            "tonic",
            "tonic_types",
            "sqlx",
            "crate::grpc",
            "crate::background",
        ],
        reason: "control is the transactions, apart from transport and from SQL",
    },
    Rule {
        folder: "server/src/grpc",
        except: &[],
        forbidden: &["crate::store", "sqlx"],
        reason: "grpc translates and leaves the rest to control",
    },
    Rule {
        folder: "server/src/store",
        except: &[],
        forbidden: &[
            "crate::control",
            "crate::grpc",
            "crate::background",
            "tonic",
            "tonic_types",
        ],
        reason: "store is below control",
    },
    Rule {
        folder: "server/src/identity",
        except: &[],
        forbidden: &[
            "crate::control",
            "crate::grpc",
            "crate::background",
            "crate::store",
            "tonic",
            "tonic_types",
        ],
        reason: "who calls is known before anything is looked up",
    },
    Rule {
        folder: "server/src/limits",
        except: &[],
        forbidden: &[
            "crate::control",
            "crate::grpc",
            "crate::background",
            "crate::store",
            "tonic",
            "tonic_types",
        ],
        reason: "who calls too often is told so before anything is looked up",
    },
    Rule {
        folder: "server/src/objects",
        except: &[],
        forbidden: &[
            "crate::control",
            "crate::grpc",
            "crate::background",
            "tonic",
            "tonic_types",
        ],
        reason: "the object store is below control",
    },
    Rule {
        folder: "server/src/events",
        except: &[],
        forbidden: &[
            "crate::control",
            "crate::grpc",
            "crate::background",
            "tonic",
            "tonic_types",
        ],
        reason: "events are below control",
    },
    Rule {
        folder: "server/src",
        except: &["server/src/store"],
        forbidden: &["sqlx"],
        reason: "only the store says sqlx",
    },
    Rule {
        folder: "worker/src",
        except: &[],
        forbidden: &["sqlx", "taskyard_postgres", "taskyard_server"],
        reason: "a worker never sees a database",
    },
    Rule {
        folder: "cli/src",
        except: &[],
        forbidden: &["sqlx"],
        reason: "the command line never sees a database",
    },
    Rule {
        folder: "worker/src/process",
        except: &[],
        forbidden: GRPC,
        reason: "processes know nothing of gRPC",
    },
    Rule {
        folder: "worker/src/process",
        except: &[],
        forbidden: &["crate::link"],
        reason: "processes know nothing of the link to the control plane",
    },
    Rule {
        folder: "worker/src/output",
        except: &[],
        forbidden: GRPC,
        reason: "output knows nothing of gRPC",
    },
    Rule {
        folder: "worker/src/output",
        except: &[],
        forbidden: &["crate::link"],
        reason: "output knows nothing of the link to the control plane",
    },
    Rule {
        folder: "worker/src/recent",
        except: &[],
        forbidden: GRPC,
        reason: "what is kept of results knows nothing of gRPC",
    },
    Rule {
        folder: "worker/src/recent",
        except: &[],
        forbidden: &["crate::link", "crate::attempt"],
        reason: "what is kept of results is below those that tell them",
    },
    Rule {
        folder: "worker/src/link",
        except: &[],
        forbidden: &["crate::process", "crate::shim"],
        reason: "the link knows nothing of processes",
    },
    Rule {
        folder: "worker/src/agent_socket",
        except: &[],
        forbidden: &["crate::process", "crate::attempt", "crate::runtime"],
        reason: "the socket of an attempt is below it",
    },
    Rule {
        folder: "worker/src/shim",
        except: &[],
        forbidden: &["tokio", "taskyard_proto", "tonic", "crate::link"],
        reason: "the shim is one thread that must outlive its worker",
    },
    Rule {
        folder: "worker/src/isolation",
        except: &[],
        forbidden: &[
            "tokio",
            "taskyard_proto",
            "tonic",
            "crate::link",
            "crate::process",
        ],
        reason: "isolation is put on by the shim, between fork and exec",
    },
];

/// Where Rust is written by hand.
const SOURCE_FOLDERS: &[&str] = &[
    "core",
    "proto",
    "postgres",
    "telemetry",
    "server",
    "worker",
    "cli",
    "tests",
];

const LONGEST_FILE: usize = 600;

#[test]
fn every_folder_that_a_rule_speaks_of_exists() {
    let missing: BTreeSet<&str> = RULES
        .iter()
        .flat_map(|rule| rule.except.iter().chain([&rule.folder]))
        .copied()
        .filter(|folder| !root().join(folder).is_dir())
        .collect();
    assert!(
        missing.is_empty(),
        "no such folder, so its rules hold nothing: {missing:?}"
    );
}

#[test]
fn imports_follow_the_rules() {
    let mut violations = Vec::new();
    for rule in RULES {
        for file in rust_files(rule.folder) {
            if rule.except.iter().any(|except| file.starts_with(except)) {
                continue;
            }
            violations.extend(violations_in(&file, &read(&file), rule));
        }
    }
    report(violations);
}

#[test]
fn manifests_follow_the_rules() {
    let mut violations = Vec::new();
    let rules: &[(&str, &[&str], &str)] = &[
        (
            "proto",
            &["taskyard-core"],
            "proto and core do not know each other",
        ),
        (
            "worker",
            &["sqlx", "taskyard-postgres", "taskyard-server"],
            "a worker never sees a database",
        ),
        ("cli", &["sqlx"], "the command line never sees a database"),
        (
            "server",
            &["taskyard-worker"],
            "a server knows workers by the wire only",
        ),
    ];
    for (package, forbidden, reason) in rules {
        for (line, name) in dependencies(package) {
            if forbidden.contains(&name.as_str()) {
                violations.push(format!("{package}/Cargo.toml:{line}: {name}: {reason}"));
            }
        }
    }
    for (line, name) in dependencies("core") {
        violations.push(format!(
            "core/Cargo.toml:{line}: {name}: core depends on the standard library only"
        ));
    }
    report(violations);
}

#[test]
fn the_state_of_a_live_task_is_written_in_one_file() {
    let writers: Vec<PathBuf> = rust_files("server/src")
        .into_iter()
        .chain(files_with("server/src", "sql"))
        .filter(|file| writes_live_state(&without_comments(&read(file))))
        .collect();
    assert_eq!(
        writers.len(),
        1,
        "`update task_live set state` belongs in exactly one file of the store, found: {writers:?}"
    );
    assert!(
        writers[0].starts_with("server/src/store"),
        "{writers:?} is not in the store"
    );
}

#[test]
fn the_tests_that_the_page_on_hostile_children_names_are_there() {
    let mut tests = named_tests::TestsByFile::new();
    for folder in ["tests/tests", "worker/tests"] {
        for file in rust_files(folder) {
            named_tests::add_tests(&mut tests, &file, &read(&file));
        }
    }
    let page = read(Path::new("docs/hostile-children.md"));
    report(named_tests::problems(&page, &tests));
    let wrong = "| a | `cancel::no_such_test` |\n| b | nothing |";
    assert_eq!(named_tests::problems(wrong, &tests).len(), 2);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut violations = Vec::new();
    for file in SOURCE_FOLDERS.iter().flat_map(|folder| rust_files(folder)) {
        let n_lines = read(&file).lines().count();
        if n_lines > LONGEST_FILE && !is_generated(&file) {
            violations.push(format!(
                "{}:{LONGEST_FILE}: {n_lines} lines; a file has at most {LONGEST_FILE}",
                file.display()
            ));
        }
    }
    report(violations);
}

#[test]
fn a_mod_file_is_a_table_of_contents() {
    let mut violations = Vec::new();
    for file in SOURCE_FOLDERS.iter().flat_map(|folder| rust_files(folder)) {
        let is_shared_by_tests = file.components().any(|part| part.as_os_str() == "tests");
        if !file.ends_with("mod.rs") || is_shared_by_tests || is_generated(&file) {
            continue;
        }
        let source = without_comments_and_strings(&read(&file));
        for (line, text) in source.lines().enumerate() {
            if words(text).any(|word| word == "fn") {
                violations.push(format!(
                    "{}:{}: a function in a mod.rs",
                    file.display(),
                    line + 1
                ));
            }
        }
    }
    report(violations);
}

#[test]
fn the_reader_sees_through_trees_relatives_comments_and_strings() {
    let source = "// use sqlx::a;\n/* sqlx::b /* nested */ sqlx::c */\nuse crate::{events::Hub, store::{self, Tasks as T}};\n\
                  use super::{super::grpc};\nfn f<'a>(x: &'a str) { let c = '\"'; g(\"sqlx::d\", r#\"sqlx::\"e\"#); sqlx :: query(x) }\n\
                  use ::tonic::Status;";
    let found = paths_in(Path::new("server/src/control/cancel_task.rs"), source);
    let found: Vec<(usize, &str)> = found
        .iter()
        .map(|(line, path)| (*line, path.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (3, "crate::events::Hub"),
            (3, "crate::store::self"),
            (3, "crate::store::Tasks"),
            (4, "crate::grpc"),
            (5, "sqlx::query"),
            (6, "tonic::Status"),
        ]
    );
}

#[test]
fn a_rule_names_file_and_line_and_does_not_match_half_a_name() {
    let rule = Rule {
        folder: "server/src/grpc",
        except: &[],
        forbidden: &["crate::store"],
        reason: "because",
    };
    let file = Path::new("server/src/grpc/convert.rs");
    assert_eq!(
        violations_in(file, "use crate::stored::X;\nuse crate::store::Y;", &rule),
        ["server/src/grpc/convert.rs:2: crate::store::Y: because"]
    );
}

#[test]
fn a_write_of_the_state_is_told_from_other_writes() {
    assert!(writes_live_state(
        "\"update task_live\n  set state = 2 where id = $1\""
    ));
    assert!(writes_live_state(
        "\"UPDATE task_live AS l SET attempt = 1, state = x.state from x\""
    ));
    assert!(!writes_live_state(
        "\"update task_live set lease_id = $1 where state = 0\""
    ));
    assert!(!writes_live_state(
        "\"update task_live set state_detail = $1\""
    ));
    assert!(!writes_live_state(
        "\"update task_live_archive set state = 1\""
    ));
}

fn report(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the repository")
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file))
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

/// The Rust files below a folder, as paths from the root of the repository, in order.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_with(folder, "rs")
}

fn files_with(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("a readable folder");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a file type").is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_generated(file: &Path) -> bool {
    file.starts_with("proto/src/generated")
}

/// The normal dependencies in a member's manifest, each with its line.
fn dependencies(package: &str) -> Vec<(usize, String)> {
    let manifest = read(&Path::new(package).join("Cargo.toml"));
    let mut is_in_section = false;
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_in_section = section == "dependencies"
                || section == "build-dependencies"
                || section.ends_with(".dependencies") && section.starts_with("target");
        } else if is_in_section && !line.is_empty() {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.push((index + 1, name.trim_matches('"').to_owned()));
        }
    }
    found
}

fn violations_in(file: &Path, source: &str, rule: &Rule) -> Vec<String> {
    paths_in(file, source)
        .into_iter()
        .filter(|(_, path)| {
            rule.forbidden
                .iter()
                .any(|forbidden| is_below(path, forbidden))
        })
        .map(|(line, path)| format!("{}:{line}: {path}: {}", file.display(), rule.reason))
        .collect()
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
