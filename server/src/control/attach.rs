//! A worker attaches: who it is, and what became of the leases of its earlier boots.

use super::{definition, lease_ref::LeaseRef, reattach::Survivors, refusal::Refusal};
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    dispatch::{AttachedWorker, Downlink, Needs},
    identity::Identity,
    store::{
        claim::{self, HeldLease},
        workers::{self, WorkerBoot, WorkerEnd},
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use taskyard_core::{
    id::{LeaseId, TaskId},
    task::{Event, Loss},
};
use taskyard_proto::v1::{HeldStatus, Hello, Welcome};
use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;
use uuid::Uuid;

pub use crate::store::workers::Attachment;

/// The protocol that this server speaks.
pub const PROTOCOL: i32 = 1;
/// Heartbeats in the shortest lease. Between two of them a lease ages without a renewal, so their distance is taken from
/// the time for which the database may be away; each costs one row.
const HEARTBEATS_PER_LEASE: u32 = 12;
/// The label by which a worker says of which pool it is.
const POOL_LABEL: &str = "taskyard.dev/pool";
const MAX_SLOTS: i32 = 10_000;
/// Workers that attach at once, each with a connection of its own, and the longest wait of one for others: after a restart
/// all of them come.
static ATTACHING: Semaphore = Semaphore::const_new(4);
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_WORDS: usize = 100;

/// A worker that was let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its stream.
    pub stream: Attachment,
    /// What to answer first.
    pub welcome: Welcome,
    /// What to register once the welcome is on its way.
    pub worker: AttachedWorker,
}

/// Lets a worker in: settles what it says of the leases of its earlier boots, ends those boots, and registers its
/// stream as the one that is served.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::ProtocolMismatch`], [`Refusal::PoolDenied`], [`Refusal::BootDenied`], or what the
/// store says.
pub async fn attach(
    app: &App,
    identity: &Identity,
    hello: Hello,
    downlink: Downlink,
) -> Result<Admitted, Refusal> {
    if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL) {
        return Err(Refusal::ProtocolMismatch {
            ours: PROTOCOL,
            min: hello.protocol_min,
            max: hello.protocol_max,
        });
    }
    let mut boot = read_boot(&hello)?;
    check_pool(identity, &hello)?;
    boot.holder = identity.holder();
    let held = read_held(&hello)?;
    let survivors = Survivors::of(&hello)?;
    let _place = timeout(PATIENCE, ATTACHING.acquire())
        .await
        .map_err(|_| Refusal::Overloaded {
            what: "workers that attach",
        })?;
    let mut connection = app.store.open().await?;
    // looked up before the boot is noted: else whoever is refused here would hold the state directory from then on
    if workers::is_state_of_another(&mut connection, &boot).await? {
        return Err(Refusal::BootDenied);
    }
    let stream = workers::attach(&mut connection, &boot)
        .await?
        .ok_or(Refusal::BootDenied)?;
    let earlier = workers::list_earlier_boots(&mut connection, &boot).await?;
    if !earlier.is_empty() {
        let leases = claim::list_leases(&mut connection, &earlier).await?;
        let leases = survivors.take_over(app, stream, &boot.name, leases).await?;
        settle(app, stream, &leases, &held).await?;
        workers::end_workers(&mut connection, &earlier, WorkerEnd::Gone).await?;
    }
    let resumed = survivors.resumed(app, stream).await?;
    let lease = app.lease.retryable.min(app.lease.other);
    let needs = Needs {
        queues: boot.queues,
        kinds: boot.kinds,
        executors: boot.executors,
        labels: hello.labels.clone(),
    };
    Ok(Admitted {
        stream,
        welcome: Welcome {
            worker_session_id: stream.worker.0.to_string(),
            attach_no: stream.attach_no,
            protocol: PROTOCOL,
            heartbeat_interval: prost_types::Duration::try_from(lease / HEARTBEATS_PER_LEASE).ok(),
            store_id: app.events.identity().borrow().clone(),
            resumed,
        },
        worker: AttachedWorker {
            stream,
            needs,
            downlink,
            free: hello.free_slots.clamp(0, boot.slots),
            offers_sent: 0,
        },
    })
}

/// Settles each lease of the earlier boots by what the ledger knew of it. A lease that the ledger does not name was
/// never received, unless its work had started, of which nothing is known then.
async fn settle(
    app: &App,
    stream: Attachment,
    leases: &[HeldLease],
    held: &HashMap<(TaskId, LeaseId), HeldStatus>,
) -> Result<(), Refusal> {
    let mut finished = Vec::new();
    let mut lost = Vec::new();
    for lease in leases {
        let loss = match held.get(&(lease.task, lease.lease_id)) {
            Some(HeldStatus::Finished) => {
                finished.push((lease.task, lease.lease_id));
                continue;
            }
            Some(HeldStatus::NotStarted) => Loss::NotStarted,
            // a process that goes on was picked out before; this one cannot
            Some(HeldStatus::Unknown | HeldStatus::Unspecified | HeldStatus::Running) => Loss::Gone,
            None if lease.is_offered => Loss::NotStarted,
            None => Loss::Gone,
        };
        lost.push((*lease, loss));
    }
    lose(app, &lost).await?;
    claim::adopt_leases(app.store.pool(), &finished, stream.worker, stream.attach_no).await?;
    Ok(())
}

/// Ends leases whose worker is gone, all queued before any is waited for, so that they share their transactions; that
/// one was ended meanwhile is no error.
pub async fn lose(app: &App, lost: &[(HeldLease, Loss)]) -> Result<(), Refusal> {
    let mut answers = Vec::with_capacity(lost.len());
    for (lease, loss) in lost {
        let event = Event::Lost {
            epoch: lease.epoch,
            lease_id: lease.lease_id,
            loss: *loss,
        };
        let change = Change::new(lease.task, event, Content::None);
        answers.push(app.commits.change_later(lease.session, change)?);
    }
    for answer in answers {
        match answer.await.unwrap_or(Err(CommitError::ShuttingDown)) {
            Ok(_) | Err(CommitError::Rejected { .. } | CommitError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The pool that a worker says it is of; empty: none.
#[must_use]
pub fn pool_of(hello: &Hello) -> &str {
    hello.labels.get(POOL_LABEL).map_or("", String::as_str)
}

/// A worker is of the pool that its label names; who may be of some pools only may not be of none.
fn check_pool(identity: &Identity, hello: &Hello) -> Result<(), Refusal> {
    let pool = pool_of(hello);
    let pools = &identity.reach.pools;
    if pools.is_all() || (!pool.is_empty() && pools.allow(pool)) {
        return Ok(());
    }
    Err(Refusal::PoolDenied {
        pool: pool.to_owned(),
        allowed: pools.to_string(),
    })
}

fn read_boot(hello: &Hello) -> Result<WorkerBoot, Refusal> {
    check_words("hello.name", std::slice::from_ref(&hello.name))?;
    check_words("hello.queues", &hello.queues)?;
    check_words("hello.executors", &hello.executors)?;
    for kind in &hello.kinds {
        definition::check_text("hello.kinds", kind, 64)?;
    }
    if hello.kinds.len() > MAX_WORDS || hello.labels.len() > MAX_WORDS {
        return Err(Refusal::invalid(
            "hello",
            format!("at most {MAX_WORDS} kinds and labels are allowed"),
        ));
    }
    for (key, value) in &hello.labels {
        definition::check_text("hello.labels", key, 64)?;
        definition::check_text("hello.labels", value, 256)?;
    }
    definition::check_text("hello.version", &hello.version, 64)?;
    if !(1..=MAX_SLOTS).contains(&hello.slots) {
        return Err(Refusal::invalid(
            "hello.slots",
            format!("must be 1 to {MAX_SLOTS}"),
        ));
    }
    let id = |field: &str, bytes: &[u8]| {
        Uuid::from_slice(bytes).map_err(|_| Refusal::invalid(field, "must have 16 bytes"))
    };
    Ok(WorkerBoot {
        name: hello.name.clone(),
        instance: id("hello.instance_id", &hello.instance_id)?,
        state: id("hello.state_id", &hello.state_id)?,
        slots: hello.slots,
        queues: or_default(&hello.queues, definition::DEFAULT_QUEUE),
        kinds: hello.kinds.clone(),
        executors: or_default(&hello.executors, definition::COMMAND),
        labels_json: labels_json(&hello.labels),
        version: hello.version.clone(),
        protocol: PROTOCOL,
        holder: None,
    })
}

fn read_held(hello: &Hello) -> Result<HashMap<(TaskId, LeaseId), HeldStatus>, Refusal> {
    let mut held = HashMap::with_capacity(hello.held.len());
    for entry in &hello.held {
        let lease = entry
            .lease
            .as_ref()
            .ok_or_else(|| Refusal::invalid("hello.held.lease", "is required"))?;
        let lease = LeaseRef::try_from(lease)?;
        let status = HeldStatus::try_from(entry.status)
            .map_err(|_| Refusal::invalid("hello.held.status", "is no known status"))?;
        held.insert((lease.task, lease.lease_id), status);
    }
    Ok(held)
}

fn check_words(field: &str, words: &[String]) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_word =
        |word: &String| !word.is_empty() && word.len() <= 64 && word.bytes().all(is_allowed);
    if words.len() > MAX_WORDS || !words.iter().all(is_word) {
        return Err(Refusal::invalid(
            field,
            "must be words of 1 to 64 of A-Z a-z 0-9 . _ -",
        ));
    }
    Ok(())
}

fn or_default(words: &[String], default: &str) -> Vec<String> {
    if words.is_empty() {
        vec![default.to_owned()]
    } else {
        words.to_vec()
    }
}

fn labels_json(labels: &BTreeMap<String, String>) -> String {
    // a map of strings always serialises
    serde_json::to_string(labels).unwrap_or_else(|_| "{}".to_owned())
}

/// A worker said goodbye: it takes no more, and what it was offered it gives back.
pub async fn drain(app: &App, stream: Attachment) {
    if let Err(error) = workers::drain_worker(app.store.pool(), stream.worker).await {
        warn!(
            error = &error as &dyn std::error::Error,
            "a draining worker could not be noted"
        );
    }
}

/// A worker that said goodbye has ended its stream. If it holds nothing it is gone; else its leases run out.
pub async fn leave(app: &App, stream: Attachment) {
    let left = async {
        if claim::list_leases(app.store.pool(), &[stream.worker])
            .await?
            .is_empty()
        {
            workers::end_workers(app.store.pool(), &[stream.worker], WorkerEnd::Gone).await?;
        }
        Ok::<_, crate::store::StoreError>(())
    };
    if let Err(error) = left.await {
        warn!(
            error = &error as &dyn std::error::Error,
            "a worker's leave could not be noted"
        );
    }
}
