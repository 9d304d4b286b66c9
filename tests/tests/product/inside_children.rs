//! Tasks that a script starts below its own.

use taskyard_proto::v1::{ListTasksRequest, SessionTask, TaskState};
use taskyard_tests::client::{Client, command, new_session, probe};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::inside::{agent, retried};

#[tokio::test]
async fn a_script_starts_awaits_reads_and_stops_children() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("spawn");
    let script = "A=$(self spawn --name first -- sh -c 'echo from the child')\n\
                  self wait $A >/dev/null; self tail $A\n\
                  B=$(self spawn -- sh -c 'exit 3'); self wait $B >/dev/null || echo waited $?\n\
                  self spawn --wait -- sh -c 'exit 5' >/dev/null || echo passed $?\n\
                  C=$(self spawn -- sleep 600); self cancel --tree --now $C >/dev/null\n\
                  self wait $C >/dev/null || echo canceled $?\n\
                  D=$(self spawn -- sleep 600); self wait --any $A $D >/dev/null && echo any; self cancel --now $D >/dev/null\n\
                  printf 'labels: {a: b}\\ncommand: {argv: [sh, -c, \"exit 6\"]}\\n' | self spawn --wait -f - >/dev/null || echo file $?\n\
                  self list --all-pages -o name | wc -l\n";
    let task = client.run(&session, agent(script)).await;
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{logs:?}");
    assert_eq!(
        logs.text(),
        "from the child\nwaited 1\npassed 5\ncanceled 1\nany\nfile 6\n6\n"
    );
    for child in children(&mut client, &session, &task.id).await {
        assert_eq!(child.parent_task_id, task.id);
    }
}

#[tokio::test]
async fn a_later_run_finds_its_child_by_the_key() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("spawn");
    let script = "self spawn --key step --wait -- true\n\
                  if self spawn --key step -- false; then exit 9; fi\n\
                  [ $TASKYARD_RUN = 2 ]\n";
    let task = client.run(&session, retried(agent(script), 2)).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 2),
        "{task:?}"
    );
    let children = children(&mut client, &session, &task.id).await;
    assert_eq!(children.len(), 1, "{children:?}");
    let logs = deployment.command_line();
    let printed = |run: &'static str| {
        let (logs, id) = (logs.clone(), task.id.clone());
        async move {
            let arguments = ["logs", &id, "--run", run, "--stream", "stdout"];
            logs.run(&arguments).await.expect_code(0).text()
        }
    };
    let expected = format!("{}\n", children[0].id);
    assert_eq!(
        (printed("1").await, printed("2").await),
        (expected.clone(), expected)
    );
}

#[tokio::test]
async fn a_script_sees_what_is_below_it_and_nothing_else() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("spawn");
    let sibling = client.create(&session, probe("hang")).await;
    let script = format!(
        "for verb in wait tail cancel; do code=0; self $verb {id} >/dev/null 2>&1 || code=$?; echo $verb $code; done\n\
         code=0; self answer {id} x 2>/dev/null || code=$?; echo answer $code\n\
         code=0; printf 'session: other\\ncommand: {{argv: [\"true\"]}}\\n' | self spawn -f - 2>/dev/null || code=$?; echo session $code\n",
        id = sibling.id
    );
    let task = client.run(&session, agent(&script)).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert_eq!(
        logs.text(),
        "wait 1\ntail 1\ncancel 1\nanswer 1\nsession 2\n"
    );
    assert_eq!(client.get(&sibling.id).await.cancel_requested_at, None);
    deployment
        .command_line()
        .run(&["cancel", "--now", &sibling.id])
        .await
        .expect_code(0);
}

#[tokio::test]
async fn who_awaits_a_child_is_told_that_it_asks() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("spawn");
    let task = client
        .create(
            &session,
            agent("self spawn --wait -- \"$YARD\" self ask 'Which one?'"),
        )
        .await;
    let cli = deployment.command_line();
    let asked = "t2 asks: Which one[?]; it waits for `taskyard answer`";
    let matching = ["wait", &task.id, "--match", asked, "--timeout", "60s"];
    cli.run(&matching).await.expect_code(0);
    cli.run(&["answer", "t2", "--session", &session, "this one"])
        .await
        .expect_code(0);
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
}

#[tokio::test]
async fn a_script_reads_the_result_and_the_thread_of_a_child() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let script = "C=$(self spawn -- bash -c '\"$0\" self inbox --wait 60s; \"$0\" self post found-it; echo 42 >$TASKYARD_RESULT' \"$YARD\")\n\
                  self message $C 'look in the attic' >/dev/null\n\
                  self wait $C >/dev/null\n\
                  self get $C --result | tr -d ' \\n' | grep -o '\"output\":42'\n\
                  self get $C -o json | grep -c succeeded\n\
                  self messages $C -o json | grep -o -e attic -e found-it\n";
    let task = client.run(&new_session("spawn"), agent(script)).await;
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{logs:?}");
    assert_eq!(logs.text(), "\"output\":42\n1\nattic\nfound-it\n");
}

#[tokio::test]
async fn an_agent_that_follows_its_childs_output_gives_its_slot_to_it() {
    let worker = WorkerPlan::new("w1").flags(&["--slots=1"]);
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let mut client = deployment.client().await;
    let script = "C=$(self spawn -- sh -c 'echo from the child'); self tail -f $C; self messages --follow $C";
    let task = client.run(&new_session("follow"), agent(script)).await;
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{logs:?}");
    assert_eq!(logs.text(), "from the child\n");
    deployment.remove().await;
}

#[tokio::test]
async fn four_agents_in_four_slots_each_await_a_child_that_awaits_its_own() {
    let worker = WorkerPlan::new("w1").flags(&["--slots=4"]);
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let mut client = deployment.client().await;
    let session = new_session("nested");
    let folder = deployment.folder().display().to_string();
    // Nobody starts anything before all slots are taken.
    let script = format!(
        "touch {folder}/here.$TASKYARD_TASK_ID\n\
         until [ $(ls {folder}/here.* | wc -l) -ge 4 ]; do sleep 0.05; done\n\
         self spawn --wait -- \"$YARD\" self spawn --wait -- sh -c 'exit 7' || exit $?\n"
    );
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(client.create(&session, agent(&script)).await.id);
    }
    for id in &agents {
        let ended = client.ended(id).await;
        // The last child's exit code has come up all the way.
        let exit = ended.exit.clone().and_then(|exit| exit.exit_code);
        assert_eq!(exit, Some(7), "{ended:?}");
    }
    // The slots are all there again.
    let after = client.run(&session, command(&["true"])).await;
    assert_eq!(after.state(), TaskState::Succeeded);
    deployment.remove().await;
}

async fn children(client: &mut Client, session: &str, parent: &str) -> Vec<SessionTask> {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        parent_task_id: parent.to_owned(),
        ..ListTasksRequest::default()
    };
    let listed = client.tasks.list_tasks(request).await;
    listed.expect("they are listed").into_inner().tasks
}
