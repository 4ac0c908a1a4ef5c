//! Certificates created and exported by `proxy ca`, tested as a black box.
//!
//! The tests check what an administrator sees: files, their modes, output and exit codes. Exit codes: 0 success, 1
//! cannot read or write a file, 2 invalid command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::support::{Scratch, contains, proxy_binary};

const CA_FILES: [&str; 3] = ["ca-cert.pem", "ca-key.pem", "ca-signing-key.pem"];

/// Runs `proxy ca` in `directory` with umask 0.
fn ca(directory: &Path, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" ca \"$@\""])
        .arg(proxy_binary())
        .args(args)
        .current_dir(directory)
        .output()
        .expect("the proxy can be run")
}

/// Runs `ca`, asserts success and returns standard output.
fn done(directory: &Path, args: &[&str]) -> String {
    let output = ca(directory, args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("words are UTF-8")
}

/// Runs `ca` and asserts failure with a single line that contains all of `words`.
fn refused(directory: &Path, args: &[&str], code: i32, words: &[&str]) {
    let output = ca(directory, args);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
}

/// An empty directory to run the proxy in.
fn directory(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("run");
    fs::create_dir_all(&path).expect("a scratch directory can be made");
    path
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).expect("the file is there")
}

fn mode(directory: &Path, name: &str) -> u32 {
    let file = fs::metadata(directory.join(name)).expect("the file is there");
    file.permissions().mode() & 0o7777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("a directory can be listed").file_name())
        .map(|name| name.into_string().expect("names are UTF-8"))
        .collect();
    names.sort();
    names
}

fn certificate(directory: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&read(directory, name)).expect("it is a certificate")
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = digest(&SHA256, certificate);
    let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
    bytes.collect::<Vec<_>>().join(":")
}

fn assert_pair(directory: &Path, cert_file: &str, key_file: &str) {
    let key = PrivateKeyDer::from_pem_slice(&read(directory, key_file)).expect("it is a key");
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("of a known kind");
    CertifiedKey::new(vec![certificate(directory, cert_file)], key)
        .keys_match()
        .expect("key and certificate belong together");
}

#[test]
fn a_ca_is_three_files_and_its_keys_are_its_owners() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    let words = done(&directory, &["init"]);
    assert_eq!(names(&directory), CA_FILES);
    let modes = CA_FILES.map(|name| mode(&directory, name));
    assert_eq!(modes, [0o644, 0o600, 0o600]);
    assert_pair(&directory, "ca-cert.pem", "ca-key.pem");
    assert_ne!(
        read(&directory, "ca-key.pem"),
        read(&directory, "ca-signing-key.pem")
    );
    assert!(words.contains(&fingerprint(&certificate(&directory, "ca-cert.pem"))));
    assert!(words.contains(
        "proxy --ca-cert-file ca-cert.pem --ca-key-file ca-key.pem --ca-signing-key-file ca-signing-key.pem"
    ));
}

#[test]
fn no_file_of_a_ca_is_replaced_unasked() {
    for name in CA_FILES {
        let scratch = Scratch::new();
        let directory = directory(&scratch);
        fs::write(directory.join(name), "mine").expect("a scratch file can be written");
        refused(&directory, &["init"], 1, &[name, "--force"]);
        assert_eq!(names(&directory), [name]);
        assert_eq!(read(&directory, name), b"mine");
    }
}

#[test]
fn force_replaces_all_of_a_ca() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init"]);
    let before = CA_FILES.map(|name| read(&directory, name));
    fs::set_permissions(
        directory.join("ca-key.pem"),
        PermissionsExt::from_mode(0o644),
    )
    .expect("the file is ours");
    done(&directory, &["init", "--force"]);
    let after = CA_FILES.map(|name| read(&directory, name));
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after)
    );
    assert_eq!(mode(&directory, "ca-key.pem"), 0o600);
    assert_eq!(names(&directory), CA_FILES);
    assert_pair(&directory, "ca-cert.pem", "ca-key.pem");
}

#[test]
fn a_directory_that_is_missing_is_made() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    let words = done(&directory, &["init", "--dir", "a b/c", "--name", "Mine"]);
    assert_eq!(names(&directory.join("a b/c")), CA_FILES);
    assert!(
        words.contains("--ca-cert-file 'a b/c/ca-cert.pem'"),
        "{words}"
    );
    assert!(words.contains("CN=Mine"), "{words}");
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    fs::write(directory.join("file"), "").expect("a scratch file can be written");
    refused(&directory, &["init", "--dir", "file/c"], 1, &["file/c"]);
}

#[test]
fn two_cas_differ_in_name() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init", "--name", "first"]);
    let shown = done(&directory, &["show"]);
    assert!(shown.contains("CN=first\n"), "{shown}");
    done(&directory, &["init", "--force"]);
    let shown = done(&directory, &["show"]);
    assert!(shown.contains("CN=proxy CA "), "{shown}");
}

#[test]
fn what_is_shown_and_what_is_exported_agree() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init", "--days", "30"]);
    let shown = done(&directory, &["show"]);
    assert!(shown.contains("ECDSA P-256"), "{shown}");
    done(&directory, &["export", "--format", "der", "-o", "ca.der"]);
    let der = read(&directory, "ca.der");
    assert!(shown.contains(&fingerprint(&der)), "{shown}");
    assert_eq!(der, certificate(&directory, "ca-cert.pem").as_ref());
    let pem = done(&directory, &["export"]);
    assert_eq!(pem.as_bytes(), read(&directory, "ca-cert.pem"));
    let profile = done(
        &directory,
        &["export", "--format", "mobileconfig", "-o", "-"],
    );
    let mut lines = pem.lines().filter(|line| !line.starts_with('-'));
    assert!(lines.all(|line| profile.contains(line)), "{profile}");
    let again = done(&directory, &["export", "--format", "mobileconfig"]);
    assert_eq!(profile, again);
}

#[test]
fn an_export_replaces_nothing_unasked() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init"]);
    let key = read(&directory, "ca-key.pem");
    refused(
        &directory,
        &["export", "-o", "ca-key.pem"],
        1,
        &["ca-key.pem", "--force"],
    );
    assert_eq!(read(&directory, "ca-key.pem"), key);
    fs::write(directory.join("old.pem"), "old").expect("a scratch file can be written");
    done(&directory, &["export", "-o", "old.pem", "--force"]);
    assert_eq!(read(&directory, "old.pem"), read(&directory, "ca-cert.pem"));
}

#[test]
fn a_file_without_a_certificate_is_named() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init", "--dir", "other"]);
    fs::write(directory.join("empty.pem"), "").expect("a scratch file can be written");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(directory.join("broken.pem"), broken).expect("a scratch file can be written");
    for command in ["show", "export", "install-help"] {
        refused(&directory, &[command], 1, &["ca-cert.pem", "proxy ca init"]);
        for file in ["empty.pem", "broken.pem", "other/ca-key.pem", "other"] {
            let args = [command, "--ca-cert-file", file];
            refused(&directory, &args, 1, &[file, "--ca-cert-file"]);
        }
    }
}

#[test]
fn the_steps_of_every_client_name_the_file() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    done(&directory, &["init", "--dir", "here"]);
    let words = done(
        &directory,
        &["install-help", "--ca-cert-file", "here/ca-cert.pem"],
    );
    let file = directory.join("here/ca-cert.pem").display().to_string();
    for command in [
        format!("sudo cp {file} /usr/local/share/ca-certificates/proxy-ca.crt"),
        format!("sudo trust anchor --store {file}"),
        format!("NODE_EXTRA_CA_CERTS={file}"),
        format!("git config --global http.sslCAInfo {file}"),
        format!("certutil -addstore -f Root \"{file}\""),
    ] {
        assert!(words.contains(&command), "{command} is not in {words}");
    }
    for client in [
        "Fedora", "macOS", "iOS", "Android", "Firefox", "Java", "Python",
    ] {
        assert!(words.contains(client), "{client} is not in {words}");
    }
}

#[test]
fn a_self_signed_certificate_is_for_this_machine_unless_told() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    let words = done(&directory, &["self-signed"]);
    assert_eq!(names(&directory), ["https-cert.pem", "https-key.pem"]);
    assert_eq!(
        ["https-cert.pem", "https-key.pem"].map(|name| mode(&directory, name)),
        [0o644, 0o600]
    );
    assert_pair(&directory, "https-cert.pem", "https-key.pem");
    assert!(words.contains("localhost, 127.0.0.1, ::1"), "{words}");
    assert!(words.contains("curl --proxy-cacert https-cert.pem -x https://localhost:8899"));
    let der = certificate(&directory, "https-cert.pem");
    assert!(contains(&der, b"localhost") && contains(&der, &[0x87, 4, 127, 0, 0, 1]));
    refused(
        &directory,
        &["self-signed"],
        1,
        &["https-key.pem", "--force"],
    );

    let args = [
        "self-signed",
        "--host",
        "Proxy.LAN",
        "--host=10.0.0.1",
        "--cert=c",
        "--key",
        "k",
    ];
    done(&directory, &args);
    let der = certificate(&directory, "c");
    assert!(contains(&der, b"proxy.lan") && !contains(&der, b"localhost"));
    assert_pair(&directory, "c", "k");
}

#[test]
fn a_certificate_and_its_key_cannot_share_a_file() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    for force in [&["--force"][..], &[]] {
        let args = ["self-signed", "--cert-file", "both", "--key-file", "both"];
        refused(&directory, &[&args, force].concat(), 1, &["both"]);
        assert!(names(&directory).is_empty());
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let scratch = Scratch::new();
    let directory = directory(&scratch);
    for (args, word) in [
        (&[][..], "init"),
        (&["frobnicate"], "frobnicate"),
        (&["init", "surplus"], "surplus"),
        (&["init", "--days", "0"], "--days"),
        (&["init", "--days", "40000"], "--days"),
        (&["init", "--name", ""], "--name"),
        (&["export", "--format", "p12"], "mobileconfig"),
        (&["self-signed", "--host", "a b"], "--host"),
        (&["self-signed", "--host", "300.1.1.1"], "--host"),
    ] {
        refused(&directory, args, 2, &[word]);
    }
    assert!(names(&directory).is_empty());
}

#[test]
fn flags_of_the_proxy_do_not_go_with_certificates() {
    let scratch = Scratch::new();
    let output = Command::new(proxy_binary())
        .args(["--port", "0", "ca", "init"])
        .current_dir(directory(&scratch))
        .output()
        .expect("the proxy can be run");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(names(&directory(&scratch)).is_empty());
}

#[test]
fn the_proxys_help_leads_to_the_certificates() {
    let help = Command::new(proxy_binary())
        .arg("-h")
        .output()
        .expect("the proxy can be run");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("\n  ca  "), "{help}");
    let scratch = Scratch::new();
    let words = done(&directory(&scratch), &["--help"]);
    for command in [
        "init",
        "show",
        "export",
        "install-help",
        "self-signed",
        "sign",
    ] {
        assert!(words.contains(command), "{command} is not in {words}");
    }
}
