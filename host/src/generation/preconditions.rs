//! What a start needs besides the generation: names to listen on, and files that it creates. Nothing is created or bound.
//!
//! A proxy with the same configuration may be running. So a file that is in use, or an address, is no problem here.

use std::fs;
use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::path::Path;

use crate::config::{AccessLogFile, Config, ConfigError, ControlSocketConfig, Endpoint};

/// Everything that would prevent a start.
pub(super) fn unmet(config: &Config) -> Vec<ConfigError> {
    let written = written_files(config).into_iter();
    let mut problems: Vec<ConfigError> = written
        .filter_map(|path| Some(config.origins.of_file(path, fault_of_file(path)?)))
        .collect();
    for listener in &config.listeners {
        match &listener.endpoint {
            Endpoint::Tcp { hostname, port } => {
                problems.extend(unresolved(config, hostname, *port));
            }
            Endpoint::Unix { path, .. } => problems.extend(unusable_socket(config, path)),
        }
    }
    if let ControlSocketConfig::At(path) = &config.server.control_socket {
        problems.extend(unusable_socket(config, path));
    }
    problems
}

/// The files that are written.
fn written_files(config: &Config) -> Vec<&Path> {
    let access_log = match &config.access_log.file {
        AccessLogFile::File(path) => Some(path),
        _ => None,
    };
    let files = [&config.log.file, &config.pid_file, &config.port_file];
    let files = files.into_iter().flatten().chain(access_log);
    files.map(|path| path.as_path()).collect()
}

fn unresolved(config: &Config, hostname: &str, port: u16) -> Option<ConfigError> {
    if hostname.eq_ignore_ascii_case("localhost") {
        return None;
    }
    let error = (hostname, port).to_socket_addrs().err()?;
    let reason = format!(
        "{hostname}: {error}; specify an address of this machine, such as ::1, 127.0.0.1, :: or 0.0.0.0"
    );
    Some(config.origins.of_file(Path::new(hostname), reason))
}

fn unusable_socket(config: &Config, path: &Path) -> Option<ConfigError> {
    let reason = match fs::symlink_metadata(path) {
        Ok(metadata) if is_socket(&metadata) => return None,
        Ok(_) => format!(
            "{} is not a socket; remove it, or specify another path",
            path.display()
        ),
        Err(_) => fault_of_file(path)?,
    };
    Some(config.origins.of_file(path, reason))
}

#[cfg(unix)]
fn is_socket(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

#[cfg(not(unix))]
fn is_socket(_: &fs::Metadata) -> bool {
    true
}

/// Why a file cannot be written or created.
fn fault_of_file(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Some(format!("{shown} is a directory; specify a file"))
        }
        Ok(_) if !may_write(path) => Some(format!(
            "{shown} is not writable; make it writable for the user of the proxy, or specify another file"
        )),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => fault_of_dir(path),
        Err(error) => Some(format!("{shown}: {error}; specify another file")),
    }
}

/// Why no file can be created at this path.
fn fault_of_dir(path: &Path) -> Option<String> {
    let dir = path.parent().filter(|dir| *dir != Path::new(""));
    let dir = dir.unwrap_or(Path::new("."));
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => Some(format!(
            "{shown} is not a directory; specify a file in a directory"
        )),
        Ok(_) if !may_write(dir) => Some(format!(
            "no file can be created in {shown}; make it writable for the user of the proxy, or specify another one"
        )),
        Ok(_) => None,
        Err(error) => Some(format!(
            "{shown}: {error}; create this directory, or specify another file"
        )),
    }
}

#[cfg(unix)]
fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(not(unix))]
fn may_write(_: &Path) -> bool {
    true
}
