//! Restricted tasks: what they reach, what they do not, and that what they need works.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use taskyard_proto::v1::{
    IsolationLevel, NetworkAccess, ReadOutputRequest, SessionTask, TaskDefinition, TaskSecret,
    TaskState,
};
use taskyard_tests::binaries;
use taskyard_tests::client::{
    Client, command, error_kind, exit_code, new_session, shell, with_command,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::inside::agent;
use taskyard_tests::secrets::{keyed, value, with_secrets};
use taskyard_tests::wait::{SOON, eventually};

use crate::isolation_support::{can_restrict, with_isolation};

#[tokio::test]
async fn only_the_own_directory_and_named_paths_can_be_written() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let place = folder(deployment, "named");
    let (named, other) = (place.join("named"), place.join("other"));
    for folder in [&named, &other] {
        std::fs::create_dir_all(folder).expect("made");
        std::fs::write(folder.join("there"), "content").expect("written");
    }
    let mut attempts = vec![
        "write=own".to_owned(),
        "read=own".to_owned(),
        "remove=own".to_owned(),
        "write=/dev/null".to_owned(),
        "read=/dev/urandom".to_owned(),
        "read=/usr/bin/env".to_owned(),
        "write=/etc/passwd".to_owned(),
        "write=/usr/evil".to_owned(),
        "list=/root".to_owned(),
        "list=/tmp".to_owned(),
    ];
    for folder in [&named, &other] {
        for kind in ["read", "write", "truncate", "remove"] {
            attempts.push(format!("{kind}={}/there", folder.display()));
        }
        attempts.push(format!("write={}/new", folder.display()));
    }
    let task = with_isolation(trying(&attempts), |isolation| {
        isolation.writable_paths.push(named.display().to_string());
    });
    let found = outcomes(&mut client, task).await;
    for attempt in attempts {
        let is_allowed = attempt.ends_with("own")
            || attempt.contains("/named/")
            || attempt.contains("/dev/")
            || attempt == "read=/usr/bin/env";
        let expected = if is_allowed { "ok" } else { "EACCES" };
        assert_eq!(found[&attempt], expected, "{attempt}: {found:?}");
    }
    let left = std::fs::read_to_string(other.join("there")).expect("untouched");
    assert_eq!(left, "content");
    assert!(named.join("new").exists() && !other.join("new").exists());
}

#[tokio::test]
async fn a_secret_that_is_a_file_can_be_read() {
    if !can_restrict(&mut Deployment::shared().await.client().await).await {
        return;
    }
    let mut client = keyed().await.client().await;
    let script =
        "[ \"$(cat $TOKEN)\" = a-long-secret ] && ! touch $(dirname $TOKEN)/other 2>/dev/null";
    let token = TaskSecret {
        to_file: "token".to_owned(),
        ..value("TOKEN", "a-long-secret")
    };
    let task = with_secrets(with_isolation(shell(script), |_| {}), vec![token]);
    let ended = client.run(&new_session("isolated"), task).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
}

#[tokio::test]
async fn the_worker_and_its_other_tasks_are_out_of_reach() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let worker = deployment.with_worker(0, |worker| worker.pid());
    let data = deployment.folder().join("shared");
    let place = folder(deployment, "other");
    let script = format!(
        "echo secret > mine; echo $TASKYARD_SOCKET $PWD $$ > {place}.draft; mv {place}.draft {place}\n\
         until [ -e {place}.go ]; do sleep 0.05; done",
        place = place.display()
    );
    let other = client
        .create(&new_session("isolated"), agent(&script))
        .await;
    let told = eventually("what the other task is", SOON, async || {
        std::fs::read_to_string(&place).ok()
    })
    .await;
    let [socket, directory, pid] = told.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{told:?}")
    };
    let mut attempts = vec![
        format!("read={}/state_id", data.display()),
        format!("write={}/state_id", data.display()),
        format!("truncate={}/state_id", data.display()),
        format!("list={}/ledger", data.display()),
        format!("list={}/tasks", data.display()),
        format!("read={directory}/mine"),
        format!("write={directory}/mine"),
        format!("read={directory}/../stdout.spool"),
        format!("write={directory}/../result/result.json"),
    ];
    for pid in [worker.to_string(), pid.to_owned()] {
        for file in [
            "environ",
            "mem",
            "maps",
            "fd/1",
            "root/etc/hostname",
            "cwd/x",
        ] {
            attempts.push(format!("read=/proc/{pid}/{file}"));
        }
        for kind in ["trace", "memory", "limit"] {
            attempts.push(format!("{kind}={pid}"));
        }
    }
    let found = outcomes(&mut client, with_isolation(trying(&attempts), |_| {})).await;
    for attempt in &attempts {
        let outcome = &found[attempt];
        assert!(
            matches!(outcome.as_str(), "EACCES" | "EPERM"),
            "{attempt}: {found:?}"
        );
    }
    // The same without isolation: it is not something else that keeps them out.
    let environment = vec![
        format!("read=/proc/{worker}/environ"),
        format!("read={directory}/mine"),
    ];
    let free = outcomes(&mut client, trying(&environment)).await;
    assert!(free.values().all(|outcome| outcome == "ok"), "{free:?}");
    // It may knock at the other's socket, and is turned away.
    let knock =
        agent("code=0; TASKYARD_SOCKET=$OTHER self status x || code=$?; exit $((code + 40))");
    let knock = with_command(knock, |command| {
        command.env.insert("OTHER".to_owned(), socket.to_owned());
    });
    let ended = client
        .run(&new_session("isolated"), with_isolation(knock, |_| {}))
        .await;
    assert_eq!(exit_code(&ended), Some(41), "{ended:?}");
    std::fs::write(place.with_extension("go"), "").expect("written");
    client.ended(&other.id).await;
}

#[tokio::test]
async fn signals_do_not_leave_the_task() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let abi = isolation_label(&mut client, "landlock-abi").await;
    if abi.parse().unwrap_or(0) < 6 {
        taskyard_tests::skip::skipped("this kernel's Landlock does not hold signals");
        return;
    }
    let worker = deployment.with_worker(0, |worker| worker.pid());
    let script =
        format!("kill -0 {worker} 2>/dev/null && exit 9; sleep 60 & kill $! && wait $!; exit 7");
    let task = with_isolation(command(&["bash", "-c", &script]), |_| {});
    let ended = client.run(&new_session("isolated"), task).await;
    assert_eq!(exit_code(&ended), Some(7), "{ended:?}");
}

#[tokio::test]
async fn without_a_network_there_is_neither_tcp_nor_udp() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let address = deployment
        .endpoint()
        .trim_start_matches("http://")
        .to_owned();
    let attempts = vec![
        format!("tcp={address}"),
        format!("udp={address}"),
        "packet".to_owned(),
    ];
    let on = outcomes(&mut client, with_isolation(trying(&attempts), |_| {})).await;
    assert_eq!(
        (on[&attempts[0]].as_str(), on[&attempts[1]].as_str()),
        ("ok", "ok")
    );
    assert_eq!(on["packet"], "EAFNOSUPPORT");
    let task = with_isolation(trying(&attempts), |isolation| {
        isolation.set_network(NetworkAccess::None);
    });
    let off = outcomes(&mut client, task).await;
    assert!(off.values().all(|outcome| outcome == "EACCES"), "{off:?}");
}

#[tokio::test]
async fn privileges_are_gone_and_do_not_come_back() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let attempts = ["namespace", "ring", "set-id=made", "change-mode=."].map(str::to_owned);
    let found = outcomes(&mut client, with_isolation(trying(&attempts), |_| {})).await;
    assert!(
        found.values().all(|outcome| outcome == "EPERM"),
        "{found:?}"
    );
    let program = binaries::probe();
    let status = command(&[
        &program,
        "status",
        "CapEff:",
        "CapPrm:",
        "NoNewPrivs:",
        "Seccomp:",
    ]);
    let text = stdout_of(&mut client, with_isolation(status, |_| {})).await;
    let lines: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .collect();
    assert_eq!(lines["CapEff"], "0000000000000000", "{text}");
    assert_eq!(lines["CapPrm"], "0000000000000000", "{text}");
    assert_eq!(
        (lines["NoNewPrivs"], lines["Seccomp"]),
        ("1", "2"),
        "{text}"
    );
}

#[tokio::test]
async fn its_own_socket_and_files_work_inside_and_the_level_is_told() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let script = "self status working; self progress --current 1 --total 2\n\
                  cat \"$TASKYARD_INPUT\" > copy; cp copy \"$TASKYARD_RESULT.new\"\n\
                  mv \"$TASKYARD_RESULT.new\" \"$TASKYARD_RESULT\"\n\
                  echo made > \"$TASKYARD_ARTIFACTS/made.txt\"\n\
                  file=$(mktemp); echo x > \"$file\"; echo y > \"$HOME/y\"; cat <<< here > here\n\
                  printf 'a\\nb\\n' | sort -r | head -1 >/dev/stdout";
    let mut task = with_isolation(agent(script), |isolation| {
        isolation.set_network(NetworkAccess::None);
    });
    task.spec.get_or_insert_default().input_json = "{\"n\":1}".to_owned();
    let ended = client.run(&new_session("isolated"), task).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(ended.isolation, "restricted");
    assert_eq!(ended.artifacts.len(), 1, "{ended:?}");
    let result = client.result(&ended.id).await;
    assert_eq!(result["isolation"], "restricted", "{result}");
    assert_eq!(result["output"]["n"], 1, "{result}");
    assert_eq!(result["stdout"]["tail"], "b\n", "{result}");
    let free = client.run(&new_session("free"), command(&["true"])).await;
    assert_eq!(free.isolation, "none");
    assert_eq!(client.result(&free.id).await["isolation"], "none");
}

#[tokio::test]
async fn a_path_that_is_not_the_tasks_to_name_fails_the_start() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let place = folder(deployment, "link");
    std::fs::create_dir_all(&place).expect("made");
    let link = place.join("link");
    std::os::unix::fs::symlink("/etc", &link).expect("linked");
    let data = deployment.folder().join("shared");
    let cases: [(PathBuf, &str); 6] = [
        (place.join("nothing"), "cannot be used on this worker"),
        (link, "symbolic link"),
        (data.join("ledger"), "worker's own files"),
        (deployment.folder().to_owned(), "worker's own files"),
        (PathBuf::from("/tmp"), "worker's own files"),
        (PathBuf::from("/proc/1"), "into the kernel"),
    ];
    for (path, words) in cases {
        if path == Path::new("/tmp") && !data.starts_with("/tmp") {
            continue;
        }
        let task = with_isolation(command(&["true"]), |isolation| {
            isolation.readable_paths.push(path.display().to_string());
        });
        let ended = client.run(&new_session("isolated"), task).await;
        assert_eq!(
            error_kind(&ended),
            "start_failed",
            "{}: {ended:?}",
            path.display()
        );
        let message = ended.error.unwrap_or_default().message;
        assert!(message.contains(words), "{}: {message}", path.display());
    }
}

#[tokio::test]
async fn a_working_directory_elsewhere_is_within_reach() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let place = folder(deployment, "project");
    std::fs::create_dir_all(&place).expect("made");
    let task = with_command(command(&["sh", "-c", "echo built > out"]), |command| {
        command.cwd = place.display().to_string();
    });
    let ended = client
        .run(&new_session("isolated"), with_isolation(task, |_| {}))
        .await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    let built = std::fs::read_to_string(place.join("out")).expect("built");
    assert_eq!(built, "built\n");
}

#[tokio::test]
async fn children_are_as_restricted_as_their_parent() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let script = "self spawn --wait -- true\n\
                  refused=0; self spawn --isolation none -- true || refused=$?; exit $((refused + 60))";
    let session = new_session("isolated");
    let task = with_isolation(agent(script), |isolation| {
        isolation.set_network(NetworkAccess::None);
    });
    let parent = client.run(&session, task).await;
    assert_eq!(exit_code(&parent), Some(61), "{parent:?}");
    let request = taskyard_proto::v1::ListTasksRequest {
        session_id: session,
        parent_task_id: parent.id.clone(),
        ..taskyard_proto::v1::ListTasksRequest::default()
    };
    let children = client.tasks.list_tasks(request).await.expect("listed");
    let children: Vec<SessionTask> = children.into_inner().tasks;
    assert_eq!(children.len(), 1, "{children:?}");
    let child = client.get(&children[0].id).await;
    assert_eq!(child.isolation, "restricted");
    let isolation = child
        .spec
        .and_then(|spec| spec.isolation)
        .unwrap_or_default();
    assert_eq!(isolation.level(), IsolationLevel::Restricted);
    assert_eq!(isolation.network(), NetworkAccess::None);
}

#[tokio::test]
async fn limits_and_priority_of_a_child_are_those_of_its_parent_or_stricter() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let script = format!(
        "spawn() {{ code=0; printf '{{\"command\": {{\"argv\": [\"{}\", \"limits\"]%s}}}}' \"$1\" > child.json
           self spawn --wait -f child.json >/dev/null || code=$?; echo $code; }}
         spawn ''; spawn ', \"rlimits\": {{\"nofile\": 50}}, \"nice\": 19'
         for more in '\"rlimits\": {{\"nofile\": 101}}' '\"rlimits\": {{\"nofile\": \"unlimited\"}}' \\
           '\"nice\": 4' '\"nice\": -20' '\"user\": \"nobody\"'; do spawn \", $more\"; done",
        binaries::probe()
    );
    let session = new_session("isolated");
    let task = with_command(with_isolation(agent(&script), |_| {}), |command| {
        let limit = taskyard_proto::v1::ResourceLimit {
            soft: Some(80),
            hard: Some(100),
        };
        command.rlimits = [("nofile".to_owned(), limit)].into();
        command.nice = Some(5);
    });
    let parent = client.create(&session, task).await;
    let parent = client.ended(&parent.id).await;
    assert_eq!(parent.state(), TaskState::Succeeded, "{parent:?}");
    let request = ReadOutputRequest {
        task: parent.id.clone(),
        ..ReadOutputRequest::default()
    };
    let codes = client.tasks.read_output(request).await.expect("readable");
    let codes = String::from_utf8_lossy(&codes.into_inner().data).into_owned();
    let codes: Vec<&str> = codes.lines().filter(|line| line.len() <= 3).collect();
    assert_eq!(codes, ["0", "0", "1", "1", "1", "1", "1"]);
    let request = taskyard_proto::v1::ListTasksRequest {
        session_id: session,
        parent_task_id: parent.id.clone(),
        ..taskyard_proto::v1::ListTasksRequest::default()
    };
    let children = client.tasks.list_tasks(request).await.expect("listed");
    let mut printed = Vec::new();
    for child in children.into_inner().tasks {
        let request = ReadOutputRequest {
            task: child.id,
            ..ReadOutputRequest::default()
        };
        let output = client.tasks.read_output(request).await.expect("readable");
        printed.push(String::from_utf8_lossy(&output.into_inner().data).into_owned());
    }
    let has = |limit: &str, nice: &str| {
        printed.iter().any(|text| {
            text.lines().any(|line| line == limit) && text.lines().any(|line| line == nice)
        })
    };
    assert!(has("nofile=80:100", "nice=5"), "{printed:?}");
    assert!(has("nofile=50:50", "nice=19"), "{printed:?}");
    assert_eq!(printed.len(), 2);
}

#[tokio::test]
async fn a_restricted_task_gets_no_more_than_its_worker_has() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let before = with_command(command(&["true"]), |command| command.nice = Some(-5));
    let more = with_command(command(&["true"]), |command| {
        let limit = taskyard_proto::v1::ResourceLimit {
            soft: Some(1 << 40),
            hard: None,
        };
        command.rlimits = [("nofile".to_owned(), limit)].into();
    });
    for (task, reason) in [(before, "BAD_NICE"), (more, "BAD_RLIMIT")] {
        let task = with_isolation(task, |_| {});
        let ended = client.run(&new_session("isolated"), task).await;
        let error = ended.error.unwrap_or_default();
        assert_eq!(
            (error.kind.as_str(), error.reason.as_str()),
            ("start_failed", reason)
        );
    }
}

#[tokio::test]
async fn the_command_line_asks_for_it_and_shows_it() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let line = deployment.command_line();
    let ended = line
        .run(&[
            "run",
            "--no-network",
            "--",
            "sh",
            "-c",
            "grep NoNewPrivs /proc/self/status",
        ])
        .await
        .expect_code(0);
    assert!(ended.text().contains('1'), "{ended:?}");
    let both = line
        .run(&["run", "--isolation", "none", "--no-network", "--", "true"])
        .await;
    both.expect_code(2);
    let workers = line.run(&["workers", "-o", "wide"]).await.expect_code(0);
    assert!(workers.text().contains("restricted"), "{workers:?}");
    let workers = line.run(&["workers", "-o", "json"]).await.expect_code(0);
    assert!(
        workers.text().contains("taskyard.dev/isolation"),
        "{workers:?}"
    );
}

/// A task that tries out what it can reach.
fn trying(attempts: &[String]) -> TaskDefinition {
    let program = binaries::probe();
    let mut argv = vec![program.as_str(), "try"];
    argv.extend(attempts.iter().map(String::as_str));
    command(&argv)
}

async fn outcomes(client: &mut Client, task: TaskDefinition) -> BTreeMap<String, String> {
    let text = stdout_of(client, task).await;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(attempt, outcome)| (attempt.to_owned(), outcome.to_owned()))
        .collect()
}

async fn stdout_of(client: &mut Client, task: TaskDefinition) -> String {
    let task = client.run(&new_session("isolated"), task).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let request = ReadOutputRequest {
        task: task.id.clone(),
        ..ReadOutputRequest::default()
    };
    let output = client.tasks.read_output(request).await.expect("readable");
    String::from_utf8_lossy(&output.into_inner().data).into_owned()
}

async fn isolation_label(client: &mut Client, name: &str) -> String {
    crate::isolation_support::labels(client)
        .await
        .get(&format!("taskyard.dev/{name}"))
        .cloned()
        .unwrap_or_default()
}

/// A place of the test's own, without symbolic links in its path.
fn folder(deployment: &Deployment, name: &str) -> PathBuf {
    let real = deployment.folder().canonicalize().expect("it is there");
    real.join(new_session(name))
}
