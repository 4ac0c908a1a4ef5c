//! `proxy pac generate`: from the configuration to a PAC file.
//!
//! The proxy cannot know under which other name clients reach it. The address that it assumes is reported on standard
//! error, so that nobody distributes a useless file unknowingly.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use super::address::{self, ProxyAddress};
use super::command::GenerateArgs;
use super::script::{ClientProtocol, ScriptOptions, WithoutProxy, script};
use crate::config::{Config, ListenerConfig};

/// Why there is no PAC file; one line with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Other machines cannot connect to the configured address (such as one with a zone), or cannot resolve the name of
    /// this machine.
    #[error("clients cannot connect to the address {0}; specify the proxy with --proxy HOST:PORT")]
    Address(String),
    /// With port 0, each start uses another port.
    #[error(
        "with port 0, the system chooses a different port at each start; set a port, or specify the proxy with \
         --proxy HOST:PORT"
    )]
    PortUnknown,
    /// The file exists.
    #[error("{} already exists; use --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}: {}", .0.display(), .1)]
    Unwritable(PathBuf, io::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl GenerateError {
    /// Whether the configuration is wrong, rather than the system.
    pub fn is_configuration(&self) -> bool {
        matches!(self, GenerateError::Address(_) | GenerateError::PortUnknown)
    }
}

/// Executes the command. `out` is standard output; `notes` is standard error.
///
/// # Errors
/// The configuration does not name an address of the proxy, the file cannot be written, or it exists and may not be
/// replaced.
pub fn run(
    args: &GenerateArgs,
    config: &Config,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), GenerateError> {
    let direct = config.web_server.pac_direct.iter();
    let script = script(&ScriptOptions {
        proxies: &proxies(args, config, notes)?,
        client_protocol: match shown_listener(config).and_then(|shown| shown.key_pair.as_ref()) {
            Some(_) => ClientProtocol::Tls,
            None => ClientProtocol::ClearText,
        },
        direct: direct.chain(&args.direct).collect(),
        without_proxy: match args.no_fallback {
            true => WithoutProxy::Fail,
            false => WithoutProxy::GoDirectly,
        },
    });
    if args.output.as_os_str() == "-" {
        return printed(out.write_all(script.as_bytes()).and_then(|()| out.flush()));
    }
    match args.force {
        true => replace(&args.output, &script),
        false => create(&args.output, &script),
    }
}

/// The addresses from the command line, or the configured one.
fn proxies(
    args: &GenerateArgs,
    config: &Config,
    notes: &mut dyn Write,
) -> Result<Vec<ProxyAddress>, GenerateError> {
    if !args.proxy.is_empty() {
        return Ok(args.proxy.clone());
    }
    let (address, caveat) = address_of(config, &machine_name())?;
    caveat.print(&address, notes);
    Ok(vec![address])
}

/// What the operator should know about the assumed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caveat {
    Nothing,
    /// Only this machine can connect to it.
    Loopback,
    /// The name of this machine, because the proxy listens on all addresses.
    MachineName,
}

impl Caveat {
    fn print(self, address: &ProxyAddress, notes: &mut dyn Write) {
        let text = match self {
            Caveat::Nothing => return,
            Caveat::Loopback => format!("only this machine can connect to {address}"),
            Caveat::MachineName => {
                format!(
                    "the proxy listens on all addresses; clients must be able to resolve {address}"
                )
            }
        };
        // If standard error is closed, nobody reads it.
        let _ = writeln!(
            notes,
            "proxy: {text}; use --proxy HOST:PORT for another address"
        );
    }
}

/// The listener that the file names: the first one to which browsers can connect.
fn shown_listener(config: &Config) -> Option<&ListenerConfig> {
    let mut listeners = config.listeners.iter();
    listeners.find(|listener| listener.kind.speaks_http() && listener.endpoint.tcp().is_some())
}

/// The address of a proxy with this configuration on `machine`.
fn address_of(config: &Config, machine: &str) -> Result<(ProxyAddress, Caveat), GenerateError> {
    let shown = shown_listener(config).and_then(|shown| shown.endpoint.tcp());
    let (hostname, port) = shown.unwrap_or_default();
    if port == 0 {
        return Err(GenerateError::PortUnknown);
    }
    let (host, caveat) = if address::is_wildcard(hostname) {
        (machine, Caveat::MachineName)
    } else if address::is_loopback(hostname) {
        (hostname, Caveat::Loopback)
    } else {
        (hostname, Caveat::Nothing)
    };
    match ProxyAddress::new(host, port) {
        Ok(address) => Ok((address, caveat)),
        Err(_) => Err(GenerateError::Address(host.to_owned())),
    }
}

fn machine_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Converts the result of writing to standard output. A reader that stops early, such as `head`, is not an error.
fn printed(outcome: io::Result<()>) -> Result<(), GenerateError> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(GenerateError::Output),
    }
}

fn create(path: &Path, text: &str) -> Result<(), GenerateError> {
    write_new(path, text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => GenerateError::Exists(path.to_owned()),
        _ => GenerateError::Unwritable(path.to_owned(), error),
    })
}

/// Replaces a file atomically, so that a proxy that serves it never reads half of it.
fn replace(path: &Path, text: &str) -> Result<(), GenerateError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", process::id()));
    let temporary = path.with_file_name(name);
    let replaced = write_new(&temporary, text).and_then(|()| {
        fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
    });
    replaced.map_err(|error| GenerateError::Unwritable(path.to_owned(), error))
}

/// Writes a new file; removes it if writing fails.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
        .inspect_err(|_| drop(fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoint;

    fn at(hostname: &str, port: u16) -> Result<(String, Caveat), String> {
        let mut config = Config::default();
        config.listeners[0].endpoint = Endpoint::Tcp {
            hostname: hostname.to_owned(),
            port,
        };
        address_of(&config, "Build-7")
            .map(|(address, caveat)| (address.to_string(), caveat))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn clients_connect_to_the_listening_address() {
        for (hostname, address, caveat) in [
            ("192.0.2.1", "192.0.2.1:8899", Caveat::Nothing),
            ("2001:db8::1", "[2001:db8::1]:8899", Caveat::Nothing),
            ("Proxy.Example", "proxy.example:8899", Caveat::Nothing),
            ("::1", "[::1]:8899", Caveat::Loopback),
            ("127.0.0.1", "127.0.0.1:8899", Caveat::Loopback),
            ("localhost", "localhost:8899", Caveat::Loopback),
            ("::", "build-7:8899", Caveat::MachineName),
            ("0.0.0.0", "build-7:8899", Caveat::MachineName),
        ] {
            assert_eq!(at(hostname, 8899), Ok((address.to_owned(), caveat)));
        }
    }

    #[test]
    fn addresses_without_use_for_clients_are_refused() {
        assert!(at("::", 0).unwrap_err().starts_with("with port 0, "));
        assert_eq!(
            at("fe80::1%eth0", 1).unwrap_err(),
            "clients cannot connect to the address fe80::1%eth0; specify the proxy with --proxy HOST:PORT"
        );
    }
}
