//! The program beside the process tests: the exec shim, the misbehaving child, and a worker to be killed. Tests need all
//! three as separate processes.

#[path = "../../tests/src/bin/probe.rs"]
mod probe;

use std::path::PathBuf;
use std::time::Duration;

use taskyard_proto::v1::AskRequest;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_worker::process::{Launch, Process};

/// An upper bound for what goes on for ever.
const LIFE: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, _)) if first == taskyard_worker::shim::ARGUMENT => {
            taskyard_worker::shim::main()
        }
        Some((first, [launch_file])) if first == "worker" => {
            hold_a_process(PathBuf::from(launch_file))
        }
        Some((first, [])) if first == "ask" => ask(),
        _ => probe::main(),
    }
}

/// Work that asks a question by the socket of its attempt, says when it is answered, and goes on.
fn ask() {
    let socket = std::env::var("TASKYARD_SOCKET").expect("a socket");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut agent = TaskAgentServiceClient::connect(format!("unix:{socket}"))
            .await
            .expect("the socket is served");
        agent.ask(AskRequest::default()).await.expect("an answer");
        println!("answered");
        tokio::time::sleep(LIFE).await;
    });
}

/// A worker that starts what the file says and then follows it until it is killed itself.
fn hold_a_process(launch_file: PathBuf) {
    let launch = std::fs::read(launch_file).expect("the launch file is readable");
    let launch: Launch = serde_json::from_slice(&launch).expect("the launch file holds a launch");
    let shim_program = std::env::current_exe().expect("the path of this program");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut process = Process::spawn(&shim_program, &launch)
            .await
            .expect("the process starts");
        while process.next_event().await.is_ok() {}
    });
}
