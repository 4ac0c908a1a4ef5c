//! Certificate verification by the proxy and by clients, and the certificates that the proxy presents.

use std::time::Duration;

use super::Scene;
use crate::support::Proxy;
use crate::support::tls::{Answer, Ask, Identity, Pki, Shown, Trust};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The exit code for an invalid configuration.
const CONFIG: i32 = 78;

#[test]
fn the_minted_certificate_is_for_the_host_alone_and_signed_by_our_authority() {
    let scene = Scene::answering(Answer::ok("ok"));
    let shown = scene.client().https(&scene.authority()).certificate();
    assert_eq!(
        (&shown.names[..], &shown.addresses[..]),
        (&["localhost".to_owned()][..], &[][..])
    );
    assert_eq!(
        shown.issuer,
        Shown::of(&scene.pki.proxy_certificate()).subject
    );
    assert!(!shown.is_ca);
    assert!(shown.lifetime <= 199 * DAY, "{:?}", shown.lifetime);
    assert!((8..=20).contains(&shown.serial.len()), "{:?}", shown.serial);
}

#[test]
fn an_address_is_in_the_certificate_as_an_address() {
    let scene = Scene::answering(Answer::ok("ok"));
    let authority = scene.origin.address().to_string();
    let mut session = scene.client().https(&authority);
    let shown = session.certificate();
    assert_eq!(shown.addresses, [scene.origin.address().ip()]);
    assert_eq!(shown.names.len(), 1, "{:?}", shown.names);
    assert_eq!(
        session.ask(Ask::get(&authority, "/")).told(),
        (200, "ok".into())
    );
    let seen = scene.origin.only_request();
    assert_eq!(seen.server_name, None, "addresses are no server names");
}

#[test]
fn clients_of_one_host_are_shown_the_same_certificate_and_others_another() {
    let scene = Scene::answering(Answer::ok("ok"));
    let client = scene.client();
    let first = client.https(&scene.authority()).der().to_vec();
    assert_eq!(client.https(&scene.authority()).der(), first);
    let other = client.https(&scene.origin.address().to_string());
    assert_ne!(other.der(), first);
    assert_ne!(other.certificate().serial, Shown::of(&first).serial);
}

#[test]
fn a_proxy_that_is_started_again_shows_what_it_has_kept() {
    let scene = Scene::answering(Answer::ok("ok"));
    let first = scene.client().https(&scene.authority()).der().to_vec();
    let again = scene.pki.intercepting().start();
    let session = scene.pki.client(&again).https(&scene.authority());
    assert_eq!(session.der(), first);
}

#[test]
fn what_is_kept_is_nobody_elses_to_read() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::answering(Answer::ok("ok"));
    scene.client().get(&scene.authority(), "/");
    let directory = scene.pki.certificate_directory();
    let mode = fs::metadata(&directory)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_bad_certificate_of_the_origin_is_a_bad_gateway_with_the_reason() {
    for (identity, reason) in Identity::BAD {
        eprintln!("{identity:?}");
        let pki = Pki::new();
        let origin = pki
            .origin()
            .identity(identity)
            .answering(Answer::ok("never"));
        let proxy = pki.intercepting().start();
        let answer = pki.client(&proxy).connect(&origin.authority());
        let answer = answer.err().expect("the proxy promises nothing");
        assert_eq!(answer.status, 502);
        let text = answer.text().to_lowercase();
        assert!(text.contains(reason), "no {reason:?} in {text:?}");
        let status = answer.field("Proxy-Status").unwrap_or_default();
        assert!(status.contains("error=tls_certificate_error"), "{status:?}");
        origin.assert_unasked();
    }
}

#[test]
fn insecure_hosts_may_show_what_they_like() {
    for (identity, _) in Identity::BAD {
        eprintln!("{identity:?}");
        let pki = Pki::new();
        let origin = pki.origin().identity(identity).answering(Answer::ok("ok"));
        let proxy = pki
            .intercepting()
            .config("[interception]\ninsecure_hosts = [\"localhost\"]")
            .start();
        let client = pki.client(&proxy);
        assert_eq!(
            client.get(&origin.authority(), "/").told(),
            (200, "ok".into())
        );
        // Only listed hosts are exempt. For an address, verification may wait until the server name is known.
        let by_address = origin.address().to_string();
        let status = match client.connect(&by_address) {
            Err(answer) => answer.status,
            Ok(_) => client.get(&by_address, "/").status,
        };
        assert_eq!(status, 502);
        assert_eq!(origin.requests().len(), 1);
    }
}

#[test]
fn excluded_hosts_show_their_own_certificate() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .config("[interception]\nexclude = [\"localhost\"]")
        .start();
    let client = pki.client(&proxy);
    let mut unseen = client.trusting(Trust::Origins).https(&origin.authority());
    assert_eq!(
        unseen.ask(Ask::get(&origin.authority(), "/unseen")).status,
        200
    );
    let by_address = origin.address().to_string();
    assert_eq!(client.get(&by_address, "/seen").status, 200);
    proxy.wait_for_line("/seen");
    assert!(!proxy.lines().iter().any(|line| line.contains("/unseen")));
}

#[test]
fn only_included_hosts_are_looked_into_and_exclusion_wins() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let (by_name, by_address) = (origin.authority(), origin.address().to_string());
    for (lists, looks_into_name, looks_into_address) in [
        ("include = [\"localhost\"]", true, false),
        ("include = [\"127.0.0.1\", \"*.example\"]", false, true),
        ("include = [\"*\"]\nexclude = [\"localhost\"]", false, true),
        ("include = [\"localhost\"]\nexclude = [\"*\"]", false, false),
    ] {
        eprintln!("{lists}");
        let proxy = pki
            .intercepting()
            .config(&format!("[interception]\n{lists}"))
            .start();
        let client = pki.client(&proxy);
        for (authority, is_looked_into) in [
            (&by_name, looks_into_name),
            (&by_address, looks_into_address),
        ] {
            let trust = if is_looked_into {
                Trust::Proxy
            } else {
                Trust::Origins
            };
            let received = client.trusting(trust).get(authority, "/");
            assert_eq!(received.told(), (200, "ok".into()), "{authority}");
        }
    }
}

#[test]
fn a_host_that_is_not_looked_into_may_show_a_bad_certificate() {
    // Here the client verifies the certificate.
    let pki = Pki::new();
    let origin = pki
        .origin()
        .identity(Identity::Untrusted)
        .answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .config("[interception]\nexclude = [\"localhost\"]")
        .start();
    let client = pki.client(&proxy).trusting(Trust::Anyone);
    assert_eq!(client.get(&origin.authority(), "/").status, 200);
}

#[test]
fn the_proxy_shows_its_certificate_to_the_hosts_it_is_for() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .asking_for_certificate()
        .answering(Answer::ok("ok"));
    let (certificate, key) = pki.client_files();
    let proxy = pki
        .intercepting()
        .config(&format!(
            "[[tls.upstream.client_certificates]]\nhosts = [\"localhost\"]\ncert_file = {certificate:?}\nkey_file = {key:?}"
        ))
        .start();
    let client = pki.client(&proxy);
    assert_eq!(client.get(&origin.authority(), "/shown").status, 200);
    assert_eq!(
        client.get(&origin.address().to_string(), "/not").status,
        200
    );
    let [shown, not] = &origin.requests()[..] else {
        panic!("two requests")
    };
    let shown = shown.client_certificate.as_deref().map(Shown::of);
    assert_eq!(shown.expect("a certificate").names, ["the-proxy.example"]);
    assert_eq!(not.client_certificate, None);
}

#[test]
fn an_origin_of_tls12_is_served() {
    let pki = Pki::new();
    let origin = pki.origin().with_tls12().answering(Answer::ok("ok"));
    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy);
    assert_eq!(
        client.get(&origin.authority(), "/").told(),
        (200, "ok".into())
    );
}

#[test]
fn a_ca_that_cannot_sign_refuses_the_start() {
    let pki = Pki::new();
    let other = pki.other_key_file();
    let file = pki.scratch().write("nothing.pem", "");
    for (flag, path) in [
        ("--ca-key-file", &other),
        ("--ca-cert-file", &file),
        ("--ca-key-file", &file),
        ("--ca-signing-key-file", &file),
    ] {
        let exit = Proxy::command()
            .args(pki.interception())
            .args([flag.as_ref(), path.as_os_str()])
            .run();
        assert_eq!(exit.code, Some(CONFIG), "{flag}: {exit:?}");
        let name = path.display().to_string();
        assert!(exit.stderr.contains(&name), "{flag}: {}", exit.stderr);
    }
}

#[test]
fn insecure_hosts_may_show_certificates_that_cannot_be_verified_at_all() {
    for identity in [Identity::Version1, Identity::UnknownExtension] {
        for is_tls12 in [false, true] {
            let pki = Pki::new();
            let plan = pki.origin().identity(identity.clone());
            let plan = if is_tls12 { plan.with_tls12() } else { plan };
            let origin = plan.answering(Answer::ok("ok"));
            let insecure = "[interception]\ninsecure_hosts = [\"localhost\"]";
            let proxy = pki.intercepting().config(insecure).start();
            let received = pki.client(&proxy).get(&origin.authority(), "/");
            assert_eq!(received.told(), (200, "ok".into()), "{identity:?}");
            let strict = pki.intercepting().start();
            let answer = pki.client(&strict).connect(&origin.authority());
            assert_eq!(answer.err().expect("no tunnel").status, 502);
        }
    }
}

#[test]
fn a_certificate_of_version_1_that_is_trusted_itself_is_good_for_its_name() {
    for is_tls12 in [false, true] {
        let pki = Pki::new();
        let plan = pki.origin().identity(Identity::Version1);
        let plan = if is_tls12 { plan.with_tls12() } else { plan };
        let origin = plan.answering(Answer::ok("ok"));
        let (certificate, _) = pki.version_1_files();
        let trusting = ["--ca-file".as_ref(), certificate.as_os_str()];
        let proxy = pki.intercepting().args(trusting).start();
        let client = pki.client(&proxy);
        let received = client.get(&origin.authority(), "/");
        assert_eq!(received.told(), (200, "ok".into()));
        // It is not valid for other names.
        let by_address = origin.address().to_string();
        assert_eq!(client.get(&by_address, "/").status, 502);
    }
}

#[test]
fn a_certificate_of_version_1_is_shown_to_hosts_that_ask() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let (certificate, key) = pki.version_1_files();
    let proxy = pki
        .intercepting()
        .config(&format!(
            "[[tls.upstream.client_certificates]]\nhosts = [\"localhost\"]\ncert_file = {certificate:?}\nkey_file = {key:?}"
        ))
        .start();
    assert_eq!(pki.client(&proxy).get(&origin.authority(), "/").status, 200);
}
