//! Shutdown: orderly on the first signal, immediate on the second.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, End, OK, Origin, Proxy, get};

#[test]
fn ends_in_order_on_sigterm_and_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let proxy = Proxy::command().args(["--num-workers", "2"]).start();
        let address = proxy.address();
        assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
        let started = Instant::now();
        proxy.signal(signal);
        let exit = proxy.wait();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", exit.stderr);
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{signal:?} takes {:?}",
            started.elapsed()
        );
        assert!(
            TcpStream::connect(address).is_err(),
            "the port is free again"
        );
    }
}

#[test]
fn closes_idle_connections_at_once() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let (mut idle, mut fresh) = (proxy.client(), proxy.client());
    assert_eq!(idle.ask(get(&origin, "/")).status(), 200);
    proxy.signal(Signal::TERM);
    assert_eq!(idle.read_to_end(), End::Closed);
    fresh.read_to_end();
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn lets_an_exchange_under_way_finish() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        peer.pause(700);
        peer.send("world");
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    client.read_until(b"hello");
    proxy.signal(Signal::TERM);
    assert_eq!(client.response().text(), "helloworld");
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn announces_the_close_when_it_answers_after_the_signal() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.pause(500);
        peer.send(OK);
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    proxy.signal(Signal::TERM);
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn takes_no_new_connection_while_it_drains() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.pause(700);
        peer.send(OK);
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    proxy.signal(Signal::TERM);
    let mut refused = false;
    let deadline = Instant::now() + Duration::from_millis(600);
    while !refused && Instant::now() < deadline {
        refused = TcpStream::connect(proxy.address()).is_err();
    }
    assert!(refused, "a draining proxy accepts");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn ends_at_once_on_a_second_signal() {
    let origin = Origin::silent();
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    let mut tunnel = proxy.tunnel(&origin);
    let started = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(
        client.stays_quiet(Duration::from_millis(200)),
        "the exchange is still waited for"
    );
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!(started.elapsed() < Duration::from_secs(3));
    client.read_to_end();
    tunnel.read_to_end();
}

#[test]
fn twenty_downloads_that_a_drain_cuts_off_have_a_line_each() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        peer.park();
    });
    let proxy = Proxy::command()
        .args(["--num-workers", "2", "--drain-timeout", "400ms"])
        .start();
    let mut clients: Vec<_> = (0..20)
        .map(|number| {
            let mut client = proxy.client();
            client.send(get(&origin, &format!("/download-{number}-")));
            client.read_until(b"hello");
            client
        })
        .collect();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        client.read_to_end();
    }
    let exit = proxy.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let lines: Vec<&str> = exit.stdout.lines().collect();
    for number in 0..20 {
        let path = format!("/download-{number}-");
        let line = lines.iter().find(|line| line.contains(&path));
        let line = line.unwrap_or_else(|| panic!("no line of {path} in {lines:#?}"));
        assert!(line.ends_with(" ms - cut off by shutdown"), "{line}");
    }
    for text in [
        " - Draining for at most 400ms: 20 exchanges",
        " more: 20 exchanges left",
        " - drain_timeout (400ms) is over: aborting 20 exchanges",
        ": 0 exchanges finished; 20 exchanges cut off, 20 client connections closed",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(text)),
            "{text:?} in {lines:#?}"
        );
    }
}

#[test]
fn names_what_has_no_end_of_its_own() {
    let events = Origin::serve(|peer| {
        peer.request();
        peer.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n7\r\ndata:\n\n\r\n",
        );
        peer.park();
    });
    let socket = Origin::serve(|peer| {
        peer.request();
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        peer.park();
    });
    let echo = Origin::echoing();
    let proxy = Proxy::command()
        .args(["--num-workers", "2", "--drain-timeout", "1m"])
        .start();
    let mut tunnel = proxy.tunnel(&echo);
    tunnel.send("twelve bytes");
    tunnel.read_exact(12);
    let mut subscriber = proxy.client();
    subscriber.send(get(&events, "/events"));
    subscriber.read_until(b"data:");
    let mut chat = proxy.client();
    let authority = socket.authority();
    chat.send(format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(chat.response().status(), 101);
    proxy.signal(Signal::TERM);
    proxy.wait_for_line(" - Draining for at most 60s: 1 event stream, 1 tunnel, 1 WebSocket");
    let line = proxy.wait_for_line(" - Still open: tunnel from ");
    let named = format!(
        " to {}, open for 0 s; 12 bytes to the upstream, 12 bytes to the client",
        echo.authority()
    );
    assert!(line.ends_with(&named), "{line}");
    let line = proxy.wait_for_line(" - Still open: WebSocket from ");
    assert!(line.contains(&format!(" to {authority}, ")), "{line}");
    let line = proxy.wait_for_line(" - Still open: event stream from ");
    assert!(
        line.contains(&format!(" to {}, ", events.authority())),
        "{line}"
    );
    drop((tunnel, chat));
    subscriber.reset();
    let exit = proxy.wait();
    assert!(
        exit.stdout
            .contains(" s: 1 event stream, 1 tunnel, 1 WebSocket finished"),
        "{}",
        exit.stdout
    );
}

#[test]
fn a_drain_of_many_tunnels_names_the_oldest_and_counts_the_rest() {
    let echo = Origin::echoing();
    let proxy = Proxy::start();
    let tunnels: Vec<_> = (0..12).map(|_| proxy.tunnel(&echo)).collect();
    proxy.signal(Signal::TERM);
    proxy.wait_for_lines(" - Still open: tunnel from ", 10);
    proxy.wait_for_line(" - Still open: 2 more tunnels, WebSockets and event streams");
    drop(tunnels);
    let exit = proxy.wait();
    assert!(
        exit.stdout.contains(" s: 12 tunnels finished"),
        "{}",
        exit.stdout
    );
}

#[test]
fn another_proxy_may_listen_while_one_drains() {
    let echo = Origin::echoing();
    let proxy = Proxy::start();
    let tunnel = proxy.tunnel(&echo);
    proxy.signal(Signal::TERM);
    proxy.wait_for_line(" - Still open: tunnel from ");
    let address = proxy.address();
    assert!(TcpStream::connect(address).is_err(), "it listens");
    let port = address.port().to_string();
    let next = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", &port])
        .start();
    assert_eq!(next.address(), address);
    drop(tunnel);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn a_drain_without_exchanges_says_so() {
    let proxy = Proxy::start();
    let mut idle = proxy.client();
    proxy.signal(Signal::TERM);
    idle.read_to_end();
    let exit = proxy.wait();
    assert!(
        exit.stdout.contains(" s: nothing was in flight"),
        "{}",
        exit.stdout
    );
}

#[test]
fn the_drain_has_its_limit() {
    for limit in ["0", "300ms"] {
        let origin = Origin::silent();
        let proxy = Proxy::command().args(["--drain-timeout", limit]).start();
        let mut client = proxy.client();
        client.send(get(&origin, "/cut"));
        origin.wait_for(b"GET /cut");
        proxy.signal(Signal::TERM);
        client.read_to_end();
        let exit = proxy.wait();
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        let line = exit.stdout.lines().find(|line| line.contains("/cut"));
        assert!(
            line.is_some_and(|line| line.ends_with(" - cut off by shutdown")),
            "{}",
            exit.stdout
        );
    }
}

#[test]
fn survives_a_hangup_of_every_client() {
    let origin = Origin::silent();
    let proxy = Proxy::start();
    for _ in 0..50 {
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        client.reset();
    }
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn the_log_is_whole_at_the_end() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for number in 0..50 {
        client.ask(get(&origin, &format!("/number/{number}")));
    }
    proxy.signal(Signal::TERM);
    let exit = proxy.wait();
    let count = exit
        .stdout
        .lines()
        .filter(|line| line.contains("/number/"))
        .count();
    assert_eq!(count, 50);
}

#[test]
fn what_is_cut_off_has_its_line_and_is_counted() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        peer.park();
    });
    let silent = Origin::silent();
    let proxy = Proxy::command().args(["--num-workers", "2"]).start();
    let mut clients: Vec<_> = (0..2)
        .map(|number| {
            let mut client = proxy.client();
            client.send(get(&origin, &format!("/cut-{number}")));
            client.read_until(b"hello");
            client
        })
        .collect();
    let echo = Origin::echoing();
    let mut tunnel = proxy.tunnel(&echo);
    tunnel.send("twelve bytes");
    tunnel.read_exact(12);
    let mut waiting = proxy.client();
    waiting.send(get(&silent, "/unanswered"));
    silent.wait_for(b"GET /unanswered");
    proxy.signal(Signal::TERM);
    assert!(
        waiting.stays_quiet(Duration::from_millis(100)),
        "the exchange is still waited for"
    );
    proxy.signal(Signal::TERM);
    let exit = proxy.wait();
    let lines: Vec<&str> = exit.stdout.lines().collect();
    for (asked, shown) in [
        ("/cut-0", " - 200 OK - "),
        ("/cut-1", " - 200 OK - "),
        ("/unanswered", " - None None - 0 bytes - "),
        (" - CONNECT ", " - 12 bytes - "),
    ] {
        let line = lines.iter().find(|line| line.contains(asked));
        let line = line.unwrap_or_else(|| panic!("no line of {asked} in {lines:#?}"));
        assert!(line.contains(shown), "{line}");
        assert!(line.ends_with(" ms - cut off by shutdown"), "{line}");
    }
    let count = " finished; 3 exchanges, 1 tunnel cut off, 4 client connections closed";
    assert!(lines.iter().any(|line| line.ends_with(count)), "{lines:#?}");
    for client in &mut clients {
        client.read_to_end();
    }
}

/// A client that has received the start of a response that is delimited by the end of its connection.
fn begun_until_close(proxy: &Proxy, origin: &Origin) -> Client {
    let mut client = proxy.client();
    let authority = origin.authority();
    client.send(format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"));
    client.read_until(b"begun");
    client
}

#[test]
fn a_response_that_ends_with_its_connection_is_reset_if_the_proxy_ends_first() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n\r\nbegun");
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = begun_until_close(&proxy, &origin);
    proxy.signal(Signal::TERM);
    proxy.wait_for_line("Shutting down");
    proxy.signal(Signal::TERM);
    assert_eq!(client.read_to_end(), End::Reset);
    proxy.wait();
    // After SIGKILL, no code of the proxy runs that could reset the connection.
    let proxy = Proxy::start();
    let mut client = begun_until_close(&proxy, &origin);
    proxy.signal(Signal::KILL);
    assert_eq!(client.read_to_end(), End::Reset);
    proxy.wait();
}

#[test]
fn a_whole_response_that_ends_with_its_connection_ends_in_order() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n\r\nbegun and over");
    });
    let proxy = Proxy::start();
    let mut client = begun_until_close(&proxy, &origin);
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.response().text(), "begun and over");
}
