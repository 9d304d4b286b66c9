//! Listing: every filter alone and together, both orders, and the refusals.

use std::collections::BTreeSet;

use taskyard_proto::v1::{
    CancelTaskRequest, ListSessionsRequest, ListTasksRequest, Session, SessionTask, TaskDefinition,
    TaskOrder, TaskState,
};
use taskyard_tests::client::{Client, command, new_session, pairs, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::Code;

#[tokio::test]
async fn each_filter_shows_exactly_what_fits_it() {
    let mut client = Deployment::shared().await.client().await;
    let family = Family::create(&mut client).await;
    let cases: Vec<(&str, ListTasksRequest, Vec<&str>)> = vec![
        (
            "all",
            family.request(|_| {}),
            vec!["loner", "grandchild", "child", "root"],
        ),
        (
            "group",
            family.request(|ask| ask.group = "g".to_owned()),
            vec!["grandchild", "child"],
        ),
        (
            "labels",
            family.request(|ask| ask.labels = pairs(&[("env", "prod")])),
            vec!["loner", "child"],
        ),
        (
            "all labels given",
            family.request(|ask| ask.labels = pairs(&[("env", "prod"), ("tier", "2")])),
            vec!["loner"],
        ),
        (
            "parent",
            family.request(|ask| ask.parent_task_id.clone_from(&family.root)),
            vec!["child"],
        ),
        (
            "root",
            family.request(|ask| ask.root_task_id.clone_from(&family.root)),
            vec!["grandchild", "child"],
        ),
        (
            "key",
            family.request(|ask| ask.key = "k".to_owned()),
            vec!["loner"],
        ),
        (
            "kind",
            family.request(|ask| ask.kinds = vec!["odd".to_owned()]),
            vec!["loner", "child"],
        ),
        (
            "tags",
            family.request(|ask| ask.tags = vec!["team.*".to_owned(), "x".to_owned()]),
            vec!["child"],
        ),
        (
            "state",
            family.request(|ask| ask.states = vec![TaskState::Canceled.into()]),
            vec!["loner"],
        ),
        (
            "open states",
            family.request(|ask| {
                ask.states = vec![TaskState::Queued.into(), TaskState::Running.into()]
            }),
            vec!["grandchild", "child", "root"],
        ),
        (
            "several at once",
            family.request(|ask| {
                ask.group = "g".to_owned();
                ask.kinds = vec!["odd".to_owned()];
                ask.root_task_id.clone_from(&family.root);
                ask.states = vec![TaskState::Queued.into()];
            }),
            vec!["child"],
        ),
        (
            "nothing that fits",
            family.request(|ask| ask.labels = pairs(&[("env", "test")])),
            vec![],
        ),
    ];
    for (what, request, expected) in cases {
        for session_id in [family.session.clone(), String::new()] {
            // Neither a key nor the rest of the shared namespace belongs into a namespace-wide listing here.
            let is_narrow = !request.group.is_empty()
                || !request.root_task_id.is_empty()
                || !request.parent_task_id.is_empty();
            if session_id.is_empty() && !is_narrow {
                continue;
            }
            let mut request = ListTasksRequest {
                session_id,
                ..request.clone()
            };
            if request.session_id.is_empty() && !request.group.is_empty() {
                request.tags = vec![family.tag.clone()];
            }
            assert_eq!(names(&mut client, &request, 1).await, expected, "{what}");
            assert_eq!(names(&mut client, &request, 500).await, expected, "{what}");
            request.order = TaskOrder::OldestFirst.into();
            let reversed: Vec<&str> = expected.iter().rev().copied().collect();
            assert_eq!(
                names(&mut client, &request, 2).await,
                reversed,
                "{what}, oldest first"
            );
        }
    }
}

#[tokio::test]
async fn a_range_of_creation_takes_its_beginning_and_not_its_end() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("range");
    let mut created = Vec::new();
    for number in 0..4 {
        created.push(client.create(&session, held(&format!("n{number}"))).await);
    }
    let at = |index: usize| created[index].created_at;
    for session_id in [session.clone(), String::new()] {
        let request = ListTasksRequest {
            session_id,
            created_after: at(1),
            created_before: at(3),
            ..ListTasksRequest::default()
        };
        let found = list_all(&mut client, &request, 500).await;
        let mine: Vec<&str> = found
            .iter()
            .filter(|task| task.session_id == session)
            .map(|task| task.name.as_str())
            .collect();
        assert_eq!(mine, ["n2", "n1"]);
    }
}

#[tokio::test]
async fn a_whole_namespace_is_listed_by_state_and_by_worker() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let (good, bad) = (new_session("good"), new_session("bad"));
    let succeeded = client.run(&good, command(&["true"])).await.id;
    let failed = client.run(&bad, command(&["false"])).await.id;
    let queued = client.create(&good, held("queued")).await.id;
    let running = client.create(&bad, shell("exec sleep 100")).await.id;
    client
        .reached(&running, |task| task.state() == TaskState::Running)
        .await;
    let mut of = async |change: &dyn Fn(&mut ListTasksRequest)| {
        let mut request = ListTasksRequest::default();
        change(&mut request);
        let found = list_all(&mut client, &request, 1).await;
        found.into_iter().map(|task| task.id).collect::<Vec<_>>()
    };
    let in_states = |states: &[TaskState]| {
        let states: Vec<i32> = states.iter().map(|state| (*state).into()).collect();
        move |request: &mut ListTasksRequest| request.states.clone_from(&states)
    };
    use TaskState::{AwaitingInput, Canceled, Failed, Queued, Running, Succeeded};
    assert_eq!(
        of(&in_states(&[Running, AwaitingInput])).await,
        vec![running.clone()]
    );
    assert_eq!(
        of(&in_states(&[Queued, Running])).await,
        [running.clone(), queued.clone()]
    );
    assert_eq!(
        of(&in_states(&[Failed, Canceled])).await,
        vec![failed.clone()]
    );
    assert_eq!(of(&in_states(&[Succeeded])).await, vec![succeeded.clone()]);
    assert_eq!(
        of(&in_states(&[Succeeded, Queued])).await,
        [queued.clone(), succeeded.clone()]
    );
    let by_worker = of(&|request| request.worker = "w1".to_owned()).await;
    assert_eq!(
        by_worker,
        [running.clone(), failed.clone(), succeeded.clone()]
    );
    let held_now = of(&|request| {
        request.worker = "w1".to_owned();
        request.session_id.clone_from(&bad);
        request.states = vec![Running.into()];
    })
    .await;
    assert_eq!(held_now, vec![running.clone()]);
    assert!(
        of(&|request| request.worker = "w2".to_owned())
            .await
            .is_empty()
    );
    deployment.remove().await;
}

#[tokio::test]
async fn new_tasks_do_not_disturb_a_listing_that_goes_on() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("stable");
    for number in 0..6 {
        client.create(&session, held(&format!("n{number}"))).await;
    }
    for (order, expected) in [
        (TaskOrder::NewestFirst, ["n3", "n2", "n1", "n0"]),
        (TaskOrder::OldestFirst, ["n2", "n3", "n4", "n5"]),
    ] {
        let mut request = ListTasksRequest {
            session_id: session.clone(),
            order: order.into(),
            page_size: 2,
            ..ListTasksRequest::default()
        };
        request.page_token = page(&mut client, &request).await.1;
        client.create(&session, command(&["true"])).await;
        let rest = list_all(&mut client, &request, 2).await;
        let names: Vec<&str> = rest.iter().map(|task| task.name.as_str()).take(4).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_token_belongs_to_its_listing() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("token");
    for _ in 0..3 {
        client.create(&session, held("")).await;
    }
    let request = ListTasksRequest {
        session_id: session.clone(),
        page_size: 1,
        ..ListTasksRequest::default()
    };
    let (_, page_token) = page(&mut client, &request).await;
    let with = |change: fn(&mut ListTasksRequest)| {
        let mut request = ListTasksRequest {
            page_token: page_token.clone(),
            ..request.clone()
        };
        change(&mut request);
        request
    };
    let others = [
        with(|ask| ask.group = "g".to_owned()),
        with(|ask| ask.labels = pairs(&[("a", "b")])),
        with(|ask| ask.worker = "w".to_owned()),
        with(|ask| ask.key = "k".to_owned()),
        with(|ask| ask.states = vec![TaskState::Failed.into()]),
        with(|ask| ask.order = TaskOrder::OldestFirst.into()),
        with(|ask| ask.session_id = String::new()),
        with(|ask| ask.page_token.truncate(10)),
        with(|ask| ask.page_token = "nonsense".to_owned()),
    ];
    for other in others {
        let answer = client.tasks.list_tasks(other.clone()).await;
        expect_refused(
            &format!("{other:?}"),
            answer,
            Code::InvalidArgument,
            "BAD_TOKEN",
        );
    }
    let same = with(|ask| {
        ask.page_size = 500;
        ask.include_spec = true;
    });
    assert_eq!(
        page(&mut client, &same).await.0.len(),
        2,
        "the size may change"
    );
    let by_name = with(|ask| ask.namespace = "default".to_owned());
    assert_eq!(
        page(&mut client, &by_name).await.0.len(),
        1,
        "no namespace means that of this name"
    );
}

#[tokio::test]
async fn bad_filters_are_refused_by_name() {
    let mut client = Deployment::shared().await.client().await;
    let many: Vec<String> = (0..33).map(|number| format!("v{number}")).collect();
    let many_labels = many
        .iter()
        .map(|name| (name.clone(), String::new()))
        .collect();
    let long = "x".repeat(257);
    let ask = ListTasksRequest::default;
    let cases = [
        (
            "page_size",
            ListTasksRequest {
                page_size: 501,
                ..ask()
            },
        ),
        (
            "page_size",
            ListTasksRequest {
                page_size: -1,
                ..ask()
            },
        ),
        ("order", ListTasksRequest { order: 9, ..ask() }),
        (
            "states",
            ListTasksRequest {
                states: vec![77],
                ..ask()
            },
        ),
        (
            "states",
            ListTasksRequest {
                states: vec![TaskState::Running.into(), TaskState::Unspecified.into()],
                ..ask()
            },
        ),
        (
            "kinds",
            ListTasksRequest {
                kinds: many.clone(),
                ..ask()
            },
        ),
        (
            "tags",
            ListTasksRequest {
                tags: many,
                ..ask()
            },
        ),
        (
            "tags",
            ListTasksRequest {
                tags: vec!["te*m".to_owned()],
                ..ask()
            },
        ),
        (
            "labels",
            ListTasksRequest {
                labels: many_labels,
                ..ask()
            },
        ),
        (
            "labels",
            ListTasksRequest {
                labels: pairs(&[("a", "b\0")]),
                ..ask()
            },
        ),
        (
            "group",
            ListTasksRequest {
                group: long.clone(),
                ..ask()
            },
        ),
        (
            "worker",
            ListTasksRequest {
                worker: long,
                ..ask()
            },
        ),
        (
            "key",
            ListTasksRequest {
                key: "k".to_owned(),
                ..ask()
            },
        ),
        // an ordinal or a name needs its session
        (
            "session_id",
            ListTasksRequest {
                parent_task_id: "t1".to_owned(),
                ..ask()
            },
        ),
        (
            "session_id",
            ListTasksRequest {
                root_task_id: "task_1".to_owned(),
                ..ask()
            },
        ),
    ];
    for (field, request) in cases {
        expect_bad_field(client.tasks.list_tasks(request).await, field);
    }
    let request = ListTasksRequest {
        root_task_id: format!("task_{}", "0".repeat(32)),
        ..ask()
    };
    let answer = client.tasks.list_tasks(request).await;
    expect_refused("an unknown root", answer, Code::NotFound, "TASK_NOT_FOUND");
}

#[tokio::test]
async fn a_session_knows_how_its_tasks_ended() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("counts");
    for script in ["true", "true", "exit 3"] {
        client.run(&session, shell(script)).await;
    }
    let canceled = client.create(&session, held("canceled")).await.id;
    cancel(&mut client, &canceled).await;
    client.create(&session, held("open")).await;
    let found = read_session(&mut client, &session).await;
    assert_eq!(
        (
            found.total_tasks,
            found.open_tasks,
            found.awaiting_input_tasks
        ),
        (5, 1, 0)
    );
    assert_eq!(
        (
            found.succeeded_tasks,
            found.failed_tasks,
            found.canceled_tasks
        ),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn the_command_line_has_all_filters() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let family = Family::create(&mut client).await;
    let list = async |flags: &[&str]| {
        let mut words = vec!["list", "--session", &family.session, "-o", "json"];
        words.extend(flags);
        let listed = deployment.command_line().run(&words).await;
        let tasks = listed.expect_code(0).json();
        let names = tasks.as_array().expect("a list").iter();
        names
            .map(|task| task["name"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&["--group", "g"]).await, ["grandchild", "child"]);
    assert_eq!(
        list(&["--label", "env=prod", "--label", "tier=2"]).await,
        ["loner"]
    );
    assert_eq!(
        list(&["--root", &family.root, "--oldest-first"]).await,
        ["child", "grandchild"]
    );
    assert_eq!(list(&["--parent", &family.root]).await, ["child"]);
    assert_eq!(list(&["--key", "k", "--since", "1h"]).await, ["loner"]);
    assert!(list(&["--until", "1h"]).await.is_empty());
    assert!(list(&["--worker", "nobody"]).await.is_empty());
    let refused = deployment.command_line();
    assert_eq!(
        refused.run(&["list", "--since", "soon"]).await.code(),
        Some(2)
    );
    assert_eq!(
        refused.run(&["list", "--label", "env"]).await.code(),
        Some(2)
    );
}

/// Four tasks of one session: `root`, its `child`, its `grandchild`, and `loner`, which is canceled.
struct Family {
    session: String,
    root: String,
    /// On all of them, and on nobody else's.
    tag: String,
}

impl Family {
    async fn create(client: &mut Client) -> Family {
        let session = new_session("family");
        let tag = session.clone();
        let root = TaskDefinition {
            tags: vec![tag.clone()],
            ..held("root")
        };
        let root = client.create(&session, root).await.id;
        let child = TaskDefinition {
            parent_task_id: root.clone(),
            group: "g".to_owned(),
            kind: "odd".to_owned(),
            labels: pairs(&[("env", "prod")]),
            tags: vec![tag.clone(), "team.a".to_owned(), "x".to_owned()],
            ..held("child")
        };
        let child = client.create(&session, child).await.id;
        let grandchild = TaskDefinition {
            parent_task_id: child,
            group: "g".to_owned(),
            tags: vec![tag.clone(), "team.b".to_owned()],
            ..held("grandchild")
        };
        client.create(&session, grandchild).await;
        let loner = TaskDefinition {
            key: "k".to_owned(),
            kind: "odd".to_owned(),
            labels: pairs(&[("env", "prod"), ("tier", "2")]),
            tags: vec![tag.clone(), "x".to_owned()],
            ..held("loner")
        };
        let loner = client.create(&session, loner).await.id;
        cancel(client, &loner).await;
        Family { session, root, tag }
    }

    fn request(&self, change: impl FnOnce(&mut ListTasksRequest)) -> ListTasksRequest {
        let mut request = ListTasksRequest {
            session_id: self.session.clone(),
            ..ListTasksRequest::default()
        };
        change(&mut request);
        request
    }
}

async fn cancel(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

async fn read_session(client: &mut Client, session: &str) -> Session {
    let request = ListSessionsRequest {
        page_size: 500,
        ..ListSessionsRequest::default()
    };
    let answer = client.admin.list_sessions(request).await.expect("listed");
    let sessions = answer.into_inner().sessions;
    let found = sessions
        .into_iter()
        .find(|found| found.session_id == session);
    found.expect("newest first, so on the first page")
}

/// The names of all pages, each task once.
async fn names(client: &mut Client, request: &ListTasksRequest, page_size: i32) -> Vec<String> {
    let found = list_all(client, request, page_size).await;
    let ids: BTreeSet<&str> = found.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids.len(), found.len(), "each once");
    found.into_iter().map(|task| task.name).collect()
}

async fn list_all(
    client: &mut Client,
    request: &ListTasksRequest,
    page_size: i32,
) -> Vec<SessionTask> {
    let mut request = ListTasksRequest {
        page_size,
        ..request.clone()
    };
    let mut found = Vec::new();
    loop {
        let (tasks, next_page_token) = page(client, &request).await;
        found.extend(tasks);
        if next_page_token.is_empty() {
            return found;
        }
        request.page_token = next_page_token;
    }
}

async fn page(client: &mut Client, request: &ListTasksRequest) -> (Vec<SessionTask>, String) {
    let answer = client.tasks.list_tasks(request.clone()).await;
    let answer = answer.expect("listed").into_inner();
    (answer.tasks, answer.next_page_token)
}

fn held(name: &str) -> TaskDefinition {
    TaskDefinition {
        name: name.to_owned(),
        hold: true,
        ..command(&["true"])
    }
}
