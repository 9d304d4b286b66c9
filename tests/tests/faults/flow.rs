//! Many tasks that print without a pause until the test ends them, and the proof that none of their bytes was lost.

use std::path::{Path, PathBuf};

use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    OutputPosition, OutputStream, ReadOutputRequest, RetryPolicy, SessionTask, TailOutputRequest,
    TaskState,
};
use taskyard_tests::client::{Client, probe};
use taskyard_tests::pattern;
use taskyard_tests::wait::{SOON, until};
use tokio::task::JoinHandle;

/// Flowing tasks; task `n` prints pattern `2 n` and `2 n + 1`, and exits with `n`.
pub struct Flow {
    /// Ids of the tasks.
    pub tasks: Vec<String>,
    session: String,
    valve: PathBuf,
}

impl Flow {
    /// Starts `count` tasks and waits until each of them prints. They write into `folder`.
    pub async fn start(
        client: &mut Client,
        session: &str,
        folder: &Path,
        count: usize,
        max_runs: i32,
    ) -> Flow {
        let valve = folder.join(format!("{session}.valve"));
        let mut tasks = Vec::with_capacity(count);
        for number in 0..count {
            let words = format!(
                "flow {} --seed {} --every 20 --exit {number}",
                valve.display(),
                2 * number
            );
            let mut task = probe(&words);
            task.retry = Some(RetryPolicy {
                max_runs,
                ..RetryPolicy::default()
            });
            tasks.push(client.create(session, task).await.id);
        }
        let flow = Flow {
            tasks,
            session: session.to_owned(),
            valve,
        };
        flow.advance(client).await;
        flow
    }

    /// Waits until more output of every task is stored than now.
    pub async fn advance(&self, client: &mut Client) {
        for task in &self.tasks {
            let before = stored(client, task).await;
            until("more output to be stored", SOON, async || {
                stored(client, task).await > before
            })
            .await;
        }
    }

    /// Lets all tasks end.
    pub fn end(&self) {
        std::fs::write(&self.valve, "").expect("the folder can be written");
    }

    /// Waits for all ends, each with its own exit code after one run, and compares every stored byte.
    pub async fn verify(&self, client: &mut Client) {
        for (number, id) in self.tasks.iter().enumerate() {
            let task = client.ended(id).await;
            assert_eq!(
                (task.attempt, task.run),
                (1, 1),
                "nothing was run twice: {task:?}"
            );
            let expected = if number == 0 {
                TaskState::Succeeded
            } else {
                TaskState::Failed
            };
            assert_eq!(task.state(), expected, "{task:?}");
            let code = task.exit.as_ref().and_then(|exit| exit.exit_code);
            assert_eq!(code, Some(number as i32), "{task:?}");
            let truth = std::fs::read_to_string(format!("{}.{}", self.valve.display(), 2 * number));
            let total: u64 = truth
                .expect("the task wrote its total")
                .parse()
                .expect("a number");
            self.compare(client, &task, number, total).await;
        }
    }

    /// Compares every stored byte with the pattern, whatever became of the task.
    pub async fn compare(
        &self,
        client: &mut Client,
        task: &SessionTask,
        number: usize,
        total: u64,
    ) {
        for (index, stream) in [OutputStream::Stdout, OutputStream::Stderr]
            .into_iter()
            .enumerate()
        {
            let bytes = read_all(client, task, stream).await;
            assert_eq!(bytes.len() as u64, total, "{stream:?} of task {number}");
            let seed = (2 * number + index) as u64;
            assert!(
                pattern::matches(seed, 0, &bytes),
                "{stream:?} of task {number} is changed"
            );
        }
    }

    /// Follows the stdout of one task from its begin to its end, over as many streams as it takes.
    pub fn follow(&self, endpoint: &str, number: usize) -> JoinHandle<u64> {
        tokio::spawn(follow(
            endpoint.to_owned(),
            self.session.clone(),
            self.tasks[number].clone(),
            2 * number as u64,
        ))
    }
}

/// All stored bytes of one stream of the newest run, from the first on.
pub async fn read_all(client: &mut Client, task: &SessionTask, stream: OutputStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let request = ReadOutputRequest {
            task: task.id.clone(),
            run: task.run,
            stream: stream.into(),
            offset: bytes.len() as i64,
            max_bytes: 1 << 20,
            ..ReadOutputRequest::default()
        };
        let part = client
            .tasks
            .read_output(request)
            .await
            .expect("output can be read")
            .into_inner();
        if part.data.is_empty() {
            return bytes;
        }
        assert_eq!(part.offset, bytes.len() as i64, "there is no gap");
        bytes.extend_from_slice(&part.data);
    }
}

/// Bytes of stdout that the server knows of.
async fn stored(client: &mut Client, task: &str) -> i64 {
    let request = ReadOutputRequest {
        task: task.to_owned(),
        stream: OutputStream::Stdout.into(),
        tail: true,
        max_bytes: 1,
        ..ReadOutputRequest::default()
    };
    match client.tasks.read_output(request).await {
        Ok(answer) => answer.into_inner().next_offset,
        Err(_) => 0,
    }
}

/// Each byte must be the pattern's and must come once; answers with their number.
async fn follow(endpoint: String, session: String, task: String, seed: u64) -> u64 {
    let mut next = 0;
    loop {
        let Ok(mut client) = Client::try_connect(&endpoint).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let request = TailOutputRequest {
            session_id: session.clone(),
            task: task.clone(),
            run: 1,
            positions: vec![OutputPosition {
                stream: OutputStream::Stdout.into(),
                offset: next as i64,
            }],
            follow: true,
            ..TailOutputRequest::default()
        };
        let Ok(answer) = client.tasks.tail_output(request).await else {
            continue;
        };
        let mut stream = answer.into_inner();
        while let Ok(Some(response)) = stream.message().await {
            match response.item {
                Some(Item::Chunk(chunk)) if chunk.stream() == OutputStream::Stdout => {
                    assert_eq!(chunk.offset, next as i64, "the tail goes on where it was");
                    assert!(
                        pattern::matches(seed, next, &chunk.data),
                        "the tail is the pattern"
                    );
                    next += chunk.data.len() as u64;
                }
                Some(Item::Gap(gap)) => panic!("the tail has a gap: {gap:?}"),
                Some(Item::End(_)) => return next,
                Some(Item::Chunk(_) | Item::RunStarted(_) | Item::Keepalive(_)) | None => {}
            }
        }
    }
}
