//! What scripts for proxy.py do: how its integration tests start it, and its Makefile.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::tls::{Pki, Shown};
use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch, plugin_directory, proxy_binary};

/// As the integration tests of proxy.py start it.
fn started_as_its_tests_do(scratch: &Scratch) -> ProxyCommand {
    Proxy::bare()
        .args(["--plugin-dir".as_ref(), plugin_directory().as_os_str()])
        .args(["--hostname", "127.0.0.1", "--port", "0"])
        .args(["--port-file".as_ref(), scratch.path("port").as_os_str()])
        .args(["--enable-web-server"])
        .args(["--plugin", "proxy.plugin.WebServerPlugin"])
        .args(["--enable-reverse-proxy"])
        .args(["--plugin", "proxy.plugin.ReverseProxyPlugin"])
        .args(["--rewrite-host-header"])
        .args(["--num-acceptors", "3", "--num-workers", "3"])
        .args(["--ca-cert-dir".as_ref(), scratch.path("minted").as_os_str()])
        .args(["--log-level", "d"])
}

/// It forwards, answers a route of each plugin, and ends at SIGTERM.
fn assert_serves(proxy: Proxy) {
    let origin = Origin::answering(OK);
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    let answer = proxy.ask("GET /http-route-example HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(answer.status(), 200);
    let line = proxy.wait_for_line("/get");
    assert!(line.contains("ReverseProxyPlugin"), "{line}");
    proxy.wait_for_line("Started 3 workers");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn the_start_of_its_integration_tests_is_understood_in_each_mode() {
    for mode in [
        "--threaded",
        "--threadless --local-executor 0",
        "--threadless",
    ] {
        let scratch = Scratch::new();
        let command = started_as_its_tests_do(&scratch).args(mode.split(' '));
        let proxy = command.start();
        let port = fs::read_to_string(scratch.path("port")).expect("it is written");
        assert_eq!(port.trim(), proxy.address().port().to_string());
        assert_serves(proxy);
    }
}

#[test]
fn a_ca_with_a_short_flag_intercepts() {
    let pki = Pki::new();
    let scratch = Scratch::new();
    let short = |arg: &std::ffi::OsString| match arg.to_str() {
        Some("--ca-signing-key-file") => "--ca-signing-key".into(),
        _ => arg.clone(),
    };
    let args: Vec<_> = pki.interception().iter().map(short).collect();
    assert!(args.iter().any(|arg| arg == "--ca-signing-key"), "{args:?}");
    let proxy = started_as_its_tests_do(&scratch).args(args).start();
    assert_serves(proxy);
}

/// Runs `make` in the project, with the proxy under test.
fn make(args: &[&str]) -> Output {
    let output = Command::new("make")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .arg(format!("PROXY={}", proxy_binary().display()))
        .args(args)
        .output();
    output.expect("make is installed")
}

#[track_caller]
fn made(args: &[&str]) {
    let output = make(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[test]
fn certificates_are_made_by_the_targets_of_its_makefile() {
    let scratch = Scratch::new();
    let directory = format!("CERT_DIR={}/", scratch.path("certificates").display());
    let file = |name: &str| scratch.path("certificates").join(name);
    made(&[
        "https-certificates",
        "-e",
        "PYTHON=\"python3\"",
        "-e",
        &directory,
    ]);
    made(&["ca-certificates", "-e", &directory]);
    made(&["sign-https-certificates", "-e", &directory]);
    made(&[
        "ca-certificates",
        "-e",
        "CA_CERT_SUFFIX=-chunk",
        "-e",
        &directory,
    ]);
    let signed = Shown::of_file(&file("https-signed-cert.pem"));
    let ca = Shown::of_file(&file("ca-cert.pem"));
    assert_eq!(signed.issuer, ca.subject);
    for name in [
        "ca-cert-chunk.pem",
        "ca-key-chunk.pem",
        "ca-signing-key-chunk.pem",
    ] {
        assert!(file(name).is_file(), "{name}");
    }
    // A second run keeps what is there.
    let key = fs::read(file("ca-key.pem")).expect("it is there");
    made(&["ca-certificates", &directory]);
    assert_eq!(fs::read(file("ca-key.pem")).expect("it is there"), key);
    made(&["ca-certificates", &directory, "ARGS=--force"]);
    assert_ne!(fs::read(file("ca-key.pem")).expect("it is there"), key);

    let [cert, key] = ["https-signed-cert.pem", "https-key.pem"].map(file);
    let exit = Proxy::command()
        .args(["--cert-file".as_ref(), cert.as_os_str()])
        .args(["--key-file".as_ref(), key.as_os_str()])
        .check();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn a_certificate_is_not_signed_without_a_ca() {
    let scratch = Scratch::new();
    let directory = format!("CERT_DIR={}", scratch.path("").display());
    let output = make(&["sign-https-certificates", &directory]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("ca-cert.pem") && error.contains("proxy ca init"),
        "{error}"
    );
}

#[test]
fn completions_and_man_pages_are_made_for_packages() {
    let scratch = Scratch::new();
    let dist = scratch.path("dist");
    made(&["completions", "man", &format!("DIST={}", dist.display())]);
    for (name, words) in [
        ("completions/proxy.bash", "--ca-signing-key-file"),
        ("completions/_proxy", "--ca-signing-key-file"),
        ("completions/proxy.fish", "ca-signing-key-file"),
        ("completions/_proxy.ps1", "--ca-signing-key-file"),
        ("completions/proxy.elv", "--ca-signing-key-file"),
        ("man/proxy.1", "signing"),
        ("man/proxy-check.1", "check"),
        ("man/proxy-ca-sign.1", "sign"),
    ] {
        let text = fs::read_to_string(dist.join(name)).unwrap_or_default();
        assert!(text.contains(words), "{name}");
    }
    let bash = Command::new("bash")
        .arg("-n")
        .arg(dist.join("completions/proxy.bash"))
        .status();
    assert!(bash.expect("bash is installed").success());
}
