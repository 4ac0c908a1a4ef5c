//! Connections to upstreams: which are pooled, shared and closed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::support::tls::{Answer, Ask, Gate, Offer, Pki};
use crate::support::{Client, OK, Origin, Proxy, ProxyCommand, get, proxy_binary};

#[test]
fn many_streams_make_few_connections() {
    let pki = Pki::new();
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .with_streams(4)
        .serve(move |seen| Answer::ok(seen.path.clone()).behind(&held));
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let pending: Vec<_> = (0..24)
        .map(|number| {
            let path = format!("/{number}");
            (session.begin(Ask::get(&authority, &path)), path)
        })
        .collect();
    origin.wait_for_requests(24);
    assert_eq!(origin.connections().len(), 6);
    gate.open();
    for (pending, path) in pending {
        assert_eq!(pending.finish().expect("an answer").told(), (200, path));
    }
}

#[test]
fn streams_that_end_serve_those_that_wait() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .with_streams(1)
        .serve(|seen| Answer::ok(seen.path.clone()));
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let pending: Vec<_> = (0..100)
        .map(|number| session.begin(Ask::get(&authority, &format!("/{number}"))))
        .collect();
    for pending in pending {
        assert_eq!(pending.finish().expect("an answer").status, 200);
    }
    assert!(
        origin.connections().len() <= 40,
        "{}",
        origin.connections().len()
    );
}

#[test]
fn nobody_waits_for_a_handshake_for_longer_than_for_ones_own() {
    let pki = Pki::new();
    let origin = Origin::silent();
    let proxy = pki.intercepting().config("[timeouts]\nconnect = 1").start();
    let connect = format!(
        "CONNECT localhost:{0} HTTP/1.1\r\nHost: localhost:{0}\r\n\r\n",
        origin.address().port()
    );
    let mut clients: Vec<Client> = (0..12).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(&connect);
    }
    // Handshakes one after the other would exceed the time limit.
    for client in &mut clients {
        let status = client.response_to("CONNECT").status();
        assert!(status == 200 || status == 504, "{status}");
    }
}

/// A proxy limited to `files` open files.
fn limited(files: u32) -> ProxyCommand {
    let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
    Proxy::at(Path::new("/bin/sh"))
        .args(["-c", &script])
        .args([proxy_binary()])
        .local()
}

/// Origins at `count` addresses, and their authorities.
fn at_many_hosts(count: u8) -> (Vec<Origin>, Vec<String>) {
    let origins: Vec<Origin> = (1..=count)
        .map(|last| {
            let host = IpAddr::V4(Ipv4Addr::new(127, 0, 1, last));
            Origin::serve_at(host, |peer| {
                while peer.request().is_some() {
                    peer.send(OK);
                }
            })
        })
        .collect();
    let names = origins.iter().map(Origin::authority).collect();
    (origins, names)
}

#[test]
#[cfg(target_os = "linux")]
fn no_client_is_refused_while_idle_connections_can_be_given_up() {
    const HOSTS: u8 = 220;
    const CLIENTS: usize = 90;
    let (origins, _) = at_many_hosts(HOSTS);
    let origins = Arc::new(origins);
    for workers in ["1", "2"] {
        let proxy = limited(256).args(["--num-workers", workers]).start();
        let address: SocketAddr = proxy.address();
        let mut first = Client::connect(address);
        for origin in origins.iter() {
            assert_eq!(first.ask(get(origin, "/")).status(), 200);
        }
        assert!(
            proxy.open_files() > 180,
            "most are kept: {}",
            proxy.open_files()
        );
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
        for turn in 0..3 {
            thread::scope(|scope| {
                for (number, client) in clients.iter_mut().enumerate() {
                    let origin = &origins[(number * 7 + turn) % origins.len()];
                    scope.spawn(move || assert_eq!(client.ask(get(origin, "/")).status(), 200));
                }
            });
        }
        let log = proxy.lines();
        assert!(
            !log.iter().any(|line| line.contains("cannot accept")),
            "{workers}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn files_are_limited_by_the_hard_limit_alone() {
    let script = "ulimit -Sn 64 && ulimit -Hn 300 && exec \"$0\" \"$@\"";
    let proxy = Proxy::at(Path::new("/bin/sh"))
        .args(["-c", script])
        .args([proxy_binary()])
        .local()
        .start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.id()));
    let limits = limits.expect("the kernel tells");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = files
        .unwrap_or_default()
        .split_whitespace()
        .skip(3)
        .collect();
    assert_eq!(numbers, ["300", "300", "files"]);
}

#[test]
fn many_connections_that_their_origin_closes_at_once_hold_up_nobody() {
    const IDLE: usize = 400;
    let leaving = Origin::serve(|peer| {
        if peer.request().is_some() {
            peer.send(OK);
            peer.request();
        }
    });
    let other = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut clients: Vec<Client> = (0..IDLE).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(get(&leaving, "/"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    clients.truncate(1);
    let before = proxy.open_files();
    drop(leaving);
    for _ in 0..100 {
        assert_eq!(proxy.get(&other, "/").status(), 200);
    }
    let kept = proxy.wait_for_open_files(before.saturating_sub(IDLE / 2));
    assert!(
        kept <= before.saturating_sub(IDLE / 2),
        "{kept} of {before}"
    );
}
