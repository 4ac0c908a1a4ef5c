//! The `proxy` executable: reads flags and file, runs the server, turns the result into an exit status.
//!
//! Every error that prevents startup is one line on standard error that says what failed, why, and what to do. The help
//! lists the exit statuses. The server is in the library.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fmt, io};

use clap::error::ErrorKind;
use proxy_host::ca;
use proxy_host::ca::command::CaArgs;
use proxy_host::cli::{Cli, CliError, Command, pages, version};
use proxy_host::config::command::{ConfigArgs, ConfigCommand, NamedPlugins, SchemaArgs, ShowArgs};
use proxy_host::config::{self, Config, ConfigErrors, LogConfig, LogLevel};
#[cfg(unix)]
use proxy_host::control::{
    self,
    command::{CommandError, ControlCommand},
};
use proxy_host::generation;
use proxy_host::generation::command::{CheckArgs, plugin_schemas};
use proxy_host::inherited;
use proxy_host::open_files;
use proxy_host::server::{self, SocketSource, StartError};
use proxy_host::telemetry;
use proxy_host::web::pac::command::{PacArgs, PacCommand};
use proxy_host::web::pac::generate::{self, GenerateError};

fn main() -> ExitCode {
    match Cli::read(env::args_os()) {
        Ok(cli) if cli.version => print_version(),
        Ok(mut cli) => match cli.command.take() {
            Some(Command::Ca(args)) => certificates(&args),
            Some(Command::Pac(args)) => pac(args, cli),
            Some(Command::Check(args)) => check(args, cli),
            Some(Command::Config(args)) => configuration(args, cli),
            Some(Command::Completions(args)) => {
                pages::print_completions(&args, &mut io::stdout().lock());
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::Man(args)) => pages::write_man_pages(&args, &mut io::stdout().lock())
                .map(|()| ExitCode::SUCCESS)
                .map_err(Failure::system),
            #[cfg(unix)]
            Some(Command::Status(args)) => control(ControlCommand::Status(args), cli),
            #[cfg(unix)]
            Some(Command::Reload(args)) => control(ControlCommand::Reload(args), cli),
            #[cfg(unix)]
            Some(Command::Reopen(args)) => control(ControlCommand::Reopen(args), cli),
            #[cfg(unix)]
            Some(Command::Stop(args)) => control(ControlCommand::Stop(args), cli),
            None if cli.test => check(CheckArgs { file: None }, cli),
            None => run(cli),
        }
        .unwrap_or_else(Failure::report),
        Err(error) => print_help_or_error(&error),
    }
}

/// `proxy ca`. It uses no other flag of the proxy, so giving one is a mistake.
fn certificates(args: &CaArgs) -> Result<ExitCode, Failure> {
    if env::args_os().nth(1).is_none_or(|first| first != "ca") {
        return Err(Failure {
            message: "put flags after `ca`; see proxy ca --help".to_owned(),
            status: USAGE,
        });
    }
    ca::run(&args.command, &mut io::stdout().lock()).map_err(Failure::system)?;
    Ok(ExitCode::SUCCESS)
}

/// `proxy pac`. The flags before it are those of the proxy's start.
fn pac(args: PacArgs, mut cli: Cli) -> Result<ExitCode, Failure> {
    let PacCommand::Generate(mut args) = args.command;
    cli.flags.config = args.config.take().or(cli.flags.config);
    let config = Config::load(cli.flags)?;
    generate::run(&args, &config, &mut io::stdout().lock(), &mut io::stderr())?;
    Ok(ExitCode::SUCCESS)
}

/// `proxy check`. The flags before it are those of the proxy's start.
fn check(args: CheckArgs, mut cli: Cli) -> Result<ExitCode, Failure> {
    cli.flags.config = args.file.or(cli.flags.config);
    let config = Config::load(cli.flags)?;
    // Warnings go to the terminal; the log file may belong to a running proxy.
    let log = LogConfig {
        file: None,
        level: config.log.level.max(LogLevel::Warning),
        ..config.log.clone()
    };
    let telemetry = telemetry::start(&log).map_err(Failure::system)?;
    let checked = generation::command::check(config, &mut io::stdout().lock());
    drop(telemetry);
    checked.map_err(StartError::from)?;
    Ok(ExitCode::SUCCESS)
}

/// `proxy config`. What stands before it says how the proxy would be started.
fn configuration(args: ConfigArgs, cli: Cli) -> Result<ExitCode, Failure> {
    match args.command {
        ConfigCommand::Show(args) => show(args, cli),
        ConfigCommand::Schema(args) => schema(args, cli),
    }
}

fn show(mut args: ShowArgs, mut cli: Cli) -> Result<ExitCode, Failure> {
    cli.flags.config = args.file.take().or(cli.flags.config);
    let schemas = |plugins: &NamedPlugins| {
        let schemas = plugin_schemas(plugins).into_iter();
        schemas.map(Result::unwrap_or_default).collect()
    };
    config::command::show(&args, &cli.flags, schemas, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn schema(args: SchemaArgs, mut cli: Cli) -> Result<ExitCode, Failure> {
    cli.flags.config = args.file.or(cli.flags.config);
    let plugins = config::command::named_plugins(&cli.flags)?;
    let mut schemas = Vec::new();
    let mut errors = Vec::new();
    for read in plugin_schemas(&plugins) {
        match read {
            Ok(read) => schemas.extend(read),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        return Err(Failure {
            message: errors.join("\n"),
            status: CONFIG,
        });
    }
    config::command::print_schema(&schemas, &mut io::stdout().lock());
    Ok(ExitCode::SUCCESS)
}

/// `proxy status`, `reload`, `reopen` and `stop`. What stands before them says how the proxy was started.
#[cfg(unix)]
fn control(command: ControlCommand, cli: Cli) -> Result<ExitCode, Failure> {
    control::command::run(
        command,
        cli.flags,
        &mut io::stdout().lock(),
        &mut io::stderr(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    // Before there are threads.
    let inherited = inherited::take().map_err(StartError::from)?;
    // A reload reads environment and file again.
    let (flags, notices) = (cli.flags.clone(), cli.flags.notices());
    let source = move || Config::load(flags.clone());
    let config = Config::load(cli.flags)?;
    let telemetry = telemetry::start(&config.log).map_err(Failure::system)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    open_files::raise_limit(config.open_file_limit);
    open_files::warn_if_low(config.limits.max_connections);
    let sockets = SocketSource {
        inherited,
        takes_over: cli.takeover,
    };
    server::run(config, Arc::new(source), telemetry.sink(), sockets)?;
    Ok(ExitCode::SUCCESS)
}

/// The system refused something.
const REFUSED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// The configuration or a plugin cannot be used (`EX_CONFIG` of sysexits).
const CONFIG: u8 = 78;

/// The error messages of a failed start, one line for each problem.
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    fn system(error: impl fmt::Display) -> Self {
        Failure {
            message: error.to_string(),
            status: REFUSED,
        }
    }

    fn report(self) -> ExitCode {
        // If standard error is closed, the exit status remains. An excerpt of a file is indented.
        for line in self.message.lines() {
            let _ = match line.starts_with(' ') {
                true => writeln!(io::stderr(), "{line}"),
                false => writeln!(io::stderr(), "proxy: {line}"),
            };
        }
        ExitCode::from(self.status)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(error: ConfigErrors) -> Self {
        let status = if error.is_usage() { USAGE } else { CONFIG };
        Failure {
            message: error.with_excerpts(),
            status,
        }
    }
}

#[cfg(unix)]
impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let status = match &error {
            CommandError::Config(errors) if errors.is_usage() => USAGE,
            CommandError::Config(_) => CONFIG,
            CommandError::Unreachable(_) => REFUSED,
            CommandError::Refused {
                is_configuration: true,
                ..
            } => CONFIG,
            CommandError::Refused { .. } => REFUSED,
        };
        Failure {
            message: error.to_string(),
            status,
        }
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let status = if error.is_configuration() {
            CONFIG
        } else {
            REFUSED
        };
        Failure {
            message: error.to_string(),
            status,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let status = if error.is_configuration() {
            CONFIG
        } else {
            REFUSED
        };
        let message = match &error {
            StartError::Problems(problems) => problems.with_excerpts(),
            _ => error.to_string(),
        };
        Failure { message, status }
    }
}

fn print_version() -> ExitCode {
    let _ = writeln!(io::stdout(), "{}", version::text());
    ExitCode::SUCCESS
}

/// Prints the help, or the error about the command line in one line.
fn print_help_or_error(error: &CliError) -> ExitCode {
    let message = match error {
        CliError::Clap(error) if error.kind() == ErrorKind::DisplayHelp => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        CliError::Clap(error) => in_one_line(&error.to_string()),
        CliError::Argument(error) => error.to_string(),
    };
    Failure {
        message,
        status: USAGE,
    }
    .report()
}

/// clap's message has several lines: `error: <what>`, often `tip: <what to do>`, then the usage.
fn in_one_line(text: &str) -> String {
    let what: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let what = what.join(" ");
    // As a value, a flag would be the name of a file.
    let mut tips = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tips.find(|tip| !tip.contains(" as a value, use "));
    let is_after_command = tip.is_none() && text.contains(" as a value, use ");
    let remedy = match is_after_command {
        true => "flags of the proxy go before the command, as in proxy --port 8080 check",
        false => tip.unwrap_or("see proxy --help"),
    };
    format!("{}; {remedy}", what.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        let args = [&["proxy"], args].concat().into_iter().map(Into::into);
        match Cli::read(args) {
            Ok(_) => panic!("the command line is accepted"),
            Err(CliError::Clap(error)) => in_one_line(&error.to_string()),
            Err(CliError::Argument(error)) => error.to_string(),
        }
    }

    #[test]
    fn flags_of_the_proxy_after_a_command_are_explained() {
        assert_eq!(
            refusal(&["check", "--port", "1"]),
            "unexpected argument '--port' found; flags of the proxy go before the command, as in proxy --port 8080 check"
        );
    }

    #[test]
    fn wrong_flags_are_reported_in_one_line() {
        assert_eq!(
            refusal(&["--prt", "1"]),
            "there is no flag --prt; did you mean --port?"
        );
        assert_eq!(
            refusal(&["--port", "70000"]),
            "invalid value '70000' for '--port <PORT>': must be between 0 and 65535; see proxy --help"
        );
        assert_eq!(
            refusal(&["--port"]),
            "a value is required for '--port <PORT>' but none was supplied; see proxy --help"
        );
    }
}
