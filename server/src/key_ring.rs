//! The keys under which values of secrets are kept. The first one encrypts, all of them decrypt, so that a key can be
//! replaced while values under the older one are still there.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
};

const KEY_BYTES: usize = 32;
/// Most keys of one file.
const MAX_KEYS: usize = 32;
/// Larger than any file of keys.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// So that the name of a key tells nothing of what else is made of it.
const KEY_ID_CONTEXT: &[u8] = b"taskyard secret key id\0";

/// Which key; not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An encrypted value, with what is needed to decrypt it but for the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The key.
    pub key: KeyId,
    /// Drawn anew for each value.
    pub nonce: [u8; 24],
    /// The value, encrypted and authenticated.
    pub bytes: Vec<u8>,
}

/// Why a value is not encrypted: there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key")]
pub struct NoKey;

/// Why a value is not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is encrypted with a key that is not here.
    #[error("the key {0} is not known")]
    UnknownKey(KeyId),
    /// It was changed, or belongs elsewhere.
    #[error("it does not belong there, or was damaged")]
    Damaged,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path}: line {line} is no key; each line is one key of 32 bytes in base64 or hexadecimal, such as `openssl rand -base64 32` makes"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file holds none, or too many.
    #[error("{path}: must hold 1 to {MAX_KEYS} keys")]
    Count {
        /// The file.
        path: PathBuf,
    },
}

/// The keys of a server; there may be none.
#[derive(Default)]
pub struct KeyRing {
    keys: Vec<(KeyId, XChaCha20Poly1305)>,
}

/// Keys are not shown.
impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.keys.iter().map(|(id, _)| id))
            .finish()
    }
}

impl KeyRing {
    /// Reads a file of keys: one a line, in base64 or hexadecimal; empty lines and those that begin with # are none.
    ///
    /// # Errors
    /// Any [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let unreadable = |source| KeyFileError::Io {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
            .map_err(unreadable)?;
        let mut keys = Vec::new();
        for (line, word) in (1..).zip(text.lines().map(str::trim)) {
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            let key = parse_key(word).ok_or_else(|| KeyFileError::NotAKey {
                path: path.to_owned(),
                line,
            })?;
            keys.push(key);
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(KeyFileError::Count {
                path: path.to_owned(),
            });
        }
        Ok(Self::of(&keys))
    }

    fn of(keys: &[[u8; KEY_BYTES]]) -> Self {
        let keys = keys.iter().map(|key| {
            let digest = Sha256::new()
                .chain_update(KEY_ID_CONTEXT)
                .chain_update(key)
                .finalize();
            let mut id = [0; 8];
            id.copy_from_slice(&digest[..8]);
            (KeyId(id), XChaCha20Poly1305::new(key.into()))
        });
        Self {
            keys: keys.collect(),
        }
    }

    /// Which keys there are; the first one encrypts.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// Encrypts a value that can be decrypted in the same `place` only.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Result<Sealed, NoKey> {
        self.seal_with(rand::random(), place, value)
    }

    /// For [`KeyRing::seal`], and for what has to come out the same each time: a nonce that is used for two values gives
    /// both away.
    pub(crate) fn seal_with(
        &self,
        nonce: [u8; 24],
        place: &[u8],
        value: &[u8],
    ) -> Result<Sealed, NoKey> {
        let (key, cipher) = self.keys.first().ok_or(NoKey)?;
        let payload = Payload {
            msg: value,
            aad: place,
        };
        // it fails only for values of 256 GiB
        let bytes = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| NoKey)?;
        Ok(Sealed {
            key: *key,
            nonce,
            bytes,
        })
    }

    /// Decrypts a value.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub fn open(&self, place: &[u8], sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
        let (_, cipher) = self
            .keys
            .iter()
            .find(|(id, _)| *id == sealed.key)
            .ok_or(OpenError::UnknownKey(sealed.key))?;
        let payload = Payload {
            msg: &sealed.bytes,
            aad: place,
        };
        cipher
            .decrypt(&XNonce::from(sealed.nonce), payload)
            .map_err(|_| OpenError::Damaged)
    }
}

fn parse_key(word: &str) -> Option<[u8; KEY_BYTES]> {
    // 64 digits are hexadecimal: as base64 they would be 48 bytes
    if word.len() == 2 * KEY_BYTES {
        let mut key = [0; KEY_BYTES];
        for (byte, digits) in key.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        return Some(key);
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(word).ok()?.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn read(text: &str) -> Result<KeyRing, KeyFileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        std::fs::write(&path, text).expect("written");
        KeyRing::read(&path)
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        let ring = KeyRing::of(&[OLD]);
        let sealed = ring.seal(b"here", b"value").expect("there is a key");
        assert_eq!(ring.open(b"here", &sealed), Ok(b"value".to_vec()));
        assert_eq!(ring.open(b"there", &sealed), Err(OpenError::Damaged));
        let mut damaged = sealed.clone();
        damaged.bytes[0] ^= 1;
        assert_eq!(ring.open(b"here", &damaged), Err(OpenError::Damaged));
        let again = ring.seal(b"here", b"value").expect("there is a key");
        assert_ne!(sealed.bytes, again.bytes);
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let before = KeyRing::of(&[OLD]);
        let sealed = before.seal(b"", b"value").expect("there is a key");
        let rotated = KeyRing::of(&[NEW, OLD]);
        assert_eq!(rotated.open(b"", &sealed), Ok(b"value".to_vec()));
        let newer = rotated.seal(b"", b"value").expect("there is a key");
        assert_eq!(
            before.open(b"", &newer),
            Err(OpenError::UnknownKey(newer.key))
        );
        assert_eq!(KeyRing::default().seal(b"", b"value"), Err(NoKey));
    }

    #[test]
    fn keys_are_read_in_base64_and_hexadecimal() {
        let hex = "01".repeat(32);
        let base64 = STANDARD.encode(NEW);
        let ring = read(&format!("# newest first\n{base64}\n\n  {hex}  \n")).expect("good");
        let expected = KeyRing::of(&[NEW, OLD]);
        assert!(ring.ids().eq(expected.ids()));
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line_and_not_shown() {
        let error = read(&format!("{}\nnot-a-key\n", "01".repeat(32))).expect_err("bad");
        let text = error.to_string();
        assert!(text.contains("line 2"), "{text}");
        assert!(!text.contains("not-a-key"), "{text}");
        assert!(matches!(
            read("# nothing\n"),
            Err(KeyFileError::Count { .. })
        ));
        assert!(matches!(
            KeyRing::read(Path::new("/nonexistent")),
            Err(KeyFileError::Io { .. })
        ));
    }
}
