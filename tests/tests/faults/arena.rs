//! A worker of its own for one hostile child, and what must hold of it, its heartbeats and its neighbours meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use taskyard_proto::v1::{
    CancelTaskRequest, ListWorkersRequest, ReadOutputRequest, SessionTask, TaskDefinition,
    TaskState,
};
use taskyard_tests::client::{Client, moment, new_session, probe, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::process::{
    descendants, family, is_stopped, parent, peak_memory, with_variable,
};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::sync::OnceCell;

/// Most memory of a worker and of a shim, in a build without optimisation.
const WORKER_MEMORY: u64 = 150 << 20;
const SHIM_MEMORY: u64 = 32 << 20;
/// From a cancel to the end where the child does not heed it, beyond its grace; on a machine that is busy with other tests.
const CANCEL_LIMIT: Duration = Duration::from_secs(9);

/// A worker on the control plane that all these tests share, with a queue that only it serves.
pub struct Arena {
    pub client: Client,
    pub session: String,
    deployment: &'static Deployment,
    worker: usize,
    queue: String,
    shim_peak: u64,
}

impl Arena {
    /// With 8 slots.
    pub async fn open() -> Arena {
        Arena::open_as(|plan| plan).await
    }

    /// With what `change` makes of the usual worker; its wrapper may name `{data}`, the worker's own directory.
    pub async fn open_as(change: impl FnOnce(WorkerPlan) -> WorkerPlan) -> Arena {
        static SHARED: OnceCell<Deployment> = OnceCell::const_new();
        let deployment = SHARED
            .get_or_init(|| Deployment::builder().workers(Vec::new()).start())
            .await;
        let queue = new_session("arena");
        let data = deployment.folder().join(&queue).display().to_string();
        let mut plan = change(WorkerPlan::new(&queue).flags(&["--slots=8", "--queues", &queue]));
        for word in &mut plan.wrapper {
            *word = word.replace("{data}", &data);
        }
        let worker = deployment.add_worker(0, plan).await;
        Arena {
            client: deployment.client().await,
            session: queue.clone(),
            deployment,
            worker,
            queue,
            shim_peak: 0,
        }
    }

    /// A file of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.deployment
            .folder()
            .join(format!("{}.{name}", self.queue))
    }

    /// The process id of the worker.
    pub fn worker(&self) -> u32 {
        self.deployment
            .with_worker(self.worker, |worker| worker.pid())
    }

    /// Whether the worker has ended.
    pub fn worker_has_ended(&self) -> bool {
        let ended = |worker: &taskyard_tests::process::Process| worker.ended().is_some();
        self.deployment.with_worker(self.worker, ended)
    }

    /// Kills the worker.
    pub fn kill_worker(&self) {
        self.deployment
            .with_worker(self.worker, taskyard_tests::process::Process::kill);
    }

    /// Kills the worker and starts it again.
    pub async fn restart_worker(&mut self) {
        self.kill_worker();
        self.deployment.restart_worker(self.worker).await;
    }

    /// What the worker has logged.
    pub fn log(&self) -> String {
        self.deployment
            .with_worker(self.worker, |worker| worker.log())
    }

    /// Creates a task that this worker will run.
    pub async fn create(&mut self, task: TaskDefinition) -> String {
        let task = TaskDefinition {
            queue: self.queue.clone(),
            ..task
        };
        self.client.create(&self.session, task).await.id
    }

    /// Creates one that runs the probe.
    pub async fn start(&mut self, words: &str) -> String {
        self.create(probe(words)).await
    }

    /// Starts the probe and waits until it says that it is ready.
    pub async fn ready(&mut self, words: &str) -> String {
        let id = self.start(words).await;
        self.said(&id, "ready\n").await;
        id
    }

    /// Waits until a process below the worker is frozen, which is a shim if the work does not stop itself.
    pub async fn frozen(&self) -> u32 {
        let worker = self.worker();
        eventually("the shim to be frozen", SOON, async || {
            descendants(worker).into_iter().find(|pid| is_stopped(*pid))
        })
        .await
    }

    /// Waits until standard output begins with `start`.
    pub async fn said(&mut self, id: &str, start: &str) {
        until(&format!("{start:?}"), SOON, async || {
            self.stdout(id, i32::try_from(start.len()).unwrap_or(i32::MAX))
                .await
                == start.as_bytes()
        })
        .await;
    }

    /// The first bytes of standard output.
    pub async fn stdout(&mut self, id: &str, length: i32) -> Vec<u8> {
        let request = ReadOutputRequest {
            task: id.to_owned(),
            stream: 1,
            max_bytes: length,
            ..ReadOutputRequest::default()
        };
        let answer = self.client.tasks.read_output(request).await;
        answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().data.to_vec())
    }

    /// While `id` runs: heartbeats go on, and the worker takes, runs and ends another task.
    pub async fn expect_lively(&mut self, id: &str) {
        let before = self.client.get(id).await;
        assert_eq!(before.state(), TaskState::Running, "{before:?}");
        let neighbour = self.create(shell("echo there")).await;
        let neighbour = self.client.ended(&neighbour).await;
        assert_eq!(neighbour.state(), TaskState::Succeeded, "{neighbour:?}");
        assert_eq!(neighbour.attempt, 1, "{neighbour:?}");
        self.measure();
        self.expect_heartbeats(id).await;
    }

    /// While `id` runs: heartbeats go on.
    pub async fn expect_heartbeats(&mut self, id: &str) {
        let before = self.client.get(id).await;
        let beat = moment(before.heartbeat_at);
        let after = self
            .client
            .reached(id, |task| {
                task.state() != TaskState::Running || moment(task.heartbeat_at) > beat
            })
            .await;
        assert_eq!(
            (after.state(), after.attempt),
            (TaskState::Running, 1),
            "{after:?}"
        );
    }

    /// Cancels it with a grace of 300 ms and holds the end to its time.
    pub async fn cancel(&mut self, id: &str) -> SessionTask {
        self.measure();
        let request = CancelTaskRequest {
            task: id.to_owned(),
            grace: Some(taskyard_tests::client::milliseconds(300)),
            ..CancelTaskRequest::default()
        };
        let asked_at = Instant::now();
        self.client.tasks.cancel_task(request).await.expect("told");
        let task = self.client.ended(id).await;
        let took = asked_at.elapsed();
        eprintln!("from the cancel to the end: {took:?}");
        assert!(took < CANCEL_LIMIT, "{took:?}");
        assert_eq!(task.state(), TaskState::Canceled, "{task:?}");
        task
    }

    /// Cancels one whose shim is frozen, which takes as long as the worker waits for a shim's word.
    pub async fn cancel_frozen(&mut self, id: &str) {
        let request = CancelTaskRequest {
            task: id.to_owned(),
            grace: Some(taskyard_tests::client::milliseconds(300)),
            ..CancelTaskRequest::default()
        };
        self.client.tasks.cancel_task(request).await.expect("told");
        let task = self.client.ended(id).await;
        assert_eq!(task.state(), TaskState::Canceled, "{task:?}");
    }

    /// What it printed first.
    pub async fn first_line(&mut self, id: &str) -> String {
        eventually("a first line", SOON, async || {
            let said = String::from_utf8_lossy(&self.stdout(id, 1_000).await).into_owned();
            said.split_once('\n').map(|(line, _)| line.to_owned())
        })
        .await
    }

    /// Whether the worker can give the level `restricted`.
    pub async fn can_restrict(&mut self) -> bool {
        let request = ListWorkersRequest {
            page_size: 500,
            ..ListWorkersRequest::default()
        };
        let listed = self.client.admin.list_workers(request).await;
        let workers = listed.expect("listed").into_inner().workers;
        workers.iter().any(|worker| {
            worker.name == self.queue && worker.labels.contains_key("taskyard.dev/isolation")
        })
    }

    /// Waits for the end, and notes how much memory the shims have had until then.
    pub async fn ended(&mut self, id: &str) -> SessionTask {
        eventually("the end", SOON * 2, async || {
            self.measure();
            let task = self.client.get(id).await;
            (task.state() != TaskState::Running && task.state() != TaskState::Queued)
                .then_some(task)
        })
        .await
    }

    /// Nothing is left of a task: no process of it anywhere, and below the worker neither a process nor a zombie.
    pub async fn expect_nothing_left(&self, id: &str) {
        let mark = format!("TASKYARD_TASK_ID={id}");
        until("every process of the task to be gone", SOON, async || {
            with_variable(&mark).is_empty()
        })
        .await;
        let worker = self.worker();
        until("the worker to have no children", SOON, async || {
            family(worker).is_empty()
        })
        .await;
    }

    /// Worker and shims have had little memory.
    pub fn expect_frugal(&self) {
        let worker = peak_memory(self.worker());
        eprintln!(
            "at most {} MiB in the worker, {} MiB in a shim",
            worker >> 20,
            self.shim_peak >> 20
        );
        assert!(worker > 0 && worker < WORKER_MEMORY, "{worker}");
        assert!(self.shim_peak < SHIM_MEMORY, "{}", self.shim_peak);
    }

    fn measure(&mut self) {
        let worker = self.worker();
        let shims = family(worker)
            .into_iter()
            .filter(|pid| parent(*pid) == Some(worker));
        let peak = shims.map(peak_memory).max().unwrap_or(0);
        self.shim_peak = self.shim_peak.max(peak);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the worker\n{}", self.log());
        }
        self.deployment
            .with_worker(self.worker, taskyard_tests::process::Process::kill);
    }
}
