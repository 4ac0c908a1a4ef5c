//! CONNECT and requests that lead to the proxy itself: refused, or answered by its web server to the same client.

use std::net::{IpAddr, UdpSocket};

use crate::support::tls::{Ask, Form, Offer, Pki, Trust, Way};
use crate::support::{Client, End, Message, Proxy, ProxyCommand};

/// How clients may write an address of the loopback, and names that lead there.
const SPELLINGS: [&str; 11] = [
    "127.0.0.1",
    "127.0.0.1.",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:0.0.0.0]",
];

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

fn get(authority: &str, path: &str) -> String {
    format!("GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

#[track_caller]
fn assert_loop(answer: &Message) {
    // An address with a final dot is no host.
    if answer.status() == 400 {
        return;
    }
    assert_eq!(answer.status(), 508, "{}", answer.text());
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(status.contains("error=proxy_loop_detected"), "{status}");
}

/// An address of this machine that is not of the loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn serving() -> ProxyCommand {
    Proxy::command().plugin("web_server_route", "WebServerPlugin")
}

/// A tunnel to `authority`.
fn tunnel(proxy: &Proxy, authority: &str) -> Client {
    let mut client = proxy.client();
    client.send(connect(authority));
    assert_eq!(client.response_to("CONNECT").status(), 200, "{authority}");
    client
}

#[test]
fn without_a_web_server_the_proxy_itself_is_refused_in_every_spelling() {
    let proxy = Proxy::start();
    let port = proxy.address().port();
    for host in SPELLINGS {
        let authority = format!("{host}:{port}");
        assert_loop(&proxy.ask(connect(&authority)));
        assert_loop(&proxy.ask(get(&authority, "/")));
    }
    // Others on the same machine are not meant.
    let answer = proxy.ask(connect(&format!("127.0.0.2:{port}")));
    assert_eq!(answer.status(), 502);
}

#[test]
fn every_address_of_the_machine_is_the_proxy_where_it_listens_on_all() {
    for listen in ["0.0.0.0", "::"] {
        let arguments = ["--hostname", listen, "--port", "0", "--num-workers", "1"];
        let proxy = Proxy::bare().args(arguments).start();
        let port = proxy.address().port();
        let mut hosts: Vec<_> = SPELLINGS.map(str::to_owned).into();
        hosts.push("127.9.8.7".to_owned());
        hosts.extend(own_address().map(|address| address.to_string()));
        if listen == "::" {
            hosts.extend(["[::1]", "[::]"].map(str::to_owned));
        }
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        for host in hosts {
            let authority = format!("{host}:{port}");
            for message in [connect(&authority), get(&authority, "/")] {
                let answer = client.ask(message);
                assert_loop(&answer);
                if answer.status() == 400 {
                    client = Client::connect(([127, 0, 0, 1], port).into());
                }
            }
        }
    }
}

#[test]
fn a_name_that_a_plugin_resolves_to_the_proxy_is_refused() {
    let proxy = Proxy::command()
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config("CustomDnsResolver.hosts={ \"a.example\" = [\"127.0.0.1\"] }")
        .start();
    let authority = format!("a.example:{}", proxy.address().port());
    assert_loop(&proxy.ask(connect(&authority)));
    assert_loop(&proxy.ask(get(&authority, "/")));
}

#[test]
fn a_parent_is_not_asked_for_the_proxy_itself() {
    let parent = crate::support::Origin::silent();
    let proxy = Proxy::command()
        .plugin("proxy_pool", "ProxyPool")
        .plugin_config("ProxyPool.bypass=[]")
        .plugin_config(&format!(
            "ProxyPool.parents=['http://{}']",
            parent.authority()
        ))
        .start();
    let port = proxy.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:7f00:1]"] {
        let authority = format!("{host}:{port}");
        assert_loop(&proxy.ask(connect(&authority)));
        assert_loop(&proxy.ask(get(&authority, "/")));
    }
    assert_eq!(parent.received(), b"");
}

#[test]
fn a_tunnel_to_the_proxy_is_served_by_its_web_server_to_the_same_client() {
    let proxy = serving().start();
    let port = proxy.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let mut client = tunnel(&proxy, &format!("{host}:{port}"));
        let local = client.socket().local_addr().expect("a connected socket");
        for _ in 0..2 {
            let answer = client.ask("GET /http-route-example HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(answer.text(), "HTTP route response");
        }
        let of_client = format!(" - {local} - GET /http-route-example - 200");
        proxy.wait_for_lines(&of_client, 2);
        let line = proxy.wait_for_line(&format!(" - {local} - CONNECT "));
        assert!(line.contains("leads to this proxy itself"), "{line}");
    }
}

#[test]
fn nothing_is_forwarded_from_a_tunnel_to_the_proxy() {
    let proxy = serving().start();
    let port = proxy.address().port();
    let origin = crate::support::Origin::answering(crate::support::OK);
    let own = format!("127.0.0.1:{port}");
    for target in [origin.authority(), own.clone()] {
        for message in [connect(&target), get(&target, "/http-route-example")] {
            assert_loop(&tunnel(&proxy, &own).ask(message));
        }
    }
    origin.assert_untouched();
}

#[test]
fn a_request_that_leads_to_the_proxy_is_answered_by_its_web_server() {
    let proxy = serving().start();
    let port = proxy.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:7f00:1]"] {
        let mut client = proxy.client();
        let local = client.socket().local_addr().expect("a connected socket");
        let answer = client.ask(get(&format!("{host}:{port}"), "/http-route-example"));
        assert_eq!(answer.text(), "HTTP route response", "{host}");
        proxy.wait_for_line(&format!(" - {local} - GET /http-route-example - 200"));
        proxy.wait_for_line(&format!(":{port}/http-route-example - 200"));
    }
}

#[test]
fn a_tunnel_to_a_listener_of_tls_has_its_certificate() {
    let pki = Pki::new();
    // With interception, too: the proxy is who it is.
    for command in [pki.relaying(), pki.intercepting()] {
        let proxy = command
            .args(pki.listener())
            .plugin("web_server_route", "WebServerPlugin")
            .start();
        let authority = format!("127.0.0.1:{}", proxy.address().port());
        for way in [Way::Tls, Way::Http2] {
            for offer in [Offer::Http1, Offer::Http2, Offer::Nothing] {
                let client = pki.client(&proxy).over(way);
                let shown = client.try_pipe(Offer::Http1).expect("TLS").certificate();
                let mut session = client.offering(offer).https(&authority);
                assert_eq!(session.certificate(), shown);
                let answer = session.ask(Ask::get(&authority, "/https-route-example"));
                assert_eq!(answer.told(), (200, "HTTPS route response".into()));
            }
        }
        // In clear it is told what the port speaks.
        let mut tunnel = pki.client(&proxy).over(Way::Tls).tunnel(&authority);
        tunnel.send("GET /https-route-example HTTP/1.1\r\nHost: a\r\n\r\n");
        let (answer, end) = tunnel.read_to_end();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn nothing_is_forwarded_from_a_tunnel_to_a_listener_of_tls() {
    let pki = Pki::new();
    let origin = crate::support::Origin::answering(crate::support::OK);
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .plugin("web_server_route", "WebServerPlugin")
        .start();
    let authority = format!("127.0.0.1:{}", proxy.address().port());
    for offer in [Offer::Http1, Offer::Http2] {
        let client = pki.client(&proxy).over(Way::Tls).offering(offer);
        let inside = || {
            let tunnel = client.tunnel(&authority);
            let secure = tunnel.secure(&pki, "127.0.0.1", offer, Trust::Proxy);
            secure.expect("TLS").session(Form::Proxy)
        };
        let answer = inside().ask(Ask::get(&origin.authority(), "/"));
        assert_eq!(answer.status, 508, "{offer:?}");
        let refused = inside().connect(&origin.authority()).err();
        assert_eq!(refused.map(|answer| answer.status), Some(508), "{offer:?}");
    }
    origin.assert_untouched();
}
