//! The rules for Prometheus.

use std::fmt::Write;
use taskyard_telemetry::metrics::{instrument::Metric, table as t};

/// Where the run book can be read; charts and copies may put another place there.
const RUN_BOOK: &str = "docs/runbook.md";

/// One rule.
pub struct Alert {
    pub name: &'static str,
    /// The expression, with `{}` for the metrics in order.
    expression: &'static str,
    pub metrics: &'static [&'static dyn Metric],
    lasting: &'static str,
    severity: &'static str,
    summary: &'static str,
}

pub static ALERTS: &[Alert] = &[
    Alert {
        name: "TaskyardQueueStuck",
        expression: "max by (taskyard_namespace, queue, kind) ({}) > 600",
        metrics: &[&t::QUEUE_OLDEST_AGE],
        lasting: "5m",
        severity: "warning",
        summary: "A task of queue {{ $labels.queue }} ({{ $labels.kind }}) of namespace {{ $labels.taskyard_namespace }} has waited for {{ $value | humanizeDuration }}.",
    },
    Alert {
        name: "TaskyardNoWorkers",
        expression: "sum({}) == 0 and max(sum by (instance) ({}{state=\"queued\"})) > 0",
        metrics: &[&t::WORKERS_ATTACHED, &t::QUEUE_TASKS],
        lasting: "2m",
        severity: "critical",
        summary: "Tasks wait, and no worker is attached to any server.",
    },
    Alert {
        name: "TaskyardServerGone",
        expression: "absent({}{component=~\"server|dev\"})",
        metrics: &[&t::BUILD_INFO],
        lasting: "2m",
        severity: "critical",
        summary: "No server tells of itself: none runs, or none is scraped.",
    },
    Alert {
        name: "TaskyardDatabaseDown",
        expression: "min({}) == 0",
        metrics: &[&t::DATABASE_UP],
        lasting: "1m",
        severity: "critical",
        summary: "A server gets no answer from the database.",
    },
    Alert {
        name: "TaskyardCommitsFail",
        expression: "sum(rate({}[5m])) > 0",
        metrics: &[&t::COMMIT_FAILURES],
        lasting: "5m",
        severity: "critical",
        summary: "Changes of tasks cannot be stored.",
    },
    Alert {
        name: "TaskyardCommitsSlow",
        expression: "histogram_quantile(0.99, sum by (le) (rate({}_bucket[5m]))) > 1",
        metrics: &[&t::COMMIT_DURATION],
        lasting: "10m",
        severity: "warning",
        summary: "One of a hundred group commits takes {{ $value | humanizeDuration }}.",
    },
    Alert {
        name: "TaskyardCommitQueueLong",
        expression: "max by (instance) ({}) > 4000",
        metrics: &[&t::COMMIT_QUEUE],
        lasting: "2m",
        severity: "warning",
        summary: "{{ $value }} changes wait for a commit on {{ $labels.instance }}; at 8,192 of one committer callers are refused.",
    },
    Alert {
        name: "TaskyardWorkersLost",
        expression: "sum(increase({}{action=\"worker_session\"}[15m])) > 2",
        metrics: &[&t::REAPED],
        lasting: "0m",
        severity: "warning",
        summary: "{{ $value }} workers fell silent within a quarter of an hour.",
    },
    Alert {
        name: "TaskyardTasksFail",
        expression: "sum(rate({}{state=\"failed\"}[15m])) / sum(rate({}[15m])) > 0.5 and sum(increase({}[15m])) > 20",
        metrics: &[&t::TASKS_ENDED, &t::TASKS_ENDED, &t::TASKS_ENDED],
        lasting: "15m",
        severity: "warning",
        summary: "{{ $value | humanizePercentage }} of all tasks fail.",
    },
    Alert {
        name: "TaskyardOutcomesUnknown",
        expression: "sum(increase({}{error_kind=~\"orphaned|outcome_unknown\"}[15m])) > 0",
        metrics: &[&t::TASKS_ENDED],
        lasting: "0m",
        severity: "warning",
        summary: "{{ $value }} tasks ended without anybody knowing whether their work was done.",
    },
    Alert {
        name: "TaskyardCallsFail",
        expression: "sum(rate({}_count{rpc_response_status_code=~\"INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE|DEADLINE_EXCEEDED\"}[5m])) / sum(rate({}_count[5m])) > 0.05",
        metrics: &[&t::RPC_DURATION, &t::RPC_DURATION],
        lasting: "5m",
        severity: "critical",
        summary: "{{ $value | humanizePercentage }} of all calls fail by the servers' fault.",
    },
    Alert {
        name: "TaskyardEventsLate",
        expression: "histogram_quantile(0.99, sum by (le) (rate({}_bucket[5m]))) > 2",
        metrics: &[&t::EVENT_LAG],
        lasting: "10m",
        severity: "warning",
        summary: "One of a hundred events reaches those who watch only after {{ $value | humanizeDuration }}.",
    },
    Alert {
        name: "TaskyardLimitRefusals",
        expression: "sum by (reason) (rate({}{reason!=\"INPUT_FULL\"}[5m])) > 10",
        metrics: &[&t::LIMIT_REFUSALS],
        lasting: "10m",
        severity: "warning",
        summary: "{{ $value | humanize }} calls or connections a second are refused: {{ $labels.reason }}.",
    },
    Alert {
        name: "TaskyardWebhooksPending",
        expression: "max({}) > 1000",
        metrics: &[&t::WEBHOOKS_PENDING],
        lasting: "15m",
        severity: "warning",
        summary: "{{ $value }} deliveries to webhooks wait.",
    },
    Alert {
        name: "TaskyardWakesPending",
        expression: "max({}) > 5000",
        metrics: &[&t::WAKES_PENDING],
        lasting: "30m",
        severity: "warning",
        summary: "{{ $value }} wakes are acknowledged by nobody.",
    },
    Alert {
        name: "TaskyardObjectStoreFails",
        expression: "sum(rate({}[5m])) > 0",
        metrics: &[&t::OBJECT_STORE_FAILURES],
        lasting: "5m",
        severity: "warning",
        summary: "Requests to the object store fail.",
    },
    Alert {
        name: "TaskyardCertificateExpires",
        expression: "min by (instance) ({}) - time() < 7 * 86400",
        metrics: &[&t::CERTIFICATE_EXPIRY],
        lasting: "10m",
        severity: "critical",
        summary: "The TLS certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
    },
    Alert {
        name: "TaskyardTokenExpires",
        expression: "min({}) - time() < 7 * 86400",
        metrics: &[&t::TOKEN_EXPIRY],
        lasting: "10m",
        severity: "warning",
        summary: "A token of --auth-file expires in {{ $value | humanizeDuration }}.",
    },
    Alert {
        name: "TaskyardAuditLost",
        expression: "sum(increase({}[15m])) > 0",
        metrics: &[&t::AUDIT_LOST],
        lasting: "0m",
        severity: "critical",
        summary: "{{ $value }} entries of the audit log are lost.",
    },
    Alert {
        name: "TaskyardWorkerDetached",
        expression: "{} == 0",
        metrics: &[&t::WORKER_ATTACHED],
        lasting: "2m",
        severity: "warning",
        summary: "The worker {{ $labels.instance }} is attached to no server.",
    },
    Alert {
        name: "TaskyardHeartbeatsLate",
        expression: "sum by (instance) (rate({}{event=\"late\"}[5m])) / sum by (instance) (rate({}{event=\"sent\"}[5m])) > 0.2",
        metrics: &[&t::WORKER_HEARTBEATS, &t::WORKER_HEARTBEATS],
        lasting: "5m",
        severity: "warning",
        summary: "{{ $value | humanizePercentage }} of the heartbeats of {{ $labels.instance }} are answered late or not at all.",
    },
];

pub fn text() -> String {
    let mut text = String::from(
        "# Written by the tests of telemetry/ from their table; see docs/runbook.md for what to do about each.\ngroups:\n  - name: taskyard\n    rules:\n",
    );
    for alert in ALERTS {
        let mut expression = alert.expression.to_owned();
        for metric in alert.metrics {
            expression = expression.replacen("{}", metric.spec().name, 1);
        }
        assert!(!expression.contains("{}"), "{}", alert.name);
        let anchor = alert.name.to_ascii_lowercase();
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          runbook_url: {RUN_BOOK}#{anchor}\n",
            alert.name,
            quoted(&expression),
            alert.lasting,
            alert.severity,
            quoted(alert.summary)
        );
    }
    text
}
