//! The first bytes of a client inside a tunnel: TLS, HTTP, other protocols, nothing, garbage.

use super::Scene;
use crate::support::tls::{Answer, Ask, Form, Offer, Pipe, Pki, Trust, client_hello};
use crate::support::{End, OK, Origin, Proxy, position};

/// A tunnel to the origin of `scene`; nothing has been sent through it yet.
fn tunnel(scene: &Scene) -> Pipe {
    scene.client().tunnel(&scene.authority())
}

/// Asserts that the proxy still serves new clients.
fn assert_serves(scene: &Scene) {
    let received = scene.client().get(&scene.authority(), "/afterwards");
    assert_eq!(received.told(), (200, "ok".into()));
}

#[test]
fn http_without_tls_is_served_as_http() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .serve_clear(|seen| Answer::ok(seen.path.clone()));
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let tunnel = pki.client(&proxy).tunnel(&authority);
    let mut session = tunnel.session(Form::Origin("http"));
    for path in ["/one", "/two"] {
        assert_eq!(
            session.ask(Ask::get(&authority, path)).told(),
            (200, path.into())
        );
        proxy.wait_for_line(&format!("GET {authority}{path} - 200"));
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn an_origin_that_waits_for_http_in_silence_is_found_out() {
    // The origin takes the start of a ClientHello for an incomplete request.
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = pki.intercepting().config("[timeouts]\nconnect = 1").start();
    let authority = format!("localhost:{}", origin.address().port());
    let tunnel = pki.client(&proxy).tunnel(&authority);
    let mut session = tunnel.session(Form::Origin("http"));
    let received = session.ask(Ask::get(&authority, "/"));
    assert_eq!(received.told(), (200, "origin-ok".into()));
}

#[test]
fn a_protocol_whose_server_speaks_first_is_relayed() {
    let pki = Pki::new();
    let origin = Origin::serve(|peer| {
        peer.send("SSH-2.0-server\r\n");
        if peer.wait_for(b"SSH-2.0-client\r\n") {
            peer.send("welcome");
        }
        peer.park();
    });
    let proxy = pki.intercepting().start();
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    tunnel.read_until(b"SSH-2.0-server\r\n");
    tunnel.send("SSH-2.0-client\r\n");
    assert_eq!(tunnel.read_exact(7), b"welcome");
}

#[test]
fn a_protocol_whose_client_speaks_first_is_relayed() {
    let pki = Pki::new();
    let origin = Origin::serve(|peer| {
        if peer.wait_for(b"\x00\x01 who are you") {
            peer.send("\x02nobody");
        }
        peer.park();
    });
    let proxy = pki.intercepting().start();
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    tunnel.send("\x00\x01 who are you");
    assert_eq!(tunnel.read_exact(7), b"\x02nobody");
}

#[test]
fn a_client_that_says_nothing_is_dropped_in_time() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = pki.intercepting().config("[timeouts]\nidle = 1").start();
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    tunnel.read_to_end();
    origin.assert_unasked();
}

#[test]
fn nonsense_to_an_origin_of_tls_ends_the_tunnel() {
    let scene = Scene::answering(Answer::ok("ok"));
    let mut tunnel = tunnel(&scene);
    // A handshake record without a handshake message.
    tunnel.send(b"\x16\x03\x01\x00\x05hello");
    tunnel.read_to_end();
    assert_serves(&scene);
}

#[test]
fn a_handshake_in_single_bytes_is_a_handshake() {
    let scene = Scene::answering(Answer::ok("ok"));
    let authority = scene.authority();
    let secure =
        tunnel(&scene)
            .dribbling()
            .secure(&scene.pki, "localhost", Offer::Both, Trust::Proxy);
    let mut session = secure.expect("a handshake").session(Form::Origin("https"));
    assert_eq!(
        session.ask(Ask::get(&authority, "/")).told(),
        (200, "ok".into())
    );
}

#[test]
fn a_first_message_without_end_is_cut_off() {
    let scene = Scene::answering(Answer::ok("ok"));
    let mut tunnel = tunnel(&scene);
    let before = scene.proxy.resident_kib();
    // The start of a ClientHello of almost 16 MiB, then record after record of it.
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let mut sent = 0;
    while sent < 16 << 20 && tunnel.send(&record) {
        sent += record.len();
        record[5..9].fill(0);
    }
    assert!(sent < 16 << 20, "everything was taken");
    tunnel.read_to_end();
    let grown = scene.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
    assert_serves(&scene);
}

#[test]
fn a_server_name_that_is_not_the_host_of_the_tunnel_ends_it() {
    let scene = Scene::answering(Answer::ok("ok"));
    let tunnel = tunnel(&scene);
    let client = tunnel.local.to_string();
    let secure = tunnel.secure(&scene.pki, "other.example", Offer::Both, Trust::Anyone);
    assert!(secure.is_err());
    scene.proxy.wait_for_line_where("client and name", |line| {
        line.contains(&client) && line.contains("other.example")
    });
    scene.origin.assert_unasked();
    assert_serves(&scene);
}

#[test]
fn a_server_name_in_other_case_is_the_same() {
    let scene = Scene::answering(Answer::ok("ok"));
    let secure = tunnel(&scene).secure(&scene.pki, "LocalHost", Offer::Both, Trust::Anyone);
    let shown = secure.expect("a handshake").certificate();
    assert_eq!(shown.names, ["localhost"]);
}

/// A ClientHello with `name` as its server name, valid or not.
fn hello_for(scene: &Scene, name: &[u8]) -> Vec<u8> {
    let sound: String = (0..name.len())
        .map(|at| if at % 8 == 7 { '.' } else { 'a' })
        .collect();
    let sound = format!("{}b", &sound[..sound.len() - 1]);
    let mut hello = client_hello(&scene.pki, &sound);
    let at = position(&hello, sound.as_bytes()).expect("the name is in clear");
    hello[at..at + name.len()].copy_from_slice(name);
    hello
}

#[test]
fn server_names_that_are_none_end_the_tunnel() {
    let scene = Scene::answering(Answer::ok("ok"));
    for name in [
        b"local\0host".to_vec(),
        b"../../etc/passwd".to_vec(),
        b"localhost\r\nX: y".to_vec(),
        vec![b'a'; 200],
        [&b"localhost."[..], &[b'b'; 64]].concat(),
        b"\xff\xfe\xfd.example".to_vec(),
    ] {
        eprintln!("{}", name.escape_ascii());
        let mut tunnel = tunnel(&scene);
        tunnel.send(hello_for(&scene, &name));
        let (answered, _) = tunnel.read_to_end();
        // At most an alert: a handshake record would mean that the name was accepted.
        assert!(
            answered.first().is_none_or(|&kind| kind == 0x15),
            "{answered:?}"
        );
    }
    scene.origin.assert_unasked();
    assert_serves(&scene);
}

#[test]
fn handshakes_that_break_off_leave_nothing_behind() {
    let scene = Scene::answering(Answer::ok("ok"));
    assert_serves(&scene);
    let hello = client_hello(&scene.pki, "localhost");
    let before = scene.proxy.open_files();
    for number in 0..30 {
        let mut tunnel = tunnel(&scene);
        let len = [0, 1, 5, hello.len() / 2, hello.len()][number % 5];
        tunnel.send(&hello[..len]);
        if number % 2 == 0 {
            tunnel.finish();
            let (_, end) = tunnel.read_to_end();
            assert!(matches!(end, End::Closed | End::Reset));
        }
    }
    // The proxy may keep a few connections to the origin.
    let after = scene.proxy.wait_for_open_files(before + 4);
    assert!(after <= before + 4, "{after} descriptors after {before}");
    assert_serves(&scene);
}

#[test]
fn a_handshake_that_breaks_off_is_in_the_log() {
    let scene = Scene::answering(Answer::ok("ok"));
    let hello = client_hello(&scene.pki, "localhost");
    let mut tunnel = tunnel(&scene);
    let client = tunnel.local.to_string();
    tunnel.send(&hello[..hello.len() / 2]);
    drop(tunnel);
    // In addition to the line about the CONNECT.
    scene
        .proxy
        .wait_for_line_where("a handshake of the client", |line| {
            let is_told = line.contains("handshake") || line.contains("hello");
            line.contains(&client) && is_told && !line.contains("CONNECT")
        });
}

#[test]
fn an_early_first_message_is_not_lost() {
    // The client does not wait for the response to its CONNECT.
    let scene = Scene::answering(Answer::ok("ok"));
    let authority = scene.authority();
    let mut pipe = scene.client().pipe();
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let hello = client_hello(&scene.pki, "localhost");
    pipe.send([connect.as_bytes(), &hello].concat());
    pipe.read_until(b"\r\n\r\n");
    // A handshake record from the proxy.
    assert_eq!(pipe.read_exact(1), [0x16]);
}

#[test]
fn nobody_listening_is_a_bad_gateway() {
    let pki = Pki::new();
    let proxy: Proxy = pki.intercepting().start();
    let answer = pki.client(&proxy).connect("127.0.0.1:1");
    let answer = answer.err().expect("nobody listens");
    assert_eq!(answer.status, 502);
    assert!(answer.field("Proxy-Status").is_some());
}
