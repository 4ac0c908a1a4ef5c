//! The files that stay with the proxy when it becomes another user: they are given to that user, so that it can open the
//! logs again, and use and remove the others.

use std::path::{Path, PathBuf};

use crate::config::{AccessLogFile, Config, ControlSocketConfig, Endpoint};
use crate::privileges::Identity;

/// Gives the files of this configuration to the user; one that cannot be given is reported.
pub(super) fn give(config: &Config, identity: &Identity) {
    for path in files(config) {
        match identity.own(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(
                "{}: cannot be given to user {}: {error}",
                path.display(),
                identity.shown()
            ),
            _ => {}
        }
    }
}

/// Reports the directories in which this process, which is that user now, can neither create nor remove files.
#[cfg(unix)]
pub(super) fn report_directories(config: &Config, identity: &Identity) {
    use rustix::fs::{Access, access};

    let mut reported: Vec<PathBuf> = Vec::new();
    for path in files(config) {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let is_known = reported.iter().any(|known| known == dir);
        if is_known || access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
            continue;
        }
        tracing::warn!(
            "user {} cannot write in {}: log files there cannot be opened again after they were renamed, and other files \
             remain after the end; give the directory to that user",
            identity.shown(),
            dir.display()
        );
        reported.push(dir.to_owned());
    }
}

#[cfg(not(unix))]
pub(super) fn report_directories(_: &Config, _: &Identity) {}

/// The files that the start has created, or may have.
fn files(config: &Config) -> Vec<PathBuf> {
    let access_log = match &config.access_log.file {
        AccessLogFile::File(path) => Some(path),
        AccessLogFile::Log | AccessLogFile::Off | AccessLogFile::StandardOutput => None,
    };
    let control_socket = match &config.server.control_socket {
        ControlSocketConfig::At(path) => Some(path),
        ControlSocketConfig::Default | ControlSocketConfig::Off => None,
    };
    let sockets = config
        .listeners
        .iter()
        .filter_map(|listener| match &listener.endpoint {
            Endpoint::Unix { path, .. } => Some(path),
            Endpoint::Tcp { .. } => None,
        });
    let settings = [
        config.log.file.as_ref(),
        access_log,
        config.pid_file.as_ref(),
        config.port_file.as_ref(),
        control_socket,
    ];
    let settings = settings.into_iter().flatten();
    settings.chain(sockets).cloned().collect()
}
