//! How much files take, and how much they may. The counts are kept by triggers on `file`; see the migration.

use super::{SharedPool, StoreError};
use sqlx::PgConnection;
use taskyard_core::{id::SessionUid, vfs::SessionPath};

/// Tells our advisory locks on namespaces from others.
const LOCK_SEED: i64 = 0x7461_736b_7175_6f74;

/// How much files may take; none: as much as there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileQuotas {
    /// The files of one session.
    pub session: FileQuota,
    /// The files of all sessions of one namespace.
    pub namespace: FileQuota,
}

/// How much the files of a session or namespace may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileQuota {
    /// Bytes; none: any.
    pub bytes: Option<u64>,
    /// Files; none: any.
    pub files: Option<u64>,
}

/// A quota that a write would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// `session` or `namespace`.
    pub scope: &'static str,
    /// `bytes` or `files`.
    pub what: &'static str,
    /// How much there may be.
    pub limit: u64,
    /// How much there is without the write.
    pub used: u64,
    /// How much there would be with it.
    pub wanted: u64,
}

/// How the quotas stood where a file is to be written, as far as one could see before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaStanding {
    quotas: FileQuotas,
    /// Files and bytes.
    session: (i64, i64),
    namespace: (i64, i64),
    /// Bytes of the file that is there now.
    existing: Option<i64>,
}

impl QuotaStanding {
    /// The quota that a file of at least so many bytes would exceed, if one.
    #[must_use]
    pub fn exceeded_by(&self, size: u64) -> Option<QuotaExceeded> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let growth = Growth {
            files: i64::from(self.existing.is_none()),
            bytes: size.saturating_sub(self.existing.unwrap_or(0)),
        };
        let with_it = |(files, bytes): (i64, i64)| {
            (
                files.saturating_add(growth.files),
                bytes.saturating_add(growth.bytes),
            )
        };
        let Self {
            quotas,
            session,
            namespace,
            existing: _,
        } = *self;
        exceeded("session", quotas.session, with_it(session), growth)
            .or_else(|| exceeded("namespace", quotas.namespace, with_it(namespace), growth))
    }
}

/// How the quotas stand for the file at a path of a session; no session: it is not made yet.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_standing(
    pool: &SharedPool,
    namespace_id: i32,
    session: Option<SessionUid>,
    path: &SessionPath,
    quotas: FileQuotas,
) -> Result<QuotaStanding, StoreError> {
    let mut standing = QuotaStanding {
        quotas,
        ..QuotaStanding::default()
    };
    if quotas.session.is_unlimited() && quotas.namespace.is_unlimited() {
        return Ok(standing);
    }
    if let Some(session) = session {
        let row = sqlx::query!(
            r#"select (select size from file where session_uid = $1 and path = $2) as size,
                 (select files from file_usage where session_uid = $1) as files,
                 (select bytes from file_usage where session_uid = $1) as bytes"#,
            session.0,
            path.as_str()
        )
        .fetch_one(pool)
        .await?;
        standing.existing = row.size;
        standing.session = (row.files.unwrap_or(0), row.bytes.unwrap_or(0));
    }
    if !quotas.namespace.is_unlimited() {
        let row = sqlx::query!(
            r#"select coalesce(sum(files), 0)::bigint as "files!", coalesce(sum(bytes), 0)::bigint as "bytes!"
               from namespace_file_usage where namespace_id = $1"#,
            namespace_id
        )
        .fetch_one(pool)
        .await?;
        standing.namespace = (row.files, row.bytes);
    }
    Ok(standing)
}

impl FileQuota {
    fn is_unlimited(self) -> bool {
        self.bytes.is_none() && self.files.is_none()
    }
}

/// What a write adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub files: i64,
    pub bytes: i64,
}

/// Makes writers of a namespace with a quota take turns, until the transaction ends: its count lies in several rows.
/// Called before the write.
pub(super) async fn take_turn(
    db: &mut PgConnection,
    session: SessionUid,
    quotas: FileQuotas,
) -> Result<(), StoreError> {
    if quotas.namespace.is_unlimited() {
        return Ok(());
    }
    sqlx::query!(
        "select pg_advisory_xact_lock(hashint8extended(namespace_id, $2)) from session where uid = $1",
        session.0,
        LOCK_SEED
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The quota that is exceeded after the write, if one is. What does not grow cannot exceed a quota, so that one that was
/// lowered does not forbid to write less.
pub(super) async fn find_exceeded(
    db: &mut PgConnection,
    session: SessionUid,
    quotas: FileQuotas,
    growth: Growth,
) -> Result<Option<QuotaExceeded>, StoreError> {
    if !quotas.session.is_unlimited() {
        let usage = sqlx::query!(
            "select files, bytes from file_usage where session_uid = $1",
            session.0
        )
        .fetch_optional(&mut *db)
        .await?;
        let usage = usage.map_or((0, 0), |usage| (usage.files, usage.bytes));
        let exceeded = exceeded("session", quotas.session, usage, growth);
        if exceeded.is_some() {
            return Ok(exceeded);
        }
    }
    if quotas.namespace.is_unlimited() {
        return Ok(None);
    }
    let usage = sqlx::query!(
        r#"select coalesce(sum(n.files), 0)::bigint as "files!", coalesce(sum(n.bytes), 0)::bigint as "bytes!"
           from namespace_file_usage n join session s on s.namespace_id = n.namespace_id where s.uid = $1"#,
        session.0
    )
    .fetch_one(db)
    .await?;
    Ok(exceeded(
        "namespace",
        quotas.namespace,
        (usage.files, usage.bytes),
        growth,
    ))
}

fn exceeded(
    scope: &'static str,
    quota: FileQuota,
    (files, bytes): (i64, i64),
    growth: Growth,
) -> Option<QuotaExceeded> {
    let check = |what, limit: Option<u64>, wanted: i64, growth: i64| {
        let limit = limit?;
        let used = u64::try_from(wanted - growth).unwrap_or(0);
        let wanted = u64::try_from(wanted).unwrap_or(0);
        (growth > 0 && wanted > limit).then_some(QuotaExceeded {
            scope,
            what,
            limit,
            used,
            wanted,
        })
    };
    check("files", quota.files, files, growth.files)
        .or_else(|| check("bytes", quota.bytes, bytes, growth.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_can_exceed() {
        let quota = FileQuota {
            bytes: Some(10),
            files: Some(2),
        };
        let check = |used, files, bytes| exceeded("session", quota, used, Growth { files, bytes });
        assert_eq!(check((2, 10), 1, 5), None);
        let over = check((3, 10), 1, 0).expect("too many files");
        assert_eq!(
            (over.what, over.limit, over.used, over.wanted),
            ("files", 2, 2, 3)
        );
        let over = check((1, 11), 0, 4).expect("too many bytes");
        assert_eq!(
            (over.what, over.limit, over.used, over.wanted),
            ("bytes", 10, 7, 11)
        );
        assert_eq!(check((5, 50), 0, -3), None);
    }

    #[test]
    fn what_is_yet_to_come_is_held_against_the_quota_as_what_has_come() {
        let quota = FileQuota {
            bytes: Some(10),
            files: Some(2),
        };
        let standing = QuotaStanding {
            quotas: FileQuotas {
                session: quota,
                namespace: FileQuota::default(),
            },
            session: (1, 6),
            namespace: (0, 0),
            existing: None,
        };
        assert_eq!(standing.exceeded_by(4), None);
        let over = standing.exceeded_by(5).expect("too many bytes");
        assert_eq!((over.what, over.used, over.wanted), ("bytes", 6, 11));
        let overwritten = QuotaStanding {
            existing: Some(6),
            ..standing
        };
        assert_eq!(overwritten.exceeded_by(10), None);
        assert!(overwritten.exceeded_by(11).is_some());
        let full = QuotaStanding {
            session: (2, 0),
            ..standing
        };
        assert_eq!(full.exceeded_by(0).map(|over| over.what), Some("files"));
        assert!(standing.exceeded_by(u64::MAX).is_some());
    }
}
