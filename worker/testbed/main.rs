//! The program beside the process tests: the exec shim, the misbehaving child, and a worker to be killed. Tests need all
//! three as separate processes.

#[path = "../../tests/src/bin/probe.rs"]
mod probe;

use std::path::PathBuf;

use taskyard_worker::process::{Launch, Process};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, _)) if first == taskyard_worker::shim::ARGUMENT => {
            taskyard_worker::shim::main()
        }
        Some((first, [launch_file])) if first == "worker" => {
            hold_a_process(PathBuf::from(launch_file))
        }
        _ => probe::main(),
    }
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
