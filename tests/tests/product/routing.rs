//! Which worker is offered what, and in which order.

use taskyard_proto::v1::{SessionTask, TaskDefinition, TaskState};
use taskyard_tests::client::{command, new_session, pairs};
use taskyard_tests::deployment::{Deployment, WorkerPlan};

#[tokio::test]
async fn higher_priority_starts_first() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let queue = new_session("narrow");
    let mut tasks = Vec::new();
    for priority in [-5, 90, 0, 5] {
        let task = TaskDefinition {
            queue: queue.clone(),
            priority,
            ..command(&["true"])
        };
        tasks.push(client.create(&new_session("priority"), task).await);
    }
    let plan = WorkerPlan::new(&queue).flags(&["--slots=1", "--queues", &queue]);
    deployment.add_worker(0, plan).await;
    let mut ended: Vec<SessionTask> = Vec::new();
    for task in tasks {
        ended.push(client.ended(&task.id).await);
    }
    ended.sort_by_key(|task| task.started_at.map(|at| (at.seconds, at.nanos)));
    let order: Vec<i32> = ended.iter().map(|task| task.priority).collect();
    assert_eq!(order, [90, 5, 0, -5]);
    assert!(ended.iter().all(|task| task.worker_id == queue));
}

#[tokio::test]
async fn a_worker_gets_what_it_takes_and_nothing_else() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let queue = new_session("picky");
    let session = new_session("picky");
    let task = |kind: &str, labels: &[(&str, &str)]| {
        let mut task = TaskDefinition {
            queue: queue.clone(),
            kind: kind.to_owned(),
            ..command(&["true"])
        };
        task.spec.get_or_insert_default().worker_labels = pairs(labels);
        task
    };
    let other_kind = client.create(&session, task("subagent", &[])).await;
    let other_label = client
        .create(&session, task("background_tool", &[("gpu", "h100")]))
        .await;
    let no_such_label = client
        .create(&session, task("background_tool", &[("disk", "ssd")]))
        .await;
    let other_pool = client
        .create(
            &session,
            task("background_tool", &[("taskyard.dev/pool", "heavy")]),
        )
        .await;
    let fitting = client
        .create(&session, task("background_tool", &[("gpu", "a100")]))
        .await;
    let undemanding = client.create(&session, task("background_tool", &[])).await;
    let first = format!("{queue}-1");
    let plan = WorkerPlan::new(&first).flags(&[
        "--slots=4",
        "--queues",
        &queue,
        "--kinds=background_tool",
        "--labels=gpu=a100,zone=b",
    ]);
    deployment.add_worker(0, plan).await;
    for task in [&fitting, &undemanding] {
        let ended = client.ended(&task.id).await;
        assert_eq!(ended.state(), TaskState::Succeeded);
        assert_eq!(ended.worker_id, first);
    }
    for task in [&other_kind, &other_label, &no_such_label, &other_pool] {
        assert_eq!(client.get(&task.id).await.state(), TaskState::Queued);
    }
    let second = format!("{queue}-2");
    let labels = "--labels=gpu=h100,disk=ssd";
    let flags = ["--slots=4", "--queues", &queue, labels, "--pool=heavy"];
    let plan = WorkerPlan::new(&second).flags(&flags);
    deployment.add_worker(0, plan).await;
    for task in [&other_kind, &other_label, &no_such_label, &other_pool] {
        assert_eq!(client.ended(&task.id).await.worker_id, second);
    }
}

#[tokio::test]
async fn one_session_with_many_tasks_does_not_starve_another() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let queue = new_session("fair");
    let task = || TaskDefinition {
        queue: queue.clone(),
        ..command(&["true"])
    };
    let many = new_session("many");
    let mut tasks = Vec::new();
    for _ in 0..30 {
        tasks.push(client.create(&many, task()).await);
    }
    let single = client.create(&new_session("single"), task()).await;
    let plan = WorkerPlan::new(&queue).flags(&["--slots=1", "--queues", &queue]);
    deployment.add_worker(0, plan).await;
    let single = client.ended(&single.id).await;
    let mut earlier = 0;
    for task in &tasks {
        let task = client.ended(&task.id).await;
        let started = |task: &SessionTask| task.started_at.map(|at| (at.seconds, at.nanos));
        earlier += usize::from(started(&task) < started(&single));
    }
    assert!(
        earlier <= 3,
        "{earlier} tasks of the busy session came first"
    );
}
