//! Searching a session's files.

use taskyard_proto::v1::{GrepMatch, GrepRequest, GrepResponse, GrepStop};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::session_files::SessionFiles;
use tonic::{Code, Status};

/// What makes a request a special one.
type Change = fn(&mut GrepRequest);

async fn grep(client: &mut Client, request: GrepRequest) -> Result<GrepResponse, Status> {
    Ok(client.files.grep(request).await?.into_inner())
}

fn places(matches: &[GrepMatch]) -> Vec<(&str, i64)> {
    matches
        .iter()
        .map(|found| (found.path.as_str(), found.line_number))
        .collect()
}

#[tokio::test]
async fn lines_are_found_below_a_path_with_their_context() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("grep");
    let mut files = SessionFiles::new(&client, &session);
    for (path, text) in [
        ("/src/a.txt", &b"one\nthe Needle\nthree\n"[..]),
        ("/src/deep/b.txt", b"no\nneedle.\nlast needle"),
        ("/src.txt", b"needle"),
        ("/src/image", b"\x89PNG\0needle\n"),
    ] {
        files.write(path, text).await.expect("written");
    }
    let request = GrepRequest {
        context_lines: 1,
        ..files.grep_request("needle", "/src")
    };
    let answer = grep(&mut client, request).await.expect("searched");
    assert_eq!(
        places(&answer.matches),
        [("/src/deep/b.txt", 2), ("/src/deep/b.txt", 3)]
    );
    let first = &answer.matches[0];
    assert_eq!((first.offset, first.line.as_str()), (3, "needle."));
    assert_eq!(
        (&first.before[..], &first.after[..]),
        (&["no".to_owned()][..], &["last needle".to_owned()][..])
    );
    assert_eq!((answer.files_scanned, answer.binary_files), (3, 1));
    assert_eq!(answer.stopped_by(), GrepStop::Unspecified);
    assert!(answer.next_page_token.is_empty() && answer.stopped_path.is_empty());

    let request = GrepRequest {
        ignore_case: true,
        ..files.grep_request("^the n", "")
    };
    let answer = grep(&mut client, request).await.expect("searched");
    assert_eq!(places(&answer.matches), [("/src/a.txt", 2)]);
    let request = GrepRequest {
        literal: true,
        ..files.grep_request("e.", "/src/deep/b.txt")
    };
    let answer = grep(&mut client, request).await.expect("searched");
    assert_eq!(places(&answer.matches), [("/src/deep/b.txt", 2)]);
}

#[tokio::test]
async fn logs_and_results_of_tasks_are_searched_by_their_path() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("grep-tasks");
    let script = "echo to stdout; echo to stderr >&2; echo kept >\"$TASKYARD_ARTIFACTS/note\"";
    let first = client.run(&session, shell(script)).await;
    let second = client.run(&session, shell("echo to stdout")).await;
    let files = SessionFiles::new(&client, &session);
    let folder = |id: &str| format!("/.tasks/{id}");
    let request = files.grep_request("^to std|^kept", &folder(&first.id));
    let answer = grep(&mut client, request).await.expect("searched");
    let of_first = ["stderr.log", "stdout.log", "artifacts/note"]
        .map(|name| format!("{}/{name}", folder(&first.id)));
    let paths: Vec<String> = answer
        .matches
        .iter()
        .map(|found| found.path.clone())
        .collect();
    assert_eq!(paths, of_first);

    // one match at a time through all tasks, the oldest first
    let mut paths = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = GrepRequest {
            max_matches: 1,
            page_token,
            ..files.grep_request("^to stdout", "/.tasks")
        };
        let answer = grep(&mut client, request).await.expect("searched");
        paths.extend(answer.matches.into_iter().map(|found| found.path));
        if answer.next_page_token.is_empty() {
            break;
        }
        page_token = answer.next_page_token;
    }
    let logs = [&first.id, &second.id].map(|id| format!("{}/stdout.log", folder(id)));
    assert_eq!(paths, logs);
    let request = files.grep_request(r#""state": ?"succeeded""#, &second.result_path);
    let answer = grep(&mut client, request).await.expect("searched");
    assert_eq!(answer.matches.len(), 1, "{answer:?}");
    // from the root the tasks are left out
    let answer = grep(&mut client, files.grep_request("stdout", "/")).await;
    assert_eq!(answer.expect("searched").files_scanned, 0);
}

#[tokio::test]
async fn every_bound_says_where_it_stopped_and_a_token_goes_on() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("grep-bounds");
    let mut files = SessionFiles::new(&client, &session);
    let text: String = (0..3_000)
        .map(|n| format!("line {n} of the file\n"))
        .collect();
    for name in ["/a", "/b", "/c"] {
        files.write(name, text.as_bytes()).await.expect("written");
    }
    let bounds: [(Change, GrepStop); 4] = [
        (|request| request.max_matches = 7, GrepStop::Matches),
        (|request| request.max_files = 1, GrepStop::Files),
        (|request| request.max_scan_bytes = 10_000, GrepStop::Bytes),
        (
            |request| {
                request.max_matches = 1_000;
                request.context_lines = 20;
            },
            GrepStop::Answer,
        ),
    ];
    let expected: Vec<(String, i64)> = ["/a", "/b", "/c"]
        .iter()
        .flat_map(|path| (0..300).map(move |n| ((*path).to_owned(), n * 10 + 1)))
        .collect();
    for (bound, stop) in bounds {
        let mut found = Vec::new();
        let mut page_token = String::new();
        for calls in 1.. {
            let mut request = files.grep_request("line [0-9]*0 of", "/");
            bound(&mut request);
            request.page_token = page_token;
            let answer = grep(&mut client, request).await.expect("searched");
            let size: usize = answer.matches.iter().map(|one| one.line.len()).sum();
            assert!(size <= 64 << 10);
            found.extend(
                answer
                    .matches
                    .iter()
                    .map(|one| (one.path.clone(), one.line_number)),
            );
            if answer.next_page_token.is_empty() {
                assert_eq!(answer.stopped_by(), GrepStop::Unspecified);
                assert!(calls > 1, "{stop:?} never stopped it");
                break;
            }
            assert!(answer.stopped_by() == stop || answer.stopped_by() == GrepStop::Matches);
            assert!(answer.stopped_path.starts_with('/') && answer.stopped_offset >= 0);
            page_token = answer.next_page_token;
        }
        assert_eq!(found, expected, "{stop:?}");
    }
}

#[tokio::test]
async fn a_search_that_makes_no_sense_is_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("grep-refused");
    let mut files = SessionFiles::new(&client, &session);
    files.write("/a", b"x\nx\n").await.expect("written");
    let bad: [(Change, &str); 8] = [
        (|request| request.pattern = String::new(), "pattern"),
        (|request| request.pattern = "(".to_owned(), "pattern"),
        (|request| request.pattern = "(a)\\1".to_owned(), "pattern"),
        (|request| request.pattern = "x".repeat(1_001), "pattern"),
        (
            |request| request.pattern = "(\\w{300}){300}".to_owned(),
            "pattern",
        ),
        (|request| request.context_lines = 21, "context_lines"),
        (|request| request.max_matches = 1_001, "max_matches"),
        (
            |request| request.max_scan_bytes = (64 << 20) + 1,
            "max_scan_bytes",
        ),
    ];
    for (spoil, field) in bad {
        let mut request = files.grep_request("x", "/");
        spoil(&mut request);
        expect_bad_field(grep(&mut client, request).await, field);
    }
    let gone = grep(&mut client, files.grep_request("x", "/nowhere")).await;
    expect_refused("no such path", gone, Code::NotFound, "FILE_NOT_FOUND");
    let unclean = grep(&mut client, files.grep_request("x", "/a/..")).await;
    expect_refused("unclean", unclean, Code::InvalidArgument, "INVALID_PATH");
    let request = GrepRequest {
        max_matches: 1,
        ..files.grep_request("x", "/")
    };
    let answer = grep(&mut client, request).await.expect("searched");
    let request = GrepRequest {
        page_token: answer.next_page_token,
        ..files.grep_request("y", "/")
    };
    let foreign = grep(&mut client, request).await;
    expect_refused(
        "another search",
        foreign,
        Code::InvalidArgument,
        "BAD_TOKEN",
    );
}

#[tokio::test]
async fn a_file_that_changed_is_searched_again_from_its_start() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("grep-changed");
    let mut files = SessionFiles::new(&client, &session);
    files.write("/a", b"x1\nx2\nx3\n").await.expect("written");
    let request = GrepRequest {
        max_matches: 2,
        ..files.grep_request("x", "/")
    };
    let answer = grep(&mut client, request.clone()).await.expect("searched");
    assert_eq!(
        (answer.stopped_path.as_str(), answer.stopped_offset),
        ("/a", 6)
    );
    files.write("/a", b"x4\n").await.expect("overwritten");
    let request = GrepRequest {
        page_token: answer.next_page_token,
        ..request
    };
    let answer = grep(&mut client, request).await.expect("searched");
    let lines: Vec<&str> = answer.matches.iter().map(|one| one.line.as_str()).collect();
    assert_eq!(lines, ["x4"]);
}

#[tokio::test]
async fn the_command_line_searches_and_lists_at_any_depth() {
    let deployment = Deployment::shared().await;
    let client = deployment.client().await;
    let session = new_session("grep-cli");
    let mut files = SessionFiles::new(&client, &session);
    files
        .write("/d/e/f", b"a\nb\tc\nd\n")
        .await
        .expect("written");
    files.write("/d/g", b"b\n").await.expect("written");
    let cli = deployment.command_line();
    let found = cli
        .run(&["files", "grep", &session, "^b", "-C1"])
        .await
        .expect_code(0);
    assert_eq!(
        found.text(),
        "/d/e/f-1-a\n/d/e/f:2:b\tc\n/d/e/f-3-d\n--\n/d/g:1:b\n"
    );
    let found = cli
        .run(&["files", "grep", &session, "b", "/d/g", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(found["matches"][0]["line"], "b");
    cli.run(&["files", "grep", &session, "nothing"])
        .await
        .expect_code(1);
    cli.run(&["files", "grep", &session, "("])
        .await
        .expect_code(2);
    let listed = cli
        .run(&["files", "ls", &session, "-r", "-o", "name"])
        .await
        .expect_code(0);
    assert_eq!(listed.text(), "/d/e/f\n/d/g\n");
}

#[tokio::test]
async fn all_files_below_a_folder_are_listed_in_pages() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("list-all");
    let mut files = SessionFiles::new(&client, &session);
    for path in ["/a", "/d/1", "/d/s/x", "/d/s/y", "/zzz"] {
        files.write(path, b"x").await.expect("written");
    }
    let task = client
        .run(&session, shell("echo x >\"$TASKYARD_ARTIFACTS/n\""))
        .await;
    for page_size in [1, 2, 1_000] {
        let all = files.list_all("/", page_size).await.expect("listed");
        assert_eq!(all, ["/a", "/d/1", "/d/s/x", "/d/s/y", "/zzz"]);
        let below = files.list_all("/d", page_size).await.expect("listed");
        assert_eq!(below, ["/d/1", "/d/s/x", "/d/s/y"]);
        let of_tasks = files.list_all("/.tasks", page_size).await.expect("listed");
        let names = ["result.json", "stderr.log", "stdout.log", "artifacts/n"];
        assert_eq!(
            of_tasks,
            names.map(|name| format!("/.tasks/{}/{name}", task.id))
        );
    }
    let refused = files.list_all("/a", 10).await;
    expect_refused(
        "a file",
        refused,
        Code::FailedPrecondition,
        "WRONG_FILE_TYPE",
    );
}
