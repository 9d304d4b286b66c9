//! What the work of a task is given and nobody else may see.

/// A secret, or where it is at this worker.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Variable under which the work finds it.
    pub name: String,
    pub source: SecretSource,
    /// Name of the file in which the work finds it; empty: in the variable.
    pub to_file: String,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    Value(Vec<u8>),
    /// A variable of the worker.
    WorkerEnv(String),
    /// A file at the worker.
    WorkerFile(String),
}

/// Values are left out.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
