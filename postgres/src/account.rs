//! The user that runs PostgreSQL: ourselves, or for root someone with fewer rights.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::ClusterError;

/// A user as the kernel and as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// True where the program is root and gives up that identity for PostgreSQL.
    pub is_switched: bool,
}

/// Who root becomes, in order of preference.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

impl Account {
    /// Chooses the user. Root takes the owner of an existing cluster, so that a machine on which a `postgres` user
    /// appears later keeps working with the data that `nobody` made.
    pub fn choose(existing_pgdata: Option<&Metadata>) -> Result<Account, ClusterError> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Account {
                name: name_of(uid),
                uid,
                gid: rustix::process::getegid().as_raw(),
                is_switched: false,
            });
        }
        let users = known_users();
        let owner = existing_pgdata
            .map(Metadata::uid)
            .filter(|&owner| owner != 0);
        let chosen = match owner {
            Some(owner) => users.iter().find(|user| user.uid == owner),
            None => UNPRIVILEGED.iter().find_map(|name| {
                users
                    .iter()
                    .find(|user| user.name == *name && user.uid != 0)
            }),
        };
        chosen
            .map(|user| Account {
                is_switched: true,
                ..user.clone()
            })
            .ok_or(ClusterError::NoUnprivilegedUser)
    }

    /// The first directory on the way to `path`, itself included, that this user may not pass. Goes by owner, group
    /// and mode; whatever else forbids it (an access list, a security module) shows up when PostgreSQL starts.
    pub fn first_closed_directory(&self, path: &Path) -> Option<PathBuf> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        ancestors
            .into_iter()
            .find(|directory| fs::metadata(directory).is_ok_and(|found| !self.may_enter(&found)))
            .map(Path::to_path_buf)
    }

    fn may_enter(&self, directory: &Metadata) -> bool {
        let bit = if directory.uid() == self.uid {
            0o100
        } else if directory.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        // In our own name the supplementary groups count too, and the kernel knows them better than we do.
        !self.is_switched || directory.mode() & bit != 0
    }
}

/// The name of a user for messages; the number where nobody knows a name.
pub(crate) fn name_of(uid: u32) -> String {
    known_users()
        .into_iter()
        .find(|user| user.uid == uid)
        .map_or_else(|| format!("uid {uid}"), |user| user.name)
}

fn known_users() -> Vec<Account> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().filter_map(parse_user).collect()
}

fn parse_user(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let _password = fields.next()?;
    Some(Account {
        name,
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
        is_switched: false,
    })
}
