//! Which of the worker's own variables tasks may copy.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::error::WorkerError;

/// A variable is taken for a secret when one of the parts of its name, as divided by underscores, is one of these.
const SECRET_PARTS: [&str; 14] = [
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWORDS",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "KEY",
    "KEYS",
    "CREDENTIAL",
    "CREDENTIALS",
    "DSN",
];
/// Or when its name ends so.
const SECRET_ENDS: [&str; 11] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "APIKEY",
    "DATABASE_URL",
    "REDIS_URL",
    "AMQP_URL",
    "MONGODB_URI",
    "CONNECTION_STRING",
    "AUTH_CONFIG",
];
/// Or when it is one of these: names of files and sockets that let in whoever has them.
const SECRET_NAMES: [&str; 4] = ["PGPASSFILE", "PGSERVICEFILE", "SSH_AUTH_SOCK", "KUBECONFIG"];
/// The directory that a shell is in ends like a password.
const PLAIN_NAMES: [&str; 2] = ["PWD", "OLDPWD"];

/// Which variables of the worker tasks may copy by naming them.
#[derive(Debug, Clone)]
pub struct InheritPolicy {
    /// What the operator allows; none: all that does not look like a secret.
    allowed: Option<GlobSet>,
}

impl InheritPolicy {
    /// `allowed` are names with `*`, `?` and `[...]`; none: all that does not look like a secret.
    ///
    /// # Errors
    /// [`WorkerError::BadInheritGlob`].
    pub fn new(allowed: Option<&[String]>) -> Result<InheritPolicy, WorkerError> {
        let Some(globs) = allowed else {
            return Ok(InheritPolicy { allowed: None });
        };
        let bad_glob = |glob: &String| WorkerError::BadInheritGlob { glob: glob.clone() };
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let parsed = Glob::new(glob).ok().filter(|_| !glob.is_empty());
            set.add(parsed.ok_or_else(|| bad_glob(glob))?);
        }
        let set = set.build();
        Ok(InheritPolicy {
            allowed: Some(set.map_err(|_| bad_glob(&globs.join(",")))?),
        })
    }

    /// Refuses the first of `names` that is not to be given, whether the worker has such a variable or not.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn check(&self, names: &[String]) -> Result<(), String> {
        match names.iter().find(|name| !self.allows(name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "the worker does not give its variable {name:?} to tasks: make it a secret of the task, or have the operator allow it with --inherit-env"
            )),
        }
    }

    fn allows(&self, name: &str) -> bool {
        match &self.allowed {
            Some(allowed) => allowed.is_match(name),
            None => !looks_secret(name),
        }
    }
}

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_one = |words: &[&str]| words.contains(&name.as_str());
    if is_one(&PLAIN_NAMES) {
        return false;
    }
    is_one(&SECRET_NAMES)
        || name.starts_with("TASKYARD_")
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
        || name.split('_').any(|part| SECRET_PARTS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_looks_like_a_secret_is_kept_unless_the_operator_says_otherwise() {
        let usual = InheritPolicy::new(None).expect("good");
        for name in [
            "TASKYARD_TOKEN",
            "TASKYARD_DATABASE_URL",
            "GITHUB_TOKEN",
            "github_token",
            "GITHUBTOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "MYSQL_PWD",
            "DATABASE_URL",
            "CI_DATABASE_URL",
            "OPENAI_API_KEY",
            "SSH_KEY_PATH",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SENTRY_DSN",
            "SSH_AUTH_SOCK",
        ] {
            assert!(usual.check(&names(&["LANG", name])).is_err(), "{name}");
        }
        for name in [
            "HTTP_PROXY",
            "PWD",
            "OLDPWD",
            "KEYBOARD",
            "TOKENIZERS_PARALLELISM",
            "MONKEY_ISLAND",
            "COMPASS",
        ] {
            assert!(usual.check(&names(&[name])).is_ok(), "{name}");
        }
        let chosen = InheritPolicy::new(Some(&names(&["CI_*", "API_KEY"]))).expect("good");
        assert!(chosen.check(&names(&["CI_TOKEN", "API_KEY"])).is_ok());
        assert!(chosen.check(&names(&["HTTP_PROXY"])).is_err());
        let none = InheritPolicy::new(Some(&[])).expect("good");
        assert!(none.check(&[]).is_ok() && none.check(&names(&["LANG"])).is_err());
        assert!(InheritPolicy::new(Some(&names(&["["]))).is_err());
    }
}
