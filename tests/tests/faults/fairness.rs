//! A session with a long queue does not starve the others.

use std::time::Duration;

use futures::StreamExt;
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;

use crate::hand_worker::{HandWorker, exited, hello};
use taskyard_proto::v1::Verdict;

const CROWD: usize = 5_000;
const SLOTS: i32 = 2;

/// Sessions of the next `count` tasks in the order in which they are offered; each is run at once.
async fn served(worker: &mut HandWorker, count: usize) -> Vec<String> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let offer = worker.offer().await;
        let lease = worker.start(&offer).await;
        assert_eq!(
            worker.report(&lease, 2, exited(0, 0)).await,
            Verdict::Applied
        );
        sessions.push(offer.session_id);
        worker.set_free(1).await;
    }
    sessions
}

async fn create_many(client: &Client, session: &str, count: usize) {
    let creates = futures::stream::iter(0..count).map(|_| {
        let (mut client, session) = (client.clone(), session.to_owned());
        async move { client.create(&session, shell("true")).await }
    });
    creates.buffer_unordered(128).for_each(|_| async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_does_not_keep_a_single_task_waiting() {
    let lease = Duration::from_secs(300);
    let deployment = Deployment::builder()
        .lease(lease)
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let (crowd, single) = (new_session("crowd"), new_session("single"));
    create_many(&client, &crowd, CROWD).await;
    client.create(&single, shell("true")).await;
    let mut worker = HandWorker::attach(&client, hello("narrow", SLOTS)).await;
    let order = served(&mut worker, 6).await;
    let place = order.iter().position(|session| *session == single);
    eprintln!("the single task was served at place {place:?} of {CROWD}");
    assert!(
        place.is_some_and(|place| place <= SLOTS as usize),
        "{order:?}"
    );

    // Later, when the crowd has been served for a while, a newcomer does not wait for the rest of it.
    served(&mut worker, 50).await;
    let late = new_session("late");
    create_many(&client, &late, 30).await;
    let order = served(&mut worker, 20).await;
    let of_late = order.iter().filter(|session| **session == late).count();
    eprintln!("the latecomer got {of_late} of 20 places");
    assert!(of_late >= 5, "it gets its share: {order:?}");
    deployment.remove().await;
}
