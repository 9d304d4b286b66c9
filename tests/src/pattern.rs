//! Bytes that tell where they belong: each depends on a seed and on its own offset only, so any range of a stream can be
//! checked without the rest of it.

/// The bytes of stream `seed` from `offset` on, as many as `buffer` holds.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let mut at = 0;
    while at < buffer.len() {
        let position = offset + at as u64;
        let word = word_at(seed, position / 8).to_le_bytes();
        let skip = (position % 8) as usize;
        let length = (8 - skip).min(buffer.len() - at);
        buffer[at..at + length].copy_from_slice(&word[skip..skip + length]);
        at += length;
    }
}

/// True when `bytes` are the bytes of stream `seed` from `offset` on.
pub fn matches(seed: u64, offset: u64, bytes: &[u8]) -> bool {
    let mut expected = vec![0; bytes.len()];
    fill(seed, offset, &mut expected);
    expected == bytes
}

/// The mixing step of splitmix64.
fn word_at(seed: u64, index: u64) -> u64 {
    let mut word = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::{fill, matches};

    #[test]
    fn any_range_is_a_part_of_the_whole() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        for from in 0..whole.len() {
            for to in from..whole.len() {
                assert!(matches(7, from as u64, &whole[from..to]));
            }
        }
        assert!(!matches(8, 0, &whole));
        assert!(!matches(7, 1, &whole));
    }
}
