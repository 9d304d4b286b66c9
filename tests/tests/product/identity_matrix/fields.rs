//! What a request can name, read from the descriptors: every field of every request is either a name of something that
//! a tenant has, or is said here to be none. A new field that nobody has thought about fails the test.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// What a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Namespace,
    Session,
    Task,
    Question,
    Message,
    Webhook,
    Delivery,
    Wake,
    Group,
    Key,
    TaskName,
    RequestId,
    Path,
    Consumer,
    Worker,
    Lease,
    /// A token or a cursor: the answer may tell that it is of another list, but nothing else.
    Token,
}

/// A place in a request that names something: the numbers of the fields that lead there.
#[derive(Clone, Debug)]
pub struct Place {
    pub kind: Kind,
    pub path: Vec<u32>,
    /// Such as `task.parent_task_id`.
    pub shown: String,
}

/// A method, and what its request can name.
#[derive(Clone, Debug)]
pub struct Method {
    pub path: String,
    pub places: Vec<Place>,
}

/// Every method of every service of ours.
pub fn methods() -> Vec<Method> {
    let set = FileDescriptorSet::decode(taskyard_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut messages = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    let mut methods = Vec::new();
    let mut strange = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let mut places = Vec::new();
                let input = method.input_type();
                find(&messages, input, &[], "", &mut places, &mut strange);
                methods.push(Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    places,
                });
            }
        }
    }
    assert!(
        strange.is_empty(),
        "these may name something of another tenant; say in this test what they name, or that they do not: {strange:?}"
    );
    methods
}

fn find(
    messages: &BTreeMap<String, &DescriptorProto>,
    message: &str,
    path: &[u32],
    shown: &str,
    places: &mut Vec<Place>,
    strange: &mut BTreeSet<String>,
) {
    // what is none of ours are times, durations and masks
    let Some(descriptor) = messages
        .get(message)
        .filter(|_| !message.starts_with(".google."))
    else {
        return;
    };
    for field in &descriptor.field {
        let number = u32::try_from(field.number()).expect("a number");
        let path = [path, &[number]].concat();
        let shown = format!("{shown}{}", field.name());
        if let Some(kind) = kind_of(descriptor.name(), field) {
            places.push(Place { kind, path, shown });
        } else if is_text(field) && !NO_NAMES.contains(&field.name()) {
            strange.insert(format!("{}.{}", descriptor.name(), field.name()));
        } else if field.r#type() == Type::Message {
            let shown = format!("{shown}.");
            find(messages, field.type_name(), &path, &shown, places, strange);
        }
    }
}

fn is_text(field: &FieldDescriptorProto) -> bool {
    matches!(field.r#type(), Type::String | Type::Bytes)
}

/// What a field names; none: nothing.
fn kind_of(message: &str, field: &FieldDescriptorProto) -> Option<Kind> {
    let kind = match (message, field.name()) {
        (_, "namespace") if message != "ScaledObjectRef" => Kind::Namespace,
        (_, "session_id" | "session_ids") => Kind::Session,
        (_, "task") if is_text(field) => Kind::Task,
        (
            _,
            "task_id" | "task_ids" | "parent_task_id" | "root_task_id" | "retry_of" | "retried_as",
        ) => Kind::Task,
        (_, "question_id") => Kind::Question,
        (_, "in_reply_to") => Kind::Message,
        (_, "webhook_id") => Kind::Webhook,
        (_, "delivery_id") => Kind::Delivery,
        (_, "ack_ids") => Kind::Wake,
        ("CommandSpec", "group") => return None,
        (_, "group" | "groups") => Kind::Group,
        (_, "key") => Kind::Key,
        ("TaskDefinition", "name") => Kind::TaskName,
        (_, "request_id") => Kind::RequestId,
        (_, "path" | "stdin_file" | "env_files") => Kind::Path,
        (_, "consumer") => Kind::Consumer,
        (_, "worker") => Kind::Worker,
        (_, "page_token" | "cursor") => Kind::Token,
        _ if field.r#type() == Type::Message && field.type_name() == ".taskyard.v1.Lease" => {
            Kind::Lease
        }
        _ => return None,
    };
    Some(kind)
}

/// Fields of text that name nothing that a tenant has: contents, words of the request's own, patterns, and what the
/// worker or the outside world knows. `instance_id` and `state_id` name boots of workers, of which `identity_workers` has
/// tests; the `namespace` that is left here is one of Kubernetes.
const NO_NAMES: &[&str] = &[
    "answer_json",
    "argv",
    "at_start",
    "child_session_id",
    "cwd",
    "data",
    "data_json",
    "display_name",
    "executor",
    "executors",
    "expected_json",
    "expression",
    "features",
    "filter",
    "firing_kind",
    "glob",
    "group",
    "held_digest",
    "hint",
    "id",
    "inherit_env",
    "input_json",
    "instance_id",
    "interpreter",
    "isolation",
    "kind",
    "kinds",
    "label",
    "literal",
    "match_regex",
    "media_type",
    "message",
    "message_schema_json",
    "method",
    "metricName",
    "name",
    "next_lease_id",
    "output_json",
    "pattern",
    "payload_json",
    "prompt",
    "queue",
    "queues",
    "readable_paths",
    "reason",
    "reference",
    "regex",
    "remote_task_id",
    "reported_json",
    "resource_ids",
    "result_path",
    "result_schema_json",
    "secret",
    "shell",
    "signal",
    "signal_name",
    "state_detail",
    "state_id",
    "stdin",
    "store_id",
    "summary",
    "tags",
    "tail",
    "term",
    "text",
    "time_zone",
    "title",
    "to",
    "to_file",
    "traceparent",
    "tracestate",
    "type",
    "unit",
    "url",
    "usage_json",
    "user",
    "value",
    "version",
    "who",
    "worker_env",
    "worker_file",
    "worker_id",
    "worker_session_id",
    "writable_paths",
    "namespace",
];

/// The bytes that set a place of an encoded request when they are appended to it. Where a field repeats, it gets one
/// more element.
pub fn set(path: &[u32], value: &Value) -> Vec<u8> {
    let Some((number, rest)) = path.split_first() else {
        panic!("a place in a request has a path");
    };
    let nested;
    let content: &[u8] = match (rest, value) {
        ([], Value::Number(number_value)) => {
            let mut bytes = varint(u64::from(*number) << 3);
            bytes.extend(varint(u64::try_from(*number_value).expect("not negative")));
            return bytes;
        }
        ([], Value::Bytes(bytes)) => bytes,
        (rest, value) => {
            nested = set(rest, value);
            &nested
        }
    };
    let mut bytes = varint(u64::from(*number) << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend_from_slice(content);
    bytes
}

/// What is put into a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bytes(Vec<u8>),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
