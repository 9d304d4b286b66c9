//! Field masks over a task's definition: which fields of one replace those of another.

use super::refusal::Refusal;
use taskyard_proto::v1::{CommandSpec, OutputLimits, RetryPolicy, TaskDefinition, TaskSpec};

/// Takes the named fields of `from` over into `to`; what is unset there is cleared. `field` names the mask in the
/// request.
///
/// # Errors
/// [`Refusal::InvalidField`] for a path that leads to no field.
pub(super) fn take_over(
    field: &str,
    paths: &[String],
    from: &TaskDefinition,
    to: &mut TaskDefinition,
) -> Result<(), Refusal> {
    for path in paths {
        if !take(path, from, to) {
            return Err(Refusal::invalid(
                field,
                format!(
                    "{path:?} is no field of a task's definition; such are `labels`, `timeout` or `spec.command.argv`"
                ),
            ));
        }
    }
    Ok(())
}

/// A function that takes over one named field, and says whether there is one of that name.
macro_rules! taker {
    ($name:ident($message:ty): $($field:ident)*) => {
        fn $name(path: &str, from: &$message, to: &mut $message) -> bool {
            match path {
                $(stringify!($field) => to.$field.clone_from(&from.$field),)*
                _ => return false,
            }
            true
        }
    };
}

taker!(take_definition(TaskDefinition): name key kind display_name spec parent_task_id group labels tags queue executor
    priority not_before start_deadline timeout retry hold wake_policy group_wake schedule secrets);
taker!(take_spec(TaskSpec): approver_only command payload_json input_json result_source output_limits worker_labels result_schema_json
    message_schema_json isolation files collect);
taker!(take_command(CommandSpec): argv env inherit_env cwd stdin umask success_exit_codes grace shell interpreter env_files
     nice rlimits user group stdin_file stdin_live start_jitter survive_worker_restart pty);
taker!(take_limits(OutputLimits): max_bytes_per_stream);
taker!(take_retry(RetryPolicy): max_runs initial_backoff max_backoff multiplier);

fn take(path: &str, from: &TaskDefinition, to: &mut TaskDefinition) -> bool {
    match path.split_once('.') {
        None => take_definition(path, from, to),
        Some(("retry", path)) => within(&from.retry, &mut to.retry, |from, to| {
            take_retry(path, from, to)
        }),
        Some(("spec", path)) => within(&from.spec, &mut to.spec, |from, to| {
            take_below_spec(path, from, to)
        }),
        Some(_) => false,
    }
}

fn take_below_spec(path: &str, from: &TaskSpec, to: &mut TaskSpec) -> bool {
    match path.split_once('.') {
        None => take_spec(path, from, to),
        Some(("command", path)) => within(&from.command, &mut to.command, |from, to| {
            take_command(path, from, to)
        }),
        Some(("output_limits", path)) => {
            within(&from.output_limits, &mut to.output_limits, |from, to| {
                take_limits(path, from, to)
            })
        }
        Some(_) => false,
    }
}

/// Takes over within a message; one that was not there and gets nothing stays away.
fn within<M: Default + PartialEq>(
    from: &Option<M>,
    to: &mut Option<M>,
    take: impl FnOnce(&M, &mut M) -> bool,
) -> bool {
    let was_there = to.is_some();
    let nothing = M::default();
    let is_taken = take(
        from.as_ref().unwrap_or(&nothing),
        to.get_or_insert_default(),
    );
    if !was_there && to.as_ref() == Some(&nothing) {
        *to = None;
    }
    is_taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    #[test]
    fn every_field_of_a_definition_can_be_named() {
        let files = FileDescriptorSet::decode(taskyard_proto::FILE_DESCRIPTOR_SET).expect("sound");
        let messages: Vec<DescriptorProto> = files
            .file
            .into_iter()
            .filter(|file| file.package() == "taskyard.v1")
            .flat_map(|file| file.message_type)
            .collect();
        let mut n_paths = 0;
        for (message, prefix) in [
            ("TaskDefinition", ""),
            ("TaskSpec", "spec."),
            ("CommandSpec", "spec.command."),
            ("OutputLimits", "spec.output_limits."),
            ("RetryPolicy", "retry."),
        ] {
            let message = messages.iter().find(|found| found.name() == message);
            for field in &message.expect("the message is there").field {
                // a position in a batch means nothing in a clone
                if field.name() == "parent_item" {
                    continue;
                }
                let path = format!("{prefix}{}", field.name());
                let mut to = TaskDefinition::default();
                let is_taken = take(&path, &TaskDefinition::default(), &mut to);
                assert!(is_taken, "{path} is missing here");
                assert_eq!(to, TaskDefinition::default(), "{path}");
                n_paths += 1;
            }
        }
        assert!(n_paths > 35);
        for unknown in [
            "",
            "nmae",
            "spec.",
            "spec.argv",
            "labels.team",
            "spec.command.argv.0",
        ] {
            let mut to = TaskDefinition::default();
            assert!(
                !take(unknown, &TaskDefinition::default(), &mut to),
                "{unknown:?}"
            );
        }
    }

    #[test]
    fn named_fields_are_taken_over_or_cleared_and_others_stay() {
        let task = |argv: &[&str], cwd: &str| TaskDefinition {
            priority: 3,
            spec: Some(TaskSpec {
                command: Some(CommandSpec {
                    argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                    cwd: cwd.to_owned(),
                    ..CommandSpec::default()
                }),
                ..TaskSpec::default()
            }),
            ..TaskDefinition::default()
        };
        let mut to = task(&["old"], "there");
        let paths = ["spec.command.argv", "priority"].map(str::to_owned);
        let from = TaskDefinition {
            priority: 0,
            ..task(&["new"], "here")
        };
        take_over("mask", &paths, &from, &mut to).expect("known paths");
        let expected = TaskDefinition {
            priority: 0,
            ..task(&["new"], "there")
        };
        assert_eq!(to, expected);
        let cleared = ["spec.command.cwd".to_owned()];
        take_over("mask", &cleared, &TaskDefinition::default(), &mut to).expect("known paths");
        assert_eq!(
            to,
            TaskDefinition {
                priority: 0,
                ..task(&["new"], "")
            }
        );
    }
}
