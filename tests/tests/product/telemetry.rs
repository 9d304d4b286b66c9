//! Metrics, traces, probes and the log filter, as operators see them.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::{GetLogFilterRequest, SetLogFilterRequest, TaskDefinition, TaskState};
use taskyard_tests::admin_page::AdminPage;
use taskyard_tests::client::{command, new_session, shell};
use taskyard_tests::collector::{CollectedSpan, Collector, tree};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::inside::agent;
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::wait::{SOON, eventually, until};

const ADMIN: (&str, &str) = ("TASKYARD_ADMIN_LISTEN", "127.0.0.1:0");
const CALL: &str = "taskyard.v1.SessionTaskService/CreateTask";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A server and a worker that send everything to a collector.
async fn collected(collector: &Collector) -> Deployment {
    let variables = collector.variables();
    let mut server: Vec<(&str, &str)> = vec![ADMIN];
    let mut worker = WorkerPlan::new("w1").env(ADMIN.0, ADMIN.1);
    for (name, value) in &variables {
        server.push((name, value));
        worker = worker.env(name, value);
    }
    let builder = Deployment::builder().server_env(&server);
    builder.workers(vec![worker]).start().await
}

#[track_caller]
fn only<'a>(spans: &'a [CollectedSpan], service: &str, name: &str) -> &'a CollectedSpan {
    let mut found = spans
        .iter()
        .filter(|span| span.service == service && span.name == name);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {name} of {service} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:#?}");
    first
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_through_the_queue_into_the_work() {
    let collector = Collector::start().await;
    let deployment = collected(&collector).await;
    let mut command_line = deployment.command_line();
    for (name, value) in collector.variables() {
        command_line = command_line.env(&name, value);
    }
    let finished = command_line
        .env("OTEL_SERVICE_NAME", "agent")
        .env("TRACEPARENT", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .env("TRACESTATE", "vendor=x")
        .run(&[
            "run",
            "--session",
            "traced",
            "--",
            "sh",
            "-c",
            "echo $TRACEPARENT $TRACESTATE; exit 3",
        ])
        .await
        .expect_code(3);
    let spans = collector
        .whole_trace(
            TRACE,
            &[
                CALL, "queue", "attempt", "start", "spawn", "process", "result",
            ],
        )
        .await;
    let spans = &eventually("both sides of the call", SOON, async || {
        let spans = collector.trace(TRACE);
        (spans.len() >= 8).then_some(spans)
    })
    .await
    .into_iter()
    .chain(spans)
    .map(|span| (span.id.clone(), span))
    .collect::<BTreeMap<_, _>>()
    .into_values()
    .collect::<Vec<_>>();

    // seen with --nocapture; docs/telemetry.md shows one
    println!("{}", tree(spans));

    let client = only(spans, "agent", CALL);
    assert_eq!(client.parent, "00f067aa0ba902b7");
    let server = only(spans, "taskyard-server", CALL);
    assert_eq!(server.parent, client.id);
    assert_eq!(server.attributes["rpc.response.status_code"], "OK");
    let queue = only(spans, "taskyard-server", "queue");
    assert_eq!(queue.parent, server.id);
    assert_eq!(queue.attributes["messaging.destination.name"], "default");
    let attempt = only(spans, "taskyard-worker", "attempt");
    assert_eq!(attempt.parent, queue.id);
    assert_eq!(
        attempt.attributes["taskyard.task.id"],
        queue.attributes["taskyard.task.id"]
    );
    assert_eq!(attempt.attributes["process.exit.code"], "3");
    let steps = ["start", "spawn", "result"].map(|name| only(spans, "taskyard-worker", name));
    for step in steps {
        assert_eq!(step.parent, attempt.id, "{step:?}");
        assert!(
            attempt.from <= step.from && step.to <= attempt.to,
            "{step:?}"
        );
    }
    let [start, spawn, result] = steps;
    let process = only(spans, "taskyard-worker", "process");
    assert_eq!(process.parent, spawn.id);
    assert_eq!(process.attributes["process.exit.code"], "3");
    assert_eq!(process.attributes["process.executable.name"], "sh");
    assert!(start.to <= spawn.from && spawn.from <= process.from && process.to <= result.to);
    // what the work was given is the span of its process
    let given = finished.text();
    assert_eq!(
        given.trim(),
        format!("00-{TRACE}-{}-01 vendor=x", process.id)
    );
    deployment.remove().await;
}

#[tokio::test]
async fn what_a_task_spawns_stays_in_its_trace_and_each_attempt_has_its_own_span() {
    let collector = Collector::start().await;
    let deployment = collected(&collector).await;
    let mut client = deployment.client().await;
    // nobody gave a trace, so the server begins one
    let script = "self spawn --wait --name child -- sh -c 'echo child' >/dev/null; exit 1";
    let task = taskyard_tests::inside::retried(agent(script), 2);
    let task = client.create(&new_session("family"), task).await;
    let task = client.ended(&task.id).await;
    assert_eq!(task.state(), TaskState::Failed);
    let of_task = |span: &&CollectedSpan| {
        span.attributes.get("taskyard.task.id") == Some(&task.id) && span.name == "attempt"
    };
    let attempts = eventually("the spans of both attempts", SOON, async || {
        let spans = collector.spans();
        let mut found: Vec<_> = spans.iter().filter(of_task).cloned().collect();
        found.sort_by_key(|span| span.from);
        (found.len() == 2).then_some(found)
    })
    .await;
    assert_eq!(attempts[0].trace, attempts[1].trace);
    assert_ne!(
        attempts[0].parent, attempts[1].parent,
        "a wait in the queue each"
    );
    let numbers: Vec<_> = attempts
        .iter()
        .map(|span| &span.attributes["taskyard.attempt"])
        .collect();
    assert_eq!(numbers, ["1", "2"]);
    // the children's calls hang below the process that made them
    let trace = &attempts[0].trace;
    until("the children in the same trace", SOON, async || {
        let spans = collector.trace(trace);
        let processes: Vec<_> = spans.iter().filter(|span| span.name == "process").collect();
        let calls = spans.iter().filter(|span| span.name == CALL);
        let below = calls.filter(|call| processes.iter().any(|process| process.id == call.parent));
        below.count() == 2 && processes.len() == 4
    })
    .await;
    deployment.remove().await;
}

#[tokio::test]
async fn the_metrics_count_what_was_done_on_the_page_and_by_otlp() {
    let collector = Collector::start().await;
    let deployment = collected(&collector).await;
    let server = deployment.with_server(0, AdminPage::of);
    let worker = deployment.with_worker(0, AdminPage::of);
    for page in [&server, &worker] {
        for path in ["/livez", "/startupz", "/readyz"] {
            assert_eq!(page.get(path).await, (200, "ok\n".to_owned()), "{path}");
        }
    }
    let mut client = deployment.client().await;
    let session = new_session("counted");
    client.run(&session, shell("printf 12345")).await;
    client.run(&session, command(&["true"])).await;
    client.run(&session, shell("exit 9")).await;
    let waiting = TaskDefinition {
        queue: "nobody".to_owned(),
        kind: "subagent".to_owned(),
        ..command(&["true"])
    };
    client.create(&session, waiting).await;

    let held = TaskDefinition {
        queue: "nobody".to_owned(),
        kind: "held".to_owned(),
        hold: true,
        ..command(&["true"])
    };
    client.create(&session, held).await;

    let labels = r#"{kind="subagent",queue="nobody""#;
    let tenant = r#"taskyard_namespace="default"}"#;
    let queued = format!(r#"taskyard_queue_tasks{labels},state="queued",{tenant}"#);
    let waiting = queued
        .replace("queued", "waiting")
        .replace("subagent", "held");
    let samples = eventually("the queue to be counted", SOON, async || {
        let samples = server.samples().await;
        let is_whole = samples.contains_key(&queued) && samples.contains_key(&waiting);
        is_whole.then_some(samples)
    })
    .await;
    let sample = |name: &str| {
        *samples
            .get(name)
            .unwrap_or_else(|| panic!("{name} in {samples:#?}"))
    };
    assert_eq!((sample(&queued), sample(&waiting)), (1.0, 1.0));
    let none = queued.replace("queued", "running");
    assert!(!samples.contains_key(&none), "what is 0 is left out");
    let oldest = format!(r#"taskyard_queue_oldest_task_age_seconds{labels},{tenant}"#);
    assert!((0.0..600.0).contains(&sample(&oldest)));
    assert_eq!(sample("taskyard_tasks_created_total"), 5.0);
    // what has not happened yet is 0, so that its first time is seen
    for unheard in [
        r#"taskyard_tasks_ended_total{error_kind="outcome_unknown",state="failed"}"#,
        r#"taskyard_reaper_actions_total{action="worker_session"}"#,
        r#"taskyard_object_store_failures_total{operation="write"}"#,
        "taskyard_audit_entries_lost_total",
    ] {
        assert_eq!(sample(unheard), 0.0);
    }
    assert_eq!(sample("taskyard_runs_started_total"), 3.0);
    assert_eq!(
        sample(r#"taskyard_tasks_ended_total{error_kind="",state="succeeded"}"#),
        2.0
    );
    assert_eq!(
        sample(r#"taskyard_tasks_ended_total{error_kind="exit",state="failed"}"#),
        1.0
    );
    assert_eq!(sample("taskyard_output_stored_bytes_total"), 5.0);
    assert_eq!(sample("taskyard_task_start_wait_seconds_count"), 3.0);
    assert_eq!(sample("taskyard_lease_start_seconds_count"), 3.0);
    assert!(sample("taskyard_commit_batch_changes_sum") >= 10.0);
    assert_eq!(sample("taskyard_database_up"), 1.0);
    assert_eq!(sample("taskyard_workers_attached"), 1.0);
    assert_eq!(sample(r#"taskyard_open_streams{stream="attach"}"#), 1.0);
    let calls = format!(
        r#"rpc_server_call_duration_seconds_count{{rpc_method="{CALL}",rpc_response_status_code="OK",rpc_system_name="grpc"}}"#
    );
    assert_eq!(sample(&calls), 5.0);
    until("the worker to have counted the same", SOON, async || {
        let samples = worker.samples().await;
        let is = |name: &str, value: f64| samples.get(name) == Some(&value);
        is(
            r#"taskyard_worker_attempts_over_total{outcome="finished"}"#,
            3.0,
        ) && is("taskyard_worker_launch_duration_seconds_count", 3.0)
            && is("taskyard_worker_output_sent_bytes_total", 5.0)
            && is("taskyard_worker_attached", 1.0)
            && is(r#"taskyard_worker_slots{state="free"}"#, 8.0)
    })
    .await;
    until("the same by OTLP", SOON, async || {
        let metrics = collector.metrics();
        let told = |name: &str, service: &str| metrics.get(name).is_some_and(|by| by == service);
        told("taskyard_tasks_ended_total", "taskyard-server")
            && told("rpc.server.call.duration", "taskyard-server")
            && told("taskyard_worker_launch_duration_seconds", "taskyard-worker")
    })
    .await;

    // a worker without a server is alive, and not ready
    deployment.with_server(0, |server| server.kill());
    until("the worker to miss its server", SOON, async || {
        worker.get("/readyz").await.0 == 503
    })
    .await;
    assert_eq!(worker.get("/livez").await.0, 200);
    deployment.remove().await;
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nothing_and_is_told_of_once() {
    // nobody listens on the discard port
    let away = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let soon = ("OTEL_BSP_SCHEDULE_DELAY", "50");
    let worker = WorkerPlan::new("w1").env(away.0, away.1);
    let builder = Deployment::builder().server_env(&[ADMIN, away, soon]);
    let deployment = builder.workers(vec![worker]).start().await;
    let page = deployment.with_server(0, AdminPage::of);
    let mut client = deployment.client().await;
    let session = new_session("unheard");
    let failed = r#"taskyard_telemetry_exports_total{outcome="failed",signal="traces"}"#;
    until("two batches that nobody took", SOON, async || {
        let task = client.run(&session, command(&["true"])).await;
        assert_eq!(task.state(), TaskState::Succeeded);
        page.samples()
            .await
            .get(failed)
            .is_some_and(|count| *count >= 2.0)
    })
    .await;
    let log = deployment.with_server(0, |server| server.log());
    assert_eq!(log.matches("does not take traces").count(), 1, "{log}");
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    until("the server to end", SOON, async || {
        deployment.with_server(0, |server| server.ended().is_some())
    })
    .await;
    deployment.remove().await;
}

#[tokio::test]
async fn a_server_whose_schema_is_not_right_is_alive_but_not_ready() {
    let builder = Deployment::builder()
        .server_env(&[ADMIN])
        .workers(Vec::new());
    let deployment = builder.start().await;
    let page = deployment.with_server(0, AdminPage::of);
    assert_eq!(page.get("/readyz").await.0, 200);
    let mut database = deployment.database().connect().await;
    let undone = "update _sqlx_migrations set success = false where version = (select max(version) from _sqlx_migrations)";
    sqlx::query(undone)
        .execute(&mut database)
        .await
        .expect("is undone");
    let (status, reason) = page.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("taskyard migrate"), "{reason}");
    assert_eq!(page.get("/livez").await.0, 200);
    deployment.remove().await;
}

#[tokio::test]
async fn what_a_server_logs_can_be_changed_while_it_runs() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    let asked = client.admin.get_log_filter(GetLogFilterRequest {}).await;
    let before = asked
        .expect("told")
        .into_inner()
        .log_filter
        .expect("a filter");
    assert_eq!(before.filter, before.at_start);
    let command_line = deployment.command_line();
    // the line of the change is there, though the new filter would hide it
    let set = ["log-filter", "--set", "warn", "--for", "10m"];
    let shown = command_line.run(&set).await.expect_code(0);
    assert!(
        shown.text().starts_with("warn  (at the start: "),
        "{}",
        shown.text()
    );
    let words = "the log filter was changed";
    until("the change in the log", SOON, async || {
        deployment.with_server(0, |server| server.log().contains(words))
    })
    .await;
    let bad = SetLogFilterRequest {
        filter: "a=b=c".to_owned(),
        lasting: None,
    };
    expect_bad_field(client.admin.set_log_filter(bad).await, "filter");
    let too_long = SetLogFilterRequest {
        filter: "debug".to_owned(),
        lasting: prost_types::Duration::try_from(Duration::from_secs(25 * 60 * 60)).ok(),
    };
    expect_bad_field(client.admin.set_log_filter(too_long).await, "lasting");
    let reset = command_line
        .run(&["log-filter", "--reset"])
        .await
        .expect_code(0);
    assert_eq!(reset.text().trim(), before.filter);
    deployment.remove().await;
}

#[tokio::test]
async fn logs_are_json_with_the_trace_where_that_is_asked_for() {
    let worker = WorkerPlan::new("w1").env("TASKYARD_LOG_FORMAT", "json");
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let finished = deployment
        .command_line()
        .env("TRACEPARENT", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .run(&["run", "--session", "logged", "--", "true"])
        .await;
    finished.expect_code(0);
    let line = eventually("the attempt in the log", SOON, async || {
        let log = deployment.with_worker(0, |worker| worker.log());
        let line = log
            .lines()
            .find(|line| line.contains("the task is running"));
        line.map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(line["span"]["trace.id"], TRACE, "{line}");
    assert_eq!(line["span"]["session.id"], "logged");
    let end = eventually("the end of the attempt in the log", SOON, async || {
        let log = deployment.with_worker(0, |worker| worker.log());
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("the attempt is finished"));
        line.map(str::to_owned)
    })
    .await;
    let end: serde_json::Value = serde_json::from_str(&end).expect("one JSON object");
    assert_eq!(end["span"]["trace.id"], TRACE, "{end}");
    assert_eq!(end["span"]["session.id"], "logged");
    assert!(
        line["task.id"]
            .as_str()
            .is_some_and(|id| id.starts_with("task_"))
    );
    deployment.remove().await;
}

#[tokio::test]
async fn the_page_has_every_metric_of_dashboard_and_alerts() {
    let builder = Deployment::builder()
        .server_env(&[ADMIN])
        .workers(Vec::new());
    let deployment = builder.start().await;
    let page = deployment.with_server(0, AdminPage::of);
    let (_, page) = page.get("/metrics").await;
    let known: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(known.len() > 30, "{page}");
    for file in ["dashboards/taskyard.json", "alerts/taskyard.rules.yaml"] {
        let path = format!("{}/../telemetry/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("is readable");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c: char| !is_part(c));
        let named = words.filter(|word| {
            (word.starts_with("taskyard_") || word.starts_with("rpc_server_"))
                // the second is a label
                && !["taskyard_", "taskyard_namespace"].contains(word)
        });
        let mut count = 0;
        for word in named {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending))
                .unwrap_or(word);
            assert!(
                known.contains(&word) || known.contains(&base),
                "{file}: {word}"
            );
            count += 1;
        }
        assert!(count > 10, "{file}: {count}");
    }
    deployment.remove().await;
}
