//! The narrated example of the documents, run as it is written there.

use taskyard_tests::binaries::{self, repository};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, within};
use tokio::process::Command;

/// The Python of a document, its blocks one after the other.
fn program(document: &str) -> String {
    let mut program = String::new();
    let mut is_python = false;
    for line in document.lines() {
        match line {
            "```python" => is_python = true,
            "```" => is_python = false,
            _ if is_python => {
                program.push_str(line);
                program.push('\n');
            }
            _ => {}
        }
    }
    program
}

#[tokio::test]
async fn a_parent_that_sleeps_on_wakes_sees_its_three_subagents_through() {
    let document = repository().join("docs/parent-agent.md");
    let document = std::fs::read_to_string(document).expect("the document is there");
    let folder = binaries::taskyard();
    let folder = folder.parent().expect("the binary is in a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    // Two slots: the tasks that wait must give theirs back for the others to run.
    let worker = WorkerPlan::new("w1")
        .flags(&["--slots=2"])
        .env("PATH", &path);
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let mut parent = Command::new("python3");
    parent
        .args(["-c", &program(&document)])
        .env("PATH", &path)
        .env("TASKYARD_ENDPOINT", deployment.endpoint())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true);
    let ended = within("the parent agent to end", SOON * 3, parent.output()).await;
    let ended = ended.expect("python3 is installed");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{ended:?}");
    assert!(said.contains("asks: A report on what?"), "{said}");
    assert!(said.ends_with("done\n"), "{said}");
    deployment.remove().await;
}
