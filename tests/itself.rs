//! CONNECT and other requests addressed to the proxy itself: refused, or answered by its web server.

use std::net::{IpAddr, TcpListener, UdpSocket};

use crate::support::tls::{Ask, Form, Offer, Pki, Trust, Way};
use crate::support::{Client, End, Message, OK, Origin, Proxy, ProxyCommand, get as get_from};

/// Spellings of loopback addresses, and names that resolve to them.
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
    // An IP address with a trailing dot is not a valid host.
    if answer.status() == 400 {
        return;
    }
    assert_eq!(answer.status(), 508, "{}", answer.text());
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(status.contains("error=proxy_loop_detected"), "{status}");
}

/// A non-loopback address of this machine, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a UDP socket sends nothing.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn serving() -> ProxyCommand {
    Proxy::command().plugin("web_server_route", "WebServerPlugin")
}

/// Opens a tunnel to `authority`.
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
    // The same port at another loopback address is not the proxy.
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
    let parent = Origin::silent();
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
        assert!(
            line.contains("the destination of the tunnel is this proxy itself"),
            "{line}"
        );
    }
}

#[test]
fn nothing_is_forwarded_from_a_tunnel_to_the_proxy() {
    let proxy = serving().start();
    let port = proxy.address().port();
    let origin = Origin::answering(OK);
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
    // Interception does not replace the proxy's own certificate.
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
        // Plain HTTP to the TLS listener gets a 400.
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
    let origin = Origin::answering(OK);
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

/// Ports without a listener.
fn free_ports(count: usize) -> Vec<u16> {
    let listen = |_| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let listeners: Vec<_> = (0..count).map(listen).collect();
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let ports = listeners.iter().map(port).collect::<Result<_, _>>();
    ports.expect("bound sockets have addresses")
}

#[test]
fn a_connection_to_a_parent_that_is_there_already_does_not_lead_to_the_proxy_either() {
    let parent = Origin::answering(OK);
    let proxy = child_of(&format!("http://{}", parent.authority()), 0).start();
    let mut client = proxy.client();
    assert_eq!(client.ask(get("a.example", "/")).status(), 200);
    let own = format!("127.0.0.1:{}", proxy.address().port());
    assert_loop(&client.ask(get(&own, "/")));
    assert_eq!(
        parent.only_request().field("Host").as_deref(),
        Some("a.example")
    );
}

/// A proxy on `port` that forwards everything through `parent`.
fn child_of(parent: &str, port: u16) -> ProxyCommand {
    Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", &port.to_string()])
        .args(["--num-workers", "1"])
        .plugin("proxy_pool", "ProxyPool")
        .plugin_config("ProxyPool.bypass=[]")
        .plugin_config(&format!("ProxyPool.parents=['{parent}']"))
}

#[test]
fn a_loop_of_proxies_ends_at_once() {
    for count in [2, 3] {
        let ports = free_ports(count);
        let proxies: Vec<_> = (0..count)
            .map(|at| {
                let parent = format!("http://127.0.0.1:{}", ports[(at + 1) % count]);
                child_of(&parent, ports[at]).start()
            })
            .collect();
        let before: Vec<_> = proxies.iter().map(Proxy::open_files).collect();
        for message in [
            connect("loop.example:443"),
            get("loop.example", "/"),
            "POST http://loop.example/ HTTP/1.1\r\nHost: loop.example\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            "GET http://loop.example/ HTTP/1.1\r\nHost: loop.example\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_owned(),
        ] {
            let answer = proxies[0].ask(message);
            assert_eq!(answer.status(), 508, "{}", answer.text());
            // The request goes round the loop only once.
            for (proxy, before) in proxies.iter().zip(&before) {
                let files = proxy.open_files();
                assert!(files <= before + 8, "{files} descriptors after {before}");
            }
        }
    }
}

#[test]
fn a_loop_is_seen_over_http2_as_well() {
    let pki = Pki::new();
    let parent = Origin::answering(OK);
    let proxy = child_of(&format!("http://{}", parent.authority()), 0)
        .args(pki.listener())
        .start();
    let client = pki.client(&proxy).over(Way::Http2);
    let ask = |via: &str| {
        let ask = Ask::get("a.example", "/").field("via", via);
        client.session().ask(ask).status
    };
    assert_eq!(ask("1.1 proxy"), 200);
    // The name in the Via field sent to a parent identifies the process.
    let vias = parent.only_request().all("Via");
    let mark = vias.last().and_then(|via| via.split(' ').nth(1));
    let mark = mark.expect("a name");
    assert_eq!(ask(&format!("1.0 x, 1.1 {mark}")), 508);
}

#[test]
fn proxies_of_the_same_name_are_no_loop() {
    let origin = Origin::answering(OK);
    let ports = free_ports(2);
    let last = Proxy::start();
    let second = child_of(&format!("http://{}", last.address()), ports[1]).start();
    let first = child_of(&format!("http://{}", second.address()), ports[0]).start();
    let answer = first.ask(get_from(&origin, "/"));
    assert_eq!(answer.status(), 200);
    let vias = origin.only_request().all("Via").join(", ");
    let names: Vec<_> = vias.split(", ").collect();
    assert_eq!(names.len(), 3, "{vias}");
    assert!(
        names[..2].iter().all(|name| name.starts_with("1.1 proxy-")),
        "{vias}"
    );
    // The Via entry added for an origin does not identify the process.
    assert_eq!(names[2], "1.1 proxy");
    let mut tunnel = first.tunnel(&origin);
    let answer = tunnel.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 200);
}

#[test]
fn connect_to_a_parent_names_everybody_on_the_way() {
    let parent = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = child_of(&format!("http://{}", parent.authority()), 0).start();
    let mut client = proxy.client();
    client.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nVia: 1.0 x (c)\r\nVia: 1.1 y\r\n\r\n");
    assert_eq!(client.response_to("CONNECT").status(), 502);
    let via = parent.requests()[0].field("Via").expect("a mark");
    assert!(via.starts_with("1.0 x (c), 1.1 y, 1.1 proxy-"), "{via}");
}

#[test]
fn a_loop_through_a_parent_that_removes_every_mark_is_bounded() {
    let ports = free_ports(1);
    let port = ports[0];
    // The SOCKS parent of the proxy: it dials every target through that same proxy.
    let socks = Origin::serve(move |peer| {
        if peer.take(3).is_none() {
            return;
        }
        peer.send([5, 0]);
        if peer.take(5 + "loop.example".len() + 2).is_none() {
            return;
        }
        let mut next = Client::connect(([127, 0, 0, 1], port).into());
        next.send(connect("loop.example:443"));
        peer.park();
    });
    let proxy = child_of(&format!("socks5://{}", socks.authority()), port)
        .config("[timeouts]\nconnect = 1")
        .start();
    let answer = proxy.ask(connect("loop.example:443"));
    assert_eq!(answer.status(), 504, "{}", answer.text());
    // At most 64 at a time; new connections replace those that timed out while the errors travel back. Without the
    // limit there would be thousands.
    let rounds = socks.connections().len();
    assert!((2..=2 * 64).contains(&rounds), "{rounds} connections");
}
