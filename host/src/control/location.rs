//! Where the control socket of a proxy is.
//!
//! Without a setting, it is in a directory of the user, under the port of the first listener, so that the commands find
//! it without a flag.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The default directories of the user: the first one is for new sockets, and all of them are searched. `None` of them
/// exists for a user without a home directory.
pub(crate) fn default_dirs() -> Vec<PathBuf> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    dirs(runtime, env::home_dir())
}

fn dirs(runtime: Option<PathBuf>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let runtime = runtime
        .filter(|dir| dir.is_absolute() && dir.is_dir())
        .map(|dir| dir.join("proxy"));
    let home = home
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(".proxy").join("run"));
    runtime.into_iter().chain(home).collect()
}

/// The file name of the socket of a proxy whose first listener has this port. A proxy without a port uses its process id.
pub(crate) fn file_name(port: Option<u16>) -> String {
    match port {
        Some(port) => format!("{port}.sock"),
        None => format!("pid-{}.sock", std::process::id()),
    }
}

/// The sockets in a default directory, in the order of their names. Some may belong to proxies that have ended.
pub(crate) fn sockets_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    sockets.sort();
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_directory_comes_before_the_home_directory() {
        let runtime = env::temp_dir();
        let home = PathBuf::from("/home/user");
        assert_eq!(
            dirs(Some(runtime.clone()), Some(home.clone())),
            [runtime.join("proxy"), home.join(".proxy/run")]
        );
        for unusable in ["", "relative", "/no/such/directory"] {
            assert_eq!(
                dirs(Some(unusable.into()), Some(home.clone())),
                [home.join(".proxy/run")]
            );
        }
        assert!(dirs(None, Some("".into())).is_empty());
    }

    #[test]
    fn sockets_are_named_for_the_port() {
        assert_eq!(file_name(Some(8899)), "8899.sock");
        let unnamed = format!("pid-{}.sock", std::process::id());
        assert_eq!(file_name(None), unnamed);
    }
}
