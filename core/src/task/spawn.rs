//! Whether a task may get another child.

use super::Task;
use std::{error::Error, fmt};

/// Where a new child would be in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Ancestors that the child would have.
    pub depth: u32,
    /// Children that the parent has so far, ended ones included.
    pub siblings: u64,
    /// The child is a firing of its parent, a monitor.
    pub is_firing: bool,
}

/// How large a tree may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Most ancestors of a task.
    pub max_depth: u32,
    /// Most children of a task, ended ones included.
    pub max_children: u64,
}

impl TreeLimits {
    /// Where nobody says otherwise.
    pub const DEFAULT: Self = Self {
        max_depth: 16,
        max_children: 1_000,
    };
}

/// Why a task gets no child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSpawn {
    /// The parent has ended.
    ParentEnded,
    /// A cancel of the parent was asked for. With this refused, whoever cancels a tree from its top down leaves nothing
    /// behind, whatever spawns there meanwhile.
    ParentCanceled,
    /// The parent is a monitor: what is below it are its firings.
    ParentIsMonitor,
    /// The tree would be too deep.
    TooDeep {
        /// The limit.
        max_depth: u32,
    },
    /// The parent would have too many children.
    TooManyChildren {
        /// The limit.
        max_children: u64,
    },
}

impl fmt::Display for NoSpawn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParentEnded => formatter.write_str("the parent has ended"),
            Self::ParentCanceled => formatter.write_str("a cancel of the parent was asked for"),
            Self::ParentIsMonitor => formatter
                .write_str("below a monitor there are only its firings; choose another parent"),
            Self::TooDeep { max_depth } => {
                write!(
                    formatter,
                    "a tree of tasks is at most {max_depth} levels deep"
                )
            }
            Self::TooManyChildren { max_children } => {
                write!(formatter, "a task has at most {max_children} children")
            }
        }
    }
}

impl Error for NoSpawn {}

/// Decides whether `parent`, whose lock the caller holds, may get a child.
///
/// # Errors
/// [`NoSpawn`].
pub fn may_spawn(parent: &Task, place: Place, limits: TreeLimits) -> Result<(), NoSpawn> {
    if parent.is_terminal() {
        return Err(NoSpawn::ParentEnded);
    }
    if parent.cancel.is_some() {
        return Err(NoSpawn::ParentCanceled);
    }
    if parent.policy.is_monitor != place.is_firing {
        return Err(NoSpawn::ParentIsMonitor);
    }
    if place.depth > limits.max_depth {
        return Err(NoSpawn::TooDeep {
            max_depth: limits.max_depth,
        });
    }
    // a monitor fires for as long as it lives, and what has ended is deleted behind it
    if !place.is_firing && place.siblings >= limits.max_children {
        return Err(NoSpawn::TooManyChildren {
            max_children: limits.max_children,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        id::TaskId,
        task::{Cancel, Gate, Policy, RetryPolicy, State, TerminalState},
    };

    const LIMITS: TreeLimits = TreeLimits {
        max_depth: 2,
        max_children: 3,
    };
    const PLACE: Place = Place {
        depth: 2,
        siblings: 2,
        is_firing: false,
    };

    fn parent() -> Task {
        Task {
            id: TaskId(1),
            policy: Policy {
                retry: RetryPolicy::NEVER,
                not_before: None,
                start_deadline: None,
                success_exit_codes: vec![0],
                is_monitor: false,
            },
            state: State::Queued {
                gate: Gate::Open,
                offer: None,
            },
            cancel: None,
            run: 0,
            forgiven: 0,
            attempt: 0,
            generation: 1,
            started_at: None,
            settled: None,
        }
    }

    #[test]
    fn a_live_parent_may_within_the_limits_and_not_beyond() {
        assert_eq!(may_spawn(&parent(), PLACE, LIMITS), Ok(()));
        let deeper = Place { depth: 3, ..PLACE };
        let refused = may_spawn(&parent(), deeper, LIMITS);
        assert_eq!(refused, Err(NoSpawn::TooDeep { max_depth: 2 }));
        let crowded = Place {
            siblings: 3,
            ..PLACE
        };
        let refused = may_spawn(&parent(), crowded, LIMITS);
        assert_eq!(refused, Err(NoSpawn::TooManyChildren { max_children: 3 }));
    }

    #[test]
    fn below_a_monitor_there_are_firings_only_and_as_many_as_it_makes() {
        let mut monitor = parent();
        monitor.policy.is_monitor = true;
        assert_eq!(
            may_spawn(&monitor, PLACE, LIMITS),
            Err(NoSpawn::ParentIsMonitor)
        );
        let firing = Place {
            siblings: 1_000_000,
            is_firing: true,
            ..PLACE
        };
        assert_eq!(may_spawn(&monitor, firing, LIMITS), Ok(()));
        assert_eq!(
            may_spawn(&parent(), firing, LIMITS),
            Err(NoSpawn::ParentIsMonitor)
        );
    }

    #[test]
    fn a_parent_that_ends_or_has_ended_may_not() {
        let canceled = Task {
            cancel: Some(Cancel {
                requested_at: Timestamp(1),
                grace: None,
                signal: None,
            }),
            ..parent()
        };
        let refused = may_spawn(&canceled, PLACE, LIMITS);
        assert_eq!(refused, Err(NoSpawn::ParentCanceled));
        let ended = Task {
            state: State::Terminal(TerminalState::Succeeded),
            ..canceled
        };
        assert_eq!(may_spawn(&ended, PLACE, LIMITS), Err(NoSpawn::ParentEnded));
    }
}
