//! Forwarded messages: where they go, what arrives, which connections carry them.
//!
//! Wire details are in `conformance`; this file covers whole exchanges, large bodies, reuse and credentials.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    End, HANG, OK, Origin, Proxy, contains, get, has_ipv6, pattern, request, response,
};

/// Large enough for many reads and full socket buffers, small enough to compare.
const LARGE: usize = 8 << 20;

#[test]
fn sends_each_request_of_a_connection_to_the_host_it_names() {
    let (one, two) = (
        Origin::answering(response("200 OK", "one")),
        Origin::answering(response("200 OK", "two")),
    );
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.ask(get(&one, "/a")).text(), "one");
        assert_eq!(client.ask(get(&two, "/b")).text(), "two");
    }
    assert_eq!(one.requests().len(), 3);
    assert!(
        two.requests()
            .iter()
            .all(|request| request.target() == "/b")
    );
}

#[test]
fn answers_a_pipeline_to_several_origins_in_order() {
    let slow = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.pause(100);
            peer.send(response("200 OK", "slow"));
        }
    });
    let fast = Origin::answering(response("200 OK", "fast"));
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(
        [
            get(&slow, "/1"),
            get(&fast, "/2"),
            get(&slow, "/3"),
            get(&fast, "/4"),
        ]
        .concat(),
    );
    let texts: Vec<String> = (0..4).map(|_| client.response().text()).collect();
    assert_eq!(texts, ["slow", "fast", "slow", "fast"]);
}

#[test]
fn reuses_upstream_connections_across_client_connections() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    for _ in 0..10 {
        assert_eq!(proxy.get(&origin, "/").status(), 200);
    }
    assert_eq!(origin.requests().len(), 10);
    assert_eq!(
        origin.connections().len(),
        1,
        "one kept-alive connection serves them all"
    );
}

#[test]
fn does_not_reuse_a_connection_that_the_origin_closes() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = Proxy::start();
    for _ in 0..5 {
        assert_eq!(proxy.get(&origin, "/").text(), "ok");
    }
    assert_eq!(origin.connections().len(), 5);
}

#[test]
fn tries_a_get_again_when_the_pooled_connection_has_died() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(OK);
        if peer.request().is_some() && peer.index() > 0 {
            peer.send(OK);
        }
    });
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&origin, "/first").status(), 200);
    assert_eq!(proxy.get(&origin, "/second").status(), 200);
    let targets: Vec<String> = origin
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(targets, ["/first", "/second", "/second"]);
}

#[test]
fn never_sends_a_post_twice() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(OK);
        peer.request();
    });
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    let answer = proxy.ask(request("POST", &origin, "/", "Content-Length: 2\r\n") + "hi");
    let posts = origin
        .requests()
        .iter()
        .filter(|request| request.method() == "POST")
        .count();
    assert_eq!((answer.status(), posts), (502, 1));
}

#[test]
fn carries_large_bodies_of_known_length_both_ways() {
    let origin = Origin::serve(|peer| {
        while let Some(request) = peer.request() {
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                request.body.len()
            ));
            peer.send(&request.body);
        }
    });
    let proxy = Proxy::start();
    let body = pattern(LARGE);
    let mut client = proxy.client();
    client.send(request(
        "PUT",
        &origin,
        "/",
        &format!("Content-Length: {LARGE}\r\n"),
    ));
    client.send(&body);
    let answer = client.response_to("PUT");
    assert_eq!(answer.status(), 200);
    assert!(
        answer.is_sound() && answer.body == body,
        "{} bytes came back",
        answer.body.len()
    );
}

#[test]
fn carries_chunked_bodies_both_ways_at_the_same_time() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut answered = 0;
        loop {
            let received = peer.received();
            let asked = count(&received, b"hello");
            peer.send("5\r\nworld\r\n".repeat(asked - answered));
            answered = asked;
            if contains(&received, b"\r\n0\r\n\r\n") || !peer.read_more() {
                break;
            }
        }
        peer.send("0\r\n\r\n");
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(request(
        "POST",
        &origin,
        "/",
        "Transfer-Encoding: chunked\r\n",
    ));
    for turn in 1..=20 {
        client.send("5\r\nhello\r\n");
        while count(client.rest(), b"world") < turn {
            assert!(
                client.fill(Instant::now() + HANG),
                "no answer to chunk {turn}"
            );
        }
    }
    client.send("0\r\n\r\n");
    let answer = client.response_to("POST");
    assert!(
        answer.is_sound() && answer.text() == "world".repeat(20),
        "{}",
        answer.text()
    );
    assert_eq!(origin.only_request().text(), "hello".repeat(20));
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

#[test]
fn passes_a_large_close_delimited_body_on_as_chunks() {
    let body = Arc::new(pattern(LARGE));
    let sent = body.clone();
    let origin = Origin::serve(move |peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n\r\n");
        peer.send(&*sent);
    });
    let proxy = Proxy::start();
    let answer = proxy.get(&origin, "/");
    assert_eq!(
        answer.field("Transfer-Encoding").as_deref(),
        Some("chunked")
    );
    assert!(answer.is_sound() && answer.body == *body);
}

#[test]
fn sends_the_answer_back_while_the_upload_is_still_running() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        peer.discard(64 << 20);
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(request(
        "POST",
        &origin,
        "/",
        "Content-Length: 100000000\r\n",
    ));
    client.send(vec![b'u'; 100_000]);
    let answer = client.response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
}

#[test]
fn an_answer_that_overtakes_the_upload_announces_the_close() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(response("200 OK", "early"));
        peer.park();
    });
    let proxy = Proxy::start();
    for framing in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = proxy.client();
        client.send(request("POST", &origin, "/", framing));
        let answer = client.response_to("POST");
        assert_eq!(answer.text(), "early");
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
        assert_eq!(client.read_to_end(), End::Closed);
    }
}

#[test]
fn an_answer_is_whole_although_stray_bytes_came_before_the_close() {
    let body = Arc::new(pattern(1_500_000));
    let sent = body.clone();
    let origin = Origin::serve(move |peer| {
        while peer.request().is_some() {
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                sent.len()
            ));
            peer.send(&*sent);
        }
    });
    let proxy = Proxy::start();
    for pause in [0, 300] {
        let mut client = proxy.client();
        client.receive_little();
        let authority = origin.authority();
        client.send(format!(
            "POST http://{authority}/ HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"
        ));
        thread::sleep(Duration::from_millis(pause));
        client.send("\r\n");
        thread::sleep(Duration::from_millis(300));
        client.read_slowly_to_end();
        let answer = client.response_to("POST");
        assert!(
            answer.is_sound() && answer.body == *body,
            "{} of {} bytes, end {:?}",
            answer.body.len(),
            body.len(),
            client.end()
        );
    }
}

#[test]
fn passes_many_chunks_whose_sizes_are_padded() {
    const CHUNKS: usize = 9000;
    let data = pattern(0x400);
    let coded = [b"400   \r\n", &data[..], b"\r\n"].concat().repeat(CHUNKS);
    let coded = Arc::new([&coded[..], b"0   \r\n\r\n"].concat());
    let answer = coded.clone();
    let origin = Origin::serve(move |peer| {
        while !peer.received().ends_with(b"0\r\n\r\n") && peer.read_more() {}
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.send(&*answer);
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let fields = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    client.send(request("POST", &origin, "/", fields));
    client.send(&*coded);
    client.read_to_end();
    let (answer, body) = (client.response_to("POST"), data.repeat(CHUNKS));
    assert_eq!(answer.status(), 200);
    assert!(
        answer.is_sound() && answer.body == body,
        "{:?}",
        answer.fault
    );
    assert!(origin.only_request().body == body);
}

#[test]
#[cfg(target_os = "linux")]
fn carries_a_large_body_when_there_is_no_descriptor_left() {
    for (head, fields) in [
        (format!("Content-Length: {LARGE}\r\n"), ""),
        (String::new(), "Connection: close\r\n"),
    ] {
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let origin = Origin::serve(move |peer| {
            peer.request();
            drop(wait.lock().map(|wait| wait.recv()));
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n"));
            peer.send(pattern(LARGE));
        });
        let proxy = Proxy::start();
        let mut client = proxy.client();
        client.send(request("GET", &origin, "/", fields));
        origin.wait_for(b"GET /");
        proxy.forbid_new_files();
        release.send(()).expect("the origin waits");
        let answer = client.response();
        assert_eq!(answer.status(), 200);
        assert!(answer.is_sound() && answer.body == pattern(LARGE));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn carries_a_large_upload_when_there_is_no_descriptor_left() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(OK);
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let fields = format!("Content-Length: {LARGE}\r\n");
    client.send(request("PUT", &origin, "/", &fields));
    origin.wait_for(b"PUT /");
    proxy.forbid_new_files();
    client.send(pattern(LARGE));
    assert_eq!(client.response_to("PUT").status(), 200);
    assert!(origin.only_request().body == pattern(LARGE));
}

#[test]
fn does_not_reuse_a_connection_that_a_client_may_have_authenticated() {
    let schemes = [
        "NTLM TlRMTVNTUAAB",
        "ntlm x",
        "Negotiate YII",
        "negotiate x",
    ];
    for scheme in schemes {
        let origin = Origin::answering(OK);
        let proxy = Proxy::start();
        let fields = format!("Authorization: {scheme}\r\n");
        let bound = request("GET", &origin, "/bound", &fields);
        assert_eq!(proxy.ask(bound).status(), 200);
        assert_eq!(proxy.get(&origin, "/other").status(), 200);
        let connections = origin.connections();
        assert!(
            connections.len() == 2
                && contains(&connections[0], b"GET /bound ")
                && !contains(&connections[0], b"GET /other "),
            "{scheme}: {} connections",
            connections.len()
        );
    }
}

#[test]
fn serves_many_clients_at_once() {
    let origin = Origin::replying(|request| response("200 OK", request.target()).into());
    let proxy = Proxy::command().args(["--num-workers", "2"]).start();
    let address = proxy.address();
    thread::scope(|scope| {
        for number in 0..100 {
            let origin = &origin;
            scope.spawn(move || {
                let mut client = crate::support::Client::connect(address);
                for turn in 0..10 {
                    let path = format!("/{number}/{turn}");
                    assert_eq!(client.ask(get(origin, &path)).text(), path);
                }
            });
        }
    });
    assert_eq!(origin.requests().len(), 1000);
}

#[test]
fn a_slow_exchange_does_not_hold_up_the_others_of_its_worker() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = Origin::serve(move |peer| {
        peer.request();
        drop(wait.lock().map(|wait| wait.recv()));
        peer.send(OK);
    });
    let fast = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut waiting = proxy.client();
    waiting.send(get(&slow, "/"));
    slow.wait_for(b"GET /");
    for _ in 0..20 {
        assert_eq!(proxy.get(&fast, "/").status(), 200);
    }
    release.send(()).expect("the origin waits");
    assert_eq!(waiting.response().status(), 200);
}

#[test]
fn resolves_names() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let port = origin.address().port();
    let answer = proxy.ask(format!(
        "GET http://localhost:{port}/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    assert_eq!(answer.status(), 200);
    assert_eq!(
        origin.only_request().field("Host"),
        Some(format!("localhost:{port}"))
    );
}

#[test]
fn reaches_origins_over_ipv6() {
    if !has_ipv6() {
        return;
    }
    let origin = Origin::serve_at(std::net::Ipv6Addr::LOCALHOST.into(), |peer| {
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let proxy = Proxy::start();
    assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
}

#[test]
fn leaves_out_the_fields_that_are_disabled_on_every_request() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--disable-headers", "user-agent, X-Secret"])
        .start();
    let mut client = proxy.client();
    for _ in 0..2 {
        client.ask(request(
            "GET",
            &origin,
            "/",
            "User-Agent: me\r\nx-secret: 1\r\nX-Open: 2\r\n",
        ));
    }
    for request in origin.requests() {
        assert_eq!(
            (request.field("User-Agent"), request.field("X-Secret")),
            (None, None)
        );
        assert_eq!(request.field("X-Open").as_deref(), Some("2"));
    }
}

#[test]
fn asks_for_credentials_and_keeps_them_to_itself() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--basic-auth", "user:secret"])
        .start();
    let refused = proxy.get(&origin, "/");
    assert_eq!(refused.status(), 407);
    assert_eq!(
        refused.field("Proxy-Authenticate").as_deref(),
        Some("Basic realm=\"proxy\"")
    );
    origin.assert_untouched();
    for scheme in ["Basic", "basic", "BASIC"] {
        let fields = format!("Proxy-Authorization: {scheme} dXNlcjpzZWNyZXQ=\r\n");
        assert_eq!(
            proxy.ask(request("GET", &origin, "/", &fields)).status(),
            200,
            "{scheme}"
        );
    }
    assert!(!contains(&origin.received(), b"dXNlcjpzZWNyZXQ="));
}

#[test]
fn refuses_credentials_that_are_nearly_right() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .env("PROXY_BASIC_AUTH", "user:secret")
        .start();
    let wrong = [
        "Basic dXNlcjpzZWNyZXQ",
        "Basic dXNlcjpzZWNyZXR4",
        "Basic",
        "dXNlcjpzZWNyZXQ=",
        "Bearer dXNlcjpzZWNyZXQ=",
        "Basic dXNlcg==",
        "Basic !!",
    ];
    for value in wrong {
        let answer = proxy.ask(request(
            "GET",
            &origin,
            "/",
            &format!("Proxy-Authorization: {value}\r\n"),
        ));
        assert_eq!(answer.status(), 407, "{value}");
    }
    origin.assert_untouched();
}

#[test]
fn asks_for_credentials_on_every_request_of_a_connection() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--basic-auth", "user:secret"])
        .start();
    let mut client = proxy.client();
    let right = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n";
    assert_eq!(
        client.ask(request("GET", &origin, "/", right)).status(),
        200
    );
    assert_eq!(client.ask(get(&origin, "/")).status(), 407);
}

#[test]
fn asks_for_credentials_before_it_opens_a_tunnel() {
    let origin = Origin::echoing();
    let proxy = Proxy::command()
        .args(["--basic-auth", "user:secret"])
        .start();
    let authority = origin.authority();
    let answer = proxy.ask(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 407);
    assert!(origin.connections().is_empty());
    let fields = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n";
    let answer = proxy.ask(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n"
    ));
    assert_eq!(answer.status(), 200);
}

#[test]
fn says_why_an_origin_cannot_be_reached() {
    let proxy = Proxy::start();
    let unreachable = [
        ("http://127.0.0.1:1/", "connection_refused"),
        (
            "http://no-such-host.invalid/",
            "dns_error|destination_not_found",
        ),
    ];
    for (target, errors) in unreachable {
        let answer = proxy.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let status = answer.field("Proxy-Status").unwrap_or_default();
        assert_eq!(answer.status(), 502, "{target}");
        assert!(
            errors.split('|').any(|error| status.contains(error)),
            "{target}: {status}"
        );
        assert!(answer.text().trim().len() > 3, "{target} has no text");
    }
}

#[test]
fn keeps_the_connection_after_an_error_that_is_no_framing_error() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let refused = client.ask("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused.status(), 502);
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
}

#[test]
fn an_error_for_head_has_no_body() {
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let answer =
        client.ask("HEAD http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.status(), 502);
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
}

#[test]
fn gives_up_an_exchange_whose_client_has_left() {
    let origin = Origin::silent();
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    client.reset();
    origin.wait_for_end();
}
