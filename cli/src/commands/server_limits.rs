//! The flags of `server` that say what callers may take. They have no room in the help, which names them; docs/limits.md
//! has them all.

use std::num::NonZeroU32;

use clap::Args;
use taskyard_server::{CallLimits, ConnectionLimits, Rate, ServerLimits, TaskLimits};

const OFF: &str = "off";

/// What callers may take of a server, and how much may be stored for them; each may be `off`.
#[derive(Debug, Clone, Args)]
pub struct LimitArguments {
    /// Calls a second of one caller
    #[arg(long, value_name = "N", env = "TASKYARD_CALL_RATE", default_value = "10000", value_parser = parse_limit, hide = true)]
    call_rate: Limit,
    /// Calls that one caller may make at once after a rest
    #[arg(long, value_name = "N", env = "TASKYARD_CALL_BURST", default_value = "20000", value_parser = parse_positive, hide = true)]
    call_burst: NonZeroU32,
    /// Calls of one caller that may be under way
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_CALLS", default_value = "4096", value_parser = parse_limit, hide = true)]
    max_calls: Limit,
    /// Streams and waits of one caller
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_STREAMS", default_value = "8192", value_parser = parse_limit, hide = true)]
    max_streams: Limit,
    /// How many of these may watch, follow or wait
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_WATCHERS", default_value = "4096", value_parser = parse_limit, hide = true)]
    max_watchers: Limit,
    /// Connections to the server
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_CONNECTIONS", default_value = "10000", value_parser = parse_limit, hide = true)]
    max_connections: Limit,
    /// Connections from one address
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_ADDRESS_CONNECTIONS", default_value = "4096", value_parser = parse_limit, hide = true)]
    max_address_connections: Limit,
    /// Tasks of a session that have not ended
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_SESSION_TASKS", default_value = "100000", value_parser = parse_limit, hide = true)]
    max_session_tasks: Limit,
    /// Tasks of a namespace that have not ended
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_NAMESPACE_TASKS", default_value = OFF, value_parser = parse_limit, hide = true)]
    max_namespace_tasks: Limit,
    /// Sessions of a namespace
    #[arg(long, value_name = "N", env = "TASKYARD_MAX_NAMESPACE_SESSIONS", default_value = OFF, value_parser = parse_limit, hide = true)]
    max_namespace_sessions: Limit,
}

/// A limit, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit(Option<NonZeroU32>);

impl LimitArguments {
    /// As the server takes them.
    pub fn limits(&self) -> ServerLimits {
        ServerLimits {
            calls: CallLimits {
                rate: self.call_rate.0.map(|per_second| Rate {
                    per_second,
                    burst: self.call_burst,
                }),
                calls: self.max_calls.count(),
                streams: self.max_streams.count(),
                watchers: self.max_watchers.count(),
            },
            connections: ConnectionLimits {
                server: self.max_connections.count(),
                address: self.max_address_connections.count(),
            },
            tasks: TaskLimits {
                session: self.max_session_tasks.number(),
                namespace: self.max_namespace_tasks.number(),
                sessions: self.max_namespace_sessions.number(),
            },
        }
    }
}

impl Limit {
    fn count(self) -> Option<usize> {
        self.0
            .map(|limit| usize::try_from(limit.get()).unwrap_or(usize::MAX))
    }

    fn number(self) -> Option<u64> {
        self.0.map(|limit| u64::from(limit.get()))
    }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == OFF {
        return Ok(Limit(None));
    }
    // 0 is refused: some would mean "none at all" by it, others "no limit"
    text.parse()
        .map(|limit| Limit(Some(limit)))
        .map_err(|_| format!("`{text}` is no limit; write a number from 1 to 4294967295, or {OFF}"))
}

fn parse_positive(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no number from 1 to 4294967295"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: LimitArguments,
    }

    #[test]
    fn the_defaults_are_those_of_the_server() {
        let alone = Alone::parse_from(["server"]);
        assert_eq!(alone.limits.limits(), ServerLimits::DEFAULT);
    }

    #[test]
    fn each_may_be_off_and_none_is_nonsense() {
        let alone = Alone::parse_from(["server", "--call-rate", "off", "--max-calls", "off"]);
        let calls = alone.limits.limits().calls;
        assert_eq!((calls.rate, calls.calls), (None, None));
        for bad in ["0", "-1", "many", "", "1.5"] {
            assert!(parse_limit(bad).is_err(), "{bad:?}");
        }
        assert!(parse_positive("0").is_err());
    }
}
