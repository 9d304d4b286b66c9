//! Every metric, in one place. Docs, dashboard and alerts are checked against [`ALL`].

use super::instrument::{Counter, Gauge, Histogram, Kind, Metric, Spec};

/// Bounds of times from half a millisecond to half a minute.
const CALLS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds of waits from 5 ms to an hour.
const WAITS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];
/// Bounds of the sizes of batches.
const BATCHES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0];

/// How a task can end, with the kind of the error where it failed.
const ENDS: &[&[&str]] = &[
    &["succeeded", ""],
    &["canceled", ""],
    &["failed", "exit"],
    &["failed", "signal"],
    &["failed", "timeout"],
    &["failed", "start_failed"],
    &["failed", "isolation_unavailable"],
    &["failed", "oom_killed"],
    &["failed", "bad_output"],
    &["failed", "worker_error"],
    &["failed", "orphaned"],
    &["failed", "outcome_unknown"],
    &["failed", "start_deadline_exceeded"],
    &["failed", "question_expired"],
    &["failed", "no_result"],
    &["failed", "schema_mismatch"],
];
/// What is sent to a collector, and whether it took it.
const EXPORTS: &[&[&str]] = &[
    &["metrics", "sent"],
    &["metrics", "failed"],
    &["traces", "sent"],
    &["traces", "failed"],
];
/// What a caller can meet a limit of, as the refusal's reason has it.
const LIMITS: &[&[&str]] = &[
    &["INPUT_FULL"],
    &["LIMIT_REACHED"],
    &["MESSAGE_TOO_LARGE"],
    &["OVERLOADED"],
    &["QUOTA_EXCEEDED"],
    &["RATE_LIMITED"],
    &["TOO_LARGE"],
    &["TOO_MANY_CALLS"],
    &["TOO_MANY_CHILDREN"],
    &["TOO_MANY_CONNECTIONS"],
    &["TOO_MANY_LIVE_TASKS"],
    &["TOO_MANY_SESSIONS"],
    &["TOO_MANY_STREAMS"],
    &["TOO_MANY_TASKS"],
    &["TOO_MANY_WATCHERS"],
    &["TREE_TOO_DEEP"],
];
/// How an attempt can be over on its worker.
const OVERS: &[&[&str]] = &[
    &["finished"],
    &["lost"],
    &["canceled"],
    &["released"],
    &["refused"],
    &["undelivered"],
];

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $constant:ident: $type:ident = $name:literal $(as $convention:literal)?, $kind:expr, $unit:literal, [$($label:literal),*] $(of $series:expr)?;)+) => {
        $(
            $(#[doc = $help])+
            pub static $constant: $type = $type::new(Spec {
                name: $name,
                convention: metrics!(@option $($convention)?),
                kind: $kind,
                unit: $unit,
                help: metrics!(@help $($help)+),
                labels: &[$($label),*],
                series: metrics!(@series $($series)?),
            });
        )+
        /// All of them, by part and subject.
        pub static ALL: &[&dyn Metric] = &[$(&$constant),+];
        /// The same, as they must be named to be recorded.
        pub static REGISTERED: &[fn(&opentelemetry::metrics::Meter)] = &[$(|meter| $constant.register(meter)),+];
    };
    (@option) => { None };
    (@option $convention:literal) => { Some($convention) };
    (@series) => { &[] };
    (@series $series:expr) => { $series };
    (@help $help:literal) => { $help.trim_ascii() };
}

metrics! {
    /// Always 1; its labels tell the version and which parts run in the process.
    BUILD_INFO: Gauge = "taskyard_build_info", Kind::Gauge, "", ["version", "component"];
    /// Batches of spans or metrics that were sent to the collector, or could not be.
    TELEMETRY_EXPORTS: Counter = "taskyard_telemetry_exports_total", Kind::Counter, "{batch}", ["signal", "outcome"] of EXPORTS;

    /// Live tasks by state: `queued` ones could start, `waiting` ones cannot yet (held, delayed, or backing off), the rest run or ask; of one route at most 10,000 in each state are counted.
    QUEUE_TASKS: Gauge = "taskyard_queue_tasks", Kind::Gauge, "{task}", ["taskyard_namespace", "queue", "kind", "state"];
    /// Longest time for which a task could have started, since its creation or its `not_before`; the time of a hold counts.
    QUEUE_OLDEST_AGE: Gauge = "taskyard_queue_oldest_task_age_seconds", Kind::Gauge, "s", ["taskyard_namespace", "queue", "kind"];
    /// Tasks that were created.
    TASKS_CREATED: Counter = "taskyard_tasks_created_total", Kind::Counter, "{task}", [];
    /// Tasks that ended, by state and, where they failed, kind of the error.
    TASKS_ENDED: Counter = "taskyard_tasks_ended_total", Kind::Counter, "{task}", ["state", "error_kind"] of ENDS;
    /// Offers of tasks that were sent to workers.
    OFFERS: Counter = "taskyard_offers_total", Kind::Counter, "{offer}", [];
    /// Runs that started.
    RUNS_STARTED: Counter = "taskyard_runs_started_total", Kind::Counter, "{run}", [];
    /// Attempts that gave their task back to the queue: failed and to be repeated, lost with their worker, or released.
    ATTEMPTS_REQUEUED: Counter = "taskyard_attempts_requeued_total", Kind::Counter, "{attempt}", ["reason"] of &[&["lost"], &["released"], &["failed"]];
    /// Time from the creation of a task, or its `not_before`, to the start of its first run; the time of a hold counts.
    START_WAIT: Histogram = "taskyard_task_start_wait_seconds", Kind::Histogram(WAITS), "s", [];
    /// Time from a task's offer to a worker to the start that the worker reported.
    LEASE_WAIT: Histogram = "taskyard_lease_start_seconds", Kind::Histogram(WAITS), "s", [];
    /// Bytes of output that were stored.
    OUTPUT_STORED: Counter = "taskyard_output_stored_bytes_total", Kind::Counter, "By", [];

    /// Changes and creations in one group commit.
    COMMIT_BATCH: Histogram = "taskyard_commit_batch_changes", Kind::Histogram(BATCHES), "{change}", [];
    /// Time of one group commit, tries included.
    COMMIT_DURATION: Histogram = "taskyard_commit_duration_seconds", Kind::Histogram(CALLS), "s", [];
    /// Group commits that could not be stored.
    COMMIT_FAILURES: Counter = "taskyard_commit_failures_total", Kind::Counter, "{batch}", [];
    /// Changes that wait for a group commit.
    COMMIT_QUEUE: Gauge = "taskyard_commit_queue_changes", Kind::Gauge, "{change}", [];

    /// Calls and streams that are open: watches, followed output, waits, attached workers.
    STREAMS: Gauge = "taskyard_open_streams", Kind::Gauge, "{stream}", ["stream"];
    /// Time from the commit of an event to its way to those who watch, by the clocks of database and server.
    EVENT_LAG: Histogram = "taskyard_event_lag_seconds", Kind::Histogram(CALLS), "s", [];
    /// Calls and connections that were refused because of a limit, by the reason that the caller was told.
    LIMIT_REFUSALS: Counter = "taskyard_limit_refusals_total", Kind::Counter, "{refusal}", ["reason"] of LIMITS;
    /// Leases that were ended, and worker sessions that were given up, because nothing was heard of them.
    REAPED: Counter = "taskyard_reaper_actions_total", Kind::Counter, "{action}", ["action"] of &[&["lease"], &["worker_session"]];
    /// Calls of webhooks, by what came of them.
    WEBHOOK_TRIES: Counter = "taskyard_webhook_tries_total", Kind::Counter, "{call}", ["outcome"] of &[&["delivered"], &["retried"], &["failed"]];
    /// Deliveries to webhooks that are still to be made; at most 10,000 are counted.
    WEBHOOKS_PENDING: Gauge = "taskyard_webhook_deliveries_pending", Kind::Gauge, "{delivery}", [];
    /// Wakes that nobody has acknowledged; at most 10,000 are counted.
    WAKES_PENDING: Gauge = "taskyard_wakes_unacknowledged", Kind::Gauge, "{wake}", [];

    /// 1 while the database answers, else 0.
    DATABASE_UP: Gauge = "taskyard_database_up", Kind::Gauge, "", [];
    /// Time of the last question whether the database answers.
    DATABASE_PING: Gauge = "taskyard_database_ping_seconds", Kind::Gauge, "s", [];
    /// Connections of the pool for reads, idle and in use.
    DATABASE_CONNECTIONS: Gauge = "taskyard_database_connections", Kind::Gauge, "{connection}", ["state"];
    /// Time of requests to the object store.
    OBJECT_STORE_DURATION: Histogram = "taskyard_object_store_request_duration_seconds", Kind::Histogram(CALLS), "s", ["operation", "outcome"];
    /// Requests to the object store that failed; that an object is not there is no failure.
    OBJECT_STORE_FAILURES: Counter = "taskyard_object_store_failures_total", Kind::Counter, "{request}", ["operation"] of &[&["read"], &["write"], &["remove"]];
    /// Entries of the audit log that could not be written and are lost.
    AUDIT_LOST: Counter = "taskyard_audit_entries_lost_total", Kind::Counter, "{entry}", [];

    /// Workers that are attached to this server.
    WORKERS_ATTACHED: Gauge = "taskyard_workers_attached", Kind::Gauge, "{worker}", [];
    /// Free slots of the workers that are attached to this server.
    SLOTS_FREE: Gauge = "taskyard_slots_free", Kind::Gauge, "{slot}", [];
    /// Time of calls of this server, streams and calls that wait on purpose left out; by method and gRPC status, also where the caller did not wait for the answer.
    RPC_DURATION: Histogram = "rpc_server_call_duration_seconds" as "rpc.server.call.duration", Kind::Histogram(CALLS), "s", ["rpc.system.name", "rpc.method", "rpc.response.status_code"];
    /// When the certificate expires that the server shows, in seconds since 1970.
    CERTIFICATE_EXPIRY: Gauge = "taskyard_certificate_expiry_timestamp_seconds", Kind::Gauge, "s", [];
    /// When the first of the static tokens that are good still expires, in seconds since 1970.
    TOKEN_EXPIRY: Gauge = "taskyard_token_expiry_timestamp_seconds", Kind::Gauge, "s", [];

    /// 1 while the worker is attached to a server, else 0.
    WORKER_ATTACHED: Gauge = "taskyard_worker_attached", Kind::Gauge, "", [];
    /// Slots of the worker, free and taken.
    WORKER_SLOTS: Gauge = "taskyard_worker_slots", Kind::Gauge, "{slot}", ["state"];
    /// Attempts under way on the worker, those that wait without a slot included.
    WORKER_ATTEMPTS: Gauge = "taskyard_worker_attempts", Kind::Gauge, "{attempt}", [];
    /// Time from an applied start to the spawned process: secrets, files and isolation.
    WORKER_LAUNCH: Histogram = "taskyard_worker_launch_duration_seconds", Kind::Histogram(CALLS), "s", [];
    /// Attempts that are over on the worker, by how.
    WORKER_ATTEMPTS_OVER: Counter = "taskyard_worker_attempts_over_total", Kind::Counter, "{attempt}", ["outcome"] of OVERS;
    /// Reports that wait to be sent.
    WORKER_REPORTS: Gauge = "taskyard_worker_reports_waiting", Kind::Gauge, "{report}", [];
    /// Times that the worker attached, the first one included.
    WORKER_ATTACHES: Counter = "taskyard_worker_attaches_total", Kind::Counter, "{attach}", [];
    /// Heartbeats: sent, acknowledged, and late ones, whose answer took longer than an interval or did not come.
    WORKER_HEARTBEATS: Counter = "taskyard_worker_heartbeats_total", Kind::Counter, "{heartbeat}", ["event"] of &[&["sent"], &["acknowledged"], &["late"]];
    /// Bytes that runs, their output among them, take on the worker's disk.
    WORKER_SPOOL: Gauge = "taskyard_worker_spool_bytes", Kind::Gauge, "By", [];
    /// Bytes of output that the worker has sent.
    WORKER_OUTPUT: Counter = "taskyard_worker_output_sent_bytes_total", Kind::Counter, "By", [];
}
