//! Secrets of tasks: values are stored with the task and read by the holder of its lease. They are erased by the
//! statement that ends the task ([`super::batch::end_tasks`]).

use super::{StoreError, new_tasks::NewTask, records::decode};
use crate::key_ring::{KeyId, Sealed};
use prost::Message;
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::{Epoch, LeaseId, TaskId};
use taskyard_proto::{storage::v1::SecretReferences, v1::SecretReference};
use uuid::Uuid;

/// The secrets of a new task.
#[derive(Clone, Debug, Default)]
pub struct NewSecrets {
    /// What reads show of them.
    pub references: Vec<SecretReference>,
    /// Their values, where they were given, by name.
    pub values: Vec<(String, Sealed)>,
}

impl NewSecrets {
    /// What is stored of them with the task; none: there are none.
    pub(super) fn column(&self) -> Option<Vec<u8>> {
        let references = SecretReferences {
            secrets: self.references.clone(),
        };
        (!self.references.is_empty()).then(|| references.encode_to_vec())
    }
}

/// The secrets of a task whose lease is held.
#[derive(Clone, Debug)]
pub struct LeaseSecrets {
    /// Number of the task's namespace.
    pub namespace_id: i32,
    /// Whether the start was not applied yet.
    pub is_offered: bool,
    /// What reads show of them.
    pub references: Vec<SecretReference>,
    /// Their values, where they were given, by name.
    pub values: Vec<(String, Sealed)>,
}

/// Reads a column that [`NewSecrets::column`] made.
pub(super) fn references(column: Option<&[u8]>) -> Result<Vec<SecretReference>, StoreError> {
    let references: Option<SecretReferences> = decode("secret references", column)?;
    Ok(references.unwrap_or_default().secrets)
}

/// Stores the values of new tasks.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_new<'a>(
    db: &mut PgConnection,
    tasks: impl Iterator<Item = &'a NewTask>,
) -> Result<(), StoreError> {
    let values: Vec<(Uuid, &String, &Sealed)> = tasks
        .flat_map(|task| {
            let id = Uuid::from_u128(task.id.0);
            let values = task.secrets.values.iter();
            values.map(move |(name, sealed)| (id, name, sealed))
        })
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"insert into task_secret (task_id, name, key_id, nonce, sealed)
           select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])"#,
        &values.iter().map(|(id, _, _)| *id).collect::<Vec<_>>(),
        &values
            .iter()
            .map(|(_, name, _)| (*name).clone())
            .collect::<Vec<_>>(),
        &values
            .iter()
            .map(|(_, _, sealed)| sealed.key.0.to_vec())
            .collect::<Vec<_>>(),
        &values
            .iter()
            .map(|(_, _, sealed)| sealed.nonce.to_vec())
            .collect::<Vec<_>>(),
        &values
            .iter()
            .map(|(_, _, sealed)| sealed.bytes.clone())
            .collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The secrets of a task whose lease is held under this epoch and id.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_lease_secrets(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<Option<LeaseSecrets>, StoreError> {
    let rows = sqlx::query!(
        r#"select t.namespace_id, t.secrets, l.state = 0 as "is_offered!", s.name as "name?", s.key_id as "key_id?",
             s.nonce as "nonce?", s.sealed as "sealed?"
           from task_live l join task t on t.id = l.id left join task_secret s on s.task_id = l.id
           where l.id = $1 and l.epoch = $2 and l.lease_id = $3 and l.worker_session is not null"#,
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_all(db)
    .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut found = LeaseSecrets {
        namespace_id: first.namespace_id,
        is_offered: first.is_offered,
        references: references(first.secrets.as_deref())?,
        values: Vec::new(),
    };
    for row in rows {
        let (Some(name), Some(key), Some(nonce), Some(bytes)) =
            (row.name, row.key_id, row.nonce, row.sealed)
        else {
            continue;
        };
        let corrupt = |_| StoreError::corrupt("sealed secret", &name);
        let sealed = Sealed {
            key: KeyId(<[u8; 8]>::try_from(key).map_err(corrupt)?),
            nonce: <[u8; 24]>::try_from(nonce).map_err(corrupt)?,
            bytes,
        };
        found.values.push((name, sealed));
    }
    Ok(Some(found))
}
