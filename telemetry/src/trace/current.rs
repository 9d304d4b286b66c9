//! The trace that the work at hand belongs to, for as long as a call lasts.

use super::context::TraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Does something as part of a trace.
pub async fn within<F: Future>(context: TraceContext, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}

/// The trace of the call that is being answered; none outside of calls.
#[must_use]
pub fn context() -> TraceContext {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}
