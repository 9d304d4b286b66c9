//! What stands in a text where bytes are missing.

/// The line for so many missing bytes, as in the files that show the output; none where it would be longer than they are.
pub(super) fn gap_marker(missing: u64) -> String {
    let marker = format!("[... {missing} bytes not kept ...]\n");
    if marker.len() as u64 <= missing {
        marker
    } else {
        String::new()
    }
}
