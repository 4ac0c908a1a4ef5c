//! Load balancers in front of the proxy name their clients by the PROXY protocol.

use crate::support::tls::{Pki, Way};
use crate::support::{Client, End, OK, Origin, Proxy, ProxyCommand, Scratch, get};

/// Version 2, PROXY, TCP over IPv4: from 192.0.2.7:56324.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb";
/// Version 1 of the same.
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
/// Version 2, LOCAL: a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// How the log names the client of the first two.
const CLIENT: &str = " 192.0.2.7:56324 ";

/// A second listener that trusts these networks, with further keys.
fn trusting(command: ProxyCommand, networks: &str, keys: &str) -> Proxy {
    let table = format!(
        "[[listeners]]\nhostname = \"127.0.0.1\"\nport = 0\nproxy_protocol_from = {networks}\n{keys}\n"
    );
    command.config(&table).start()
}

fn behind_loopback(command: ProxyCommand) -> Proxy {
    trusting(command, "[\"127.0.0.0/8\", \"::1\"]", "")
}

/// A connection to the second listener.
fn client(proxy: &Proxy) -> Client {
    Client::connect(proxy.addresses(2)[1])
}

#[test]
fn the_client_of_the_load_balancer_is_in_the_log() {
    let origin = Origin::answering(OK);
    let proxy = behind_loopback(Proxy::command());
    for (number, header) in [LINE, BINARY].into_iter().enumerate() {
        let mut client = client(&proxy);
        client.send([header, get(&origin, "/one").as_bytes()].concat());
        assert_eq!(client.response().status(), 200);
        assert_eq!(client.ask(get(&origin, "/two")).status(), 200);
        proxy.wait_for_lines(CLIENT, 2 * (number + 1));
    }
}

#[test]
fn a_header_may_arrive_byte_by_byte() {
    let origin = Origin::answering(OK);
    let proxy = behind_loopback(Proxy::command());
    for header in [LINE, BINARY] {
        let mut client = client(&proxy);
        client.dribble(header);
        client.dribble(get(&origin, "/"));
        assert_eq!(client.response().status(), 200);
    }
    proxy.wait_for_lines(CLIENT, 2);
}

#[test]
fn plugins_decide_by_the_client_of_the_load_balancer() {
    let origin = Origin::answering(OK);
    let command = Proxy::command()
        .plugin("filter_by_client_ip", "FilterByClientIp")
        .plugin_config("FilterByClientIp.deny=[\"192.0.2.0/24\"]");
    let proxy = behind_loopback(command);
    let mut denied = client(&proxy);
    denied.send([LINE, get(&origin, "/").as_bytes()].concat());
    assert_ne!(denied.response().status(), 200);
    origin.assert_untouched();
    let mut allowed = client(&proxy);
    let other = b"PROXY TCP4 192.0.3.7 198.51.100.1 1 2\r\n";
    allowed.send([other, get(&origin, "/").as_bytes()].concat());
    assert_eq!(allowed.response().status(), 200);
}

#[test]
fn the_balancers_own_connections_are_served_as_its_own() {
    let origin = Origin::answering(OK);
    let proxy = behind_loopback(Proxy::command());
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut client = client(&proxy);
        client.send([header, get(&origin, "/").as_bytes()].concat());
        assert_eq!(client.response().status(), 200);
        let own = client.socket().local_addr().expect("it is connected");
        proxy.wait_for_line(&format!(" {own} "));
    }
    // A health check that sends nothing else, and one that sends nothing.
    let mut check = client(&proxy);
    check.send(LOCAL);
    check.finish();
    assert_eq!(check.read_to_end(), End::Closed);
    let mut probe = client(&proxy);
    probe.finish();
    assert_eq!(probe.read_to_end(), End::Closed);
    assert!(
        !proxy
            .lines()
            .iter()
            .any(|line| line.contains("PROXY protocol"))
    );
}

#[test]
fn a_trusted_peer_without_a_valid_header_is_closed() {
    let origin = Origin::answering(OK);
    let proxy = behind_loopback(Proxy::command());
    let mut endless = b"PROXY UNKNOWN ".to_vec();
    endless.resize(200, b'x');
    let without = get(&origin, "/");
    let mut count = 0;
    for (sent, reason) in [
        (without.as_bytes(), "it sent none"),
        (b"\x05\x01\0", "it sent none"),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "its line is malformed",
        ),
        (&endless, "its line is longer than 107 bytes"),
        (b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0", "its version is 1"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            "it is longer than 4096 bytes",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\0",
            "it is too short for its addresses",
        ),
    ] {
        let mut client = client(&proxy);
        client.send(sent);
        client.read_to_end();
        assert_eq!(client.received(), b"", "{reason}");
        let line = proxy.wait_for_line(reason);
        assert!(line.contains("proxy_protocol_from"), "{line}");
        count += 1;
    }
    assert_eq!(count, 7);
    origin.assert_untouched();
}

#[test]
fn a_header_that_ends_early_or_stalls_is_the_end() {
    let config = "[timeouts]\nheader_read = 0.3";
    let proxy = behind_loopback(Proxy::command().config(config));
    let mut silent = client(&proxy);
    assert_eq!(silent.read_to_end(), End::Closed);
    proxy.wait_for_line("it did not arrive within 300ms");
    for header in [LINE, BINARY] {
        for len in 1..header.len() {
            let mut client = client(&proxy);
            client.send(&header[..len]);
            client.finish();
            assert_eq!(client.read_to_end(), End::Closed);
            assert_eq!(client.received(), b"");
        }
    }
}

#[test]
fn a_header_of_somebody_else_is_not_believed() {
    let origin = Origin::answering(OK);
    let proxy = trusting(Proxy::command(), "[\"192.0.2.0/24\"]", "");
    for header in [LINE, BINARY] {
        let mut liar = client(&proxy);
        liar.send([header, get(&origin, "/").as_bytes()].concat());
        assert_eq!(liar.response().status(), 400);
        assert_eq!(liar.read_to_end(), End::Closed);
    }
    origin.assert_untouched();
    proxy.wait_for_lines("or add it to proxy_protocol_from", 2);
    let mut direct = client(&proxy);
    assert_eq!(direct.ask(get(&origin, "/")).status(), 200);
    assert!(!proxy.lines().iter().any(|line| line.contains(CLIENT)));
}

#[test]
fn a_load_balancer_may_use_a_unix_socket() {
    let origin = Origin::answering(OK);
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let table = format!(
        "[[listeners]]\npath = {:?}\nproxy_protocol_from = [\"127.0.0.1\"]\n",
        path.display().to_string()
    );
    let proxy = Proxy::command().config(&table).start();
    proxy.wait_for_line("Started server on unix:");
    for header in [LINE, BINARY] {
        let mut client = Client::connect_unix(&path);
        client.send([header, get(&origin, "/").as_bytes()].concat());
        assert_eq!(client.response().status(), 200);
    }
    proxy.wait_for_lines(CLIENT, 2);
    let mut without = Client::connect_unix(&path);
    without.send(get(&origin, "/"));
    without.read_to_end();
    assert_eq!(without.received(), b"");
}

#[test]
fn the_header_comes_before_socks5() {
    let origin = Origin::answering(OK);
    let proxy = trusting(Proxy::command(), "[\"127.0.0.1\"]", "kind = \"socks5\"");
    let mut client = client(&proxy);
    let port = origin.address().port().to_be_bytes();
    let request = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat();
    client.send([BINARY, &[5, 1, 0], &request].concat());
    assert_eq!(client.read_exact(2), [5, 0]);
    assert_eq!(client.read_exact(10)[..2], [5, 0]);
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    drop(client);
    proxy.wait_for_line(CLIENT);
}

#[test]
fn the_header_comes_before_tls() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = trusting(
        pki.relaying().args(pki.listener()),
        "[\"127.0.0.1\"]",
        "kind = \"https\"",
    );
    for way in [Way::Tls, Way::Http2] {
        let pipe = pki
            .client(&proxy)
            .at(proxy.addresses(2)[1])
            .over(way)
            .after(BINARY);
        let mut session = pipe.session();
        let ask = crate::support::tls::Ask::get(&origin.authority(), "/");
        assert_eq!(session.ask(ask).status, 200);
    }
    proxy.wait_for_lines(CLIENT, 2);
}
