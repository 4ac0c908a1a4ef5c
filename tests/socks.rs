//! SOCKS5 clients: a request by SOCKS5 is served as the CONNECT that it means, and answered in its protocol.

use std::time::Duration;

use crate::support::tls::{Answer, Ask, Pki, Way};
use crate::support::{Client, End, OK, Origin, Proxy, ProxyCommand, get, pattern};

const NO_AUTHENTICATION: &[u8] = &[5, 1, 0];
const PASSWORD: &[u8] = &[5, 1, 2];
const SUCCEEDED: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// Adds a listener of a kind on a free port.
fn further(kind: &str) -> String {
    format!("[[listeners]]\nhostname = \"127.0.0.1\"\nport = 0\nkind = \"{kind}\"\n")
}

fn socks(command: ProxyCommand) -> Proxy {
    command.config(&further("socks5")).start()
}

/// A connection to the second listener.
fn client(proxy: &Proxy) -> Client {
    Client::connect(proxy.addresses(2)[1])
}

/// A request for a tunnel to `host`, as a name.
fn connect_to(host: &[u8], port: u16) -> Vec<u8> {
    let len = u8::try_from(host.len()).expect("a name of SOCKS5");
    [&[5, 1, 0, 3, len][..], host, &port.to_be_bytes()].concat()
}

fn login(user: &str, password: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [&[1][..], &text(user), &text(password)].concat()
}

/// Opens a tunnel to `localhost`.
fn tunnel(proxy: &Proxy, origin: &Origin) -> Client {
    let mut client = client(proxy);
    client.send(NO_AUTHENTICATION);
    assert_eq!(client.read_exact(2), [5, 0]);
    client.send(connect_to(b"localhost", origin.address().port()));
    assert_eq!(client.read_exact(10), SUCCEEDED);
    client
}

/// Sends a request after a greeting; the reply's code. The connection is closed after it.
fn refused(proxy: &Proxy, request: &[u8]) -> u8 {
    let mut client = client(proxy);
    client.send(NO_AUTHENTICATION);
    assert_eq!(client.read_exact(2), [5, 0]);
    client.send(request);
    let reply = client.read_exact(10);
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!((reply[0], &reply[2..4]), (5, &[0, 1][..]));
    reply[1]
}

#[test]
fn a_tunnel_is_relayed_both_ways() {
    let origin = Origin::echoing();
    let proxy = socks(Proxy::command());
    let mut client = tunnel(&proxy, &origin);
    let content = pattern(1 << 20);
    client.send(&content);
    assert!(client.read_exact(content.len()) == content);
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    let port = origin.address().port();
    proxy.wait_for_line(&format!("CONNECT localhost:{port} - "));
}

#[test]
fn addresses_are_reached_as_addresses_and_as_names() {
    let origin = Origin::answering(OK);
    let proxy = socks(Proxy::command());
    let port = origin.address().port();
    let v4 = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    let mapped = [
        &[
            5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1,
        ][..],
        &port.to_be_bytes(),
    ]
    .concat();
    for request in [
        v4,
        mapped,
        connect_to(b"127.0.0.1", port),
        connect_to(b"LocalHost.", port),
    ] {
        let mut client = client(&proxy);
        client.send(NO_AUTHENTICATION);
        assert_eq!(client.read_exact(2), [5, 0]);
        client.send(&request);
        assert_eq!(client.read_exact(10), SUCCEEDED, "{request:?}");
        let answer = client.ask(get(&origin, "/"));
        assert_eq!(answer.status(), 200);
    }
    proxy.wait_for_lines(&format!("CONNECT 127.0.0.1:{port} - "), 3);
    proxy.wait_for_line(&format!("CONNECT localhost:{port} - "));
}

#[test]
fn every_message_may_arrive_byte_by_byte_or_with_the_next_one() {
    let origin = Origin::echoing();
    let proxy = socks(Proxy::command());
    let request = connect_to(b"localhost", origin.address().port());
    let mut slow = client(&proxy);
    slow.dribble(NO_AUTHENTICATION);
    assert_eq!(slow.read_exact(2), [5, 0]);
    slow.dribble(&request);
    assert_eq!(slow.read_exact(10), SUCCEEDED);
    let mut eager = client(&proxy);
    eager.send([NO_AUTHENTICATION, &request, b"early"].concat());
    assert_eq!(eager.read_exact(2), [5, 0]);
    assert_eq!(eager.read_exact(10), SUCCEEDED);
    assert_eq!(eager.read_exact(5), b"early");
}

#[test]
fn failures_have_the_replies_of_rfc_1928() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = closed.local_addr().expect("it is bound").port();
    drop(closed);
    let proxy = socks(Proxy::command().config("[dns]\nresolver = \"system\""));
    let name = |host: &[u8], port| connect_to(host, port);
    for (request, code) in [
        (name(b"127.0.0.1", port), 5),
        (name(b"nothing.invalid", 80), 4),
        // BIND and UDP ASSOCIATE.
        (vec![5, 2, 0, 1, 127, 0, 0, 1, 0, 80], 7),
        (vec![5, 3, 0, 1, 0, 0, 0, 0, 0, 0], 7),
        (vec![5, 9, 0, 1, 0, 0, 0, 0, 0, 0], 7),
        (vec![5, 1, 0, 2, 0, 0], 8),
        (name(b"", 80), 1),
        (name(b"a b", 80), 1),
        (name(b"a\r\nX-Injected: b", 80), 1),
        (name(b"localhost", 0), 1),
        (name(&[b'a'; 255], 80), 4),
    ] {
        assert_eq!(refused(&proxy, &request), code, "{request:?}");
    }
    proxy.wait_for_line(&format!("CONNECT 127.0.0.1:{port} - "));
    proxy.wait_for_line("answered SOCKS5 5, connection_refused");
    proxy.wait_for_line("closed, the client sent UDP ASSOCIATE, which is not supported");
}

#[test]
fn a_truncated_message_is_the_end() {
    let proxy = socks(Proxy::command());
    let request = connect_to(b"localhost", 80);
    for len in 1..NO_AUTHENTICATION.len() {
        let mut client = client(&proxy);
        client.send(&NO_AUTHENTICATION[..len]);
        client.finish();
        assert_eq!(client.read_to_end(), End::Closed);
        assert_eq!(client.received(), b"");
    }
    for len in 0..request.len() {
        let mut client = client(&proxy);
        client.send([NO_AUTHENTICATION, &request[..len]].concat());
        client.finish();
        assert_eq!(client.read_to_end(), End::Closed);
        assert_eq!(client.received(), [5, 0]);
    }
    proxy.wait_for_lines("the client disconnected", 2 + request.len());
}

#[test]
fn other_protocols_are_refused_with_what_to_do() {
    let proxy = socks(Proxy::command());
    let answer = {
        let mut client = client(&proxy);
        let answer = client.ask("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.read_to_end(), End::Closed);
        answer
    };
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("socks5h://"), "{}", answer.text());
    proxy.wait_for_line(
        "this port speaks SOCKS5; the client sent HTTP: set the proxy URL to socks5h://",
    );
    for (sent, answered, line) in [
        (
            &b"\x04\x01\0\x50\x7f\0\0\x01\0"[..],
            &b"\0\x5b\0\0\0\0\0\0"[..],
            "SOCKS4: configure the client for SOCKS5",
        ),
        (b"\x16\x03\x01\0\0", b"", "the client sent TLS"),
        (b"\x05\0", b"\x05\xff", "only authentication methods"),
        (
            b"\x05\x02\x01\x80",
            b"\x05\xff",
            "only authentication methods",
        ),
        (
            b"\x05\x01\0\x06",
            b"\x05\0",
            "a message of another version than 5",
        ),
    ] {
        let mut client = client(&proxy);
        client.send(sent);
        assert_eq!(client.read_to_end(), End::Closed, "{sent:?}");
        assert_eq!(client.received(), answered, "{sent:?}");
        proxy.wait_for_line(line);
    }
}

#[test]
fn a_client_that_stalls_is_closed() {
    let proxy = socks(Proxy::command().config("[timeouts]\nheader_read = 0.3"));
    for sent in [&b"\x05"[..], b"\x05\x01\0\x05\x01"] {
        let mut client = client(&proxy);
        client.send(sent);
        assert_eq!(client.read_to_end(), End::Closed);
    }
    proxy.wait_for_lines("closed, the client timed out (SOCKS5)", 2);
}

#[test]
fn a_wrong_password_is_a_refusal_in_the_access_log() {
    let format = "[access_log]\nformat = \"socks {status} {error}\"\nwhen = [\"refused\"]\n";
    let command = Proxy::command()
        .args(["--basic-auth", "carol:secret"])
        .config(format);
    let proxy = socks(command);
    let mut stranger = client(&proxy);
    stranger.send([PASSWORD, &login("carol", "other")].concat());
    stranger.read_to_end();
    proxy.wait_for_line("socks 407 http_request_denied");
}

#[test]
fn the_configured_user_is_required() {
    let origin = Origin::echoing();
    let command = Proxy::command().args(["--basic-auth", "carol:sec:ret"]);
    let proxy = socks(command);
    let mut nobody = client(&proxy);
    nobody.send(NO_AUTHENTICATION);
    assert_eq!(nobody.read_exact(2), [5, 0xff]);
    assert_eq!(nobody.read_to_end(), End::Closed);
    for (user, password) in [
        ("carol", "other"),
        ("", ""),
        ("carol:sec", "ret"),
        ("dave", "sec:ret"),
    ] {
        let mut stranger = client(&proxy);
        stranger.send([PASSWORD, &login(user, password)].concat());
        assert_eq!(stranger.read_exact(2), [5, 2]);
        let answer = stranger.read_exact(2);
        assert!(answer[0] == 1 && answer[1] != 0, "{user} {answer:?}");
        assert_eq!(stranger.read_to_end(), End::Closed);
    }
    proxy.wait_for_lines("closed, wrong user name or password (SOCKS5)", 4);
    origin.assert_untouched();
    let mut carol = client(&proxy);
    carol.send([5, 2, 0, 2]);
    assert_eq!(carol.read_exact(2), [5, 2]);
    carol.dribble(login("carol", "sec:ret"));
    assert_eq!(carol.read_exact(2), [1, 0]);
    carol.send(connect_to(b"localhost", origin.address().port()));
    assert_eq!(carol.read_exact(10), SUCCEEDED);
    carol.send("hello");
    assert_eq!(carol.read_exact(5), b"hello");
    assert!(!proxy.lines().iter().any(|line| line.contains("sec:ret")));
}

#[test]
fn a_password_that_nobody_asks_for_is_accepted() {
    let origin = Origin::echoing();
    let proxy = socks(Proxy::command());
    let mut client = client(&proxy);
    client.send([PASSWORD, &login("any", "thing")].concat());
    assert_eq!(client.read_exact(4), [5, 2, 1, 0]);
    client.send(connect_to(b"localhost", origin.address().port()));
    assert_eq!(client.read_exact(10), SUCCEEDED);
}

#[test]
fn plugins_authenticate_and_refuse() {
    let origin = Origin::echoing();
    // Base64 of `alice:`, which is what this plugin takes for a user.
    let command = Proxy::command()
        .plugin("zoo", "Usher")
        .plugin_config("Usher.users=[\"YWxpY2U6\"]");
    let proxy = socks(command);
    let request = connect_to(b"localhost", origin.address().port());
    assert_eq!(refused(&proxy, &request), 2);
    proxy.wait_for_line("answered SOCKS5 2 by Usher");
    origin.assert_untouched();
    let mut alice = client(&proxy);
    alice.send([5, 2, 0, 2]);
    assert_eq!(alice.read_exact(2), [5, 2]);
    alice.send([login("alice", ""), request].concat());
    assert_eq!(alice.read_exact(2), [1, 0]);
    assert_eq!(alice.read_exact(10), SUCCEEDED);
}

#[test]
fn plugins_see_the_same_hooks_as_of_connect() {
    let origin = Origin::echoing();
    let command = Proxy::command()
        .plugin("zoo", "Witness")
        .plugin_config("Witness.label=\"a\"")
        .plugin_config("Witness.streams=false");
    let proxy = socks(command);
    let seen = |mut opened: Client, number: usize| {
        opened.send("x");
        assert_eq!(opened.read_exact(1), b"x");
        drop(opened);
        proxy.wait_for_lines("seen a end_of_connection", number);
        let hooks = |line: String| {
            let (_, call) = line.split_once("seen a ")?;
            call.split_whitespace().next().map(str::to_owned)
        };
        proxy
            .lines()
            .into_iter()
            .filter_map(hooks)
            .collect::<Vec<_>>()
    };
    let by_socks = seen(tunnel(&proxy, &origin), 1);
    let mut by_http = proxy.client();
    let port = origin.address().port();
    by_http.send(format!(
        "CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    ));
    assert_eq!(by_http.response_to("CONNECT").status(), 200);
    let both = seen(by_http, 2);
    assert!(by_socks.len() > 6, "{by_socks:?}");
    assert_eq!(both, [by_socks.clone(), by_socks].concat());
}

#[test]
fn https_in_the_tunnel_is_intercepted() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("intercepted"));
    let proxy = socks(pki.intercepting());
    let authority = origin.authority();
    let mut session = pki
        .client(&proxy)
        .at(proxy.addresses(2)[1])
        .over(Way::Socks5)
        .https(&authority);
    assert_eq!(
        session.ask(Ask::get(&authority, "/path")).told(),
        (200, "intercepted".into())
    );
    proxy.wait_for_line(&format!("GET {authority}/path - 200"));
}

#[test]
fn plain_http_in_the_tunnel_is_served_as_http() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = socks(pki.intercepting());
    let mut client = tunnel(&proxy, &origin);
    let port = origin.address().port();
    let answer = client.ask(format!(
        "GET /inside HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 200);
    proxy.wait_for_line(&format!("GET localhost:{port}/inside - 200"));
    proxy.wait_for_line("served as plain HTTP");
}

#[test]
fn socks5_is_served_over_tls() {
    let pki = Pki::new();
    let origin = Origin::echoing();
    let (certificate, key) = pki.listener_files();
    for kind in ["socks5", "http+socks5"] {
        let files = format!("cert_file = {certificate:?}\nkey_file = {key:?}\n");
        let table = further(kind) + &files;
        let proxy = pki.relaying().config(&table).start();
        let listener = proxy.addresses(2)[1];
        let mut pipe = pki.client(&proxy).at(listener).over(Way::Tls).pipe();
        pipe.send(NO_AUTHENTICATION);
        assert_eq!(pipe.read_exact(2), [5, 0]);
        pipe.send(connect_to(b"localhost", origin.address().port()));
        assert_eq!(pipe.read_exact(10), SUCCEEDED);
        pipe.send("over TLS");
        assert_eq!(pipe.read_exact(8), b"over TLS");
    }
}

#[test]
fn one_port_serves_http_and_socks5() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command().config(&further("http+socks5")).start();
    let mut by_http = client(&proxy);
    for _ in 0..2 {
        assert_eq!(by_http.ask(get(&origin, "/")).status(), 200);
    }
    let mut by_socks = tunnel(&proxy, &origin);
    assert_eq!(by_socks.ask(get(&origin, "/")).status(), 200);
    let mut by_neither = client(&proxy);
    by_neither.send(b"\x04\x01\0\x50\x7f\0\0\x01\0");
    assert_eq!(by_neither.response().status(), 400);
}

#[test]
fn a_tunnel_to_the_proxy_itself_is_served_by_its_web_server() {
    let command = Proxy::command().args(["--enable-web-server"]);
    let proxy = socks(command);
    let mut client = client(&proxy);
    client.send(
        [
            NO_AUTHENTICATION,
            &connect_to(b"127.0.0.1", proxy.address().port()),
        ]
        .concat(),
    );
    assert_eq!(client.read_exact(2), [5, 0]);
    assert_eq!(client.read_exact(10), SUCCEEDED);
    let answer = client.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 404);
}

#[test]
fn an_idle_client_is_closed_by_a_drain() {
    let proxy = socks(Proxy::command());
    let mut idle = client(&proxy);
    assert!(idle.stays_quiet(Duration::from_millis(50)));
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(idle.read_to_end(), End::Closed);
    assert_eq!(proxy.wait().code, Some(0));
}
