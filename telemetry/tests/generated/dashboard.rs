//! The dashboard for Grafana.

use serde_json::{Value, json};
use taskyard_telemetry::metrics::{
    instrument::{Kind, Metric},
    table as t,
};

/// A row of panels.
struct Row {
    title: &'static str,
    panels: &'static [Panel],
}

/// What is shown of one metric.
struct Panel {
    title: &'static str,
    metric: &'static dyn Metric,
    /// Labels that the lines are told apart by.
    by: &'static [&'static str],
    look: Look,
}

/// How a value is shown.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    AsItIs,
    /// A time as what is left until it comes.
    TimeLeft,
}

const fn panel(
    title: &'static str,
    metric: &'static dyn Metric,
    by: &'static [&'static str],
) -> Panel {
    Panel {
        title,
        metric,
        by,
        look: Look::AsItIs,
    }
}

static ROWS: &[Row] = &[
    Row {
        title: "Queues",
        panels: &[
            panel("Live tasks", &t::QUEUE_TASKS, &["queue", "kind", "state"]),
            panel(
                "Age of the oldest task",
                &t::QUEUE_OLDEST_AGE,
                &["queue", "kind"],
            ),
            panel("Time to the first run", &t::START_WAIT, &[]),
            panel("Time from offer to start", &t::LEASE_WAIT, &[]),
        ],
    },
    Row {
        title: "Tasks",
        panels: &[
            panel("Created", &t::TASKS_CREATED, &[]),
            panel("Runs started", &t::RUNS_STARTED, &[]),
            panel("Ended", &t::TASKS_ENDED, &["state", "error_kind"]),
            panel(
                "Attempts back in the queue",
                &t::ATTEMPTS_REQUEUED,
                &["reason"],
            ),
            panel("Output stored", &t::OUTPUT_STORED, &[]),
            panel("Actions of the reaper", &t::REAPED, &["action"]),
        ],
    },
    Row {
        title: "Servers",
        panels: &[
            panel("Calls", &t::RPC_DURATION, &["rpc_method"]),
            panel("Size of group commits", &t::COMMIT_BATCH, &[]),
            panel("Time of group commits", &t::COMMIT_DURATION, &[]),
            panel("Changes that wait", &t::COMMIT_QUEUE, &["instance"]),
            panel("Commits that failed", &t::COMMIT_FAILURES, &[]),
            panel("Open streams", &t::STREAMS, &["stream"]),
            panel("Refused for a limit", &t::LIMIT_REFUSALS, &["reason"]),
            panel("Delay of events", &t::EVENT_LAG, &[]),
            panel("Database answers", &t::DATABASE_UP, &["instance"]),
            panel(
                "Time of a question to the database",
                &t::DATABASE_PING,
                &["instance"],
            ),
            panel(
                "Connections of the pool",
                &t::DATABASE_CONNECTIONS,
                &["instance", "state"],
            ),
            panel(
                "Object store",
                &t::OBJECT_STORE_DURATION,
                &["operation", "outcome"],
            ),
            panel(
                "Failures of the object store",
                &t::OBJECT_STORE_FAILURES,
                &["operation"],
            ),
            panel("Lost audit entries", &t::AUDIT_LOST, &[]),
            panel("Calls of webhooks", &t::WEBHOOK_TRIES, &["outcome"]),
            panel("Deliveries that wait", &t::WEBHOOKS_PENDING, &[]),
            panel("Wakes that wait", &t::WAKES_PENDING, &[]),
            Panel {
                look: Look::TimeLeft,
                ..panel(
                    "Certificate expires in",
                    &t::CERTIFICATE_EXPIRY,
                    &["instance"],
                )
            },
            Panel {
                look: Look::TimeLeft,
                ..panel("First token expires in", &t::TOKEN_EXPIRY, &["instance"])
            },
        ],
    },
    Row {
        title: "Workers",
        panels: &[
            panel("Attached workers", &t::WORKERS_ATTACHED, &["instance"]),
            panel("Free slots", &t::SLOTS_FREE, &["instance"]),
            panel(
                "Slots of each worker",
                &t::WORKER_SLOTS,
                &["instance", "state"],
            ),
            panel("Attempts under way", &t::WORKER_ATTEMPTS, &["instance"]),
            panel("Time of a launch", &t::WORKER_LAUNCH, &[]),
            panel(
                "Attempts that are over",
                &t::WORKER_ATTEMPTS_OVER,
                &["outcome"],
            ),
            panel("Heartbeats", &t::WORKER_HEARTBEATS, &["event"]),
            panel("Attached", &t::WORKER_ATTACHED, &["instance"]),
            panel("Attaches", &t::WORKER_ATTACHES, &["instance"]),
            panel("Reports that wait", &t::WORKER_REPORTS, &["instance"]),
            panel("Spools", &t::WORKER_SPOOL, &["instance"]),
            panel("Output sent", &t::WORKER_OUTPUT, &["instance"]),
        ],
    },
];

pub fn text() -> String {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in ROWS {
        panels.push(json!({
            "type": "row", "title": row.title, "id": panels.len() + 1, "collapsed": false, "panels": [],
            "gridPos": { "h": 1, "w": 24, "x": 0, "y": top }
        }));
        top += 1;
        for line in row.panels.chunks(3) {
            for (place, panel) in line.iter().enumerate() {
                panels.push(shown(panel, panels.len() + 1, place * 8, top));
            }
            top += 8;
        }
    }
    let dashboard = json!({
        "uid": "taskyard",
        "title": "Taskyard",
        "tags": ["taskyard"],
        "schemaVersion": 39,
        "timezone": "",
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source" },
            {
                "name": "namespace", "type": "query", "label": "Namespace", "includeAll": true, "multi": true,
                "allValue": ".*", "refresh": 2, "datasource": { "type": "prometheus", "uid": "${datasource}" },
                "query": format!("label_values({}, taskyard_namespace)", t::QUEUE_TASKS.spec().name),
                "current": { "text": "All", "value": "$__all" }
            }
        ] },
        "panels": panels
    });
    let mut text = serde_json::to_string_pretty(&dashboard).expect("is JSON");
    text.push('\n');
    text
}

fn shown(panel: &Panel, id: usize, x: usize, y: usize) -> Value {
    let spec = panel.metric.spec();
    let unit = match (spec.unit, spec.kind) {
        ("s", _) => "s",
        ("By", Kind::Counter) => "Bps",
        ("By", _) => "bytes",
        (_, Kind::Counter) => "ops",
        _ => "short",
    };
    let targets: Vec<Value> = queries(panel)
        .into_iter()
        .enumerate()
        .map(|(number, (expression, legend))| {
            json!({
                "refId": char::from(b'A' + u8::try_from(number).expect("a few")).to_string(),
                "expr": expression, "legendFormat": legend,
                "datasource": { "type": "prometheus", "uid": "${datasource}" }
            })
        })
        .collect();
    json!({
        "type": "timeseries", "id": id, "title": panel.title, "description": spec.help,
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "gridPos": { "h": 8, "w": 8, "x": x, "y": y },
        "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
        "options": { "legend": { "showLegend": true, "displayMode": "list" }, "tooltip": { "mode": "multi" } },
        "targets": targets
    })
}

/// Expressions with the words for their lines.
fn queries(panel: &Panel) -> Vec<(String, String)> {
    let spec = panel.metric.spec();
    let name = spec.name;
    let by = panel.by.join(", ");
    let words: Vec<String> = panel
        .by
        .iter()
        .map(|label| format!("{{{{{label}}}}}"))
        .collect();
    let words = if words.is_empty() {
        panel.title.to_owned()
    } else {
        words.join(" ")
    };
    let grouped = |of: &str| {
        if by.is_empty() {
            of.to_owned()
        } else {
            format!("{of} by ({by}) ")
        }
    };
    match spec.kind {
        Kind::Counter => vec![(
            format!("{}(rate({name}[$__rate_interval]))", grouped("sum")),
            words,
        )],
        // every server counts what lies in the database, and all count the same
        Kind::Gauge if spec.labels.contains(&"taskyard_namespace") => {
            // tasks of several namespaces add up, ages do not
            let over = if spec.unit == "s" { "max" } else { "sum" };
            let each = format!("{name}{{taskyard_namespace=~\"$namespace\"}}");
            let each = format!("max by (taskyard_namespace, {by}) ({each})");
            vec![(format!("{over} by ({by}) ({each})"), words)]
        }
        Kind::Gauge if panel.look == Look::TimeLeft => {
            vec![(format!("{}({name}) - time()", grouped("min")), words)]
        }
        Kind::Gauge if panel.by.is_empty() => vec![(format!("max({name})"), words)],
        Kind::Gauge => vec![(format!("{}({name})", grouped("sum")), words)],
        Kind::Histogram(_) => {
            let all: Vec<&str> = std::iter::once("le")
                .chain(panel.by.iter().copied())
                .collect();
            let all = all.join(", ");
            [("0.5", "half"), ("0.99", "99 %")]
                .map(|(quantile, word)| {
                    let expression = format!(
                        "histogram_quantile({quantile}, sum by ({all}) (rate({name}_bucket[$__rate_interval])))"
                    );
                    let words = if panel.by.is_empty() { word.to_owned() } else { format!("{words} {word}") };
                    (expression, words)
                })
                .into()
        }
    }
}
