//! `taskyard logs` as a user of tail, sed and rg expects it.

use taskyard_tests::client::{new_session, shell};
use taskyard_tests::deployment::Deployment;

#[tokio::test]
async fn logs_are_read_by_lines_times_and_patterns() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("logs");
    let script = "printf 'one\\nerror two\\nthree\\n'; echo Error >&2";
    client.run(&session, shell(script)).await;
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    for (arguments, stdout, stderr) in [
        (
            &["--tail", "2", "--stream", "stdout"][..],
            "error two\nthree\n",
            "",
        ),
        (&["--tail", "0"], "", ""),
        (
            &["-f", "--tail", "100", "--since", "1h"],
            "one\nerror two\nthree\n",
            "Error\n",
        ),
        (&["--tail", "6b", "--stream", "stdout"], "three\n", ""),
        (&["--since", "2999-01-01T00:00:00Z"], "", ""),
        (
            &["--since", "2001-01-01T00:00:00Z", "--stream", "stderr"],
            "",
            "Error\n",
        ),
        (
            &["--lines", "2:3", "--stream", "stdout"],
            "error two\nthree\n",
            "",
        ),
        (&["--lines", "2:", "-n"], "2:error two\n3:three\n", ""),
        (&["--lines", "1"], "one\n", "Error\n"),
        (&["--grep", "error"], "error two\n", ""),
        (&["--grep", "error", "-i"], "error two\n", "Error\n"),
        (&["--grep", "error", "-ic"], "stdout:1\nstderr:1\n", ""),
        (&["--grep", "e$", "-c", "--stream", "stdout"], "2\n", ""),
        (
            &["--grep", "two", "-B", "1", "-n", "--stream", "stdout"],
            "1-one\n2:error two\n",
            "",
        ),
        (
            &["--grep", "two", "-C", "1", "--stream", "stdout"],
            "one\nerror two\nthree\n",
            "",
        ),
        (
            &[
                "--grep", "two", "-A", "1", "--since", "1h", "--stream", "stdout",
            ],
            "error two\nthree\n",
            "",
        ),
    ] {
        let all = [&["logs", "t1"], arguments].concat();
        let read = cli.run(&all).await.expect_code(0);
        assert_eq!(read.text(), stdout, "{arguments:?}: {read:?}");
        let told: String = read
            .stderr
            .lines()
            .filter(|line| !line.starts_with("taskyard: "))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(told, stderr, "{arguments:?}");
    }
    let stamped = cli
        .run(&["logs", "-t", "t1", "--tail", "3"])
        .await
        .expect_code(0);
    let lines: Vec<String> = format!("{}{}", stamped.text(), stamped.stderr)
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 3, "{stamped:?}");
    for line in &lines {
        let (time, _) = line.split_once(' ').expect("a time and a text");
        assert!(is_exact_time(time), "{line}");
    }
    assert!(
        lines.iter().any(|line| line.ends_with("Z three")),
        "{lines:?}"
    );
    for (arguments, word) in [
        (&["--lines", "0"][..], "names no lines"),
        (&["--lines", "5:2"], "names no lines"),
        (&["-n"], "--line-number is for"),
        (&["-c"], "--grep"),
        (&["--tail", "100001"], "at most 100000 lines"),
        (&["--since", "yesterday"], "neither a time"),
        (&["-t", "--grep", "x"], "cannot be used with"),
    ] {
        let refused = cli
            .run(&[&["logs", "t1"], arguments].concat())
            .await
            .expect_code(2);
        assert!(refused.stderr.contains(word), "{arguments:?}: {refused:?}");
    }
}

#[tokio::test]
async fn many_lines_are_printed_whole_whatever_a_page_holds() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("pages");
    client.run(&session, shell("seq 1 250000")).await;
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let whole: String = (2..=250_000).map(|number| format!("{number}\n")).collect();
    let read = cli
        .run(&["logs", "t1", "--stream", "stdout", "--lines", "2:"])
        .await
        .expect_code(0);
    assert!(
        read.text() == whole,
        "{} bytes of {}",
        read.text().len(),
        whole.len()
    );
    let part = [
        "logs",
        "t1",
        "--stream",
        "stdout",
        "--lines",
        "100000:200000",
        "--max-bytes",
        "70",
    ];
    let part = cli.run(&part).await.expect_code(0);
    assert_eq!(part.text().lines().count(), 10);
    assert!(
        part.stderr.contains("go on with --lines 100010:200000"),
        "{part:?}"
    );
}

/// Of the form `2026-01-31T12:00:00.000000Z`.
fn is_exact_time(text: &str) -> bool {
    let form: String = text
        .chars()
        .map(|character| {
            if character.is_ascii_digit() {
                '0'
            } else {
                character
            }
        })
        .collect();
    form == "0000-00-00T00:00:00.000000Z"
}
