//! A user and its groups.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{self, Gid, Group, Uid, User};

use super::PrivilegesError;
use crate::config::ServerConfig;

/// A user and a group of this system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// As configured.
    shown: String,
    uid: Uid,
    gid: Gid,
    /// The name by which the system finds the further groups of the user; `None` if the user has only a number.
    name: Option<CString>,
}

impl Identity {
    /// The configured one; `None` if there is none.
    ///
    /// # Errors
    /// There is no such user or group, or this process may not become it.
    pub(crate) fn configured(config: &ServerConfig) -> Result<Option<Self>, PrivilegesError> {
        let Some(user) = &config.user else {
            return match config.group {
                Some(_) => Err(PrivilegesError::GroupAlone),
                None => Ok(None),
            };
        };
        let mut found = Self::of_user(user)?;
        if let Some(group) = &config.group {
            found.gid = group_id(group)?;
        }
        if !unistd::geteuid().is_root() && !found.is_ours() {
            return Err(PrivilegesError::NotRoot { user: user.clone() });
        }
        Ok(Some(found))
    }

    fn of_user(user: &str) -> Result<Self, PrivilegesError> {
        let number = user.parse().ok().map(Uid::from_raw);
        let known = match number {
            Some(uid) => User::from_uid(uid),
            None => User::from_name(user),
        };
        let known = known.map_err(|error| lookup(user, error))?;
        match (known, number) {
            (Some(known), _) => Ok(Self {
                shown: user.to_owned(),
                uid: known.uid,
                gid: known.gid,
                name: CString::new(known.name).ok(),
            }),
            // A number needs no entry in the system's databases, as in containers.
            (None, Some(uid)) => Ok(Self {
                shown: user.to_owned(),
                uid,
                gid: Gid::from_raw(uid.as_raw()),
                name: None,
            }),
            (None, None) => Err(PrivilegesError::Unknown {
                kind: "user",
                name: user.to_owned(),
            }),
        }
    }

    /// Whether this process has it already.
    fn is_ours(&self) -> bool {
        unistd::geteuid() == self.uid && unistd::getegid() == self.gid
    }

    /// As configured.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Makes it the owner of a file that root has created for it.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Becomes it, in all threads, for good.
    ///
    /// # Errors
    /// The system's error; the process must not go on then.
    pub(crate) fn assume(&self) -> io::Result<()> {
        if self.is_ours() && !unistd::geteuid().is_root() {
            return Ok(());
        }
        match &self.name {
            Some(name) => unistd::initgroups(name, self.gid)?,
            None => unistd::setgroups(&[self.gid])?,
        }
        unistd::setgid(self.gid)?;
        unistd::setuid(self.uid)?;
        let is_root_again = !self.uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok();
        match is_root_again || !self.is_ours() {
            true => Err(io::Error::other("the process could become root again")),
            false => Ok(()),
        }
    }
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    unistd::geteuid().is_root()
}

fn group_id(group: &str) -> Result<Gid, PrivilegesError> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let known = Group::from_name(group).map_err(|error| lookup(group, error))?;
    match known {
        Some(known) => Ok(known.gid),
        None => Err(PrivilegesError::Unknown {
            kind: "group",
            name: group.to_owned(),
        }),
    }
}

fn lookup(name: &str, error: Errno) -> PrivilegesError {
    PrivilegesError::Lookup {
        name: name.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn configured(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, String> {
        let mut config = Config::default().server;
        config.user = user.map(str::to_owned);
        config.group = group.map(str::to_owned);
        Identity::configured(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        assert_eq!(configured(None, None), Ok(None));
        // Whoever runs the test may become what it is.
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        let ours = User::from_uid(uid).unwrap().unwrap();
        let (number, group) = (uid.to_string(), gid.to_string());
        for user in [ours.name.as_str(), number.as_str()] {
            let identity = configured(Some(user), Some(&group)).unwrap().unwrap();
            assert_eq!((identity.uid, identity.gid), (uid, gid));
            assert_eq!(identity.shown(), user);
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        for (user, group, reason) in [
            (
                Some("no-such-user"),
                None,
                "user `no-such-user` does not exist; use the name or number of one that does",
            ),
            (
                Some("root"),
                Some("no-such-group"),
                "group `no-such-group` does not exist; use the name or number of one that does",
            ),
            (
                None,
                Some("root"),
                "given without user; set both, or only user",
            ),
        ] {
            assert_eq!(configured(user, group), Err(reason.to_owned()));
        }
    }

    #[test]
    fn only_root_becomes_another_user() {
        let other = (unistd::geteuid().as_raw() + 1).to_string();
        let refused = "only root can become";
        match (configured(Some(&other), None), is_root()) {
            (Ok(Some(identity)), true) => assert_eq!(identity.uid.to_string(), other),
            (Err(reason), false) => assert!(reason.starts_with(refused), "{reason}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}
