//! The generated types by the names of their messages.

use prost::{DecodeError, Message};

include!("../../src/generated/message_types.rs");

/// Whether the message still exists.
pub fn is_known(message: &str) -> bool {
    TYPES.iter().any(|(name, _)| *name == message)
}

/// What this version says after it has read `bytes`.
pub fn again(message: &str, bytes: &[u8]) -> Vec<u8> {
    let known = TYPES.iter().find(|(name, _)| *name == message);
    let (_, reread) = known.unwrap_or_else(|| panic!("{message} is gone"));
    reread(bytes).unwrap_or_else(|error| panic!("{message}: {error}"))
}

fn reread<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Ok(M::decode(bytes)?.encode_to_vec())
}
