//! A call that is repeated while servers are replaced means the same to all of them: by which number its method is
//! stored, and by which digest what it asked for.

use prost::Message;
use serde_json::{Value, json};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    BatchCreateTasksRequest, CloneTaskRequest, CreateTaskRequest, RetryTaskRequest,
};

use super::releases::Release;
use super::{bytes, hex, recorded, text};
use crate::control::{batch_create_tasks, fingerprint};
use crate::store::creates::RequestMethod;

/// Every field of each request, and each alternative of a field, is in one of its frames there.
const FRAMES: &str = "frames.jsonl";
/// What the request's words for a task stood for.
const TASK: &str = "task_recorded";
const FIRING: (TaskId, i64) = (TaskId(7), 3);

#[test]
fn a_call_that_a_recorded_release_answered_is_known_again() {
    for (release, record) in recorded() {
        let requests = &record["requests"];
        for (method, then) in requests["methods"].as_object().expect("methods by name") {
            assert_eq!(json!(number(method)), then["number"], "{method}");
            let fingerprints = then["fingerprints"].as_array().expect("a list");
            let frames = frames(&release, method);
            assert_eq!(frames.len(), fingerprints.len(), "{method}");
            for (frame, then) in frames.iter().zip(fingerprints) {
                assert_eq!(
                    hex(&fingerprint_of(method, frame)),
                    text(then),
                    "{:?}: a repeated {method} would be refused as another one. What is new in a request must leave the \
                     fingerprint of one without it as it was; see compat/README.md",
                    release.folder
                );
            }
        }
        assert_eq!(item_id(), text(&requests["item_of_batch"]));
        let firing = fingerprint::of_firing(FIRING.0, FIRING.1);
        assert_eq!(hex(&firing), text(&requests["firing"]));
    }
}

pub(super) fn record(release: &Release) -> Value {
    let methods = ["CreateTask", "BatchCreateTasks", "RetryTask", "CloneTask"].map(|method| {
        let frames = frames(release, method);
        assert!(!frames.is_empty(), "{method} has no frames");
        let fingerprints = frames
            .iter()
            .map(|frame| hex(&fingerprint_of(method, frame)));
        let record = json!({
            "number": number(method),
            "fingerprints": fingerprints.collect::<Vec<_>>(),
        });
        (method.to_owned(), record)
    });
    json!({
        "methods": methods.into_iter().collect::<serde_json::Map<_, _>>(),
        "item_of_batch": item_id(),
        "firing": hex(&fingerprint::of_firing(FIRING.0, FIRING.1)),
    })
}

fn number(method: &str) -> i16 {
    let method = match method {
        "CreateTask" => RequestMethod::Create,
        "BatchCreateTasks" => RequestMethod::BatchCreate,
        "RetryTask" => RequestMethod::Retry,
        "CloneTask" => RequestMethod::Clone,
        method => panic!("{method}: its request ids are known no more"),
    };
    method as i16
}

fn fingerprint_of(method: &str, frame: &[u8]) -> [u8; 32] {
    match method {
        "CreateTask" => fingerprint::of_create(&read::<CreateTaskRequest>(frame)),
        "BatchCreateTasks" => fingerprint::of_batch(&read::<BatchCreateTasksRequest>(frame)),
        "RetryTask" => fingerprint::of_retry(&read::<RetryTaskRequest>(frame), TASK),
        "CloneTask" => fingerprint::of_clone(&read::<CloneTaskRequest>(frame), TASK),
        method => panic!("{method}: its requests are compared no more"),
    }
}

fn read<T: Message + Default>(frame: &[u8]) -> T {
    T::decode(frame).expect("a request")
}

/// What the second task of a batch is known by.
fn item_id() -> String {
    let keys = batch_create_tasks::request_keys(1, "batch", 2);
    keys[1].request_id.clone()
}

/// The method's requests in the record, in its order.
fn frames(release: &Release, method: &str) -> Vec<Vec<u8>> {
    let message = format!("taskyard.v1.{method}Request");
    let frames = String::from_utf8(release.read(FRAMES)).expect("frames are text");
    frames
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a frame is JSON"))
        .filter(|frame| frame["message"] == message.as_str())
        .map(|frame| bytes(&frame["bytes"]))
        .collect()
}
