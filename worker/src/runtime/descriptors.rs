//! How many tasks a worker's open descriptors allow.

use rustix::process::{Resource, getrlimit};

/// Connections, ledger, runtime, and what the ends of runs take for a moment.
const OF_THE_WORKER: u64 = 48;
/// Socket, callers on it, control of the shim, spools that are read; more for a moment at the start and at the end.
const OF_ONE_TASK: u64 = 8;

/// `slots`, or as many as this process has descriptors for, at least one.
pub fn slots_within_limit(slots: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    let allowed = allowed(limit);
    if slots > allowed {
        tracing::warn!(
            slots,
            allowed,
            descriptors = limit,
            "the limit of open descriptors is too low for the slots; using as many as it allows"
        );
    }
    slots.min(allowed)
}

fn allowed(limit: Option<u64>) -> u32 {
    let Some(limit) = limit else { return u32::MAX };
    let allowed = limit.saturating_sub(OF_THE_WORKER) / OF_ONE_TASK;
    u32::try_from(allowed).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn there_is_always_one() {
        let cases = [
            (None, u32::MAX),
            (Some(0), 1),
            (Some(64), 2),
            (Some(1_024), 122),
        ];
        for (limit, slots) in cases {
            assert_eq!(allowed(limit), slots, "{limit:?}");
        }
    }
}
