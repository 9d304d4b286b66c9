//! Instants that go on counting while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An instant on `CLOCK_BOOTTIME`, in nanoseconds since the machine started. It keeps counting while the machine is
/// suspended and means the same in every process of one machine, so a deadline can be handed to the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// The clock's present reading.
    pub fn now() -> BootTime {
        let reading = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(reading.tv_nsec).unwrap_or(0);
        BootTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    pub fn from_nanos(nanos: u64) -> BootTime {
        BootTime(nanos)
    }

    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant `duration` later; the end of time when that does not fit.
    pub fn plus(self, duration: Duration) -> BootTime {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        BootTime(self.0.saturating_add(nanos))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn saturating_since(self, earlier: BootTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
