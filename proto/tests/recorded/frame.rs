//! One line of a record: a message as it was said, in bytes for machines and in words for readers.

use prost_reflect::DynamicMessage;
use serde_json::json;

pub struct Frame {
    /// Full name of the message.
    pub message: String,
    pub bytes: Vec<u8>,
    text: String,
}

impl Frame {
    pub fn new(said: &DynamicMessage, bytes: Vec<u8>) -> Frame {
        Frame {
            message: prost_reflect::ReflectMessage::descriptor(said)
                .full_name()
                .to_owned(),
            bytes,
            text: said.to_text_format(),
        }
    }

    pub fn line(&self) -> String {
        let bytes: String = self
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = json!({ "message": self.message, "text": self.text, "bytes": bytes });
        format!("{line}\n")
    }

    pub fn read(line: &str) -> Frame {
        let value: serde_json::Value = serde_json::from_str(line).expect("a frame is JSON");
        let text = |name: &str| {
            value[name]
                .as_str()
                .expect("a frame has three texts")
                .to_owned()
        };
        let digits = text("bytes");
        let bytes = (0..digits.len()).step_by(2).map(|at| {
            u8::from_str_radix(&digits[at..at + 2], 16).expect("bytes are hexadecimal digits")
        });
        Frame {
            message: text("message"),
            bytes: bytes.collect(),
            text: text("text"),
        }
    }
}
