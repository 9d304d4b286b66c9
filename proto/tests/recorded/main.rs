//! What the releases before said and stored is understood, and what is said now is understood by them. The records are
//! in `compat/`; `scripts/record-release` writes that of this version.

mod frame;
mod populate;
#[path = "../../../compat/releases.rs"]
mod releases;
mod types;

use std::fs;
use std::sync::Once;

use frame::Frame;
use populate::populated;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use releases::Release;
use types::{again, is_known};

const DESCRIPTORS: &str = "descriptors.binpb";
const FRAMES: &str = "frames.jsonl";

#[test]
fn this_version_is_recorded() {
    let recorded = recorded();
    for name in [DESCRIPTORS, FRAMES] {
        assert!(releases::own(&recorded).path(name).is_file(), "{name}");
    }
}

#[test]
fn every_field_of_a_recorded_release_is_in_its_frames() {
    for release in recorded() {
        let frames = frames(&release);
        for message in messages(&descriptors(&release)) {
            let said: Vec<DynamicMessage> = frames
                .iter()
                .filter(|frame| frame.message == message.full_name())
                .map(|frame| decode(&message, &frame.bytes))
                .collect();
            for field in message.fields() {
                assert!(
                    said.iter().any(|frame| frame.has_field(&field)),
                    "{:?} has no frame with {}",
                    release.folder,
                    field.full_name()
                );
            }
        }
    }
}

#[test]
fn what_a_recorded_release_said_is_understood_whole() {
    for release in recorded() {
        let then = descriptors(&release);
        for frame in frames(&release) {
            let message = then.get_message_by_name(&frame.message);
            let message = message.unwrap_or_else(|| panic!("{} was recorded", frame.message));
            let said = decode(&message, &frame.bytes);
            let heard = again(&frame.message, &frame.bytes);
            assert_eq!(
                decode(&message, &heard),
                said,
                "{}: part of it is lost",
                frame.message
            );
        }
    }
}

#[test]
fn what_is_said_now_is_understood_by_a_recorded_release() {
    let now = pool(taskyard_proto::FILE_DESCRIPTOR_SET);
    for release in recorded() {
        let then = descriptors(&release);
        for message in messages(&now) {
            let Some(known) = then.get_message_by_name(message.full_name()) else {
                continue;
            };
            for said in populated(&message) {
                let bytes = again(message.full_name(), &said.encode_to_vec());
                let heard = DynamicMessage::decode(known.clone(), bytes.as_slice())
                    .unwrap_or_else(|error| panic!("{}: {error}", message.full_name()));
                for field in known.fields() {
                    let was_said = message
                        .get_field(field.number())
                        .is_some_and(|field| said.has_field(&field));
                    assert_eq!(heard.has_field(&field), was_said, "{}", field.full_name());
                }
            }
        }
    }
}

#[test]
fn words_of_a_later_release_are_kept_as_numbers() {
    const LATER: Value = Value::EnumNumber(9_999);
    let mut tried = 0;
    for message in messages(&pool(taskyard_proto::FILE_DESCRIPTOR_SET)) {
        for field in message.fields().filter(|field| !field.is_map()) {
            if let Kind::Enum(_) = field.kind() {
                let word = if field.is_list() {
                    Value::List(vec![LATER])
                } else {
                    LATER
                };
                let mut said = DynamicMessage::new(message.clone());
                said.set_field(&field, word);
                let heard = again(message.full_name(), &said.encode_to_vec());
                assert_eq!(decode(&message, &heard), said, "{}", field.full_name());
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn every_message_has_its_type() {
    for message in messages(&pool(taskyard_proto::FILE_DESCRIPTOR_SET)) {
        assert!(is_known(message.full_name()), "{}", message.full_name());
    }
}

fn recorded() -> Vec<Release> {
    static RECORDED: Once = Once::new();
    releases::releases(&RECORDED, |release| {
        let now = bare(taskyard_proto::FILE_DESCRIPTOR_SET);
        let mut lines = String::new();
        for message in messages(&pool(&now)) {
            for said in populated(&message) {
                let bytes = again(message.full_name(), &said.encode_to_vec());
                lines += &Frame::new(&said, bytes).line();
            }
        }
        fs::write(release.path(DESCRIPTORS), &now).expect("written");
        fs::write(release.path(FRAMES), lines).expect("written");
    })
}

/// Without comments and places, which are most of it.
fn bare(encoded: &[u8]) -> Vec<u8> {
    let mut set = prost_types::FileDescriptorSet::decode(encoded).expect("a set of descriptors");
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set.encode_to_vec()
}

fn descriptors(release: &Release) -> DescriptorPool {
    pool(&release.read(DESCRIPTORS))
}

fn frames(release: &Release) -> Vec<Frame> {
    let text = String::from_utf8(release.read(FRAMES)).expect("frames are text");
    text.lines().map(Frame::read).collect()
}

fn pool(encoded: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(encoded).expect("a set of descriptors")
}

/// Ours, by name; entries of maps are no messages of their own.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let mut messages: Vec<_> = pool
        .all_messages()
        .filter(|message| !message.is_map_entry())
        .filter(|message| !message.package_name().starts_with("google."))
        .collect();
    messages.sort_by(|one, other| one.full_name().cmp(other.full_name()));
    messages
}

/// Reads a message in which nothing may be unknown.
fn decode(message: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    let decoded = DynamicMessage::decode(message.clone(), bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", message.full_name()));
    assert_eq!(
        decoded.unknown_fields().count(),
        0,
        "{}: not all of it is known",
        message.full_name()
    );
    decoded
}
