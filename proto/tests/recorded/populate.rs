//! Messages in which everything is said.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor, Value,
};

/// Messages within messages are filled this deep; each is a root of its own, too.
const DEPTH: usize = 2;

/// The message with every field set, as many times as it takes to say each alternative of each oneof.
pub fn populated(message: &MessageDescriptor) -> Vec<DynamicMessage> {
    let cases = alternatives(message)
        .map(|oneof| oneof.fields().count())
        .max()
        .unwrap_or(1);
    (0..cases).map(|case| fill(message, case, 0)).collect()
}

/// What proto3 calls `optional` is a oneof of one in descriptors, too.
fn alternatives(message: &MessageDescriptor) -> impl Iterator<Item = OneofDescriptor> {
    message.oneofs().filter(|oneof| !oneof.is_synthetic())
}

fn fill(message: &MessageDescriptor, case: usize, depth: usize) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let is_said = match field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic())
        {
            None => true,
            Some(oneof) => {
                let count = oneof.fields().count();
                oneof.fields().nth(case % count).as_ref() == Some(&field)
            }
        };
        let is_too_deep = depth == DEPTH && matches!(field.kind(), Kind::Message(_));
        if is_said && !is_too_deep {
            filled.set_field(&field, value(&field, depth));
        }
    }
    filled
}

fn value(field: &FieldDescriptor, depth: usize) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            unreachable!("entries of maps are messages")
        };
        let key = match scalar(&entry.map_entry_key_field(), depth) {
            Value::String(key) => MapKey::String(key),
            Value::I32(key) => MapKey::I32(key),
            Value::I64(key) => MapKey::I64(key),
            other => panic!("{}: a key of {other:?}", field.full_name()),
        };
        let value = scalar(&entry.map_entry_value_field(), depth);
        return Value::Map([(key, value)].into());
    }
    if !field.is_list() {
        return scalar(field, depth);
    }
    match field.kind() {
        Kind::Enum(words) => Value::List(
            words
                .values()
                .map(|word| Value::EnumNumber(word.number()))
                .collect(),
        ),
        Kind::Message(_) => Value::List(vec![scalar(field, depth)]),
        _ => Value::List(vec![scalar(field, depth); 2]),
    }
}

fn scalar(field: &FieldDescriptor, depth: usize) -> Value {
    let number = field.number();
    match field.kind() {
        Kind::Message(message) => Value::Message(fill(&message, 0, depth + 1)),
        Kind::Enum(words) => {
            let last = words.values().map(|word| word.number()).max();
            Value::EnumNumber(last.unwrap_or_default())
        }
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(field.name().to_owned()),
        Kind::Bytes => Value::Bytes(field.name().to_owned().into_bytes().into()),
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Float => Value::F32(0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(100 + number.cast_signed()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64(i64::from(i32::MAX) + i64::from(number))
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32(100 + number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(u32::MAX) + u64::from(number)),
    }
}
