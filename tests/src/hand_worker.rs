//! A worker that does just what a test says, message by message.

use std::collections::VecDeque;

use crate::client::Client;
use crate::wait::{SOON, within};
use taskyard_proto::v1::attach_request::Message as Up;
use taskyard_proto::v1::attach_response::Message as Down;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    AttachRequest, AttachResponse, FinishReport, Heartbeat, HeartbeatAck, Hello, Lease, Offer,
    OutputChunk, OutputStream, Pong, PushOutputRequest, PushOutputResponse, ReportItem,
    ReportRequest, Slots, StartReport, StreamReport, Verdict, Welcome, WriteFileRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// An attached worker.
pub struct HandWorker {
    client: Client,
    up: mpsc::Sender<AttachRequest>,
    down: Streaming<AttachResponse>,
    /// Offers that came while something else was waited for.
    offers: VecDeque<Offer>,
    beats: i64,
    offers_received: i64,
}

/// What a new worker would say of itself.
pub fn hello(name: &str, free_slots: i32) -> Hello {
    Hello {
        name: name.to_owned(),
        instance_id: random_id(),
        state_id: random_id(),
        protocol_min: 1,
        protocol_max: 1,
        slots: free_slots.max(1),
        free_slots,
        ..Hello::default()
    }
}

/// A random id of 16 bytes.
pub fn random_id() -> bytes::Bytes {
    uuid::Uuid::new_v4().into_bytes().to_vec().into()
}

impl HandWorker {
    /// Attaches and waits for the welcome.
    pub async fn attach(client: &Client, hello: Hello) -> HandWorker {
        HandWorker::attach_welcomed(client, hello).await.0
    }

    /// Attaches; answers with the welcome, too.
    pub async fn attach_welcomed(client: &Client, hello: Hello) -> (HandWorker, Welcome) {
        let (up, requests) = mpsc::channel(64);
        let first = AttachRequest {
            message: Some(Up::Hello(hello)),
        };
        up.send(first).await.expect("there is room for a hello");
        let mut client = client.clone();
        let answer = client.worker.attach(ReceiverStream::new(requests));
        let down = within("the stream to open", SOON, answer).await;
        let mut worker = HandWorker {
            down: down.expect("a good hello is accepted").into_inner(),
            client,
            up,
            offers: VecDeque::new(),
            beats: 0,
            offers_received: 0,
        };
        match worker.next().await {
            Down::Welcome(welcome) => (worker, welcome),
            other => panic!("the first message is no welcome: {other:?}"),
        }
    }

    /// The next offer.
    pub async fn offer(&mut self) -> Offer {
        loop {
            if let Some(offer) = self.offers.pop_front() {
                return offer;
            }
            let message = self.next().await;
            self.keep(message);
        }
    }

    /// Says how many offers it can take beyond those that it has received.
    pub async fn set_free(&mut self, free: i32) {
        let offers_received = Some(self.offers_received);
        self.send(Up::Slots(Slots {
            free,
            offers_received,
        }))
        .await;
    }

    /// One heartbeat with these leases, all of them named or only counted.
    pub async fn beat(&mut self, held: &[Lease], is_complete: bool) -> HeartbeatAck {
        let number = self.send_beat(held, is_complete).await;
        loop {
            match self.next().await {
                Down::HeartbeatAck(ack) if ack.number == number => return ack,
                other => self.keep(other),
            }
        }
    }

    /// Waits for a cancel of a lease.
    pub async fn cancel(&mut self) -> Lease {
        loop {
            match self.next().await {
                Down::Cancel(cancel) => return cancel.lease.unwrap_or_default(),
                other => self.keep(other),
            }
        }
    }

    /// Reports one item on a lease.
    pub async fn report(&mut self, lease: &Lease, item_no: i64, report: Report) -> Verdict {
        self.report_all(vec![item(lease, item_no, report)]).await[0]
    }

    /// Reports items together.
    pub async fn report_all(&mut self, items: Vec<ReportItem>) -> Vec<Verdict> {
        report_all(&mut self.client, items).await
    }

    /// Reports the start of an offer, which must be granted.
    pub async fn start(&mut self, offer: &Offer) -> Lease {
        let lease = lease_of(offer);
        let verdict = self.report(&lease, 1, Report::Start(StartReport {})).await;
        assert_eq!(verdict, Verdict::Applied, "the start of {offer:?}");
        lease
    }

    async fn send_beat(&mut self, held: &[Lease], is_complete: bool) -> i64 {
        self.beats += 1;
        let mut digest = [0; 16];
        for lease in held {
            for (sum, byte) in digest.iter_mut().zip(&lease.lease_id) {
                *sum ^= byte;
            }
        }
        self.send(Up::Heartbeat(Heartbeat {
            number: self.beats,
            held_count: i32::try_from(held.len()).unwrap_or(i32::MAX),
            held_digest: digest.to_vec().into(),
            held: if is_complete {
                held.to_vec()
            } else {
                Vec::new()
            },
            held_is_complete: is_complete,
        }))
        .await;
        self.beats
    }

    async fn send(&mut self, message: Up) {
        let request = AttachRequest {
            message: Some(message),
        };
        self.up.send(request).await.expect("the stream is open");
    }

    /// The next message; pings are answered.
    async fn next(&mut self) -> Down {
        loop {
            let message = within("a message of the server", SOON, self.down.message()).await;
            let message = message
                .expect("the stream holds")
                .expect("the stream goes on");
            match message.message.expect("a message is something") {
                Down::Ping(ping) => {
                    let number = ping.number;
                    self.send(Up::Pong(Pong { number })).await;
                }
                Down::Offer(offer) => {
                    self.offers_received += 1;
                    return Down::Offer(offer);
                }
                other => return other,
            }
        }
    }

    fn keep(&mut self, message: Down) {
        if let Down::Offer(offer) = message {
            self.offers.push_back(offer);
        }
    }
}

/// The lease of an offer.
pub fn lease_of(offer: &Offer) -> Lease {
    offer.lease.clone().expect("an offer names its lease")
}

/// One item of a report.
pub fn item(lease: &Lease, item_no: i64, report: Report) -> ReportItem {
    ReportItem {
        lease: Some(lease.clone()),
        item_no,
        report: Some(report),
    }
}

/// A finish of a process that exited with `code` after writing `total` bytes to stdout, all of them kept.
pub fn exited(code: i32, total: i64) -> Report {
    let stdout = StreamReport {
        total_bytes: total,
        ..StreamReport::default()
    };
    let exit = taskyard_proto::v1::Exit {
        exit_code: Some(code),
        ..taskyard_proto::v1::Exit::default()
    };
    Report::Finish(FinishReport {
        exit: Some(exit),
        stdout: Some(stdout),
        stderr: Some(StreamReport::default()),
        ..FinishReport::default()
    })
}

/// Reports items; the verdicts in their order.
pub async fn report_all(client: &mut Client, items: Vec<ReportItem>) -> Vec<Verdict> {
    let answer = client.worker.report(ReportRequest { items }).await;
    let verdicts = answer
        .expect("reports are judged, not refused")
        .into_inner()
        .verdicts;
    verdicts.iter().map(|verdict| verdict.verdict()).collect()
}

/// Pushes one chunk of stdout.
pub async fn push(
    client: &mut Client,
    lease: &Lease,
    run: i32,
    offset: i64,
    data: &[u8],
) -> PushOutputResponse {
    let now = std::time::SystemTime::now();
    let chunk = OutputChunk {
        stream: OutputStream::Stdout.into(),
        offset,
        data: data.to_vec().into(),
        at: Some(now.into()),
        order: offset,
    };
    push_chunks(client, lease, run, vec![chunk]).await
}

/// Pushes chunks, of which the first and the last 1 MiB of each stream are kept.
pub async fn push_chunks(
    client: &mut Client,
    lease: &Lease,
    run: i32,
    chunks: Vec<OutputChunk>,
) -> PushOutputResponse {
    let request = PushOutputRequest {
        lease: Some(lease.clone()),
        run,
        chunks,
        head_bytes: 1 << 20,
        tail_bytes: 1 << 20,
        totals: Vec::new(),
    };
    let answer = client
        .worker
        .push_output(tokio_stream::iter([request]))
        .await;
    let mut answers = answer.expect("the stream opens").into_inner();
    let answer = within("an answer to the push", SOON, answers.message()).await;
    answer
        .expect("pushes are judged")
        .expect("each push has an answer")
}

/// Writes an artifact under a lease.
pub async fn write_artifact(client: &mut Client, lease: &Lease) -> Result<(), Status> {
    write_file(client, lease, "artifacts/late.txt").await
}

/// Writes a file under a lease.
pub async fn write_file(client: &mut Client, lease: &Lease, name: &str) -> Result<(), Status> {
    let request = WriteFileRequest {
        lease: Some(lease.clone()),
        name: name.to_owned(),
        data: b"late"[..].into(),
    };
    client
        .worker
        .write_file(tokio_stream::iter([request]))
        .await?;
    Ok(())
}
