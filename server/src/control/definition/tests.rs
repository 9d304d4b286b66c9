use super::*;
use taskyard_proto::v1::CommandSpec;

fn command(argv: &[&str]) -> TaskDefinition {
    TaskDefinition {
        spec: Some(TaskSpec {
            command: Some(CommandSpec {
                argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
                ..CommandSpec::default()
            }),
            ..TaskSpec::default()
        }),
        ..TaskDefinition::default()
    }
}

fn refused_field(definition: TaskDefinition) -> String {
    match parse(definition) {
        Err(Refusal::InvalidField { field, .. }) => field,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_bare_command_gets_the_defaults() {
    let definition = parse(command(&["true"])).expect("valid");
    assert_eq!(definition.queue, "default");
    assert_eq!(definition.kind, "command");
    assert_eq!(definition.executor, "command");
    assert_eq!(definition.policy.retry, RetryPolicy::NEVER);
    assert_eq!(definition.policy.success_exit_codes, [0]);
}

#[test]
fn a_tag_that_is_named_twice_is_there_once() {
    let tags = ["b", "a", "b", "a.b", "a"].map(str::to_owned).to_vec();
    let definition = TaskDefinition {
        tags,
        ..command(&["true"])
    };
    let tags = parse(definition).map(|definition| definition.tags);
    assert_eq!(
        tags.ok(),
        Some(["b", "a", "a.b"].map(str::to_owned).to_vec())
    );
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut TaskDefinition)| {
        let mut definition = command(&["true"]);
        change(&mut definition);
        refused_field(definition)
    };
    assert_eq!(refused_field(TaskDefinition::default()), "task.spec");
    assert_eq!(refused_field(command(&[])), "task.spec.command.argv");
    assert_eq!(refused_field(command(&["a\0b"])), "task.spec.command.argv");
    assert_eq!(with(|task| task.name = "t12".into()), "task.name");
    assert_eq!(with(|task| task.name = "task_x".into()), "task.name");
    assert_eq!(with(|task| task.name = "a b".into()), "task.name");
    assert_eq!(with(|task| task.key = "x".repeat(129)), "task.key");
    assert_eq!(with(|task| task.priority = 101), "task.priority");
    assert_eq!(with(|task| task.tags = vec!["a..b".into()]), "task.tags");
    assert_eq!(with(|task| task.wake_policy = 9), "task.wake_policy");
    assert_eq!(
        with(|task| task.executor = "docker".into()),
        "task.spec.command"
    );
    assert_eq!(
        with(|task| task.timeout = Some(prost_types::Duration {
            seconds: -1,
            nanos: 0
        })),
        "task.timeout"
    );
    let with_command = |change: fn(&mut CommandSpec)| {
        let mut definition = command(&["true"]);
        if let Some(command) = definition
            .spec
            .as_mut()
            .and_then(|spec| spec.command.as_mut())
        {
            change(command);
        }
        refused_field(definition)
    };
    assert_eq!(
        with_command(|command| command.cwd = "a/../..".into()),
        "task.spec.command.cwd"
    );
    assert_eq!(
        with_command(|command| drop(command.env.insert("TASKYARD_X".into(), String::new()))),
        "task.spec.command.env"
    );
    assert_eq!(
        with_command(|command| command.success_exit_codes = vec![256]),
        "task.spec.command.success_exit_codes"
    );
}

#[test]
fn a_name_of_the_system_is_refused_in_a_whole_sentence() {
    let mut definition = command(&["true"]);
    if let Some(command) = definition
        .spec
        .as_mut()
        .and_then(|spec| spec.command.as_mut())
    {
        command.env.insert("TASKYARD_X".into(), String::new());
    }
    let refused = parse(definition).expect_err("it is the system's");
    let text = refused.to_string();
    assert!(
        text.contains("all names that begin with TASKYARD_; choose another name"),
        "{text}"
    );
}

#[test]
fn json_that_is_none_is_refused() {
    let mut definition = command(&["true"]);
    if let Some(spec) = &mut definition.spec {
        spec.input_json = "{".into();
    }
    assert_eq!(refused_field(definition), "task.spec.input_json");
}
