//! The flags of `proxy pac` and their help, no behaviour.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DirectRule, ProxyAddress};

/// Writes the PAC file that tells browsers to use this proxy
#[derive(Args)]
#[command(
    long_about = "Writes the PAC (proxy auto-configuration) file that tells browsers to use this proxy.\n\n\
                  Exit status: 0 done, 1 a file cannot be written, 2 the command line is wrong, 78 the configuration \
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
    /// Make a PAC file from the configuration, which may also be given as flags before `pac`
    Generate(GenerateArgs),
}

/// `proxy pac generate`
#[derive(Args)]
pub struct GenerateArgs {
    /// The proxy's settings: where it listens, whether with TLS, and `[web_server.pac] direct`. Default: the file that
    /// PROXY_CONFIG names, or none.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where clients reach the proxy, may be repeated: they try the next one if one does not answer. Default: where the
    /// configuration listens; the name of this machine if that is every address.
    #[arg(long, value_name = "HOST:PORT")]
    pub proxy: Vec<ProxyAddress>,

    /// Hosts that clients reach without the proxy, may be repeated: example.com, *.example.com (its subdomains),
    /// .example.com (both), an IP address, 10.0.0.0/8, `<local>` (names without a dot) or *. Adds to
    /// `[web_server.pac] direct`; the client itself and the proxy always are such hosts. Default: none.
    #[arg(long, value_name = "PATTERN")]
    pub direct: Vec<DirectRule>,

    /// Clients fail when no proxy answers. Default: they go on without one.
    #[arg(long)]
    pub no_fallback: bool,

    /// File to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}
