//! The parts of a message, as `message` and `self post` take them.

use clap::Args;
use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::{FilePart, MessagePart};

use crate::failure::Failure;
use crate::local_json::read_json;

/// What a message says.
#[derive(Debug, Args)]
pub struct PartArguments {
    /// The text
    #[arg(required_unless_present_any = ["data", "file"])]
    pub text: Option<String>,
    /// A JSON value, or @FILE with one; repeatable
    #[arg(long, value_name = "JSON|@FILE")]
    pub data: Vec<String>,
    /// Path of a file of the session; repeatable
    #[arg(long, value_name = "PATH")]
    pub file: Vec<String>,
}

impl PartArguments {
    /// The text, the values and the files, in this order.
    pub async fn parts(self) -> Result<Vec<MessagePart>, Failure> {
        let mut parts: Vec<Part> = self.text.into_iter().map(Part::Text).collect();
        for data in &self.data {
            parts.push(Part::DataJson(read_json("--data", data).await?));
        }
        parts.extend(self.file.into_iter().map(|path| {
            Part::File(FilePart {
                path,
                ..FilePart::default()
            })
        }));
        let parts = parts.into_iter();
        Ok(parts.map(|part| MessagePart { part: Some(part) }).collect())
    }
}
