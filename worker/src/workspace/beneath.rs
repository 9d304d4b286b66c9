//! Opening files below a directory without ever leaving it, whatever symbolic links lie on the way.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, open, openat, renameat, statat};

/// Opens a regular file for reading. `None` where something else is in its place, or a link on the way.
pub fn open_beneath(directory: &Path, relative: &Path) -> io::Result<Option<File>> {
    let (parts, name) = split(relative)?;
    let mut folder = open_directory(directory)?;
    for part in parts {
        folder = match openat(&folder, part, DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&folder, name, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Moves a regular file to the same place below another directory of the same file system; says how many bytes it takes
/// on disk. `None` where something else is in its place, or a link on the way.
pub fn move_beneath(directory: &Path, relative: &Path, to: &Path) -> io::Result<Option<u64>> {
    let (parts, name) = split(relative)?;
    let mut from = open_directory(directory)?;
    let mut into = open_directory(to)?;
    for part in parts {
        from = match openat(&from, part, DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        into = make_directory(&into, part)?;
    }
    let found = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    renameat(&from, name, &into, name)?;
    Ok(Some(found.st_blocks.unsigned_abs() * 512))
}

/// Makes a new file and the directories that it lies in; what is there already is an error.
pub fn create_beneath(directory: &Path, relative: &Path, mode: u32) -> io::Result<File> {
    let (parts, name) = split(relative)?;
    let mut folder = open_directory(directory)?;
    for part in parts {
        folder = make_directory(&folder, part)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?);
    // as it was asked for, whatever the worker's mask
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// Writes all of `data`.
pub fn write_all(file: &mut File, data: &[u8]) -> io::Result<()> {
    file.write_all(data)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Makes a directory that may be there already, and opens it.
fn make_directory(folder: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(openat(folder, name, DIRECTORY, Mode::empty())?)
}

fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    Ok(open(directory, DIRECTORY, Mode::empty())?)
}

fn split(relative: &Path) -> io::Result<(Vec<&std::ffi::OsStr>, &std::ffi::OsStr)> {
    let mut parts = Vec::new();
    for part in relative.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir
            | Component::ParentDir
            | Component::RootDir
            | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the path leaves the directory",
                ));
            }
        }
    }
    let name = parts
        .pop()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names nothing"))?;
    Ok((parts, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_on_the_way_are_not_followed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("work");
        fs::create_dir_all(root.join("real")).expect("created");
        fs::write(root.join("real/f"), b"x").expect("written");
        fs::write(directory.path().join("outside"), b"secret").expect("written");
        symlink("..", root.join("up")).expect("linked");
        symlink("../outside", root.join("out")).expect("linked");
        let opens =
            |path: &str| open_beneath(&root, Path::new(path)).is_ok_and(|file| file.is_some());
        assert!(opens("real/f"));
        assert!(!opens("up/outside") && !opens("out") && !opens("../outside") && !opens("real"));
        assert!(create_beneath(&root, Path::new("up/new"), 0o644).is_err());
        assert!(create_beneath(&root, Path::new("../new"), 0o644).is_err());
        assert!(
            create_beneath(&root, Path::new("real/f"), 0o644).is_err(),
            "it is there"
        );
        assert!(!directory.path().join("new").exists());
        create_beneath(&root, Path::new("a/b/c"), 0o751).expect("made");
        let mode = fs::metadata(root.join("a/b/c"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o751);
    }
}
