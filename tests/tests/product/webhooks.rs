//! Webhooks: what happens to tasks, posted to a receiver that may be slow, broken or away.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use taskyard_proto::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, ListWebhookDeliveriesRequest, ListWebhooksRequest,
    PostRequest, RedeliverWebhookRequest, TaskDefinition, Webhook, WebhookDelivery,
    WebhookDeliveryState, WebhookEvent,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::played::{Inside, Played, data, text};
use taskyard_tests::receiver::{Received, Receiver, Reply};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, eventually};
use tonic::Code;

const SECRET: &str = "a secret of ours";

fn hook(session: &str, url: &str) -> CreateWebhookRequest {
    CreateWebhookRequest {
        session_id: session.to_owned(),
        url: url.to_owned(),
        secret: SECRET.to_owned(),
        ..CreateWebhookRequest::default()
    }
}

async fn create(client: &Client, request: CreateWebhookRequest) -> Webhook {
    let answer = client.webhooks.clone().create_webhook(request).await;
    let answer = answer.unwrap_or_else(|status| panic!("the webhook was refused: {status:?}"));
    answer.into_inner().webhook.expect("the webhook")
}

async fn deliveries(client: &Client, webhook: &Webhook) -> Vec<WebhookDelivery> {
    let request = ListWebhookDeliveriesRequest {
        webhook_id: webhook.id.clone(),
        ..ListWebhookDeliveriesRequest::default()
    };
    let mut webhooks = client.webhooks.clone();
    let answer = webhooks.list_webhook_deliveries(request).await;
    answer.expect("listed").into_inner().deliveries
}

/// Waits until the newest delivery is as `is_there` wants it.
async fn newest(
    client: &Client,
    webhook: &Webhook,
    is_there: impl Fn(&WebhookDelivery) -> bool,
) -> WebhookDelivery {
    eventually("the delivery to get there", 2 * SOON, async || {
        let newest = deliveries(client, webhook).await.into_iter().next()?;
        is_there(&newest).then_some(newest)
    })
    .await
}

fn is_delivered(delivery: &WebhookDelivery) -> bool {
    delivery.state() == WebhookDeliveryState::Delivered
}

async fn run(client: &Client, session: &str, code: i32) -> Played {
    let mut played = Played::start(client, session, command(&["work"])).await;
    played.finish(code).await;
    played
}

/// The receiver's side of the signature, in another language: as the documentation shows it.
fn verify(received: &Received) {
    let script = "import hashlib, hmac, sys\n\
        secret, timestamp, signature = sys.argv[1:]\n\
        body = sys.stdin.buffer.read()\n\
        wanted = hmac.new(secret.encode(), timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()\n\
        sys.exit(0 if hmac.compare_digest('sha256=' + wanted, signature) else 1)\n";
    let mut python = Command::new("python3")
        .args(["-c", script, SECRET])
        .args([
            &received.headers["taskyard-timestamp"],
            &received.headers["taskyard-signature"],
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut stdin = python.stdin.take().expect("a pipe");
    stdin.write_all(&received.body).expect("it reads");
    drop(stdin);
    let ended = python.wait().expect("it ends");
    assert!(ended.success(), "the signature does not hold: {received:?}");
}

#[tokio::test]
async fn an_end_is_delivered_signed_and_logged() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("hook");
    let receiver = Receiver::start(&[]).await;
    let webhook = create(&client, hook(&session, &receiver.url())).await;
    assert!(webhook.id.starts_with("hook_") && webhook.has_secret);
    assert_eq!(webhook.events, [i32::from(WebhookEvent::Terminal)]);
    assert_eq!(
        (&webhook.session_id, &webhook.url),
        (&session, &receiver.url())
    );

    let mut definition = command(&["work"]);
    definition.display_name = "the build".to_owned();
    let mut played = Played::start(&client, &session, definition).await;
    played.finish(3).await;
    let received = receiver.wait_for(1).await.remove(0);
    verify(&received);
    let task = client.clone().get(played.id()).await;
    let body = received.json();
    assert_eq!(body["event"], "terminal");
    let told = &body["task"];
    for (field, expected) in [
        ("id", played.id()),
        ("session_id", session.as_str()),
        ("display_name", "the build"),
        ("kind", "command"),
        ("state", "failed"),
        ("summary", task.summary.as_str()),
        ("result_path", task.result_path.as_str()),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert_eq!(
        (told["ordinal"].as_i64(), told["generation"].as_i64()),
        (Some(1), Some(task.generation))
    );
    assert_eq!(received.headers["taskyard-event"], "terminal");
    assert_eq!(received.headers["content-type"], "application/json");
    let delivered = newest(&client, &webhook, is_delivered).await;
    assert_eq!(
        (
            delivered.attempts,
            delivered.last_status,
            delivered.task_id.as_str()
        ),
        (1, 204, played.id())
    );
    assert_eq!(delivered.last_error, "");
    let id = delivered.id.to_string();
    assert_eq!(received.headers["taskyard-delivery"], id);
    assert_eq!(body["delivery_id"], id);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_webhook_is_called_for_what_it_asks_for_and_no_more() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("hook");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let mut other = Played::start(&client, &session, command(&["work"])).await;
    let events = |request: CreateWebhookRequest, events: &[WebhookEvent]| CreateWebhookRequest {
        events: events.iter().map(|event| (*event).into()).collect(),
        ..request
    };
    let both = [WebhookEvent::Question, WebhookEvent::Message];
    let of_namespace = Receiver::start(&[]).await;
    let of_session = Receiver::start(&[]).await;
    let of_task = Receiver::start(&[]).await;
    let elsewhere = Receiver::start(&[]).await;
    let namespace_hook = create(&client, hook("", &of_namespace.url())).await;
    create(&client, events(hook(&session, &of_session.url()), &both)).await;
    let task_hook = CreateWebhookRequest {
        task: "t1".to_owned(),
        ..hook(&session, &of_task.url())
    };
    let task_hook = create(&client, task_hook).await;
    assert_eq!(task_hook.task_id, played.id());
    create(&client, hook(&new_session("hook"), &elsewhere.url())).await;

    let post = PostRequest {
        parts: vec![text("half way"), data(r#"{"n":12345678901234567890123}"#)],
        ..PostRequest::default()
    };
    played.inside.post(post).await.expect("posted");
    played.inside.put_question("which", "Which one?").await;
    other.finish(0).await;
    played.finish(0).await;

    let received = of_session.wait_for(2).await;
    let find = |event: &str| {
        let mut bodies = received.iter().filter(|call| call.json()["event"] == event);
        bodies.next().expect("it came").clone()
    };
    let message = find("message");
    assert_eq!(message.json()["message"]["parts"][0]["text"], "half way");
    let raw = String::from_utf8_lossy(&message.body).into_owned();
    assert!(
        raw.contains(r#"{"data":{"n":12345678901234567890123}}"#),
        "{raw}"
    );
    let question = find("question").json();
    assert_eq!(question["question"]["prompt"], "Which one?");
    assert_eq!(question["task"]["state"], "awaiting_input");
    assert_eq!(question["task"]["result_path"], "");

    let received = of_task.wait_for(1).await;
    assert_eq!(received[0].json()["task"]["id"], played.id());
    let ours = |call: &Received| call.json()["task"]["session_id"] == session.as_str();
    eventually("both ends to be told", SOON, async || {
        let calls = of_namespace.received();
        (calls.iter().filter(|call| ours(call)).count() == 2).then_some(())
    })
    .await;
    delete(&client, &namespace_hook).await;
    // Everything was written with its change, so whatever there is to come has been seen by now.
    assert_eq!(of_session.received().len(), 2);
    assert_eq!(of_task.received().len(), 1);
    assert!(elsewhere.received().is_empty());
}

async fn delete(client: &Client, webhook: &Webhook) {
    let request = DeleteWebhookRequest {
        webhook_id: webhook.id.clone(),
        ..DeleteWebhookRequest::default()
    };
    let deleted = client.webhooks.clone().delete_webhook(request).await;
    deleted.expect("deleted");
}

#[tokio::test]
async fn a_delivery_is_tried_until_the_receiver_takes_it() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("hook");
    // Nobody listens there, until somebody does.
    let gone = Receiver::start(&[]).await;
    let (port, url) = (gone.port(), gone.url());
    drop(gone);
    let broken = Receiver::start(&[Reply::Status(500), Reply::Redirect]).await;
    let to_nobody = create(&client, hook(&session, &url)).await;
    let to_broken = create(&client, hook(&session, &broken.url())).await;
    run(&client, &session, 0).await;
    let failed = newest(&client, &to_nobody, |delivery| {
        !delivery.last_error.is_empty()
    });
    let failed = failed.await;
    assert_eq!(
        (failed.state(), failed.last_status),
        (WebhookDeliveryState::Pending, 0)
    );
    assert!(
        failed.last_error.contains("cannot be connected to"),
        "{failed:?}"
    );
    assert!(failed.next_attempt_at.is_some());
    let back = Receiver::listen(port, &[]).await;
    back.wait_for(1).await;
    let delivered = newest(&client, &to_nobody, is_delivered).await;
    assert!(delivered.attempts >= 2 && delivered.next_attempt_at.is_none());

    let tries = broken.wait_for(3).await;
    let delivered = newest(&client, &to_broken, is_delivered).await;
    assert!(delivered.attempts >= 3 && delivered.last_status == 204);
    for received in &tries {
        verify(received);
        assert_eq!(received.body, tries[0].body, "the same at every try");
    }
}

#[tokio::test]
async fn what_was_delivered_can_be_delivered_again() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("hook");
    let receiver = Receiver::start(&[]).await;
    let webhook = create(&client, hook(&session, &receiver.url())).await;
    run(&client, &session, 0).await;
    let delivered = newest(&client, &webhook, is_delivered).await;
    let request = RedeliverWebhookRequest {
        webhook_id: webhook.id.clone(),
        delivery_id: delivered.id,
        ..RedeliverWebhookRequest::default()
    };
    let mut webhooks = client.webhooks.clone();
    let again = webhooks.redeliver_webhook(request.clone()).await;
    let again = again.expect("again").into_inner();
    assert_eq!(
        again.delivery.unwrap_or_default().state(),
        WebhookDeliveryState::Pending
    );
    let received = receiver.wait_for(2).await;
    assert_eq!(received[0].body, received[1].body);
    let unknown = RedeliverWebhookRequest {
        delivery_id: i64::MAX,
        ..request
    };
    let refused = client.webhooks.clone().redeliver_webhook(unknown).await;
    expect_refused("unknown", refused, Code::NotFound, "DELIVERY_NOT_FOUND");
}

#[tokio::test]
async fn a_slow_receiver_holds_up_nobody_else() {
    const SLOW: usize = 12;
    let client = Deployment::by_hand().await.client().await;
    let (slow_session, session) = (new_session("slow"), new_session("hook"));
    let slow = Receiver::start(&[Reply::Silence; SLOW]).await;
    let quick = Receiver::start(&[]).await;
    let slow_hook = create(&client, hook(&slow_session, &slow.url())).await;
    create(&client, hook(&session, &quick.url())).await;
    for _ in 0..SLOW {
        run(&client, &slow_session, 0).await;
    }
    slow.wait_for(1).await;
    run(&client, &session, 0).await;
    quick.wait_for(1).await;
    // A few at once wait for the slow one; behind it the quick one would have come after all of them.
    assert!(slow.received().len() < SLOW);
    delete(&client, &slow_hook).await;
}

#[tokio::test]
async fn what_no_webhook_may_be_is_refused() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("hook");
    let mut webhooks = client.webhooks.clone();
    let good = hook(&session, "http://127.0.0.1:9/");
    let with = |change: &dyn Fn(&mut CreateWebhookRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (field, request) in [
        ("url", with(&|request| request.url.clear())),
        ("url", with(&|request| request.url = "ftp://a/".to_owned())),
        (
            "url",
            with(&|request| request.url = "http://a:b@c/".to_owned()),
        ),
        (
            "secret",
            with(&|request| request.secret = "short".to_owned()),
        ),
        ("secret", with(&|request| request.secret = "x".repeat(257))),
        ("events", with(&|request| request.events = vec![0])),
        ("events", with(&|request| request.events = vec![9])),
    ] {
        expect_bad_field(webhooks.create_webhook(request).await, field);
    }
    let ended = run(&client, &session, 0).await;
    let request = with(&|request| request.task = ended.id().to_owned());
    let refused = webhooks.create_webhook(request).await;
    expect_refused(
        "an ended task",
        refused,
        Code::FailedPrecondition,
        "TERMINAL",
    );
    let request = DeleteWebhookRequest {
        webhook_id: format!("hook_{:032x}", 1),
        ..DeleteWebhookRequest::default()
    };
    let refused = webhooks.delete_webhook(request).await;
    expect_refused("unknown", refused, Code::NotFound, "WEBHOOK_NOT_FOUND");
    let running = Played::start(&client, &session, command(&["work"])).await;
    let inside = Inside::new(&client, running.inside.lease.clone());
    let refused = webhooks.create_webhook(inside.request(good.clone())).await;
    expect_refused("inside", refused, Code::PermissionDenied, "NOT_FROM_INSIDE");

    let namespace = format!("n{}", uuid::Uuid::new_v4().simple());
    let request = with(&|request| request.namespace.clone_from(&namespace));
    for _ in 0..100 {
        webhooks.create_webhook(request.clone()).await.expect("100");
    }
    let refused = webhooks.create_webhook(request).await;
    expect_refused("101", refused, Code::ResourceExhausted, "LIMIT_REACHED");
    let request = ListWebhooksRequest {
        namespace,
        ..ListWebhooksRequest::default()
    };
    let listed = webhooks.list_webhooks(request).await.expect("listed");
    assert_eq!(listed.into_inner().webhooks.len(), 100);
}

#[tokio::test]
async fn private_addresses_are_called_only_where_that_is_allowed() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .workers(Vec::new())
        .start()
        .await;
    let client = deployment.client().await;
    let session = new_session("hook");
    let receiver = Receiver::start(&[]).await;
    let mut webhooks = client.webhooks.clone();
    for url in [
        receiver.url(),
        "http://[::1]/".to_owned(),
        "http://10.0.0.1".to_owned(),
        receiver.url().replace("127.0.0.1", "localhost"),
        receiver.url().replace("127.0.0.1", "a.LOCALHOST."),
        receiver.url().replace("127.0.0.1", "2130706433"),
        receiver.url().replace("127.0.0.1", "0x7f.1"),
    ] {
        let refused = webhooks.create_webhook(hook(&session, &url)).await;
        expect_bad_field(refused, "url");
    }
    // A name is looked up when it is called. One that leads here stands for any that leads to a private address.
    let webhook = create(&client, hook(&session, "http://hooks.example/")).await;
    let url = receiver.url().replace("127.0.0.1", "localhost");
    sqlx::query("update webhook set url = $1")
        .bind(url)
        .execute(&mut deployment.database().connect().await)
        .await
        .expect("the name leads elsewhere now");
    run(&client, &session, 0).await;
    let failed = newest(&client, &webhook, |delivery| {
        !delivery.last_error.is_empty()
    })
    .await;
    assert_eq!(failed.state(), WebhookDeliveryState::Failed, "{failed:?}");
    assert!(
        failed.last_error.contains("no address of the public"),
        "{failed:?}"
    );
    assert_eq!((failed.attempts, failed.next_attempt_at), (1, None));
    assert!(receiver.received().is_empty());
    deployment.remove().await;
}

#[tokio::test]
async fn a_killed_server_loses_no_delivery() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .server_flags(&["--allow-private-webhooks"])
        .workers(Vec::new())
        .start()
        .await;
    let client = deployment.client().await;
    let session = new_session("hook");
    let receiver = Receiver::start(&[Reply::Silence; 2]).await;
    create(&client, hook(&session, &receiver.url())).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(run(&client, &session, 0).await.id().to_owned());
    }
    receiver.wait_for(1).await;
    deployment.with_server(0, |server| server.kill());
    deployment.restart_server(0).await;
    eventually("each end to be told", 2 * SOON, async || {
        let received = receiver.received();
        // The first two calls had no answer, so they come again.
        let told = |id: &String| {
            received
                .iter()
                .any(|call| call.json()["task"]["id"] == id.as_str())
        };
        (received.len() >= 5 && ids.iter().all(told)).then_some(())
    })
    .await;
    deployment.remove().await;
}

#[tokio::test]
async fn the_command_line_makes_shows_and_removes_webhooks() {
    let deployment = Deployment::by_hand().await;
    let client = deployment.client().await;
    let session = new_session("hook");
    let receiver = Receiver::start(&[]).await;
    let cli = deployment
        .command_line()
        .env("TASKYARD_SESSION", &session)
        .env("HOOK_SECRET", SECRET);
    let url = receiver.url();
    let create = ["webhooks", "create", &url, "--secret-env", "HOOK_SECRET"];
    let made = cli.run(&[&create[..], &["-o", "name"]].concat()).await;
    let id = made.expect_code(0).text().trim().to_owned();
    assert!(id.starts_with("hook_"), "{id}");
    let listed = cli.run(&["webhooks", "list"]).await.expect_code(0).text();
    assert!(listed.contains(&id) && !listed.contains(SECRET), "{listed}");

    run(&client, &session, 0).await;
    verify(&receiver.wait_for(1).await[0]);
    let log = ["webhooks", "deliveries", &id, "--state", "delivered"];
    let log = [&log[..], &["-o", "name"]].concat();
    let delivery = eventually("the log to say so", SOON, async || {
        let text = cli.run(&log).await.expect_code(0).text();
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    });
    let delivery = delivery.await;
    cli.run(&["webhooks", "redeliver", &id, &delivery])
        .await
        .expect_code(0);
    receiver.wait_for(2).await;
    cli.run(&["webhooks", "delete", &id]).await.expect_code(0);
    cli.run(&["webhooks", "delete", &id]).await.expect_code(1);
    cli.run(&["webhooks", "create", "nowhere"])
        .await
        .expect_code(1);
    let nameless = [
        "webhooks",
        "create",
        &url,
        "--secret-env",
        "NOBODY_SETS_THIS",
    ];
    cli.run(&nameless).await.expect_code(2);
}

#[tokio::test]
async fn webhooks_are_listed_by_session() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let (session, other) = (new_session("hook"), new_session("hook"));
    let held = TaskDefinition {
        hold: true,
        ..command(&["true"])
    };
    let task = client.create(&session, held).await;
    let url = "https://hooks.example/x";
    let of_session = create(&client, hook(&session, url)).await;
    let of_task = CreateWebhookRequest {
        task: task.id,
        ..hook(&session, url)
    };
    let of_task = create(&client, of_task).await;
    create(&client, hook(&other, url)).await;
    let cli = deployment.command_line();
    let listed = cli
        .run(&["webhooks", "list", "-o", "name", "--session", &session])
        .await;
    let listed = listed.expect_code(0).text();
    assert_eq!(listed, format!("{}\n{}\n", of_session.id, of_task.id));
    let never = new_session("never");
    let unknown = cli.run(&["webhooks", "list", "--session", &never]).await;
    assert!(unknown.expect_code(1).stderr.contains(&never));
}
