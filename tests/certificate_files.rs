//! Certificate files that change while the proxy runs, without a signal.

use std::fs;
use std::time::Instant;

use crate::support::tls::{Answer, Ask, Pki, Way};
use crate::support::{HANG, OK, Origin, Proxy};

/// Asks until `ask` is true.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !holds() {
        assert!(Instant::now() < deadline, "hang: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_new_certificate_is_shown_and_nothing_else_is_read_again() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let file = pki.scratch().write("proxy.toml", "via = \"one\"\n");
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .args(["--config".as_ref(), file.as_os_str()])
        .start();
    let client = pki.client(&proxy).over(Way::Http2);
    let mut old = client.session();
    let first = old.der().to_vec();
    pki.scratch().write("proxy.toml", "via = \"two\"\n");
    pki.listener_files();
    wait_until("a new certificate", || client.pipe().chain[0] != first);
    proxy.wait_for_line("certificate files have changed: ");
    proxy.wait_for_line("generation 2 is active");
    let mut new = client.session();
    for session in [&mut old, &mut new] {
        assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 200);
    }
    for request in origin.requests() {
        let via = request.field("via").unwrap_or_default();
        assert!(via.ends_with(" one"), "{via}");
    }
}

#[test]
fn a_pair_that_does_not_match_is_reported_once_and_the_old_one_stays() {
    let pki = Pki::new();
    let proxy = pki.relaying().args(pki.listener()).start();
    let client = pki.client(&proxy).over(Way::Tls);
    let first = client.session().der().to_vec();
    // The certificate of another key.
    let key = pki.scratch().path("https-key.pem");
    let old_key = fs::read(&key).expect("it is there");
    let (certificate, _) = pki.listener_files();
    let new_key = fs::read(&key).expect("it is there");
    fs::write(&key, &old_key).expect("a scratch file is ours");
    let line = proxy.wait_for_line("but are not used");
    assert!(line.contains(" - ERROR - "), "{line}");
    assert!(line.contains(&certificate.display().to_string()), "{line}");
    assert_eq!(client.session().der(), first);
    fs::write(&key, &new_key).expect("a scratch file is ours");
    wait_until("a new certificate", || client.pipe().chain[0] != first);
    let is_report = |line: &&String| line.contains("are not used");
    assert_eq!(proxy.lines().iter().filter(is_report).count(), 1);
}

#[test]
fn a_changed_ca_and_changed_trust_are_used() {
    let (before, after) = (Pki::new(), Pki::new());
    let proxy = before.intercepting().start();
    let origin = after.origin().answering(Answer::ok("ok"));
    let authority = origin.authority();
    let status = |pki: &Pki, proxy: &Proxy| {
        let client = pki.client(proxy);
        match client.connect(&authority) {
            Err(refused) => Some(refused.status),
            Ok(_) if client.try_secure(&authority).is_err() => None,
            Ok(_) => Some(client.get(&authority, "/").status),
        }
    };
    assert_eq!(status(&before, &proxy), Some(502));
    // What the proxy trusts, and what it signs with.
    drop((after.relaying(), after.interception()));
    for name in ["origins.pem", "ca-cert.pem", "ca-key.pem"] {
        let (from, to) = (after.scratch().path(name), before.scratch().path(name));
        fs::copy(from, to).expect("a scratch file is ours");
    }
    wait_until("the other CA", || status(&after, &proxy) == Some(200));
}
