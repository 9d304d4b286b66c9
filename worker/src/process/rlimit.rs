//! Limits on resources by name.

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

/// A limit for each process of a task. The largest number means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    pub resource: LimitedResource,
    /// What is enforced.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedResource {
    /// Address space, in bytes.
    As,
    /// Core files, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data segment, in bytes.
    Data,
    /// Files that are written, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Open descriptors.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Stack, in bytes.
    Stack,
}

impl LimitedResource {
    pub const ALL: [LimitedResource; 9] = [
        LimitedResource::As,
        LimitedResource::Core,
        LimitedResource::Cpu,
        LimitedResource::Data,
        LimitedResource::Fsize,
        LimitedResource::Memlock,
        LimitedResource::Nofile,
        LimitedResource::Nproc,
        LimitedResource::Stack,
    ];

    /// As in a spec, such as `nofile`.
    pub fn name(self) -> &'static str {
        match self {
            LimitedResource::As => "as",
            LimitedResource::Core => "core",
            LimitedResource::Cpu => "cpu",
            LimitedResource::Data => "data",
            LimitedResource::Fsize => "fsize",
            LimitedResource::Memlock => "memlock",
            LimitedResource::Nofile => "nofile",
            LimitedResource::Nproc => "nproc",
            LimitedResource::Stack => "stack",
        }
    }

    /// The resource of this name.
    pub fn from_name(name: &str) -> Option<LimitedResource> {
        LimitedResource::ALL
            .into_iter()
            .find(|resource| resource.name() == name)
    }

    fn of_the_system(self) -> Resource {
        match self {
            LimitedResource::As => Resource::As,
            LimitedResource::Core => Resource::Core,
            LimitedResource::Cpu => Resource::Cpu,
            LimitedResource::Data => Resource::Data,
            LimitedResource::Fsize => Resource::Fsize,
            LimitedResource::Memlock => Resource::Memlock,
            LimitedResource::Nofile => Resource::Nofile,
            LimitedResource::Nproc => Resource::Nproc,
            LimitedResource::Stack => Resource::Stack,
        }
    }
}

impl Rlimit {
    /// Whether it allows more than this process may give itself without privileges.
    pub(crate) fn exceeds_our_own(&self) -> bool {
        let own = rustix::process::getrlimit(self.resource.of_the_system());
        self.hard > own.maximum.unwrap_or(u64::MAX)
    }

    /// Sets it for this process. One system call and nothing else, so that it can be made between fork and exec.
    pub(crate) fn set(&self) -> rustix::io::Result<()> {
        let limited = |limit: u64| (limit != u64::MAX).then_some(limit);
        let limit = rustix::process::Rlimit {
            current: limited(self.soft),
            maximum: limited(self.hard),
        };
        rustix::process::setrlimit(self.resource.of_the_system(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for resource in LimitedResource::ALL {
            assert_eq!(LimitedResource::from_name(resource.name()), Some(resource));
        }
        assert_eq!(LimitedResource::from_name("NOFILE"), None);
    }
}
