//! A small control plane on a real socket, whose answers a test decides, and a worker attached to it.

#![expect(dead_code, reason = "each test binary uses a part of it")]

mod agent;
mod plane;
mod service;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use taskyard_proto::v1;
use taskyard_worker::isolation::IsolationConfig;
use taskyard_worker::{WorkerConfig, WorkerError};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use plane::ControlPlane;

/// Shim and worker in one program.
pub const TESTBED: &str = env!("CARGO_BIN_EXE_taskyard-worker-testbed");
/// Every wait in these tests ends, at the latest after this; far more than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const LEASE: Duration = Duration::from_secs(30);

/// A worker that runs inside the test.
pub struct RunningWorker {
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl RunningWorker {
    pub fn start(config: WorkerConfig) -> RunningWorker {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(taskyard_worker::run(config, shutdown.clone()));
        RunningWorker { shutdown, task }
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the worker ends");
        ended
            .expect("the worker does not panic")
            .expect("the worker ends well");
    }

    /// As if it crashed: nothing is told to anybody.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A control plane, a data directory, and a worker on both.
pub struct World {
    pub plane: ControlPlane,
    pub data: TempDir,
}

impl World {
    pub async fn new() -> World {
        let plane = ControlPlane::start().await;
        World {
            plane,
            data: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn config(&self) -> WorkerConfig {
        config(&self.plane.endpoint(), self.data.path())
    }

    pub fn start_worker(&self) -> RunningWorker {
        RunningWorker::start(self.config())
    }

    /// True when neither the ledger nor the directories of tasks and sockets hold anything.
    pub fn is_clean(&self) -> bool {
        ["ledger", "tasks", "sockets"].iter().all(|name| {
            let mut entries =
                std::fs::read_dir(self.data.path().join(name)).expect("the directory is there");
            entries.next().is_none()
        })
    }
}

pub fn config(endpoint: &str, data: &Path) -> WorkerConfig {
    WorkerConfig {
        endpoint: endpoint.to_owned(),
        access: taskyard_worker::access::AccessSettings::default(),
        pool: None,
        name: "tester".to_owned(),
        slots: 4,
        queues: Vec::new(),
        kinds: Vec::new(),
        labels: BTreeMap::new(),
        secret_env: Vec::new(),
        secret_dirs: Vec::new(),
        inherit_env: None,
        data_dir: data.to_owned(),
        shim_program: TESTBED.into(),
        drain: Duration::ZERO,
        keep_results: taskyard_worker::DEFAULT_KEEP_RESULTS,
        isolation: IsolationConfig::default(),
    }
}

/// An offer of a shell script.
pub fn script(number: u8, text: &str) -> v1::Offer {
    command(number, &["sh", "-c", text])
}

pub fn command(number: u8, argv: &[&str]) -> v1::Offer {
    let command = v1::CommandSpec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        ..Default::default()
    };
    offer(
        number,
        v1::TaskSpec {
            command: Some(command),
            ..Default::default()
        },
    )
}

pub fn offer(number: u8, spec: v1::TaskSpec) -> v1::Offer {
    v1::Offer {
        lease: Some(lease(number, 1)),
        session_id: "demo".to_owned(),
        namespace: "default".to_owned(),
        lease_duration: Some(to_wire(LEASE)),
        attempt: 1,
        run: 1,
        spec: Some(spec),
        executor: "command".to_owned(),
        timeout: None,
        kind: "command".to_owned(),
        ordinal: i64::from(number),
        has_secrets: false,
        traceparent: String::new(),
        tracestate: String::new(),
    }
}

/// The lease of the task with this number.
pub fn lease(number: u8, epoch: i64) -> v1::Lease {
    let mut lease_id = vec![number; 16];
    lease_id[0] = u8::try_from(epoch).expect("a small epoch");
    v1::Lease {
        task_id: format!("task_{number:032x}"),
        epoch,
        lease_id: lease_id.into(),
    }
}

pub fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).expect("a duration of this time")
}

/// The spec inside an offer, to be changed by a test.
pub fn command_of(offer: &mut v1::Offer) -> &mut v1::CommandSpec {
    let spec = offer.spec.as_mut().expect("the offer has a spec");
    spec.command.as_mut().expect("the spec has a command")
}

/// Waits until no process carries this task's id in its environment.
pub async fn wait_until_gone(task_id: &str) {
    let marker = format!("TASKYARD_TASK_ID={task_id}");
    let gone = async {
        while is_anyone_marked(&marker) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("no process of the task is left");
}

fn is_anyone_marked(marker: &str) -> bool {
    let processes = std::fs::read_dir("/proc")
        .expect("there is a /proc")
        .flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .any(|environ| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == marker.as_bytes())
        })
}
