//! Records for programs: fields in a fixed order, and a brief form without what is empty.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// An object whose fields keep the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record(Vec<(&'static str, Node)>);

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Value(Value),
    Record(Record),
    List(Vec<Record>),
}

impl Record {
    pub fn new() -> Record {
        Record::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Node>) -> Record {
        self.0.push((name, value.into()));
        self
    }

    /// Adds the fields of another record.
    #[must_use]
    pub fn and(mut self, other: Record) -> Record {
        self.0.extend(other.0);
        self
    }

    /// Adds a text; an empty one is nothing.
    #[must_use]
    pub fn with_text(self, name: &'static str, text: &str) -> Record {
        let value = if text.is_empty() {
            Value::Null
        } else {
            Value::from(text)
        };
        self.with(name, value)
    }

    /// Without the fields that say nothing: null, false, empty, and the named ones.
    #[must_use]
    pub fn brief(self, without: &[&str]) -> Record {
        let fields = self.0.into_iter().filter_map(|(name, node)| {
            if without.contains(&name) {
                return None;
            }
            let node = match node {
                Node::Value(value) => Node::Value(value),
                Node::Record(record) => Node::Record(record.brief(&[])),
                Node::List(records) => Node::List(
                    records
                        .into_iter()
                        .map(|record| record.brief(&[]))
                        .collect(),
                ),
            };
            (!node.says_nothing()).then_some((name, node))
        });
        Record(fields.collect())
    }
}

impl Node {
    fn says_nothing(&self) -> bool {
        match self {
            Node::Value(Value::Null | Value::Bool(false)) => true,
            Node::Value(Value::String(text)) => text.is_empty(),
            Node::Value(Value::Array(items)) => items.is_empty(),
            Node::Value(Value::Object(fields)) => fields.is_empty(),
            Node::Value(Value::Bool(true) | Value::Number(_)) => false,
            Node::Record(record) => record.0.is_empty(),
            Node::List(records) => records.is_empty(),
        }
    }
}

/// One implementation for all that is `Into<Value>` would claim the records below, too.
macro_rules! node_of_value {
    ($($type:ty),+ $(,)?) => {
        $(impl From<$type> for Node {
            fn from(value: $type) -> Node {
                Node::Value(Value::from(value))
            }
        })+
    };
}

node_of_value!(
    Value,
    &str,
    bool,
    i32,
    i64,
    String,
    Option<i32>,
    Option<i64>,
    Option<f64>,
    Option<String>,
    f64,
    Vec<String>,
    Vec<i32>,
);

impl From<Record> for Node {
    fn from(record: Record) -> Node {
        Node::Record(record)
    }
}

impl From<Option<Record>> for Node {
    fn from(record: Option<Record>) -> Node {
        match record {
            Some(record) => Node::Record(record),
            None => Node::Value(Value::Null),
        }
    }
}

impl From<Vec<Record>> for Node {
    fn from(records: Vec<Record>) -> Node {
        Node::List(records)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Value(value) => value.serialize(serializer),
            Node::Record(record) => record.serialize(serializer),
            Node::List(records) => records.serialize(serializer),
        }
    }
}

/// JSON that came as text; what is not JSON stays a text.
pub fn embedded_json(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}
