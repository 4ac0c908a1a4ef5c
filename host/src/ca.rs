//! `proxy ca`: creates, shows and exports the certificates that clients have to trust.
//!
//! It does not need openssl. Existing files are replaced only on request, and a private key is never readable by
//! others, not even briefly. [`page`] offers the same certificate to clients of a running proxy. Reading keys and
//! signing for intercepted hosts is done elsewhere.

mod certificate;
pub mod command;
mod export;
mod files;
mod make;
mod mobileconfig;
mod name;
pub mod page;
mod trust;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use self::certificate::{Certificate, CertificateError};
use self::command::{CaCommand, ExportArgs, InitArgs, SelfSignedArgs, SignArgs};
use self::files::{Existing, FileError, FileMode, NewFile};

/// Why the command failed; one line with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate cannot be read.
    #[error("{}: {source}; specify another file with --ca-cert-file, or create one with `proxy ca init`", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CertificateError,
    },
    /// A file of the CA, or the key to certify, cannot be read.
    #[error("{}: {source}; create it with `proxy ca {creator}`, or specify another file with {flag}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
        /// What makes such a file.
        creator: &'static str,
        /// Where it can be specified.
        flag: &'static str,
    },
    /// The certificate cannot be created.
    #[error("cannot create the certificate: {0}")]
    Make(#[from] make::MakeError),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Executes the command. `out` is standard output.
///
/// # Errors
/// A file cannot be read or written, or exists and may not be replaced. Then nothing has changed.
pub fn run(command: &CaCommand, out: &mut dyn Write) -> Result<(), CaError> {
    match command {
        CaCommand::Init(args) => init(args, out),
        CaCommand::Show(args) => show(&args.ca_cert_file, out),
        CaCommand::Export(args) => export(args, out),
        CaCommand::InstallHelp(args) => install_help(&args.ca_cert_file, out),
        CaCommand::SelfSigned(args) => self_signed(args, out),
        CaCommand::Sign(args) => sign(args, out),
    }?;
    printed(out.flush())
}

fn init(args: &InitArgs, out: &mut dyn Write) -> Result<(), CaError> {
    let [cert_file, key_file, signing_key_file] =
        ["ca-cert", "ca-key", "ca-signing-key"].map(|name| {
            let name = format!("{name}{}.pem", args.suffix);
            in_dir(&args.dir, &name)
        });
    let name = match &args.name {
        Some(name) => name.as_str().to_owned(),
        None => name::of_new_ca(),
    };
    let made = make::ca(&name, args.days)?;
    let signing_key = make::key()?;
    files::make_dir(&args.dir)?;
    files::write_all(
        &[
            NewFile::new(&key_file, made.key.as_bytes(), FileMode::Owner),
            NewFile::new(&signing_key_file, signing_key.as_bytes(), FileMode::Owner),
            NewFile::new(&cert_file, made.certificate.as_bytes(), FileMode::Everyone),
        ],
        Existing::from_force(args.force),
    )?;
    let certificate = read(&cert_file)?;
    let [cert, key, signing_key] =
        [&cert_file, &key_file, &signing_key_file].map(|file| trust::quoted(file));
    printed(write!(
        out,
        "Made {cert}, {key} and {signing_key}.\n\
         \n\
         {certificate}\n\
         Start the proxy with\n    \
             proxy --ca-cert-file {cert} --ca-key-file {key} --ca-signing-key-file {signing_key}\n\
         and install {cert} on its clients; for instructions, run\n    \
             proxy ca install-help --ca-cert-file {cert}\n\
         Clients that already use the proxy can download it from http://{host}/.\n\
         Keep both keys secret: whoever has them can impersonate any site to those clients.\n",
        host = page::HOST,
    ))
}

fn show(file: &Path, out: &mut dyn Write) -> Result<(), CaError> {
    let certificate = read(file)?;
    printed(write!(out, "{certificate}"))
}

fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<(), CaError> {
    let certificate = read(&args.ca_cert_file)?;
    let content = export::encode(&certificate, args.format);
    if args.output.as_os_str() == "-" {
        return printed(out.write_all(&content));
    }
    let file = NewFile::new(&args.output, &content, FileMode::Everyone);
    Ok(files::write_all(&[file], Existing::from_force(args.force))?)
}

fn install_help(file: &Path, out: &mut dyn Write) -> Result<(), CaError> {
    let certificate = read(file)?;
    // An absolute path, because the commands may be run in any directory.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let instructions = trust::Instructions::new(&file, certificate.name());
    printed(write!(out, "{certificate}\n{instructions}"))
}

fn self_signed(args: &SelfSignedArgs, out: &mut dyn Write) -> Result<(), CaError> {
    let made = make::self_signed(&args.host, args.days)?;
    files::write_all(
        &[
            NewFile::new(&args.key_file, made.key.as_bytes(), FileMode::Owner),
            NewFile::new(
                &args.cert_file,
                made.certificate.as_bytes(),
                FileMode::Everyone,
            ),
        ],
        Existing::from_force(args.force),
    )?;
    let certificate = read(&args.cert_file)?;
    let [cert, key] = [&args.cert_file, &args.key_file].map(|file| trust::quoted(file));
    let hosts: Vec<&str> = args.host.iter().map(name::HostName::as_str).collect();
    let first = args
        .host
        .first()
        .map_or_else(String::new, |host| host.in_url());
    printed(write!(
        out,
        "Made {cert} and {key}, for {hosts}.\n\
         \n\
         {certificate}\n\
         Start the proxy with\n    \
             proxy --cert-file {cert} --key-file {key}\n\
         and use it as\n    \
             curl --proxy-cacert {cert} -x https://{first}:8899 http://example.com/\n",
        hosts = hosts.join(", "),
    ))
}

fn sign(args: &SignArgs, out: &mut dyn Write) -> Result<(), CaError> {
    let ca = read(&args.ca_cert_file)?;
    let ca_key = text_of(&args.ca_key_file, "init", "--ca-key-file")?;
    let key = text_of(&args.key_file, "self-signed", "--key-file")?;
    let made = make::signed(&args.host, args.days, &key, &ca.pem(), &ca_key)?;
    let file = NewFile::new(&args.cert_file, made.as_bytes(), FileMode::Everyone);
    files::write_all(&[file], Existing::from_force(args.force))?;
    let certificate = read(&args.cert_file)?;
    let [cert, key] = [&args.cert_file, &args.key_file].map(|file| trust::quoted(file));
    printed(write!(
        out,
        "Made {cert}.\n\
         \n\
         {certificate}\n\
         Start the proxy with\n    \
             proxy --cert-file {cert} --key-file {key}\n",
    ))
}

fn text_of(path: &Path, creator: &'static str, flag: &'static str) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|source| CaError::Unreadable {
        path: path.to_owned(),
        source,
        creator,
        flag,
    })
}

/// Converts the result of writing to standard output. A reader that stops early, such as `head`, is not an error.
fn printed(outcome: io::Result<()>) -> Result<(), CaError> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(CaError::Output),
    }
}

fn read(path: &Path) -> Result<Certificate, CaError> {
    Certificate::read(path).map_err(|source| CaError::Certificate {
        path: path.to_owned(),
        source,
    })
}

/// `name` in `dir`, without `./`.
fn in_dir(dir: &Path, name: &str) -> PathBuf {
    if dir == Path::new(".") {
        return PathBuf::from(name);
    }
    dir.join(name)
}
