//! The flags of `proxy ca` and their help, no behaviour.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::name::{CommonName, HostName};

/// Makes, shows and hands out the certificates that clients have to trust
#[derive(Args)]
#[command(
    long_about = "Makes, shows and hands out the certificates that clients have to trust.\n\n\
                  Exit status: 0 done, 1 a file cannot be read or written, 2 the command line is wrong.",
    arg_required_else_help = false
)]
pub struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// What `proxy ca` can do.
#[derive(Subcommand)]
pub enum CaCommand {
    /// Make the authority that signs for intercepted hosts: ca-cert.pem, ca-key.pem and ca-signing-key.pem
    Init(InitArgs),
    /// Print whose certificate it is, how long it is valid, and its fingerprint
    Show(ShowArgs),
    /// Write the certificate in the form that a client wants
    Export(ExportArgs),
    /// Print how clients of every kind come to trust the certificate
    InstallHelp(ShowArgs),
    /// Make a certificate and a key for --cert-file and --key-file, with which clients speak TLS to the proxy
    SelfSigned(SelfSignedArgs),
}

/// `proxy ca init`
#[derive(Args)]
pub struct InitArgs {
    /// Directory to write to; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// What the authority is called in the lists of its clients. Default: `proxy CA`, the host's name and the time.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<CommonName>,

    /// Days from now until the certificate expires.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,

    /// Replace files that exist. Clients then have to trust the new certificate.
    #[arg(long)]
    pub force: bool,
}

/// `proxy ca show` and `proxy ca install-help`
#[derive(Args)]
pub struct ShowArgs {
    /// PEM file with the certificate.
    #[arg(long, value_name = "FILE", default_value = "ca-cert.pem")]
    pub ca_cert_file: PathBuf,
}

/// `proxy ca export`
#[derive(Args)]
pub struct ExportArgs {
    /// The form: PEM for programs, DER for Windows and Android, a configuration profile for iOS and macOS.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Pem)]
    pub format: Format,

    /// PEM file with the certificate.
    #[arg(long, value_name = "FILE", default_value = "ca-cert.pem")]
    pub ca_cert_file: PathBuf,

    /// File to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// In which form a certificate is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text, as the proxy itself keeps it.
    Pem,
    /// The same bytes without the text around them.
    Der,
    /// A configuration profile for Apple's systems.
    Mobileconfig,
}

/// `proxy ca self-signed`
#[derive(Args)]
pub struct SelfSignedArgs {
    /// Name or IP address under which clients reach the proxy, may be repeated.
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub host: Vec<HostName>,

    /// File to write the certificate to.
    #[arg(long, value_name = "FILE", default_value = "https-cert.pem")]
    pub cert_file: PathBuf,

    /// File to write the private key to.
    #[arg(long, value_name = "FILE", default_value = "https-key.pem")]
    pub key_file: PathBuf,

    /// Days from now until the certificate expires; Apple's systems accept 824 at most.
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,

    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
}
