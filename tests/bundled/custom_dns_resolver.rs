//! Names resolve as configured in the table; the request stays unchanged.

use crate::support::{OK, Origin, Proxy, ProxyCommand};

fn resolver(hosts: &str) -> ProxyCommand {
    Proxy::command()
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config(&format!("CustomDnsResolver.hosts={hosts}"))
}

#[test]
fn a_name_of_the_table_leads_to_its_address() {
    let origin = Origin::answering(OK);
    let proxy = resolver("{ \"*.dev.example\" = [\"127.0.0.1\"] }").start();
    let authority = format!("shop.dev.example:{}", origin.address().port());
    let answer = proxy.ask(format!(
        "GET http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "origin-ok")
    );
    assert_eq!(origin.only_request().field("Host"), Some(authority));
}

#[test]
fn a_tunnel_leads_there_too() {
    let origin = Origin::echoing();
    let proxy = resolver("{ \"a.example\" = [\"127.0.0.1\"] }").start();
    let authority = format!("a.example:{}", origin.address().port());
    let mut client = proxy.client();
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(client.response_to("CONNECT").status(), 200);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
}

#[test]
fn other_names_are_resolved_by_the_system() {
    let origin = Origin::answering(OK);
    let proxy = resolver("{}").start();
    let authority = format!("localhost:{}", origin.address().port());
    let answer = proxy.ask(format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 200);
}

/// Only on Linux is all of 127.0.0.0/8 local by default.
#[cfg(target_os = "linux")]
#[test]
fn connections_come_from_the_source() {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let origin = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("the proxy connects");
        let read = stream.read(&mut [0; 4096]);
        assert!(read.is_ok_and(|len| len > 0));
        stream.write_all(OK.as_bytes()).expect("the proxy reads");
        peer.ip().to_string()
    });
    let proxy = resolver("{ \"a.example\" = [\"127.0.0.1\"] }")
        .plugin_config("CustomDnsResolver.source=\"127.0.0.9\"")
        .start();
    let authority = format!("a.example:{port}");
    let answer = proxy.ask(format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 200);
    assert_eq!(origin.join().expect("the origin is well"), "127.0.0.9");
}
