//! Limits of single processes, and their priority: what a restricted task passes on to its children. What it was not given
//! it has from its worker, and the worker itself holds a restricted child to that.

use crate::control::refusal::Refusal;
use std::collections::BTreeMap;
use taskyard_proto::v1::{CommandSpec, ResourceLimit, TaskSpec};

const FIELD: &str = "task.spec.command";
/// The usual one: what is before it takes a privilege.
const USUAL_NICE: i32 = 0;

/// Gives a child the limits and the priority of its restricted parent where it says nothing itself.
///
/// # Errors
/// [`Refusal::InvalidField`] where it asks for more.
pub(super) fn inherit(parent: &TaskSpec, child: &mut TaskSpec) -> Result<(), Refusal> {
    let (Some(above), Some(below)) = (&parent.command, &mut child.command) else {
        return Ok(());
    };
    narrow_nice(above, below)?;
    narrow_rlimits(&above.rlimits, &mut below.rlimits)
}

fn narrow_nice(above: &CommandSpec, below: &mut CommandSpec) -> Result<(), Refusal> {
    let least = above.nice.unwrap_or(USUAL_NICE);
    match below.nice {
        None => below.nice = above.nice,
        Some(nice) if nice < least => {
            return Err(Refusal::invalid(
                format!("{FIELD}.nice"),
                format!(
                    "must be at least {least} from inside a restricted task: a child does not come before its parent"
                ),
            ));
        }
        Some(_) => {}
    }
    Ok(())
}

fn narrow_rlimits(
    above: &BTreeMap<String, ResourceLimit>,
    below: &mut BTreeMap<String, ResourceLimit>,
) -> Result<(), Refusal> {
    for (name, given) in above {
        let Some(asked) = below.get(name) else {
            below.insert(name.clone(), *given);
            continue;
        };
        // a process raises its own soft limit up to the hard one
        let most = bound(given);
        if bound(asked) > most {
            return Err(Refusal::invalid(
                format!("{FIELD}.rlimits"),
                format!(
                    "{name:?} must be at most {most}, as for the restricted task that this is created from"
                ),
            ));
        }
    }
    Ok(())
}

/// What a process under the limit can come to: the hard limit, which is the soft one where only that is said.
fn bound(limit: &ResourceLimit) -> u64 {
    limit.hard.or(limit.soft).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: Option<u64>, hard: Option<u64>) -> ResourceLimit {
        ResourceLimit { soft, hard }
    }

    fn spec(nice: Option<i32>, rlimits: &[(&str, ResourceLimit)]) -> TaskSpec {
        let rlimits = rlimits
            .iter()
            .map(|(name, limit)| ((*name).to_owned(), *limit));
        TaskSpec {
            command: Some(CommandSpec {
                nice,
                rlimits: rlimits.collect(),
                ..CommandSpec::default()
            }),
            ..TaskSpec::default()
        }
    }

    fn refused_field(parent: &TaskSpec, mut child: TaskSpec) -> String {
        match inherit(parent, &mut child) {
            Err(Refusal::InvalidField { field, .. }) => field,
            other => panic!("it should be refused: {other:?}"),
        }
    }

    #[test]
    fn a_child_has_what_its_parent_has_or_less() {
        let parent = spec(Some(5), &[("nofile", limit(Some(50), Some(100)))]);
        let mut silent = spec(None, &[]);
        assert!(inherit(&parent, &mut silent).is_ok());
        assert_eq!(silent, parent);
        let stricter = [
            ("nofile", limit(Some(100), None)),
            ("cpu", limit(Some(9), None)),
        ];
        let mut stricter = spec(Some(19), &stricter);
        let asked = stricter.clone();
        assert!(inherit(&parent, &mut stricter).is_ok());
        assert_eq!(stricter, asked);
        let nice = refused_field(&parent, spec(Some(4), &[]));
        assert_eq!(nice, "task.spec.command.nice");
        for more in [
            limit(Some(101), None),
            limit(None, Some(101)),
            limit(Some(1), Some(101)),
        ] {
            let rlimits = refused_field(&parent, spec(None, &[("nofile", more)]));
            assert_eq!(rlimits, "task.spec.command.rlimits");
        }
    }

    #[test]
    fn who_was_given_no_priority_gives_none_before_the_usual() {
        let parent = spec(None, &[]);
        assert_eq!(
            refused_field(&parent, spec(Some(-1), &[])),
            "task.spec.command.nice"
        );
        assert!(inherit(&parent, &mut spec(Some(0), &[])).is_ok());
    }
}
