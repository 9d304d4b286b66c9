//! Page tokens. A token holds the place where the next page starts and a digest of what is being listed, so that a
//! token of another listing is refused instead of giving a page of nonsense.

use super::refusal::Refusal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const SCOPE_BYTES: usize = 6;
/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 4_096;

/// A token for the page that starts after `position`, in the listing that `scope` describes: the verb and every part
/// of the request that decides what is listed.
#[must_use]
pub fn encode(scope: &[&str], position: &str) -> String {
    let mut bytes = scope_digest(scope).to_vec();
    bytes.extend_from_slice(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in a token of the same listing; none for an empty token, which means the start.
///
/// # Errors
/// [`Refusal::BadToken`].
pub fn decode(scope: &[&str], token: &str) -> Result<Option<String>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let bad = |problem| Refusal::BadToken {
        field: "page_token",
        problem,
    };
    if token.len() > MAX_TOKEN_BYTES {
        return Err(bad("no server made this token"));
    }
    let mut bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| bad("no server made this token"))?;
    if bytes.len() < SCOPE_BYTES {
        return Err(bad("no server made this token"));
    }
    let position = bytes.split_off(SCOPE_BYTES);
    if bytes != scope_digest(scope) {
        return Err(bad(
            "the token is from another listing; repeat the request that gave it, with the token",
        ));
    }
    String::from_utf8(position)
        .map(Some)
        .map_err(|_| bad("no server made this token"))
}

/// The page size to use: `default` where none is asked for.
///
/// # Errors
/// [`Refusal::InvalidField`] outside of 0 to `most`.
pub fn page_size(asked: i32, default: u32, most: u32) -> Result<u32, Refusal> {
    match u32::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) if size <= most => Ok(size),
        Ok(_) | Err(_) => Err(Refusal::invalid(
            "page_size",
            format!("must be 1 to {most}, or 0 for {default}"),
        )),
    }
}

fn scope_digest(scope: &[&str]) -> [u8; SCOPE_BYTES] {
    let mut hasher = Sha256::new();
    for part in scope {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut digest = [0; SCOPE_BYTES];
    digest.copy_from_slice(&hasher.finalize()[..SCOPE_BYTES]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_position_back_to_the_same_listing() {
        let token = encode(&["list files", "7", "/a"], "/a/b");
        assert_eq!(
            decode(&["list files", "7", "/a"], &token).ok(),
            Some(Some("/a/b".to_owned()))
        );
        assert_eq!(decode(&["list files"], "").ok(), Some(None));
    }

    #[test]
    fn other_tokens_are_refused() {
        let token = encode(&["list files", "7", "/a"], "/a/b");
        let long = "A".repeat(5_000);
        for other in [token.as_str(), "!", "AAAA", "zzzzzzzzzz", long.as_str()] {
            assert!(
                matches!(
                    decode(&["list files", "7/", "a"], other),
                    Err(Refusal::BadToken { .. })
                ),
                "{other:?}"
            );
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(0, 50, 500).ok(), Some(50));
        assert_eq!(page_size(500, 50, 500).ok(), Some(500));
        assert!(page_size(501, 50, 500).is_err() && page_size(-1, 50, 500).is_err());
    }
}
