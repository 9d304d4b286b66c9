//! What is logged, and changing it while the program runs.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Longest text of a filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 1_024;
/// Longest time for which a filter can be changed before the one of the start is taken again.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

static CURRENT: OnceLock<Mutex<Current>> = OnceLock::new();

struct Current {
    handle: reload::Handle<EnvFilter, Registry>,
    at_start: String,
    now: String,
    until: Option<Instant>,
    changes: u64,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The filter that is in force.
    pub filter: String,
    /// That of the start.
    pub at_start: String,
    /// How long it stays in force; none: until it is changed.
    pub reverts_in: Option<Duration>,
}

/// Why a filter was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// It cannot be read.
    #[error("makes no sense ({problem}); write it like debug or warn,taskyard_server=debug")]
    Bad {
        /// Why.
        problem: String,
    },
    /// It is too long.
    #[error("must not be longer than {MAX_FILTER_BYTES} bytes")]
    TooLong,
    /// This process logs in a way of its own.
    #[error("the filter of this process cannot be changed")]
    NotInstalled,
}

/// A layer that can be changed by [`set`]; to be called once, where logging starts.
///
/// # Errors
/// [`LogFilterError::Bad`].
pub fn layer(filter: &str) -> Result<reload::Layer<EnvFilter, Registry>, LogFilterError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    // The first one stays: a process logs once.
    CURRENT.get_or_init(|| {
        Mutex::new(Current {
            handle,
            at_start: filter.to_owned(),
            now: filter.to_owned(),
            until: None,
            changes: 0,
        })
    });
    Ok(layer)
}

/// What is logged now.
///
/// # Errors
/// [`LogFilterError::NotInstalled`].
pub fn get() -> Result<LogFilter, LogFilterError> {
    let current = current()?;
    Ok(shown(&current))
}

/// Logs by this filter from now on, or by that of the start where it is empty; `lasting` makes it end by itself.
///
/// Must be called inside of a runtime.
///
/// # Errors
/// Any [`LogFilterError`].
pub fn set(filter: &str, lasting: Option<Duration>) -> Result<LogFilter, LogFilterError> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(LogFilterError::TooLong);
    }
    let mut current = current()?;
    let wanted = if filter.is_empty() {
        current.at_start.clone()
    } else {
        filter.to_owned()
    };
    parse(&wanted)?;
    // said while the filter that shows it is in force: the one before, or else the new one
    let is_shown_before = tracing::enabled!(tracing::Level::INFO);
    let say = || tracing::info!(filter = wanted, ?lasting, "the log filter was changed");
    if is_shown_before {
        say();
    }
    apply(&mut current, &wanted)?;
    if !is_shown_before {
        say();
    }
    let lasting = lasting.filter(|_| wanted != current.at_start);
    current.until = lasting.map(|lasting| Instant::now() + lasting.min(MAX_DURATION));
    if let Some(until) = current.until {
        let change = current.changes;
        tokio::spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            revert(change);
        });
    }
    Ok(shown(&current))
}

/// Takes the filter of the start again, unless it was changed since.
fn revert(change: u64) {
    let Ok(mut current) = current() else { return };
    if current.changes == change {
        let at_start = current.at_start.clone();
        current.until = None;
        if apply(&mut current, &at_start).is_ok() {
            tracing::info!(
                filter = at_start,
                "the log filter of the start is in force again"
            );
        }
    }
}

fn apply(current: &mut Current, filter: &str) -> Result<(), LogFilterError> {
    let parsed = parse(filter)?;
    current
        .handle
        .reload(parsed)
        .map_err(|_| LogFilterError::NotInstalled)?;
    current.changes += 1;
    filter.clone_into(&mut current.now);
    Ok(())
}

fn shown(current: &Current) -> LogFilter {
    LogFilter {
        filter: current.now.clone(),
        at_start: current.at_start.clone(),
        reverts_in: current
            .until
            .map(|until| until.saturating_duration_since(Instant::now())),
    }
}

fn current() -> Result<MutexGuard<'static, Current>, LogFilterError> {
    let current = CURRENT.get().ok_or(LogFilterError::NotInstalled)?;
    Ok(current.lock().unwrap_or_else(PoisonError::into_inner))
}

fn parse(filter: &str) -> Result<EnvFilter, LogFilterError> {
    EnvFilter::try_new(filter).map_err(|error| LogFilterError::Bad {
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[tokio::test(start_paused = true)]
    async fn a_filter_is_changed_for_a_while_and_comes_back() {
        assert_eq!(get(), Err(LogFilterError::NotInstalled));
        let subscriber = Registry::default().with(layer("warn").expect("a filter"));
        let _logging = tracing::subscriber::set_default(subscriber);
        let changed = set("debug", Some(Duration::from_secs(60))).expect("changed");
        assert_eq!(
            (changed.filter.as_str(), changed.at_start.as_str()),
            ("debug", "warn")
        );
        assert!(changed.reverts_in.is_some());
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(matches!(
            set("a=b=c", None),
            Err(LogFilterError::Bad { .. })
        ));
        assert_eq!(set(&"x".repeat(2_000), None), Err(LogFilterError::TooLong));
        // a later change is not undone by the end of an earlier one
        set("trace", Some(Duration::from_secs(120))).expect("changed");
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(get().expect("a filter").filter, "trace");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let back = get().expect("a filter");
        assert_eq!((back.filter.as_str(), back.reverts_in), ("warn", None));
    }
}
