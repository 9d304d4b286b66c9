//! What a message may say.

use crate::control::{definition::check_text, refusal::Refusal, schema};
use taskyard_core::vfs::SessionPath;
use taskyard_proto::v1::{MessagePart, message_part::Part};

const MAX_PARTS: usize = 16;
const MAX_BYTES: usize = 64 << 10;
const MAX_REQUEST_ID: usize = 128;
const MAX_FILE_NAME: usize = 256;

/// Checks the parts of a message.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::TooLarge`], [`Refusal::InvalidPath`].
pub fn check_parts(parts: &[MessagePart]) -> Result<(), Refusal> {
    if parts.is_empty() || parts.len() > MAX_PARTS {
        return Err(Refusal::invalid(
            "parts",
            format!("a message has 1 to {MAX_PARTS} parts"),
        ));
    }
    let mut bytes = 0;
    for part in parts {
        bytes += match &part.part {
            None => return Err(Refusal::invalid("parts", "a part must not be empty")),
            Some(Part::Text(text)) => text.len(),
            Some(Part::DataJson(json)) => {
                if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(json) {
                    return Err(Refusal::invalid(
                        "parts.data_json",
                        format!("is no valid JSON: {error}"),
                    ));
                }
                json.len()
            }
            Some(Part::File(file)) => {
                if let Err(problem) = file.path.parse::<SessionPath>() {
                    return Err(Refusal::InvalidPath {
                        path: file.path.clone(),
                        problem,
                    });
                }
                check_text("parts.file.name", &file.name, MAX_FILE_NAME)?;
                check_text("parts.file.media_type", &file.media_type, MAX_FILE_NAME)?;
                file.path.len()
            }
        };
    }
    if bytes > MAX_BYTES {
        return Err(Refusal::TooLarge {
            what: "the message".to_owned(),
            limit: MAX_BYTES as u64,
        });
    }
    Ok(())
}

/// Checks the poster's own name for a message; an empty one is none.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check_request_id(request_id: String) -> Result<Option<String>, Refusal> {
    check_text("request_id", &request_id, MAX_REQUEST_ID)?;
    Ok((!request_id.is_empty()).then_some(request_id))
}

/// Why the JSON parts of a message do not satisfy a schema; none: they do.
#[must_use]
pub fn find_schema_violation(parts: &[MessagePart], schema_json: &str) -> Option<String> {
    parts.iter().find_map(|part| match &part.part {
        Some(Part::DataJson(json)) => schema::find_violation(schema_json, json),
        Some(Part::Text(_) | Part::File(_)) | None => None,
    })
}
