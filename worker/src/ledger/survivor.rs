//! A run that may outlive the worker's process.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskyard_telemetry::trace::context::TraceContext;

use crate::isolation::{IsolationLevel, RunIsolation};
use crate::lease::{
    CollectRule, CommandWork, Lease, LeaseId, Offer, ResultSource, TerminalRequest, TerminalSize,
};

/// All that a later boot needs to take such a run over and to bring it to its end. Nothing of it is a secret of the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivingRecord {
    /// The lease under which it was started. The run's directory and socket bear its name for as long as it runs.
    pub home: Lease,
    #[serde(default)]
    pub session_id: String,
    /// What the shim asks for.
    pub token: String,
    /// The id that the next lease is to have; drawn and noted by a boot before its hello says it.
    pub next: Option<LeaseId>,
    pub run: i32,
    pub lease_duration: Duration,
    pub grace: Duration,
    pub cwd: String,
    pub success_exit_codes: Vec<i32>,
    pub result_source: ResultSource,
    pub collect: Vec<CollectRule>,
    pub head_cap: u64,
    pub tail_cap: u64,
    /// The terminal that it was started with.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// What was put on it.
    #[serde(default)]
    pub isolation: IsolationLevel,
    /// The attempt that started it, as `traceparent` and `tracestate`.
    #[serde(default)]
    pub trace: (String, String),
    /// Its cgroup, where it has one.
    #[serde(default)]
    pub group: Option<PathBuf>,
}

impl SurvivingRecord {
    pub fn new(
        offer: &Offer,
        work: &CommandWork,
        isolation: &RunIsolation,
        token: String,
        trace: &TraceContext,
    ) -> SurvivingRecord {
        SurvivingRecord {
            home: offer.lease.clone(),
            session_id: offer.session_id.clone(),
            token,
            next: None,
            run: offer.run,
            lease_duration: offer.lease_duration,
            grace: work.grace,
            cwd: work.cwd.clone(),
            success_exit_codes: work.success_exit_codes.clone(),
            result_source: work.result_source,
            collect: work.collect.clone(),
            head_cap: work.head_cap,
            tail_cap: work.tail_cap,
            terminal: work.terminal.as_ref().map(|terminal| terminal.size),
            isolation: isolation.level,
            trace: (
                trace.traceparent().to_owned(),
                trace.tracestate().to_owned(),
            ),
            group: isolation
                .group
                .as_ref()
                .map(|group| group.path().to_owned()),
        }
    }

    /// What a later attempt's spans belong below.
    pub fn trace(&self) -> TraceContext {
        TraceContext::read(&self.trace.0, &self.trace.1)
    }

    /// As much of the work as its end is judged and delivered by.
    pub fn work(&self) -> CommandWork {
        CommandWork {
            survives: true,
            grace: self.grace,
            cwd: self.cwd.clone(),
            success_exit_codes: self.success_exit_codes.clone(),
            result_source: self.result_source,
            collect: self.collect.clone(),
            head_cap: self.head_cap,
            tail_cap: self.tail_cap,
            terminal: self.terminal.map(|size| TerminalRequest {
                size,
                term: String::new(),
            }),
            ..CommandWork::default()
        }
    }
}
