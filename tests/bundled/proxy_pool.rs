//! Exchanges go through parent proxies; parents that do not listen are skipped.

use crate::support::tls::{Answer, Ask, Offer, Pki};
use crate::support::{Origin, Proxy, response};
use std::net::TcpListener;

fn pool(parents: &[String]) -> Proxy {
    Proxy::command()
        .plugin("proxy_pool", "ProxyPool")
        .plugin_config(&format!("ProxyPool.parents={parents:?}"))
        .plugin_config("ProxyPool.policy=\"round_robin\"")
        .plugin_config("ProxyPool.bypass=[]")
        .start()
}

/// The URL of a parent that refuses connections.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    format!("http://{address}")
}

const REQUEST: &str = "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n";

#[test]
fn requests_take_turns_through_the_parents() {
    let [one, two] = ["one", "two"].map(|name| Origin::answering(response("200 OK", name)));
    let parents = [&one, &two].map(|parent| format!("http://{}", parent.authority()));
    let proxy = pool(&parents);
    let answers: Vec<String> = (0..4).map(|_| proxy.ask(REQUEST).text()).collect();
    assert_eq!(answers, ["one", "two", "one", "two"]);
    for parent in [&one, &two] {
        let requests = parent.requests();
        assert!(
            requests
                .iter()
                .all(|request| request.target() == "http://a.example/x")
        );
    }
    proxy.wait_for_line(&format!("parent={}", one.authority()));
}

#[test]
fn a_parent_that_is_down_is_passed_over_unnoticed() {
    let parent = Origin::answering(response("200 OK", "up"));
    let proxy = pool(&[nobody(), format!("http://{}", parent.authority())]);
    for _ in 0..4 {
        let answer = proxy.ask(REQUEST);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "up"));
    }
    proxy.wait_for_line("is down for 10 s");
}

#[test]
fn a_tunnel_goes_through_a_parent_with_its_credentials() {
    let parent = Origin::serve(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 200 OK\r\n\r\n");
            if peer.wait_for(b"ping") {
                peer.send("pong");
            }
        }
    });
    let proxy = pool(&[format!("http://user:secret@{}", parent.authority())]);
    let mut client = proxy.client();
    client.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    assert_eq!(client.response_to("CONNECT").status(), 200);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"pong");
    let request = &parent.messages()[0];
    assert_eq!(
        (request.method(), request.target()),
        ("CONNECT", "a.example:443")
    );
    let credentials = request.field("Proxy-Authorization");
    assert_eq!(credentials.as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
    drop(client);
    let line = proxy.wait_for_line("parent=");
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn all_parents_down_is_a_bad_gateway() {
    let proxy = pool(&[nobody(), nobody()]);
    assert_eq!(proxy.ask(REQUEST).status(), 502);
}

#[test]
fn what_is_inside_of_a_tunnel_goes_the_tunnels_way() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http1)
        .answering(Answer::ok("ok"));
    let parents = [Proxy::start(), Proxy::start()];
    let urls = parents
        .each_ref()
        .map(|each| format!("http://{}", each.address()));
    let proxy = pki
        .intercepting()
        .plugin("proxy_pool", "ProxyPool")
        .plugin_config(&format!("ProxyPool.parents={urls:?}"))
        .plugin_config("ProxyPool.policy=\"round_robin\"")
        .plugin_config("ProxyPool.bypass=[]")
        .start();
    let authority = origin.authority();
    let mut session = pki.client(&proxy).https(&authority);
    for _ in 0..3 {
        let received = session.ask(Ask::get(&authority, "/inside"));
        assert_eq!(received.told(), (200, "ok".into()));
    }
    proxy.wait_for_lines("/inside", 3);
    let lines = proxy.lines();
    let mut used: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once("parent=").map(|(_, parent)| parent))
        .collect();
    assert_eq!(used.len(), 4, "{lines:?}");
    used.dedup();
    assert_eq!(used.len(), 1, "{lines:?}");
    // All requests use the connection that was dialled for the tunnel.
    assert_eq!(origin.connections().len(), 1);
}
