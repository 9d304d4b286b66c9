//! The control plane dies under running tasks.

use std::time::Duration;

use taskyard_tests::client::new_session;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, within};

use crate::flow::Flow;
use crate::journal::Journal;

const TASKS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_result_and_no_byte() {
    let worker = WorkerPlan::new("w1").flags(&["--slots=24"]);
    let lease = Duration::from_secs(20);
    let deployment = Deployment::builder()
        .lease(lease)
        .workers(vec![worker])
        .start()
        .await;
    let session = new_session("restart");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let flow = Flow::start(&mut client, &session, deployment.folder(), TASKS, 1).await;
    let tails = [0, 7].map(|number| flow.follow(&deployment.endpoint(), number));
    for _ in 0..2 {
        flow.advance(&mut client).await;
        deployment.with_server(0, |server| server.kill());
        deployment.restart_server(0).await;
        client = deployment.client().await;
        flow.advance(&mut client).await;
    }
    // The third time the tasks end while there is no server.
    deployment.with_server(0, |server| server.kill());
    flow.end();
    deployment.restart_server(0).await;
    client = deployment.client().await;
    flow.verify(&mut client).await;
    assert!(journal.streams() >= 3, "the watch was cut");
    let events = journal.ended(&flow.tasks).await;
    assert_eq!(
        events.len(),
        3 * TASKS,
        "each was created, started and ended: {events:?}"
    );
    for tail in tails {
        let followed = within("the tail to end", SOON, tail)
            .await
            .expect("the tail holds");
        assert!(followed > 0);
    }
    deployment.remove().await;
}
