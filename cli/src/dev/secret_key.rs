//! The key under which a Taskyard of one's own keeps the values of secrets: made at its first start, in its data directory.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const FILE_NAME: &str = "secret.key";

/// The file with the key, readable by its owner only; made where there is none.
pub fn ensure(data_dir: &Path) -> Result<PathBuf, Failure> {
    let path = data_dir.join(FILE_NAME);
    if path.exists() {
        return Ok(path);
    }
    make(data_dir, &path).map_err(|error| {
        Failure::Own(format!(
            "the key for secrets cannot be written to {}: {error}",
            path.display()
        ))
    })?;
    Ok(path)
}

/// Written aside and moved there whole; one that another start has made meanwhile stays.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(data_dir)?;
    let key: [u8; 32] = rand::random();
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let aside = data_dir.join(format!("{FILE_NAME}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(format!("{digits}\n").as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().join("new");
        let path = ensure(&data_dir).expect("it is made");
        let key = fs::read_to_string(&path).expect("it is there");
        assert_eq!(key.trim().len(), 64);
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        ensure(&data_dir).expect("it is there");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), key);
        assert_eq!(fs::read_dir(&data_dir).expect("listed").count(), 1);
    }
}
