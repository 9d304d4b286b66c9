//! What the audit log is told of workers that attach by a call that waits: one entry for each boot, not one for each
//! call, though every call may be the one that attaches. Its place in the log is held while that is found out, and not
//! for as long as the call waits.

use super::{authentication::code_name, inside};
use crate::{
    app::App,
    audit::{Decision, Entry, Place},
    control::{reach::Subject, refusal::Refusal},
    identity::principal::Calling,
};
use tonic::{Code, Extensions, Status};

/// Path of the call.
const METHOD: &str = "/taskyard.v1.WorkerService/AcquireLeases";

/// A worker that is being attached. Dropped before it is known whether it was, it leaves an entry behind: it may have
/// been.
pub(super) struct AttachNote {
    noted: Option<(Place, Entry)>,
}

impl AttachNote {
    /// Takes a place in the log.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`], [`Refusal::ShuttingDown`].
    pub(super) async fn begin(app: &App, extensions: &Extensions) -> Result<Self, Refusal> {
        let entry = entry(extensions, METHOD, Decision::Allowed)?;
        let caller = app.authenticator.is_on().then_some(entry.who.as_str());
        let place = app.audit.reserve(caller).await?;
        Ok(Self {
            noted: Some((place, entry)),
        })
    }

    /// The worker is attached; the first time that its boot is, that is written down.
    pub(super) fn attached(&mut self, is_first: bool) {
        if let Some((place, entry)) = self.noted.take().filter(|_| is_first) {
            place.record(entry);
        }
    }

    /// The call was refused. What is refused before anything is attached leaves no entry but that of a denial, which the
    /// door makes.
    pub(super) fn refused(&mut self, code: Code) {
        let Some((place, mut entry)) = self.noted.take() else {
            return;
        };
        let nothing_was_done = matches!(
            code,
            Code::PermissionDenied
                | Code::Unauthenticated
                | Code::InvalidArgument
                | Code::FailedPrecondition
        );
        if !nothing_was_done {
            entry.decision = Decision::Failed;
            place.record(entry.with_code(&code_name(code)));
        }
    }
}

impl Drop for AttachNote {
    fn drop(&mut self) {
        self.refused(Code::Cancelled);
    }
}

/// Writes down that a stream, which was answered already, was denied something.
pub(super) fn note_denied(
    app: &App,
    extensions: &Extensions,
    method: &'static str,
    status: &Status,
) {
    if let Ok(entry) = entry(extensions, method, Decision::Denied) {
        app.audit
            .record_denial(entry.with_code(&code_name(status.code())));
    }
}

fn entry(
    extensions: &Extensions,
    method: &'static str,
    decision: Decision,
) -> Result<Entry, Refusal> {
    let identity = inside::caller_identity(extensions)?;
    let peer = extensions.get::<Calling>().and_then(|calling| calling.peer);
    let named = extensions
        .get::<Subject>()
        .map(Subject::read)
        .unwrap_or_default();
    Ok(Entry {
        who: identity.name.clone(),
        role: identity.role.as_str(),
        credential: identity.kind.as_str(),
        peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        method,
        namespace: named.namespace,
        session_id: named.session_id,
        task: named.task,
        request_id: named.request_id,
        worker: named.worker,
        pool: named.pool,
        decision,
        code: String::new(),
        calls: 1,
    })
}
