//! From what a client calls a task to the task.

use super::{
    namespace,
    refusal::{Refusal, Resource},
};
use crate::{
    app::App,
    store::{
        resolve::{self as tasks, FoundTask},
        standings,
    },
};
use std::collections::HashMap;
use taskyard_core::id::{SessionUid, TaskId};

/// Hexadecimal digits of a whole id, and the fewest of a part of one.
const ID_DIGITS: usize = 32;
const MIN_ID_DIGITS: usize = 8;
/// Tasks named where a part of an id fits several.
const MAX_CANDIDATES: i64 = 20;
/// Longest text that is looked up.
const MAX_REFERENCE_BYTES: usize = 128;

/// What a text that names a task can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reference {
    /// A whole id.
    Id(TaskId),
    /// An ordinal.
    Ordinal(i64),
    /// The beginning of an id, surely: it starts as shown ids do.
    IdStart(String),
    /// A name, or the hexadecimal beginning of an id.
    NameOrIdStart(String),
    /// A name.
    Name(String),
}

/// Finds the task that `task` names: an id, an unambiguous beginning of one, `t12`, or the name of a live task.
///
/// # Errors
/// [`Refusal::InvalidField`] for an empty name, or without the session where one is needed; [`Refusal::NotFound`] for
/// the namespace, the session or the task; [`Refusal::AmbiguousTask`]; [`Refusal::Store`].
pub async fn resolve(
    app: &App,
    namespace: &str,
    session_id: &str,
    task: &str,
) -> Result<FoundTask, Refusal> {
    resolve_field(app, namespace, session_id, "task", task).await
}

/// As [`resolve`]; `field` names where the task stands in the request.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_field(
    app: &App,
    namespace: &str,
    session_id: &str,
    field: &str,
    task: &str,
) -> Result<FoundTask, Refusal> {
    let mut found = resolve_all(app, namespace, session_id, field, &[task]).await?;
    found.pop().ok_or_else(|| not_found(task))
}

/// As [`resolve`], for several at once, in their order; `field` names where they stand in the request.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_all(
    app: &App,
    namespace: &str,
    session_id: &str,
    field: &str,
    names: &[&str],
) -> Result<Vec<FoundTask>, Refusal> {
    let references: Vec<Reference> = names
        .iter()
        .map(|task| parse(task).map_err(|problem| Refusal::invalid(field, problem)))
        .collect::<Result<_, _>>()?;
    let namespace_id = namespace::find_namespace(app, namespace).await?;
    let session = match session_id {
        "" if references
            .iter()
            .all(|reference| matches!(reference, Reference::Id(_))) =>
        {
            None
        }
        "" => {
            let problem = "is required, unless tasks are named by their whole ids";
            return Err(Refusal::invalid("session_id", problem));
        }
        session_id => Some(namespace::find_session(app, namespace, session_id).await?),
    };
    let ids: Vec<TaskId> = references
        .iter()
        .filter_map(|reference| match reference {
            Reference::Id(id) => Some(*id),
            Reference::Ordinal(_)
            | Reference::IdStart(_)
            | Reference::NameOrIdStart(_)
            | Reference::Name(_) => None,
        })
        .collect();
    let by_id: HashMap<TaskId, FoundTask> = if ids.is_empty() {
        HashMap::new()
    } else {
        let found = standings::find_by_ids(app.store.pool(), namespace_id, &ids).await?;
        found.into_iter().map(|found| (found.id, found)).collect()
    };
    let mut found = Vec::with_capacity(names.len());
    for (reference, task) in references.iter().zip(names) {
        let one = match (reference, session) {
            (Reference::Id(id), _) => by_id.get(id).copied(),
            (_, Some(session)) => look_up(app, session, reference).await?,
            (_, None) => None,
        };
        let one = one.filter(|one| session.is_none_or(|session| one.session == session));
        found.push(one.ok_or_else(|| not_found(task))?);
    }
    Ok(found)
}

async fn look_up(
    app: &App,
    session: SessionUid,
    reference: &Reference,
) -> Result<Option<FoundTask>, Refusal> {
    let db = app.store.pool();
    Ok(match reference {
        Reference::Id(_) => None,
        Reference::Ordinal(ordinal) => tasks::find_by_ordinal(db, session, *ordinal).await?,
        Reference::Name(name) => tasks::find_by_name(db, session, name).await?,
        Reference::IdStart(digits) => by_id_start(app, session, digits).await?,
        Reference::NameOrIdStart(text) => match tasks::find_by_name(db, session, text).await? {
            Some(found) => Some(found),
            None => by_id_start(app, session, text).await?,
        },
    })
}

async fn by_id_start(
    app: &App,
    session: SessionUid,
    digits: &str,
) -> Result<Option<FoundTask>, Refusal> {
    let Some(range) = id_range(digits) else {
        return Ok(None);
    };
    let found = tasks::find_by_id_range(app.store.pool(), session, range, MAX_CANDIDATES).await?;
    if found.len() > 1 {
        return Err(Refusal::AmbiguousTask {
            prefix: digits.to_owned(),
            candidates: found.iter().map(|found| found.id.to_string()).collect(),
        });
    }
    Ok(found.first().copied())
}

fn parse(task: &str) -> Result<Reference, &'static str> {
    if task.is_empty() {
        return Err("is required: an id, an ordinal such as `t12`, or a name");
    }
    if task.len() > MAX_REFERENCE_BYTES || task.chars().any(char::is_control) {
        return Err("is no id, no ordinal and no name");
    }
    if let Ok(id) = task.parse() {
        return Ok(Reference::Id(id));
    }
    if let Some(ordinal) = parse_ordinal(task) {
        return Ok(Reference::Ordinal(ordinal));
    }
    Ok(match task.strip_prefix(TaskId::PREFIX) {
        Some(digits) if is_id_start(digits) => Reference::IdStart(digits.to_owned()),
        None if is_id_start(task) => Reference::NameOrIdStart(task.to_owned()),
        Some(_) | None => Reference::Name(task.to_owned()),
    })
}

fn parse_ordinal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('t')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if is_number { digits.parse().ok() } else { None }
}

fn is_id_start(text: &str) -> bool {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (MIN_ID_DIGITS..=ID_DIGITS).contains(&text.len()) && text.bytes().all(is_lower_hex)
}

/// First and last id that begin so.
fn id_range(digits: &str) -> Option<(TaskId, TaskId)> {
    let first = u128::from_str_radix(&format!("{digits:0<ID_DIGITS$}"), 16).ok()?;
    let last = u128::from_str_radix(&format!("{digits:f<ID_DIGITS$}"), 16).ok()?;
    Some((TaskId(first), TaskId(last)))
}

fn not_found(task: &str) -> Refusal {
    Refusal::NotFound {
        resource: Resource::Task,
        name: task.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_is_told_from_the_others() {
        let id = TaskId(0x0190_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001);
        assert_eq!(parse(&id.to_string()), Ok(Reference::Id(id)));
        assert_eq!(parse("t12"), Ok(Reference::Ordinal(12)));
        assert_eq!(
            parse("task_0190aaaa"),
            Ok(Reference::IdStart("0190aaaa".to_owned()))
        );
        assert_eq!(
            parse("0190aaaa"),
            Ok(Reference::NameOrIdStart("0190aaaa".to_owned()))
        );
        for name in [
            "t",
            "t0",
            "t012",
            "build",
            "task_0190",
            "0190aaa",
            "task_0190AAAA",
            "t99999999999999999999",
        ] {
            assert_eq!(parse(name), Ok(Reference::Name(name.to_owned())));
        }
        let long = "n".repeat(200);
        for none in ["", "a\nb", long.as_str()] {
            assert!(parse(none).is_err(), "{none:?}");
        }
    }

    #[test]
    fn the_beginning_of_an_id_covers_all_that_follow_it() {
        let (first, last) = id_range("0190aaaa").unwrap_or((TaskId(1), TaskId(0)));
        assert_eq!(first.to_string(), "task_0190aaaa000000000000000000000000");
        assert_eq!(last.to_string(), "task_0190aaaaffffffffffffffffffffffff");
    }
}
