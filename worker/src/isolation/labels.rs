//! How a worker says what it can give: labels that a task's needs are held against, and that nobody else may set.

use std::collections::BTreeMap;

use super::plan::Isolation;

/// How the labels begin that say what a worker can give.
pub const RESERVED_LABELS: &str = "taskyard.dev/";

const LEVEL: &str = "taskyard.dev/isolation";
const LANDLOCK: &str = "taskyard.dev/landlock-abi";
const LEAST: &str = "taskyard.dev/isolation-min";
const LIMITS: [&str; 3] = [
    "taskyard.dev/limit-memory",
    "taskyard.dev/limit-cpu",
    "taskyard.dev/limit-processes",
];
const BY_CGROUP: &str = "cgroup";

impl Isolation {
    /// What the hello carries beside the worker's own labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut set = |key: &str, value: String| labels.insert(key.to_owned(), value);
        if let Ok(abi) = self.landlock_abi() {
            set(LEVEL, "restricted".to_owned());
            set(LANDLOCK, abi.to_string());
        }
        if self.least() > super::IsolationLevel::None {
            set(LEAST, self.least().as_str().to_owned());
        }
        if let Some(controllers) = self.controllers() {
            let are_there = [controllers.memory, controllers.cpu, controllers.pids];
            for (label, _) in LIMITS
                .iter()
                .zip(are_there)
                .filter(|(_, is_there)| *is_there)
            {
                set(label, BY_CGROUP.to_owned());
            }
        }
        labels
    }
}
