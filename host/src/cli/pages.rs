//! `proxy completions` and `proxy man`: files for shells and for man, made of the flags as they are.
//!
//! Packages install them: `make completions man` writes all of them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, version};

/// Prints the completions of flags and commands for a shell
#[derive(Args)]
#[command(
    long_about = "Prints the completions of flags and commands for a shell. For bash, in the current session:\n\n    \
                  source <(proxy completions bash)\n\n\
                  Exit status: 0 done, 2 the command line is invalid."
)]
pub struct CompletionsArgs {
    /// The shell that reads them.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints the man page, or writes those of all commands
#[derive(Args)]
#[command(
    long_about = "Prints the man page of the proxy, as `proxy man | man -l -` shows it, or writes those of the proxy \
                  and its commands to a directory.\n\n\
                  Exit status: 0 done, 1 a file cannot be written, 2 the command line is invalid."
)]
pub struct ManArgs {
    /// Directory for proxy.1, proxy-check.1 and so on; created if it does not exist. Default: print proxy.1.
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; choose a directory that you may write to", .path.display())]
pub struct PageError {
    path: PathBuf,
    source: io::Error,
}

/// `proxy completions`. A reader that has gone has what it wanted.
pub fn print_completions(args: &CompletionsArgs, out: &mut impl Write) {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "proxy", &mut text);
    let _ = out.write_all(&text);
}

/// `proxy man`.
///
/// # Errors
/// The directory or a file in it cannot be written.
pub fn write_man_pages(args: &ManArgs, out: &mut impl Write) -> Result<(), PageError> {
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        // It is written to memory.
        let _ = clap_mangen::Man::new(command()).render(&mut text);
        let _ = out.write_all(&text);
        return Ok(());
    };
    write_to(dir).map_err(|source| PageError {
        path: dir.clone(),
        source,
    })
}

fn write_to(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command(), dir)
}

fn command() -> clap::Command {
    let command = Cli::command().version(version::VERSION);
    command.disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_every_flag() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            print_completions(&CompletionsArgs { shell: *shell }, &mut text);
            let text = String::from_utf8(text).unwrap();
            for flag in Cli::command().get_arguments() {
                let name = flag.get_long().expect("flags have long names");
                assert!(text.contains(name), "{shell}: {name}");
            }
            assert!(text.contains("self-signed"), "{shell}");
        }
    }

    #[test]
    fn the_man_page_has_every_flag_and_the_exit_status() {
        let mut text = Vec::new();
        write_man_pages(&ManArgs { dir: None }, &mut text).unwrap();
        // Hyphens are escaped there.
        let text = String::from_utf8(text).unwrap().replace("\\-", "-");
        for flag in Cli::command().get_arguments() {
            let name = format!("--{}", flag.get_long().expect("flags have long names"));
            assert!(text.contains(&name), "{name}");
        }
        assert!(text.contains("Exit status") && text.contains("proxy-check(1)"));
    }
}
