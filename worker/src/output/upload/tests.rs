use super::*;
use crate::output::spool::{SpoolLayout, SpoolWriter};

/// Stores at once what it is given and answers each frame; a connection breaks after a number of frames.
struct MemorySink {
    events: VecDeque<SinkEvent>,
    frames_until_break: usize,
    /// Nothing arrives until the next connection was told.
    is_broken: bool,
    stored: [Vec<(u64, Bytes)>; 2],
    durable: [u64; 2],
    orders: Vec<u64>,
}

impl MemorySink {
    fn new() -> MemorySink {
        MemorySink {
            events: VecDeque::from([SinkEvent::Connected]),
            frames_until_break: usize::MAX,
            is_broken: false,
            stored: Default::default(),
            durable: [0, 0],
            orders: Vec::new(),
        }
    }
}

impl OutputSink for MemorySink {
    async fn event(&mut self) -> SinkEvent {
        match self.events.pop_front() {
            Some(event) => {
                self.is_broken &= event != SinkEvent::Connected;
                event
            }
            None => std::future::pending().await,
        }
    }

    async fn push(&mut self, frame: OutputFrame) {
        if self.is_broken {
            return;
        }
        if self.frames_until_break == 0 {
            self.frames_until_break = usize::MAX;
            self.is_broken = true;
            self.events
                .extend([SinkEvent::Disconnected, SinkEvent::Connected]);
            return;
        }
        self.frames_until_break -= 1;
        for chunk in frame.chunks {
            self.orders.push(chunk.order);
            assert!(
                chunk.offset >= self.durable[chunk.stream],
                "nothing durable is sent again"
            );
            self.durable[chunk.stream] = chunk.offset + chunk.data.len() as u64;
            self.stored[chunk.stream].push((chunk.offset, chunk.data));
        }
        let durable = self.durable.map(Some);
        self.events
            .push_back(SinkEvent::Positions(Positions { durable }));
    }
}

struct Spools {
    _directory: tempfile::TempDir,
    plan: UploadPlan,
    writers: [SpoolWriter; 2],
}

fn spools(layout: SpoolLayout) -> Spools {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spools = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let writers =
        [0, 1].map(|stream| SpoolWriter::create(&spools[stream], layout).expect("a spool"));
    Spools {
        _directory: directory,
        plan: UploadPlan {
            spools,
            resumed: false,
        },
        writers,
    }
}

async fn upload_all(spools: &Spools, sink: &mut MemorySink) -> UploadEnd {
    let bytes = [spools.writers[0].total(), spools.writers[1].total()];
    let (_sender, totals) = watch::channel(Totals { bytes, ended: true });
    let window = Arc::new(Semaphore::new(WORKER_WINDOW_BYTES));
    upload(spools.plan.clone(), totals, sink, window).await
}

#[tokio::test]
async fn head_and_tail_arrive_and_the_middle_is_jumped_over() {
    let mut spools = spools(SpoolLayout {
        head_cap: 10,
        tail_cap: 6,
    });
    spools.writers[0].append(b"0123456789abcdefghijklmnopqrstuvwxyz");
    spools.writers[1].append(b"short");
    let mut sink = MemorySink::new();
    assert_eq!(upload_all(&spools, &mut sink).await, UploadEnd::Durable);
    let text: Vec<(u64, &[u8])> = sink.stored[0]
        .iter()
        .map(|(at, data)| (*at, &data[..]))
        .collect();
    let tail: Vec<u8> = text[1..]
        .iter()
        .flat_map(|(_, data)| data.iter().copied())
        .collect();
    assert_eq!(
        (text[0], text[1].0, &tail[..]),
        ((0, &b"0123456789"[..]), 30, &b"uvwxyz"[..])
    );
    assert_eq!(sink.stored[1], [(0, Bytes::from_static(b"short"))]);
    assert!(
        sink.orders.windows(2).all(|pair| pair[0] < pair[1]),
        "{:?}",
        sink.orders
    );
}

#[tokio::test]
async fn after_a_break_it_goes_on_at_the_durable_end() {
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let mut spools = spools(SpoolLayout {
        head_cap: 4_000_000,
        tail_cap: 1_000,
    });
    spools.writers[0].append(&content);
    let mut sink = MemorySink::new();
    sink.frames_until_break = 4;
    assert_eq!(upload_all(&spools, &mut sink).await, UploadEnd::Durable);
    let stored: Vec<u8> = sink.stored[0]
        .iter()
        .flat_map(|(_, data)| data.iter().copied())
        .collect();
    assert!(stored == content, "every byte once");
}

#[tokio::test]
async fn a_spool_that_cannot_be_read_makes_its_stream_incomplete() {
    let mut spools = spools(SpoolLayout {
        head_cap: 100,
        tail_cap: 100,
    });
    spools.writers[0].append(b"lost");
    spools.writers[1].append(b"kept");
    std::fs::remove_file(&spools.plan.spools[0]).expect("removed");
    let mut sink = MemorySink::new();
    let end = upload_all(&spools, &mut sink).await;
    assert!(
        matches!(
            end,
            UploadEnd::Incomplete {
                streams: [true, false],
                ..
            }
        ),
        "{end:?}"
    );
    assert_eq!(sink.stored[1], [(0, Bytes::from_static(b"kept"))]);
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_kept_is_complete() {
    let mut spools = spools(SpoolLayout {
        head_cap: 0,
        tail_cap: 0,
    });
    spools.writers[0].append(b"counted only");
    let mut sink = MemorySink::new();
    assert_eq!(upload_all(&spools, &mut sink).await, UploadEnd::Durable);
    assert!(sink.stored[0].is_empty());
}
