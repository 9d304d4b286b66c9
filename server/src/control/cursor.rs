//! Cursors of watches: which store, which session, and the number of the last event that was handled.

use super::refusal::Refusal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use taskyard_core::id::SessionUid;

const FORMAT: u8 = 1;
const STORE_BYTES: usize = 8;
const BYTES: usize = 1 + STORE_BYTES + 8 + 8;

/// A place in a session's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Digest of the store's identity.
    pub store: [u8; STORE_BYTES],
    /// The session; 0: it did not exist yet.
    pub session: SessionUid,
    /// Number of the last event before the place; 0: none.
    pub seq: i64,
}

impl Cursor {
    /// A place in a log of the store with this identity.
    #[must_use]
    pub fn new(store_identity: &str, session: SessionUid, seq: i64) -> Self {
        Self {
            store: store_digest(store_identity),
            session,
            seq,
        }
    }

    /// The text for clients.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.session.0.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a client's text.
    ///
    /// # Errors
    /// [`Refusal::BadToken`] for what no server wrote.
    pub fn decode(text: &str) -> Result<Self, Refusal> {
        let bad = Refusal::BadToken {
            field: "sessions.cursor",
            problem: "no server made this cursor; send the `cursor` of an item that was received, or none",
        };
        // Longer texts are not worth decoding.
        if text.len() > 2 * BYTES {
            return Err(bad);
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else {
            return Err(bad);
        };
        let Some((&FORMAT, rest)) = bytes.split_first() else {
            return Err(bad);
        };
        let Some((store, rest)) = rest.split_first_chunk::<STORE_BYTES>() else {
            return Err(bad);
        };
        let Some((session, rest)) = rest.split_first_chunk::<8>() else {
            return Err(bad);
        };
        let Ok(seq) = <[u8; 8]>::try_from(rest) else {
            return Err(bad);
        };
        let cursor = Self {
            store: *store,
            session: SessionUid(i64::from_be_bytes(*session)),
            seq: i64::from_be_bytes(seq),
        };
        if cursor.session.0 < 0 || cursor.seq < 0 || cursor.seq == i64::MAX {
            return Err(bad);
        }
        Ok(cursor)
    }

    /// Whether it was made by the store with this identity.
    #[must_use]
    pub fn is_of(&self, store_identity: &str) -> bool {
        self.store == store_digest(store_identity)
    }
}

fn store_digest(identity: &str) -> [u8; STORE_BYTES] {
    let mut digest = [0; STORE_BYTES];
    digest.copy_from_slice(&Sha256::digest(identity.as_bytes())[..STORE_BYTES]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let cursor = Cursor::new("store", SessionUid(7), 42);
        let text = cursor.encode();
        assert_eq!(Cursor::decode(&text).ok(), Some(cursor));
        assert!(cursor.is_of("store") && !cursor.is_of("another store"));
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        );
    }

    #[test]
    fn what_no_server_wrote_is_refused() {
        let good = Cursor::new("store", SessionUid(7), 42).encode();
        let negative = Cursor::new("store", SessionUid(7), -1).encode();
        let newest = Cursor::new("store", SessionUid(7), i64::MAX).encode();
        let other_format = format!("B{}", &good[1..]);
        let long = "A".repeat(1_000);
        for text in [
            "",
            "x",
            "%%",
            &good[1..],
            &format!("{good}AAAA"),
            &negative,
            &newest,
            &other_format,
            &long,
        ] {
            assert!(
                matches!(Cursor::decode(text), Err(Refusal::BadToken { .. })),
                "{text:?}"
            );
        }
    }
}
