//! Secrets on their way: from a definition into the store, and from there to the holder of the lease. Between the two
//! nobody sees a value.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{
    app::App,
    key_ring::{KeyRing, OpenError},
    store::secrets::{self, NewSecrets},
};
use std::collections::HashMap;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    GetLeaseSecretsRequest, GetLeaseSecretsResponse, SecretReference, SecretSource, SessionTask,
    TaskSecret, task_secret::Source,
};

/// Encrypts the values of a new task's secrets.
///
/// # Errors
/// [`Refusal::SecretKeyMissing`].
pub(super) fn seal(
    keys: &KeyRing,
    namespace_id: i32,
    task: TaskId,
    secrets: Vec<TaskSecret>,
) -> Result<NewSecrets, Refusal> {
    let mut new = NewSecrets::default();
    for secret in secrets {
        let (source, reference) = match secret.source {
            Some(Source::Value(value)) => {
                let sealed = keys
                    .seal(&place(namespace_id, task, &secret.name), &value)
                    .map_err(|_| Refusal::SecretKeyMissing)?;
                new.values.push((secret.name.clone(), sealed));
                (SecretSource::Value, String::new())
            }
            Some(Source::WorkerEnv(name)) => (SecretSource::WorkerEnv, name),
            Some(Source::WorkerFile(path)) => (SecretSource::WorkerFile, path),
            // a definition without is refused where it is read
            None => continue,
        };
        new.references.push(SecretReference {
            name: secret.name,
            source: source.into(),
            reference,
            to_file: secret.to_file,
        });
    }
    Ok(new)
}

/// The secrets of a task for the holder of its lease, once the start was applied.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], [`Refusal::WrongState`] before the start,
/// [`Refusal::SecretKeyUnknown`], [`Refusal::SecretDamaged`], or what the store says.
pub async fn get_lease_secrets(
    app: &App,
    request: &GetLeaseSecretsRequest,
) -> Result<GetLeaseSecretsResponse, Refusal> {
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let lease = LeaseRef::try_from(lease)?;
    let found =
        secrets::find_lease_secrets(app.store.pool(), lease.task, lease.epoch, lease.lease_id)
            .await?
            .ok_or(Refusal::LeaseLost)?;
    if found.is_offered {
        return Err(Refusal::WrongState {
            state: "queued",
            problem: "secrets are for those who run the work; report the start first",
        });
    }
    let mut values = HashMap::new();
    for (name, sealed) in found.values {
        let place = place(found.namespace_id, lease.task, &name);
        let value = match app.secret_keys.open(&place, &sealed) {
            Ok(value) => value,
            Err(OpenError::UnknownKey(key)) => {
                return Err(Refusal::SecretKeyUnknown {
                    key: key.to_string(),
                });
            }
            Err(OpenError::Damaged) => return Err(Refusal::SecretDamaged { name }),
        };
        values.insert(name, value);
    }
    let mut secrets = Vec::with_capacity(found.references.len());
    for reference in found.references {
        let source = match reference.source() {
            SecretSource::Value | SecretSource::Unspecified => {
                let value =
                    values
                        .remove(&reference.name)
                        .ok_or_else(|| Refusal::SecretDamaged {
                            name: reference.name.clone(),
                        })?;
                Source::Value(value.into())
            }
            SecretSource::WorkerEnv => Source::WorkerEnv(reference.reference),
            SecretSource::WorkerFile => Source::WorkerFile(reference.reference),
        };
        secrets.push(TaskSecret {
            name: reference.name,
            source: Some(source),
            to_file: reference.to_file,
        });
    }
    Ok(GetLeaseSecretsResponse { secrets })
}

/// The secrets of a task like `task`: its references, but for those that `given` replaces, and `given`.
///
/// # Errors
/// [`Refusal::SecretValuesNeeded`] where a value is not given again: it is erased with the end of its task, and while
/// that lives nobody but its worker is told it.
pub(super) fn copied(
    task: &SessionTask,
    given: Vec<TaskSecret>,
) -> Result<Vec<TaskSecret>, Refusal> {
    let mut secrets = Vec::new();
    let mut needed = Vec::new();
    for reference in &task.secrets {
        if given.iter().any(|secret| secret.name == reference.name) {
            continue;
        }
        let source = match reference.source() {
            SecretSource::Value | SecretSource::Unspecified => {
                needed.push(reference.name.clone());
                continue;
            }
            SecretSource::WorkerEnv => Source::WorkerEnv(reference.reference.clone()),
            SecretSource::WorkerFile => Source::WorkerFile(reference.reference.clone()),
        };
        secrets.push(TaskSecret {
            name: reference.name.clone(),
            source: Some(source),
            to_file: reference.to_file.clone(),
        });
    }
    if !needed.is_empty() {
        return Err(Refusal::SecretValuesNeeded { names: needed });
    }
    secrets.extend(given);
    Ok(secrets)
}

/// What a value is bound to: one that is moved to another task, or takes another name, cannot be decrypted.
pub(crate) fn place(namespace_id: i32, task: TaskId, name: &str) -> Vec<u8> {
    let mut place = b"taskyard task secret\0".to_vec();
    place.extend(namespace_id.to_be_bytes());
    place.extend(task.0.to_be_bytes());
    place.extend(name.as_bytes());
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, source: SecretSource) -> SecretReference {
        SecretReference {
            name: name.to_owned(),
            source: source.into(),
            reference: "there".to_owned(),
            to_file: String::new(),
        }
    }

    fn value(name: &str) -> TaskSecret {
        TaskSecret {
            name: name.to_owned(),
            source: Some(Source::Value(b"value"[..].into())),
            to_file: String::new(),
        }
    }

    #[test]
    fn references_are_copied_and_values_must_be_given_again() {
        let task = SessionTask {
            secrets: vec![
                reference("A", SecretSource::Value),
                reference("B", SecretSource::WorkerEnv),
                reference("C", SecretSource::Value),
            ],
            ..SessionTask::default()
        };
        match copied(&task, vec![value("C")]) {
            Err(Refusal::SecretValuesNeeded { names }) => assert_eq!(names, ["A"]),
            other => panic!("{other:?}"),
        }
        let secrets = copied(&task, vec![value("C"), value("A")]).expect("all are given");
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["B", "C", "A"]);
    }

    #[test]
    fn a_sealed_value_names_no_value_in_what_reads_show() {
        let new = seal(&KeyRing::default(), 1, TaskId(7), vec![value("A")]);
        assert!(matches!(new, Err(Refusal::SecretKeyMissing)));
        let env = TaskSecret {
            source: Some(Source::WorkerEnv("THERE".to_owned())),
            ..value("A")
        };
        let new = seal(&KeyRing::default(), 1, TaskId(7), vec![env]).expect("it needs no key");
        assert_eq!(new.references[0].source(), SecretSource::WorkerEnv);
        assert!(new.values.is_empty());
    }

    #[test]
    fn places_differ_in_namespace_task_and_name() {
        let here = place(1, TaskId(7), "A");
        for other in [
            place(2, TaskId(7), "A"),
            place(1, TaskId(8), "A"),
            place(1, TaskId(7), "B"),
        ] {
            assert_ne!(here, other);
        }
    }
}
