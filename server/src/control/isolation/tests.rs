use super::*;
use crate::control::definition::COMMAND;
use taskyard_proto::v1::CommandSpec;

fn restricted() -> Isolation {
    Isolation {
        level: IsolationLevel::Restricted.into(),
        ..Isolation::default()
    }
}

fn spec(isolation: Isolation) -> TaskSpec {
    TaskSpec {
        command: Some(CommandSpec::default()),
        isolation: Some(isolation),
        ..TaskSpec::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn field(refused: Result<(), Refusal>) -> String {
    match refused {
        Err(Refusal::InvalidField { field, .. }) => field,
        other => panic!("it should be refused: {other:?}"),
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_its_field() {
    let without_network = Isolation {
        network: NetworkAccess::None.into(),
        ..Isolation::default()
    };
    let path_alone = Isolation {
        writable_paths: words(&["/srv"]),
        ..Isolation::default()
    };
    let with_path = |path: &str| Isolation {
        readable_paths: words(&[path]),
        ..restricted()
    };
    let with_limits = |limits| Isolation {
        limits: Some(limits),
        ..Isolation::default()
    };
    let limits = ResourceLimits::default();
    let memory = ResourceLimits {
        memory_bytes: Some(5),
        ..limits
    };
    let cpu = ResourceLimits {
        cpu_millis: Some(0),
        ..limits
    };
    let processes = ResourceLimits {
        processes: Some(-1),
        ..limits
    };
    let unknown = Isolation {
        level: 9,
        ..Isolation::default()
    };
    let cases = [
        (without_network, "network"),
        (path_alone, "writable_paths"),
        (with_path("/"), "readable_paths"),
        (with_path("/srv/../etc"), "readable_paths"),
        (with_path("../x"), "readable_paths"),
        (with_path("/srv//x"), "readable_paths"),
        (with_path(""), "readable_paths"),
        (with_limits(memory), "limits.memory_bytes"),
        (with_limits(cpu), "limits.cpu_millis"),
        (with_limits(processes), "limits.processes"),
        (unknown, "level"),
    ];
    for (isolation, name) in cases {
        let refused = field(check(&spec(isolation.clone()), COMMAND));
        assert_eq!(refused, format!("{FIELD}.{name}"), "{isolation:?}");
    }
    assert_eq!(field(check(&spec(restricted()), "agent")), FIELD);
    let good = Isolation {
        network: NetworkAccess::None.into(),
        writable_paths: words(&["/srv/a", "out"]),
        limits: Some(limits),
        ..restricted()
    };
    assert!(check(&spec(good), COMMAND).is_ok());
}

#[test]
fn workers_are_asked_for_what_is_needed_and_nobody_can_say_otherwise() {
    let limits = ResourceLimits {
        memory_bytes: Some(1 << 30),
        ..ResourceLimits::default()
    };
    let mut task = spec(Isolation {
        limits: Some(limits),
        ..restricted()
    });
    task.worker_labels
        .insert("gpu".to_owned(), "a100".to_owned());
    let labels = required_labels(&task);
    let expected = [("gpu", "a100"), LEVEL_LABEL, MEMORY_LABEL];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(labels, BTreeMap::from(expected));
    task.worker_labels
        .insert("taskyard.dev/isolation".to_owned(), "none".to_owned());
    assert_eq!(field(check(&task, COMMAND)), "task.spec.worker_labels");
    assert!(required_labels(&TaskSpec::default()).is_empty());
}

#[test]
fn a_child_of_a_restricted_task_is_as_restricted() {
    let parent = spec(Isolation {
        network: NetworkAccess::None.into(),
        ..restricted()
    });
    let mut silent = TaskSpec::default();
    inherit(&parent, &mut silent).expect("inherited");
    assert_eq!(silent.isolation, parent.isolation);
    let mut half = spec(restricted());
    inherit(&parent, &mut half).expect("inherited");
    let isolation = half.isolation.unwrap_or_default();
    assert_eq!(isolation.network(), NetworkAccess::None);
    let none = Isolation {
        level: IsolationLevel::None.into(),
        ..Isolation::default()
    };
    let refused = field(inherit(&parent, &mut spec(none)));
    assert_eq!(refused, format!("{FIELD}.level"));
    let online = Isolation {
        network: NetworkAccess::Allowed.into(),
        ..restricted()
    };
    let refused = field(inherit(&parent, &mut spec(online)));
    assert_eq!(refused, format!("{FIELD}.network"));
    let mut free = spec(Isolation::default());
    inherit(&TaskSpec::default(), &mut free).expect("nothing to inherit");
    assert_eq!(free, spec(Isolation::default()));
}

#[test]
fn a_child_reaches_no_file_and_no_variable_that_its_parent_does_not() {
    let mut parent = spec(Isolation {
        writable_paths: words(&["/srv/a"]),
        readable_paths: words(&["/home/me/.cargo"]),
        ..restricted()
    });
    let command = parent.command.get_or_insert_default();
    command.inherit_env = words(&["PROXY"]);
    let with = |writable: &[&str], readable: &[&str]| {
        spec(Isolation {
            writable_paths: words(writable),
            readable_paths: words(readable),
            ..restricted()
        })
    };
    let given = [
        with(&["/srv/a", "/srv/a/b", "out"], &[]),
        with(&[], &["/srv/a", "/home/me/.cargo/bin"]),
    ];
    for mut child in given {
        inherit(&parent, &mut child).expect("within reach");
    }
    for (mut child, name) in [
        (with(&["/srv"], &[]), "writable_paths"),
        (with(&["/srv/ab"], &[]), "writable_paths"),
        (with(&["/srv/a/../b"], &[]), "writable_paths"),
        (with(&["/home/me/.cargo"], &[]), "writable_paths"),
        (with(&[], &["/home/me"]), "readable_paths"),
    ] {
        let refused = field(inherit(&parent, &mut child));
        assert_eq!(refused, format!("{FIELD}.{name}"), "{child:?}");
    }
    let mut child = with(&[], &[]);
    let command = child.command.get_or_insert_default();
    command.cwd = "/home/me".to_owned();
    let refused = field(inherit(&parent, &mut child));
    assert_eq!(refused, "task.spec.command.cwd");
    let mut child = with(&[], &[]);
    let command = child.command.get_or_insert_default();
    command.inherit_env = words(&["PROXY"]);
    inherit(&parent, &mut child.clone()).expect("the parent has it");
    let command = child.command.get_or_insert_default();
    command.inherit_env = words(&["DATABASE_PASSWORD"]);
    let refused = field(inherit(&parent, &mut child));
    assert_eq!(refused, "task.spec.command.inherit_env");
}

#[test]
fn a_child_runs_as_no_other_user_than_its_parent() {
    let command = |user: &str, group: &str| CommandSpec {
        user: user.to_owned(),
        group: group.to_owned(),
        ..CommandSpec::default()
    };
    let free = |user, group| TaskSpec {
        command: Some(command(user, group)),
        ..TaskSpec::default()
    };
    let bound = |user, group| TaskSpec {
        command: Some(command(user, group)),
        ..spec(restricted())
    };
    for parent in [free("build", "media"), bound("build", "media")] {
        for mut child in [free("", ""), free("build", "media")] {
            inherit(&parent, &mut child).expect("the parent's own");
            let found = child.command.unwrap_or_default();
            assert_eq!((&*found.user, &*found.group), ("build", "media"));
        }
        let refused = field(inherit(&parent, &mut free("root", "")));
        assert_eq!(refused, "task.spec.command.user");
        let refused = field(inherit(&parent, &mut free("", "root")));
        assert_eq!(refused, "task.spec.command.group");
    }
    let refused = field(inherit(&bound("", ""), &mut free("build", "")));
    assert_eq!(refused, "task.spec.command.user");
    inherit(&free("", ""), &mut free("build", "")).expect("it may give up what it has");
}

#[test]
fn limits_are_passed_on_at_any_level() {
    let limits = |memory, processes| ResourceLimits {
        memory_bytes: memory,
        cpu_millis: None,
        processes,
    };
    let with = |limits| {
        spec(Isolation {
            limits,
            ..Isolation::default()
        })
    };
    let parent = with(Some(limits(Some(1 << 30), None)));
    let mut child = with(Some(limits(None, Some(5))));
    inherit(&parent, &mut child).expect("inherited");
    let found = child.isolation.and_then(|isolation| isolation.limits);
    assert_eq!(found, Some(limits(Some(1 << 30), Some(5))));
    let mut silent = TaskSpec::default();
    inherit(&parent, &mut silent).expect("inherited");
    let found = silent.isolation.and_then(|isolation| isolation.limits);
    assert_eq!(found, Some(limits(Some(1 << 30), None)));
    let mut more = with(Some(limits(Some(2 << 30), None)));
    let refused = field(inherit(&parent, &mut more));
    assert_eq!(refused, format!("{FIELD}.limits.memory_bytes"));
}
