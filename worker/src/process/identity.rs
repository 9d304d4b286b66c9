//! The user and the groups that a process runs as.

use std::ffi::{CStr, CString};
use std::io;

use serde::{Deserialize, Serialize};

/// First size of the buffer for an entry of the user database, and the largest that is tried.
const ENTRY_BYTES: usize = 4 * 1024;
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Most groups of one user; what Linux takes.
const GROUPS_MAX: usize = 65_536;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All groups, `gid` among them.
    pub groups: Vec<u32>,
    /// Name and home directory, where the machine knows the user.
    pub account: Option<Account>,
}

/// What the machine knows of a user beside its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub home: String,
}

/// Why a process cannot run as somebody.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("there is no user {name:?} on the worker's machine")]
    NoUser { name: String },
    #[error("there is no group {name:?} on the worker's machine")]
    NoGroup { name: String },
    #[error(
        "the worker runs as user {uid} and may not run a task as anybody else: run the worker as root, or leave `user` and `group` empty"
    )]
    NotPermitted { uid: u32 },
    #[error("the user database cannot be read")]
    Database(#[source] io::Error),
}

impl IdentityError {
    /// The operating system's number of what went wrong.
    pub fn errno(&self) -> Option<i32> {
        match self {
            IdentityError::NoUser { .. } | IdentityError::NoGroup { .. } => Some(libc::EINVAL),
            IdentityError::NotPermitted { .. } => Some(libc::EPERM),
            IdentityError::Database(source) => source.raw_os_error(),
        }
    }
}

/// Finds out whom `user` and `group` mean, names or numbers; nothing where both are empty, or where it is the worker's own
/// user and group. It may block for as long as the machine's user database takes.
pub fn resolve_identity(user: &str, group: &str) -> Result<Option<Identity>, IdentityError> {
    if user.is_empty() && group.is_empty() {
        return Ok(None);
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let own_gid = rustix::process::getegid().as_raw();
    let found = find_user(user, own_uid)?;
    let gid = match (group, &found) {
        ("", found) => found.gid.unwrap_or(own_gid),
        (group, _) => find_group(group)?,
    };
    if found.uid == own_uid && (gid == own_gid || group.is_empty()) {
        return Ok(None);
    }
    if own_uid != 0 {
        return Err(IdentityError::NotPermitted { uid: own_uid });
    }
    let groups = match &found.account {
        Some(account) => list_groups(&account.name, gid)?,
        None => vec![gid],
    };
    Ok(Some(Identity {
        uid: found.uid,
        gid,
        groups,
        account: found.account,
    }))
}

struct User {
    uid: u32,
    gid: Option<u32>,
    account: Option<Account>,
}

/// A number that the machine does not know is a user all the same.
fn find_user(user: &str, own_uid: u32) -> Result<User, IdentityError> {
    let number = if user.is_empty() {
        Some(own_uid)
    } else {
        user.parse::<u32>().ok()
    };
    let no_user = || IdentityError::NoUser {
        name: user.to_owned(),
    };
    // The largest number means "unchanged" to the system.
    if number == Some(u32::MAX) {
        return Err(no_user());
    }
    let name = CString::new(user).map_err(|_| no_user())?;
    let found = with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: all places are valid for the call, and the strings of the entry lie in the buffer.
        let code = unsafe {
            match number {
                Some(uid) => libc::getpwuid_r(uid, &mut entry, start, length, &mut result),
                None => libc::getpwnam_r(name.as_ptr(), &mut entry, start, length, &mut result),
            }
        };
        if code != 0 || result.is_null() {
            return Err(code);
        }
        // SAFETY: as above; the entry was found, so its strings are set.
        let text = |text: *const libc::c_char| unsafe { CStr::from_ptr(text) };
        Ok(User {
            uid: entry.pw_uid,
            gid: Some(entry.pw_gid),
            account: Some(Account {
                name: text(entry.pw_name).to_string_lossy().into_owned(),
                home: text(entry.pw_dir).to_string_lossy().into_owned(),
            }),
        })
    })?;
    match (found, number) {
        (Some(found), _) => Ok(found),
        (None, Some(uid)) => Ok(User {
            uid,
            gid: Some(uid),
            account: None,
        }),
        (None, None) => Err(no_user()),
    }
}

fn find_group(group: &str) -> Result<u32, IdentityError> {
    let no_group = || IdentityError::NoGroup {
        name: group.to_owned(),
    };
    match group.parse::<u32>() {
        Ok(u32::MAX) => return Err(no_group()),
        Ok(gid) => return Ok(gid),
        Err(_) => {}
    }
    let name = CString::new(group).map_err(|_| no_group())?;
    let found = with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        // SAFETY: all places are valid for the call.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut result,
            )
        };
        if code != 0 || result.is_null() {
            return Err(code);
        }
        Ok(entry.gr_gid)
    })?;
    found.ok_or_else(no_group)
}

/// Looks up with a buffer that grows until the entry fits. The look-up's error is the system's number, zero where there is
/// no such entry.
fn with_buffer<T>(
    mut look_up: impl FnMut(&mut [u8]) -> Result<T, i32>,
) -> Result<Option<T>, IdentityError> {
    let mut buffer = vec![0; ENTRY_BYTES];
    loop {
        match look_up(&mut buffer) {
            Ok(found) => return Ok(Some(found)),
            // What systems say of an entry that is not there.
            Err(0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM) => return Ok(None),
            Err(libc::EINTR) => {}
            Err(libc::ERANGE) if buffer.len() < ENTRY_BYTES_MAX => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(code) => {
                return Err(IdentityError::Database(io::Error::from_raw_os_error(code)));
            }
        }
    }
}

fn list_groups(user: &str, gid: u32) -> Result<Vec<u32>, IdentityError> {
    let name = CString::new(user).map_err(|_| IdentityError::NoUser {
        name: user.to_owned(),
    })?;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: the list has as many places as the call is told.
        let filled =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        if filled >= 0 {
            groups.truncate(usize::try_from(filled).unwrap_or(0));
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            let error = io::Error::other("the user is in too many groups");
            return Err(IdentityError::Database(error));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asked_for_is_nobody_to_become() {
        assert!(matches!(resolve_identity("", ""), Ok(None)));
        let own = rustix::process::geteuid().as_raw().to_string();
        assert!(matches!(resolve_identity(&own, ""), Ok(None)));
    }

    #[test]
    fn who_is_not_there_is_told() {
        for user in ["no-such-user-here", "4294967295"] {
            let refused = resolve_identity(user, "");
            assert!(
                matches!(refused, Err(IdentityError::NoUser { .. })),
                "{refused:?}"
            );
        }
        let refused = resolve_identity("", "no-such-group-here");
        assert!(
            matches!(refused, Err(IdentityError::NoGroup { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn only_root_becomes_somebody_else() {
        let own = rustix::process::geteuid().as_raw();
        let other = resolve_identity("54321", "");
        if own == 0 {
            let identity = other.expect("root may").expect("it is somebody else");
            assert_eq!((identity.uid, identity.gid), (54_321, 54_321));
            assert_eq!(identity.groups, [54_321]);
        } else {
            assert!(
                matches!(other, Err(IdentityError::NotPermitted { uid }) if uid == own),
                "{other:?}"
            );
        }
    }
}
