//! What this machine says of itself.

use std::path::PathBuf;

/// A worker's name has at most this many bytes.
const WORKER_NAME_LEN: usize = 64;

/// This very program, which the worker starts beside each task: by a name that holds even after the file on disk was
/// replaced by a newer one.
pub fn shim_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// How a person calls this program: by its name where the PATH leads to it, else as it was called.
pub fn program_name() -> String {
    const NAME: &str = "taskyard";
    let called = std::env::args().next().unwrap_or_else(|| NAME.to_owned());
    let this = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let in_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|directory| directory.join(NAME))
            .find(|candidate| candidate.is_file())
    });
    let found = in_path.and_then(|candidate| std::fs::canonicalize(candidate).ok());
    if this.is_some() && found == this {
        NAME.to_owned()
    } else {
        called
    }
}

/// Tasks at once where nobody says: most of them wait most of the time.
pub fn default_slots() -> u32 {
    let n_processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(n_processors)
        .unwrap_or(1)
        .saturating_mul(4)
        .clamp(8, 10_000)
}

/// The name of this machine, in the letters that a worker's name may have, with `suffix`.
pub fn host_name(suffix: &str) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(std::io::Error::other))
        .unwrap_or_default();
    let mut name: String = name
        .trim()
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-') {
                character
            } else {
                '-'
            }
        })
        .take(WORKER_NAME_LEN.saturating_sub(suffix.len()))
        .collect();
    if name.is_empty() {
        name.push_str("localhost");
    }
    name + suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_host_is_a_name_for_a_worker() {
        let name = host_name("-dev");
        assert!(
            name.ends_with("-dev") && (5..=WORKER_NAME_LEN).contains(&name.len()),
            "{name}"
        );
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
            "{name}"
        );
    }
}
