//! The flags of `proxy ca` and their help, no behaviour.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::name::{CommonName, HostName};

/// Creates, shows and exports the certificates that clients have to trust
#[derive(Args)]
#[command(
    long_about = "Creates, shows and exports the certificates that clients have to trust.\n\n\
                  Exit status: 0 done, 1 a file cannot be read or written, 2 the command line is invalid.",
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
    /// Create the CA that signs certificates of intercepted hosts: ca-cert.pem, ca-key.pem and ca-signing-key.pem
    Init(InitArgs),
    /// Print the subject, the validity and the fingerprint of the certificate
    Show(ShowArgs),
    /// Write the certificate in the format that a client needs
    Export(ExportArgs),
    /// Print how to install the certificate on each kind of client
    InstallHelp(ShowArgs),
    /// Create a certificate and a key for --cert-file and --key-file, so that clients can speak TLS to the proxy
    SelfSigned(SelfSignedArgs),
    /// Create a certificate for an existing key, signed by the CA: clients that trust the CA accept it
    Sign(SignArgs),
}

/// `proxy ca init`
#[derive(Args)]
pub struct InitArgs {
    /// Directory to write to; created if it does not exist.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Text in the names of the files behind `ca-cert`, `ca-key` and `ca-signing-key`, such as -test. Default: none.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, default_value = "", hide_default_value = true, value_parser = suffix)]
    pub suffix: String,

    /// Name of the CA, as its clients display it. Default: `proxy CA`, the name of this machine and the time.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<CommonName>,

    /// Days from now until the certificate expires.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,

    /// Replace existing files. Clients then have to trust the new certificate.
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
    /// Format: PEM for programs, DER for Windows and Android, a configuration profile for iOS and macOS.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Pem)]
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

/// The format of an exported certificate.
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
    /// Name or IP address by which clients connect to the proxy; may be repeated.
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub host: Vec<HostName>,

    /// File to write the certificate to.
    #[arg(long, value_name = "FILE", default_value = "https-cert.pem")]
    pub cert_file: PathBuf,

    /// File to write the private key to.
    #[arg(long, value_name = "FILE", default_value = "https-key.pem")]
    pub key_file: PathBuf,

    /// Days from now until the certificate expires; Apple systems accept at most 824.
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,

    /// Replace existing files.
    #[arg(long)]
    pub force: bool,
}

/// `proxy ca sign`
#[derive(Args)]
pub struct SignArgs {
    /// Name or IP address by which clients connect to the proxy; may be repeated.
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub host: Vec<HostName>,

    /// PEM file with the private key of the certificate, such as one of `proxy ca self-signed`.
    #[arg(long, value_name = "FILE", default_value = "https-key.pem")]
    pub key_file: PathBuf,

    /// File to write the certificate to.
    #[arg(long, value_name = "FILE", default_value = "https-signed-cert.pem")]
    pub cert_file: PathBuf,

    /// PEM file with the certificate of the CA.
    #[arg(long, value_name = "FILE", default_value = "ca-cert.pem")]
    pub ca_cert_file: PathBuf,

    /// PEM file with the private key of the CA.
    #[arg(long, value_name = "FILE", default_value = "ca-key.pem")]
    pub ca_key_file: PathBuf,

    /// Days from now until the certificate expires; Apple systems accept at most 824.
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,

    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// Part of a file's name.
fn suffix(text: &str) -> Result<String, &'static str> {
    match text.contains(['/', '\\', '\0']) {
        true => Err("must be part of a file's name"),
        false => Ok(text.to_owned()),
    }
}
