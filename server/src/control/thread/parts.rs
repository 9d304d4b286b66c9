//! What a message may say.

use crate::{
    app::App,
    control::{
        definition::check_text,
        files::{Node, find_node, parse_path},
        refusal::Refusal,
        schema,
    },
};
use taskyard_core::id::SessionUid;
use taskyard_proto::v1::{MessagePart, message_part::Part};

const MAX_PARTS: usize = 16;
const MAX_BYTES: usize = 64 << 10;
const MAX_REQUEST_ID: usize = 128;
const MAX_FILE_NAME: usize = 256;

/// Checks the parts of a message.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::TooLarge`], [`Refusal::Within`] for a path that is not clean.
pub fn check_parts(parts: &[MessagePart]) -> Result<(), Refusal> {
    if parts.is_empty() || parts.len() > MAX_PARTS {
        return Err(Refusal::invalid(
            "parts",
            format!("a message has 1 to {MAX_PARTS} parts"),
        ));
    }
    let mut bytes = 0;
    for (index, part) in parts.iter().enumerate() {
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
                parse_path(&file.path).map_err(|refusal| at_file(index, refusal))?;
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

/// Checks that the files which a message names are there.
///
/// # Errors
/// [`Refusal::Within`] that names the part, with [`Refusal::NotFound`] or [`Refusal::WrongFileType`]; or what looking
/// them up says.
pub async fn check_files(
    app: &App,
    session: SessionUid,
    parts: &[MessagePart],
) -> Result<(), Refusal> {
    for (index, part) in parts.iter().enumerate() {
        let Some(Part::File(file)) = &part.part else {
            continue;
        };
        let path = parse_path(&file.path)?;
        match find_node(app, session, &path).await {
            Ok(Node::Stored(_) | Node::Rendered(..) | Node::Log(..)) => {}
            Ok(Node::Folder(_)) => {
                let refusal = Refusal::WrongFileType {
                    path: file.path.clone(),
                    what: "a folder; name a file",
                };
                return Err(at_file(index, refusal));
            }
            Err(refusal @ Refusal::NotFound { .. }) => return Err(at_file(index, refusal)),
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(())
}

/// Names the part whose file is refused.
fn at_file(index: usize, refusal: Refusal) -> Refusal {
    Refusal::Within {
        field: format!("parts[{index}].file.path"),
        refusal: Box::new(refusal),
    }
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
