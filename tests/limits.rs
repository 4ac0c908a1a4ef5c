//! Limits: oversized messages are refused with an explanation, and large ones do not grow the process.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{End, HANG, OK, Origin, Proxy, get, request, response};

#[test]
fn refuses_a_field_line_of_65_kib_and_says_so() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.try_send(request(
        "GET",
        &origin,
        "/",
        &format!("X-Long: {}\r\n", "x".repeat(65 * 1024)),
    ));
    assert_eq!(client.response().status(), 431);
    assert_eq!(
        client.read_to_end(),
        End::Closed,
        "the refusal is not cut off by a reset"
    );
    origin.assert_untouched();
}

#[test]
fn keeps_to_the_configured_bounds() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[limits]\nmax_head_len = 2048\nmax_fields = 10\nmax_target_len = 100")
        .start();
    let cases = [
        ("/".to_owned(), format!("X: {}\r\n", "x".repeat(1500)), 200),
        ("/".to_owned(), format!("X: {}\r\n", "x".repeat(2500)), 431),
        ("/".to_owned(), "X: y\r\n".repeat(9), 200),
        ("/".to_owned(), "X: y\r\n".repeat(10), 431),
        (format!("/{}", "p".repeat(50)), String::new(), 200),
        (format!("/{}", "p".repeat(100)), String::new(), 414),
    ];
    for (path, fields, status) in cases {
        let shown = format!("path of {}, fields of {} bytes", path.len(), fields.len());
        assert_eq!(
            proxy.ask(request("GET", &origin, &path, &fields)).status(),
            status,
            "{shown}"
        );
    }
}

#[test]
fn refuses_an_origins_head_that_is_too_long() {
    let origin = Origin::answering(format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(70_000)
    ));
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&origin, "/").status(), 502);
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            1 << 30
        ));
        while peer.send([b'd'; 65536]) {}
    });
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    let before = proxy.resident_kib();
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(get(&origin, "/"));
    }
    origin.wait_until("eight requests", |connections| {
        connections.iter().filter(|bytes| !bytes.is_empty()).count() == 8
    });
    thread::sleep(Duration::from_millis(500));
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(
        grown < 24 * 1024,
        "{grown} KiB for eight clients that do not read"
    );
}

#[test]
fn an_origin_that_does_not_read_costs_no_memory() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.pause(2000);
    });
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    let before = proxy.resident_kib();
    let mut client = proxy.client();
    client.send(request(
        "POST",
        &origin,
        "/",
        &format!("Content-Length: {}\r\n", 1 << 30),
    ));
    client
        .socket()
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("a TCP socket has this option");
    let mut taken: usize = 0;
    while taken < 256 << 20 && client.try_send([b'u'; 65536]) {
        taken += 65536;
    }
    assert!(
        taken < 64 << 20,
        "{} MiB were taken that nobody reads",
        taken >> 20
    );
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(
        grown < 16 * 1024,
        "{grown} KiB for an upload that nobody reads"
    );
}

#[test]
fn a_connection_past_the_cap_is_not_served_until_another_ends() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[limits]\nmax_connections = 2")
        .start();
    let mut held: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut held {
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
    let mut third = proxy.client();
    third.try_send(get(&origin, "/third"));
    third.stays_quiet(Duration::from_millis(300));
    assert!(!third.received().starts_with(b"HTTP/1.1 200"));
    for mut client in held {
        client.finish();
        client.read_to_end();
    }
    proxy.wait_for_line("/ - 200 OK");
    assert_eq!(proxy.get(&origin, "/fourth").status(), 200);
}

#[test]
fn the_cap_holds_in_a_burst() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[limits]\nmax_connections = 2")
        .start();
    let mut clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.try_send(get(&origin, "/"));
    }
    let mut served = 0;
    for client in &mut clients {
        while client.end().is_none() && client.received().is_empty() {
            client.fill(Instant::now() + HANG);
        }
        served += usize::from(client.received().starts_with(b"HTTP/1.1 200 "));
    }
    assert_eq!((served, origin.requests().len()), (2, 2));
}

#[test]
fn idle_upstream_connections_are_bounded() {
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.pause(100);
            peer.send(response("200 OK", "x"));
        }
    });
    let proxy = Proxy::command()
        .config("[limits]\nupstream_idle_per_host = 2")
        .start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(get(&origin, "/"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(origin.connections().len(), 20);
    origin.wait_for_open(2);
}

#[test]
fn idle_clients_cost_little_memory() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    let before = proxy.resident_kib();
    let mut clients: Vec<_> = (0..400).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 400 * 16, "{grown} KiB for 400 idle connections");
}

#[test]
fn interim_responses_are_bounded() {
    let origin = Origin::serve(|peer| {
        peer.request();
        while peer.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(1000)) {}
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    assert_eq!(client.response().status(), 502);
}
