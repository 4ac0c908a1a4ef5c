//! `proxy status`, `reload`, `reopen` and `stop`: commands for a running proxy.
//!
//! They find its control socket as its start did: by the flag, the configuration, or the port. Where none of them says
//! which proxy is meant, it is the only one that runs.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::client::ControlClient;
use super::location;
use super::message::{Answer, Command, Refusal};
use crate::config::{Config, ConfigErrors, ControlSocketConfig, Flags};

/// Which proxy is meant.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// Configuration file of the proxy. Default: the file in --config or PROXY_CONFIG, or none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Port of the proxy's first listener. Default: the configured one, or that of the only proxy that runs.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Control socket of the proxy. Default: the configured one, or PORT.sock in $XDG_RUNTIME_DIR/proxy or ~/.proxy/run.
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
}

/// Shows the status of a running proxy
#[derive(Args)]
#[command(
    long_about = "Shows the status of a running proxy: version, uptime, listeners, workers, connections, generations of the \
                  configuration, and calls of plugins.\n\n\
                  Exit status: 0, 1 no proxy is running there, 2 the command line is invalid."
)]
pub struct StatusArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    target: TargetArgs,
}

/// Reloads the configuration, certificates and plugins of a running proxy
#[derive(Args)]
#[command(
    long_about = "Reloads the configuration, certificates and plugins of a running proxy, as SIGHUP does.\n\n\
                  Waits until all workers use the new configuration. If it cannot be used, all problems are reported, and \
                  the proxy goes on with the current one.\n\n\
                  Exit status: 0, 1 no proxy is running there or the system refused something, 2 the command line is \
                  invalid, 78 the configuration or a plugin cannot be used."
)]
pub struct ReloadArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Reopens the log file of a running proxy, after it was renamed
#[derive(Args)]
#[command(
    long_about = "Reopens the log file of a running proxy, after it was renamed, as SIGUSR1 does.\n\n\
                  Exit status: 0, 1 no proxy is running there, 2 the command line is invalid."
)]
pub struct ReopenArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Stops a running proxy once its open exchanges have finished
#[derive(Args)]
#[command(
    long_about = "Stops a running proxy once its open exchanges have finished, as SIGTERM does, and waits for its end.\n\n\
                  If a proxy is already stopping, its open exchanges are aborted.\n\n\
                  Exit status: 0, 1 no proxy is running there, 2 the command line is invalid."
)]
pub struct StopArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Why a command has not been carried out.
#[derive(Debug)]
pub enum CommandError {
    /// The configuration does not say where the control socket is, because it is invalid.
    Config(ConfigErrors),
    /// No proxy could be reached, or it does not respond; with the reason.
    Unreachable(String),
    /// The proxy has refused it.
    Refused {
        /// Whether the configuration or a plugin is the cause.
        is_configuration: bool,
        /// All problems.
        problems: Vec<String>,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => f.write_str(&errors.with_excerpts()),
            Self::Unreachable(reason) => f.write_str(reason),
            Self::Refused { problems, .. } => f.write_str(&problems.join("\n")),
        }
    }
}

/// A command for a running proxy.
pub enum ControlCommand {
    /// `proxy status`
    Status(StatusArgs),
    /// `proxy reload`
    Reload(ReloadArgs),
    /// `proxy reopen`
    Reopen(ReopenArgs),
    /// `proxy stop`
    Stop(StopArgs),
}

impl ControlCommand {
    fn parts(self) -> (Command, TargetArgs, bool) {
        match self {
            Self::Status(args) => (Command::Status, args.target, args.json),
            Self::Reload(args) => (Command::Reload, args.target, false),
            Self::Reopen(args) => (Command::Reopen, args.target, false),
            Self::Stop(args) => (Command::Stop, args.target, false),
        }
    }
}

/// Has a running proxy carry out a command. Results go to `out`, progress to `progress`. `flags` are those before the
/// command.
///
/// # Errors
/// No proxy could be reached, or it has refused.
pub fn run(
    command: ControlCommand,
    mut flags: Flags,
    out: &mut impl Write,
    progress: &mut impl Write,
) -> Result<(), CommandError> {
    let (command, target, is_json) = command.parts();
    target.lay_over(&mut flags);
    let mut client = find(command, flags)?;
    let unreachable = |client: &ControlClient, error: io::Error| {
        let path = client.path().display();
        CommandError::Unreachable(format!("the proxy at {path} does not answer: {error}"))
    };
    client
        .send(command)
        .map_err(|error| unreachable(&client, error))?;
    let mut shown = String::new();
    loop {
        let answer = client
            .receive()
            .map_err(|error| unreachable(&client, error))?;
        // If nobody reads the output, the exit status remains.
        let _: io::Result<()> = match answer {
            Some(Answer::Progress(text)) if text == shown => Ok(()),
            Some(Answer::Progress(text)) => {
                shown = text;
                writeln!(progress, "proxy: {shown}")
            }
            Some(Answer::Sockets(_)) => Ok(()),
            Some(Answer::Done(text)) => return print(out, &text),
            Some(Answer::Status(status)) if is_json => {
                let json = serde_json::to_string_pretty(&status).unwrap_or_default();
                return print(out, &json);
            }
            Some(Answer::Status(status)) => return print(out, status.to_string().trim_end()),
            Some(Answer::Failed(refusal)) => return Err(refused(refusal)),
            None if command == Command::Stop => {
                client.wait_for_end();
                return print(out, "the proxy has stopped");
            }
            None => {
                let reason = "it has closed the connection: it is shutting down";
                return Err(unreachable(&client, io::Error::other(reason)));
            }
        };
    }
}

fn print(out: &mut impl Write, text: &str) -> Result<(), CommandError> {
    let _: io::Result<()> = writeln!(out, "{text}");
    Ok(())
}

fn refused(refusal: Refusal) -> CommandError {
    CommandError::Refused {
        is_configuration: refusal.is_configuration,
        problems: refusal.problems,
    }
}

impl TargetArgs {
    /// Flags after the command override those before it.
    fn lay_over(self, flags: &mut Flags) {
        flags.config = self.config.or(flags.config.take());
        flags.port = self.port.map(|port| port.to_string()).or(flags.port.take());
        flags.control_socket = self.control_socket.or(flags.control_socket.take());
    }
}

/// Connects to the proxy that the flags mean.
fn find(command: Command, flags: Flags) -> Result<ControlClient, CommandError> {
    let socket = flags.control_socket.clone();
    if let Some(path) = socket.filter(|path| !path.as_os_str().is_empty()) {
        return connect(&path);
    }
    // Whether anything but the defaults says which proxy is meant.
    let names_config = flags
        .config
        .as_ref()
        .is_some_and(|file| !file.as_os_str().is_empty());
    let port = flags.port.as_ref().and_then(|port| port.parse().ok());
    match Config::load(flags) {
        Ok(config) => match config.server.control_socket {
            ControlSocketConfig::At(path) => connect(&path),
            ControlSocketConfig::Off => Err(CommandError::Unreachable(
                "the control socket is turned off by an empty server.control_socket; use signals"
                    .to_owned(),
            )),
            ControlSocketConfig::Default => {
                let configured = config.first_port();
                let is_named =
                    names_config || port.is_some() || configured != Config::default().first_port();
                match is_named && configured != 0 {
                    true => find_by_port(configured),
                    false => find_any(),
                }
            }
        },
        // The proxy that runs has read another version of the file, and reports what is wrong with this one.
        Err(errors) => match port {
            Some(port) => find_by_port(port),
            // Not a guess for what cannot be undone.
            None if command == Command::Stop => Err(CommandError::Config(errors)),
            None => find_any().map_err(|_| CommandError::Config(errors)),
        },
    }
}

fn connect(path: &Path) -> Result<ControlClient, CommandError> {
    ControlClient::connect(path).map_err(|error| {
        let path = path.display();
        let reason = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("no proxy is running there: no control socket {path}")
            }
            io::ErrorKind::ConnectionRefused => {
                format!(
                    "no proxy is running there: it has ended and left the control socket {path}"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("control socket {path}: {error}; use the user that runs the proxy, or root")
            }
            _ => format!("control socket {path}: {error}"),
        };
        CommandError::Unreachable(reason)
    })
}

fn find_by_port(port: u16) -> Result<ControlClient, CommandError> {
    let name = location::file_name(Some(port));
    let dirs = location::default_dirs();
    let paths = dirs.iter().map(|dir| dir.join(&name));
    let mut found = paths.filter_map(|path| ControlClient::connect(&path).ok());
    found.next().ok_or_else(|| {
        CommandError::Unreachable(format!(
            "no proxy is running on port {port}: no control socket {name} in {}; {ELSEWHERE}",
            listed(&dirs)
        ))
    })
}

/// What to do about a socket that is not in a default directory.
const ELSEWHERE: &str = "if it has another user or socket, specify it with --control-socket";

/// The only proxy of this user that runs.
fn find_any() -> Result<ControlClient, CommandError> {
    let dirs = location::default_dirs();
    let paths = dirs.iter().flat_map(|dir| location::sockets_in(dir));
    let mut running: Vec<ControlClient> = paths
        .filter_map(|path| ControlClient::connect(&path).ok())
        .collect();
    match (running.pop(), &running[..]) {
        (Some(only), []) => Ok(only),
        (None, _) => Err(CommandError::Unreachable(format!(
            "no proxy is running with a control socket in {}; {ELSEWHERE}",
            listed(&dirs)
        ))),
        (Some(last), others) => {
            let all = others.iter().chain([&last]);
            let paths: Vec<_> = all.map(|client| client.path().to_owned()).collect();
            Err(CommandError::Unreachable(format!(
                "several proxies are running: {}; select one with --port, --config or --control-socket",
                listed(&paths)
            )))
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    match paths {
        [] => "any directory (neither XDG_RUNTIME_DIR nor a home directory is known)".to_owned(),
        paths => {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            paths.join(", ")
        }
    }
}
