//! The command line: flags and their help, no behaviour.
//!
//! A flag that was not given is `None`, so that `config` can use the value of the environment or the file. Values are
//! checked as those in `proxy.toml`, so an invalid value causes the same error message in both places. If a flag is given
//! twice, the last one counts. How flags may be written is in `arguments`; flags of proxy.py that do not exist here are
//! in `replaced`.

mod arguments;
pub mod pages;
mod replaced;
pub mod version;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};
use thiserror::Error;

pub use arguments::ArgumentError;
use pages::{CompletionsArgs, ManArgs};

use crate::ca::command::CaArgs;
use crate::config::command::ConfigArgs;
use crate::config::{Flags, heading};
#[cfg(unix)]
use crate::control::command::{ReloadArgs, ReopenArgs, StatusArgs, StopArgs};
use crate::generation::command::CheckArgs;
use crate::web::pac::command::PacArgs;

/// The flags as given.
#[derive(Parser)]
#[command(
    name = "proxy",
    about = "A programmable HTTP(S) forward proxy that loads its filters from shared libraries.",
    after_help = AFTER_HELP,
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Print the version, that of plugin-api, and how it was built.
    #[arg(short = 'v', long)]
    pub version: bool,

    /// Check the configuration as `proxy check` does, and exit.
    #[arg(short = 't', long)]
    pub test: bool,

    /// The flags of the configuration.
    #[command(flatten)]
    pub flags: Flags,

    /// Replace the running proxy without refusing connections. Default: off.
    ///
    /// It is found by its control socket, hands over its listening sockets, and finishes what is open. If none is running,
    /// the proxy starts as usual.
    #[arg(long, help_heading = heading::PROCESS)]
    pub takeover: bool,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Why there is nothing to run.
#[derive(Debug, Error)]
pub enum CliError {
    /// A flag is none, or may be several.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// A value is wrong, a command is unknown, or the help was asked for.
    #[error(transparent)]
    Clap(#[from] clap::Error),
}

impl Cli {
    /// Reads the command line, the program's name first.
    ///
    /// # Errors
    /// The first thing that is wrong with it; the help, if that is what was asked for.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, CliError> {
        let mut command = Self::command();
        command.build();
        let args = arguments::written_out(&command, args)?;
        Ok(Self::try_parse_from(args)?)
    }
}

/// What the executable can do besides serving.
#[derive(Subcommand)]
pub enum Command {
    // The help texts are those of the argument structs.
    #[allow(
        missing_docs,
        reason = "a doc comment here would replace that of CaArgs in the help"
    )]
    Ca(CaArgs),
    #[allow(missing_docs, reason = "as above")]
    Pac(PacArgs),
    #[allow(missing_docs, reason = "as above")]
    Check(CheckArgs),
    #[allow(missing_docs, reason = "as above")]
    Config(ConfigArgs),
    #[allow(missing_docs, reason = "as above")]
    Completions(CompletionsArgs),
    #[allow(missing_docs, reason = "as above")]
    Man(ManArgs),
    #[cfg(unix)]
    #[allow(missing_docs, reason = "as above")]
    Status(StatusArgs),
    #[cfg(unix)]
    #[allow(missing_docs, reason = "as above")]
    Reload(ReloadArgs),
    #[cfg(unix)]
    #[allow(missing_docs, reason = "as above")]
    Reopen(ReopenArgs),
    #[cfg(unix)]
    #[allow(missing_docs, reason = "as above")]
    Stop(StopArgs),
}

const AFTER_HELP: &str = "\
Exit status:
   0  the proxy stopped normally
   1  a system error, such as a port in use or an unwritable log file
   2  the command line is invalid
  78  the configuration file or a plugin cannot be used";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(args: &[&str]) -> Result<Flags, CliError> {
        let args = [&["proxy"], args].concat().into_iter();
        Cli::read(args.map(OsString::from)).map(|cli| cli.flags)
    }

    fn parse(args: &[&str]) -> Flags {
        read(args).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(args: &[&str]) -> String {
        match read(args) {
            Ok(_) => panic!("{args:?} is accepted"),
            Err(error) => error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_last_of_repeated_flags_counts_and_lists_grow() {
        let cli = parse(&[
            "--port",
            "1",
            "--port=2",
            "--plugins",
            "a,b",
            "--plugins",
            "c",
            "--plugin-dir=x",
            "--plugin-dir=y",
        ]);
        assert_eq!(cli.port, Some("2".to_owned()));
        assert_eq!(cli.plugins, ["a,b", "c"]);
        assert_eq!(cli.plugin_dir.len(), 2);
    }

    #[test]
    fn a_refused_value_is_named_with_its_flag_and_reason() {
        for (args, line) in [
            (
                ["--port", "70000"],
                "error: invalid value '70000' for '--port <PORT>': must be between 0 and 65535",
            ),
            (
                ["--timeout", "-1"],
                "error: invalid value '-1' for '--timeout <SECONDS>': must be greater than 0 seconds",
            ),
            (
                ["--num-workers", "-1"],
                "error: invalid value '-1' for '--num-workers <N>': must be between 0 and 1024",
            ),
            (
                ["--log-level", "loud"],
                "error: invalid value 'loud' for '--log-level <LEVEL>': is not a log level; use DEBUG, INFO, WARNING, ERROR or CRITICAL, or the first letter",
            ),
        ] {
            assert_eq!(refusal(&args), line);
        }
    }

    #[test]
    fn the_readme_lists_every_flag() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let rows: Vec<_> = readme
            .lines()
            .filter(|line| line.starts_with("| `-"))
            .collect();
        for flag in Cli::command().get_arguments() {
            let name = format!("--{}", flag.get_long().expect("flags have long names"));
            let is_in = |row: &&&str| row.split(['`', ' ', ',']).any(|word| word == name);
            assert!(rows.iter().find(is_in).is_some(), "{name}");
        }
    }

    #[test]
    fn the_help_names_every_default_and_the_exit_status() {
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        for flag in command.get_arguments() {
            let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let is_about = flag.get_help_heading().is_none();
            assert!(text.contains("Default: ") || is_about, "{}", flag.get_id());
        }
        assert!(help.contains("78  the configuration file"));
    }

    #[test]
    fn the_short_help_has_a_line_for_each_flag() {
        let mut command = Cli::command();
        let help = command.render_help().to_string();
        for flag in command.get_arguments() {
            let name = format!("--{}", flag.get_long().expect("flags have long names"));
            let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let text = text.trim_end_matches('.');
            let is_whole = help
                .lines()
                .any(|line| line.contains(&name) && line.contains(text));
            assert!(is_whole, "{name}: {text}\n{help}");
            let is_about = ["--version", "--help", "--test"].contains(&name.as_str());
            assert!(
                is_about || flag.get_help_heading().is_some(),
                "{name} is in no group"
            );
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100));
    }
}
