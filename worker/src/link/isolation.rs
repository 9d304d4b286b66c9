//! What a task asks for of isolation, from the wire. What is not known here is never taken for less than it is.

use taskyard_proto::v1;

use crate::isolation::{IsolationLevel, IsolationRequest, Limits, RequestedLevel};

pub fn isolation_from_wire(isolation: v1::Isolation) -> IsolationRequest {
    let level = match v1::IsolationLevel::try_from(isolation.level) {
        Ok(v1::IsolationLevel::Unspecified | v1::IsolationLevel::None) => {
            RequestedLevel::Known(IsolationLevel::None)
        }
        Ok(v1::IsolationLevel::Restricted) => RequestedLevel::Known(IsolationLevel::Restricted),
        Err(_) => RequestedLevel::Unknown,
    };
    let (level, without_network) = match v1::NetworkAccess::try_from(isolation.network) {
        Ok(v1::NetworkAccess::Unspecified | v1::NetworkAccess::Allowed) => (level, false),
        Ok(v1::NetworkAccess::None) => (level, true),
        Err(_) => (RequestedLevel::Unknown, true),
    };
    let limits = isolation.limits.unwrap_or_default();
    IsolationRequest {
        level,
        without_network,
        writable: isolation.writable_paths,
        readable: isolation.readable_paths,
        limits: Limits {
            memory_bytes: limits
                .memory_bytes
                .map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            cpu_millis: limits
                .cpu_millis
                .map(|millis| u32::try_from(millis).unwrap_or(0)),
            processes: limits
                .processes
                .map(|processes| u32::try_from(processes).unwrap_or(0)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_no_isolation() {
        assert_eq!(
            isolation_from_wire(v1::Isolation::default()),
            IsolationRequest::default()
        );
    }

    #[test]
    fn a_word_of_the_future_is_not_taken_for_none() {
        let level = v1::Isolation {
            level: 77,
            ..v1::Isolation::default()
        };
        assert_eq!(isolation_from_wire(level).level, RequestedLevel::Unknown);
        let network = v1::Isolation {
            network: 77,
            ..v1::Isolation::default()
        };
        assert_eq!(isolation_from_wire(network).level, RequestedLevel::Unknown);
    }
}
