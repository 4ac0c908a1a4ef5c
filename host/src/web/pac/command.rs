//! The flags of `proxy pac` and their help, no behaviour.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ProxyAddress;
use crate::config::DirectRule;

/// Writes the PAC file that tells browsers to use this proxy
#[derive(Args)]
#[command(
    long_about = "Writes the PAC (proxy auto-configuration) file that tells browsers to use this proxy.\n\n\
                  Exit status: 0 done, 1 a file cannot be written, 2 the command line is invalid, 78 the configuration \
                  cannot be used.",
    arg_required_else_help = false
)]
pub struct PacArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PacCommand,
}

/// What `proxy pac` can do.
#[derive(Subcommand)]
pub enum PacCommand {
    /// Create a PAC file from the configuration, which may also be given as flags before `pac`
    Generate(GenerateArgs),
}

/// `proxy pac generate`
#[derive(Args)]
pub struct GenerateArgs {
    /// Configuration file of the proxy: the address it listens on, whether it uses TLS, and `[web_server.pac] direct`.
    /// Default: the file that PROXY_CONFIG names, or none.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address by which clients connect to the proxy; may be repeated: clients try the next one if one does not answer.
    /// Default: the address that the proxy listens on, or the name of this machine if it listens on all addresses.
    #[arg(long, value_name = "HOST:PORT")]
    pub proxy: Vec<ProxyAddress>,

    /// Hosts that clients connect to without the proxy; may be repeated: example.com, *.example.com (its subdomains),
    /// .example.com (both), an IP address, 10.0.0.0/8, `<local>` (names without a dot) or *. Adds to
    /// `[web_server.pac] direct`. The client itself and the proxy are always included. Default: none.
    #[arg(long, value_name = "PATTERN")]
    pub direct: Vec<DirectRule>,

    /// If no proxy answers, clients fail. Default: they connect without a proxy.
    #[arg(long)]
    pub no_fallback: bool,

    /// File to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Replace an existing file.
    #[arg(long)]
    pub force: bool,
}
