//! The secrets of an attempt: fetched under its lease, references resolved as far as the worker's operator allows it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::services::{Services, chain};
use crate::access::PRIVATE_VARIABLES;
use crate::error::WorkerError;
use crate::lease::{ErrorFacts, Lease, Secret, SecretSource, StartFault};
use crate::link::files::FileError;
use crate::mask::Masks;
use crate::workspace::open_regular;

/// Largest secret, in bytes.
const SECRET_BYTES_MAX: usize = 32 * 1024;
/// All secrets of a task together, in bytes.
const ALL_BYTES_MAX: usize = 64 * 1024;

/// Which of its own variables and files a worker gives to tasks that name them. By default none.
#[derive(Debug, Clone)]
pub struct SecretPolicy {
    variables: GlobSet,
    directories: Vec<PathBuf>,
    /// Files that nobody gets, wherever they lie.
    private: Vec<PathBuf>,
}

/// What the work is given.
#[derive(Default)]
pub struct ResolvedSecrets {
    /// Variables with the secrets themselves.
    pub variables: Vec<(String, String)>,
    /// Variables with the names of files.
    pub files: Vec<SecretFile>,
}

/// A secret that the work finds in a file.
pub struct SecretFile {
    pub variable: String,
    /// Name without a folder.
    pub name: String,
    pub content: Vec<u8>,
}

/// Why an attempt has no secrets.
#[derive(Debug)]
pub enum SecretFailure {
    LeaseLost,
    Failed(ErrorFacts),
}

impl SecretPolicy {
    /// `variables` are names with `*`, `?` and `[...]`; `directories` are absolute, with all that is below them.
    ///
    /// # Errors
    /// [`WorkerError::BadSecretGlob`], [`WorkerError::BadSecretDirectory`].
    pub fn new(variables: &[String], directories: &[PathBuf]) -> Result<SecretPolicy, WorkerError> {
        let bad_glob = |glob: &String| WorkerError::BadSecretGlob { glob: glob.clone() };
        let mut set = GlobSetBuilder::new();
        for glob in variables {
            let parsed = Glob::new(glob).ok().filter(|_| !glob.is_empty());
            set.add(parsed.ok_or_else(|| bad_glob(glob))?);
        }
        let variables = set.build().map_err(|error| WorkerError::BadSecretGlob {
            glob: error.glob().unwrap_or_default().to_owned(),
        })?;
        if let Some(relative) = directories.iter().find(|path| !path.is_absolute()) {
            return Err(WorkerError::BadSecretDirectory {
                path: relative.clone(),
            });
        }
        Ok(SecretPolicy {
            variables,
            directories: directories.to_vec(),
            private: Vec::new(),
        })
    }

    /// The same, but for some files: what the worker shows the server is nobody else's.
    #[must_use]
    pub fn without_files(self, private: Vec<PathBuf>) -> SecretPolicy {
        SecretPolicy { private, ..self }
    }

    fn read_variable(&self, name: &str) -> Result<Vec<u8>, String> {
        if PRIVATE_VARIABLES.contains(&name) || !self.variables.is_match(name) {
            return Err(format!(
                "the worker does not give away its variable {name}; its operator can allow that with --secret-env"
            ));
        }
        match std::env::var(name) {
            Ok(value) => Ok(value.into_bytes()),
            Err(std::env::VarError::NotPresent) => {
                Err(format!("the worker has no variable {name}"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("the worker's variable {name} is not valid UTF-8"))
            }
        }
    }

    /// Links are followed as long as they lead to nowhere else: mounted secrets are made of them. It blocks.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let refused = || {
            format!(
                "the worker does not give away {}; its operator can allow that with --secret-dir",
                path.display()
            )
        };
        // whether there is such a file is nobody's business who may not read it
        let is_named = |directory: &PathBuf| path.starts_with(directory);
        if !self.directories.iter().any(is_named) {
            return Err(refused());
        }
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let real = path.canonicalize().map_err(failed)?;
        let is_allowed = |directory: &PathBuf| {
            directory
                .canonicalize()
                .is_ok_and(|directory| real.starts_with(directory))
        };
        let is_private =
            |private: &PathBuf| private.canonicalize().is_ok_and(|private| private == real);
        if !self.directories.iter().any(is_allowed) || self.private.iter().any(is_private) {
            return Err(refused());
        }
        let file: File = open_regular(&real)
            .map_err(failed)?
            .ok_or_else(|| format!("{} is not a regular file", path.display()))?;
        let mut content = Vec::new();
        file.take(SECRET_BYTES_MAX as u64 + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        Ok(content)
    }
}

/// Fetches the secrets of a task and resolves its references; beside them, what is to be masked.
pub async fn fetch_secrets(
    services: &Services,
    lease: &Lease,
) -> Result<(ResolvedSecrets, Masks), SecretFailure> {
    let fetched = services.files.fetch_secrets(lease).await;
    let secrets = match fetched {
        Ok(secrets) => secrets,
        Err(FileError::LeaseLost) => return Err(SecretFailure::LeaseLost),
        // another server may have the key
        Err(FileError::Refused { message }) => {
            return Err(SecretFailure::Failed(ErrorFacts::of_worker(
                format!("the secrets of the task cannot be fetched: {message}"),
                "",
            )));
        }
    };
    let policy = services.secret_policy.clone();
    let resolving = tokio::task::spawn_blocking(move || {
        let resolved = resolve(&policy, secrets)?;
        // the larger ones take their time
        let masks = Masks::new(&resolved.values());
        Ok((resolved, masks))
    });
    let resolved = resolving.await.unwrap_or_else(|error| Err(chain(&error)));
    resolved.map_err(|problem| {
        SecretFailure::Failed(ErrorFacts::start_failed(StartFault::Secret, problem))
    })
}

fn resolve(policy: &SecretPolicy, secrets: Vec<Secret>) -> Result<ResolvedSecrets, String> {
    let mut resolved = ResolvedSecrets::default();
    let mut all_bytes = 0;
    for secret in secrets {
        let name = &secret.name;
        let because = |problem: String| format!("the secret {name} cannot be had: {problem}");
        let is_of_a_file = matches!(secret.source, SecretSource::WorkerFile(_));
        let mut value = match secret.source {
            SecretSource::Value(value) => value,
            SecretSource::WorkerEnv(variable) => {
                policy.read_variable(&variable).map_err(because)?
            }
            SecretSource::WorkerFile(path) => {
                policy.read_file(Path::new(&path)).map_err(because)?
            }
        };
        all_bytes += value.len();
        if value.len() > SECRET_BYTES_MAX || all_bytes > ALL_BYTES_MAX {
            return Err(because(format!(
                "a secret may have {SECRET_BYTES_MAX} bytes, all of a task together {ALL_BYTES_MAX}"
            )));
        }
        if secret.to_file.is_empty() {
            if is_of_a_file {
                trim_line_break(&mut value);
            }
            let text = String::from_utf8(value)
                .ok()
                .filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                because(
                    "it is no text that a variable can hold; ask for a file with `to_file`"
                        .to_owned(),
                )
            })?;
            resolved.variables.push((secret.name, text));
        } else {
            resolved.files.push(SecretFile {
                variable: secret.name,
                name: secret.to_file,
                content: value,
            });
        }
    }
    Ok(resolved)
}

fn trim_line_break(value: &mut Vec<u8>) {
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
}

impl ResolvedSecrets {
    /// The secrets themselves.
    pub fn values(&self) -> Vec<Vec<u8>> {
        let of_variables = self
            .variables
            .iter()
            .map(|(_, value)| value.clone().into_bytes());
        let of_files = self.files.iter().map(|file| file.content.clone());
        of_variables.chain(of_files).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(variables: &[&str], directories: &[&Path]) -> SecretPolicy {
        let variables: Vec<String> = variables.iter().map(|glob| (*glob).to_owned()).collect();
        let directories: Vec<PathBuf> = directories.iter().map(|path| path.to_path_buf()).collect();
        SecretPolicy::new(&variables, &directories).expect("a good policy")
    }

    fn secret(source: SecretSource) -> Secret {
        Secret {
            name: "TOKEN".to_owned(),
            source,
            to_file: String::new(),
        }
    }

    fn only(resolved: Result<ResolvedSecrets, String>) -> Result<String, String> {
        resolved.map(|mut resolved| resolved.variables.remove(0).1)
    }

    #[test]
    fn nothing_is_given_away_that_was_not_allowed() {
        let env = || secret(SecretSource::WorkerEnv("PATH".to_owned()));
        let closed = only(resolve(&policy(&[], &[]), vec![env()]));
        assert!(closed.is_err_and(|problem| problem.contains("--secret-env")));
        let open = only(resolve(&policy(&["PA*"], &[]), vec![env()]));
        assert_eq!(open, std::env::var("PATH").map_err(|_| String::new()));
        let missing = secret(SecretSource::WorkerEnv("PA_NO_SUCH".to_owned()));
        let missing = only(resolve(&policy(&["PA*"], &[]), vec![missing]));
        assert!(missing.is_err_and(|problem| problem.contains("has no variable")));
        let bad = SecretPolicy::new(&["[".to_owned()], &[]);
        assert!(matches!(bad, Err(WorkerError::BadSecretGlob { .. })));
        let relative = SecretPolicy::new(&[], &[PathBuf::from("secrets")]);
        assert!(matches!(
            relative,
            Err(WorkerError::BadSecretDirectory { .. })
        ));
    }

    #[test]
    fn files_are_read_in_the_allowed_directories_and_through_links_within_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for directory in [&inside, &outside] {
            std::fs::create_dir(directory).expect("created");
            std::fs::write(directory.join("token"), b"from a file\r\n").expect("written");
        }
        std::os::unix::fs::symlink("token", inside.join("link")).expect("linked");
        std::os::unix::fs::symlink("../out/token", inside.join("escape")).expect("linked");
        let policy = policy(&[], &[&inside]);
        let read = |path: PathBuf| {
            let path = path.to_string_lossy().into_owned();
            only(resolve(
                &policy,
                vec![secret(SecretSource::WorkerFile(path))],
            ))
        };
        assert_eq!(read(inside.join("token")).as_deref(), Ok("from a file"));
        assert_eq!(read(inside.join("link")).as_deref(), Ok("from a file"));
        for refused in [
            outside.join("token"),
            inside.join("escape"),
            outside.join("none"),
        ] {
            assert!(read(refused).is_err_and(|problem| problem.contains("--secret-dir")));
        }
        assert!(read(inside.join("none")).is_err_and(|problem| problem.contains("cannot read")));
        std::fs::write(inside.join("large"), vec![b'a'; SECRET_BYTES_MAX + 1]).expect("written");
        assert!(read(inside.join("large")).is_err());
        std::fs::write(inside.join("binary"), b"\xff\0").expect("written");
        assert!(read(inside.join("binary")).is_err_and(|problem| problem.contains("to_file")));
    }
}
