//! Plugins that answer requests for their routes. The fixture documents what each route does.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use super::{ask, assert_refused, get};
use crate::support::tls::{Answer, Ask, Form, Pki, Way};
use crate::support::{
    Client, End, Framing, Message, OK, Origin, Proxy, Role, contains, parse, pattern, response,
};

fn pages() -> Proxy {
    Proxy::command().plugin("routes", "Pages").start()
}

/// Status and text of a complete response.
#[track_caller]
fn told(answer: &Message) -> (u16, String) {
    assert!(answer.is_sound(), "{}: {:?}", answer.start, answer.fault);
    (answer.status(), answer.text())
}

fn post(path: &str, content: &str) -> String {
    let fields = format!("Content-Length: {}\r\n", content.len());
    ask("POST", path, &fields) + content
}

/// The only response on a connection that has closed.
fn only(client: &mut Client, method: &str) -> Message {
    client.read_to_end();
    let answer = parse(client.received(), Role::Response(method), true);
    answer.expect("a response")
}

// ---- route selection ---------------------------------------------------------------------------------------------

#[test]
fn a_route_has_methods_and_tells_them() {
    let proxy = pages();
    let mut client = proxy.client();
    for (method, path, status, allowed) in [
        ("GET", "/plain", 200, ""),
        ("HEAD", "/plain", 200, ""),
        ("PUT", "/plain", 405, "GET, HEAD"),
        ("PUT", "/users/7", 200, ""),
        ("DELETE", "/users/7", 405, "GET, HEAD, PUT"),
        ("PURGE", "/rest/of", 200, ""),
    ] {
        let answer = client.ask(ask(method, path, ""));
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.field("Allow").unwrap_or_default(), allowed);
    }
}

#[test]
fn captures_are_decoded_and_paths_are_matched_as_they_are() {
    let proxy = pages();
    let mut client = proxy.client();
    for (path, text) in [
        ("/users/7", r#"GET id="7""#),
        ("/users/7?id=8", r#"GET id="7""#),
        ("/users/a%2Fb%20%C3%BC%2e%2e", "GET id=\"a/b \u{fc}..\""),
        ("/users/%2525", r#"GET id="%25""#),
        ("/users/..", r#"GET id="..""#),
        ("/%75sers/7", r#"GET id="7""#),
        ("/rest/a/b%2Fc/", r#"GET rest="a/b/c/""#),
        ("/rest/", r#"GET rest="""#),
        ("/get/12/abc", r#"GET id="12" 2="abc""#),
        ("/get/12", r#"GET id="12""#),
    ] {
        assert_eq!(told(&client.ask(get(path))), (200, text.into()), "{path}");
    }
    for path in [
        "/users",
        "/users/",
        "/users/a/b",
        "/rest",
        "/get/x",
        "/get/1/",
        "/get/1/a/b",
        "/Plain",
        "/plain/",
        "//plain",
        "/x/../plain",
    ] {
        assert_eq!(client.ask(get(path)).status(), 404, "{path}");
    }
}

#[test]
fn head_gets_what_get_would_get_but_for_the_content() {
    let proxy = pages();
    let mut client = proxy.client();
    for path in ["/plain", "/stream", "/length/5/5", "/length/200000/200000"] {
        let whole = client.ask(get(path));
        assert!(whole.is_sound() && !whole.body.is_empty());
        let head = client.ask(ask("HEAD", path, ""));
        assert_eq!(head.status(), 200, "{path}");
        assert!(head.body.is_empty() && client.rest().is_empty(), "{path}");
        for name in ["Content-Length", "X-Page", "Transfer-Encoding"] {
            assert_eq!(head.all(name), whole.all(name), "{path}");
        }
    }
}

#[test]
fn what_a_plugin_must_not_say_is_refused() {
    let answer = pages().ask(get("/refused"));
    assert_eq!(told(&answer), (200, "true true".into()));
    assert_eq!(answer.all("Content-Length"), ["9"]);
}

#[test]
fn a_plugin_knows_who_asks_and_where() {
    let proxy = pages();
    let mut client = proxy.client();
    let local = client.socket().local_addr();
    let local = local.expect("a connected socket has an address");
    let answer = client.ask(get("/facts"));
    let here = proxy.address();
    assert_eq!(told(&answer), (200, format!("{local} {here} http /facts")));
}

#[test]
fn requests_for_different_routes_share_a_connection() {
    let proxy = pages();
    let mut client = proxy.client();
    for number in 0..20 {
        assert_eq!(client.ask(get("/plain")).text(), "plain");
        assert_eq!(client.ask(post("/echo", "said")).text(), "said");
        let path = format!("/users/{number}");
        assert_eq!(
            client.ask(get(&path)).text(),
            format!("GET id=\"{number}\"")
        );
        assert_eq!(client.ask(get("/stream")).text(), "zero one two");
        assert_eq!(client.ask(get("/nowhere")).status(), 404);
        assert_eq!(client.ask(get("/error")).status(), 500);
    }
    proxy.wait_for_lines(" - GET /stream - 200 OK - ", 20);
}

// ---- responses ---------------------------------------------------------------------------------------------------

#[test]
fn content_of_unknown_length_is_framed_as_the_version_has_it() {
    let proxy = pages();
    let mut client = proxy.client();
    let chunked = client.ask(get("/stream"));
    assert_eq!(chunked.framing, Framing::Chunked);
    assert_eq!(told(&chunked), (200, "zero one two".into()));
    client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut rest = client.response();
    while !rest.complete {
        // The end of the connection ends the content.
        assert_eq!(client.read_to_end(), End::Closed);
        rest.body.extend_from_slice(client.rest());
        rest.complete = true;
    }
    assert_eq!(rest.framing, Framing::UntilClose);
    assert_eq!(rest.text(), "zero one two");
}

#[test]
fn content_of_known_length_is_as_long_as_it_was_announced() {
    let proxy = pages();
    let mut client = proxy.client();
    for len in [0, 1, 50_000, 50_001, 1_000_000] {
        let answer = client.ask(get(&format!("/length/{len}/{len}")));
        assert!(answer.is_sound(), "{len}");
        assert_eq!(answer.framing, Framing::Length);
        assert!(answer.body == vec![b'x'; len]);
    }
}

#[test]
fn content_that_is_not_as_long_as_announced_is_visibly_broken() {
    let proxy = pages();
    for (announced, sent) in [(10, 5), (100_000, 99_999), (5, 10), (1, 0)] {
        let mut client = proxy.client();
        client.send(get(&format!("/length/{announced}/{sent}")) + &get("/plain"));
        let answer = only(&mut client, "GET");
        assert_eq!(answer.field("Content-Length"), Some(announced.to_string()));
        assert!(!answer.complete, "{announced} {sent}");
        assert!(answer.body.len() < announced);
    }
    // Excess content is not sent, and the connection closes.
    let mut client = proxy.client();
    client.send(get("/length/50000/60000") + &get("/plain"));
    let answer = only(&mut client, "GET");
    assert!(answer.complete && answer.body.len() == 50_000);
    assert_eq!(answer.len, client.received().len());
    // A response to HEAD has no content that could be missing.
    let mut client = proxy.client();
    let head = client.ask(ask("HEAD", "/length/10/5", ""));
    assert_eq!(head.field("Content-Length").as_deref(), Some("10"));
    assert_eq!(client.ask(get("/plain")).text(), "plain");
}

#[test]
fn a_failure_before_the_answer_is_500_and_after_its_beginning_a_cut() {
    let mut proxy = pages();
    let mut client = proxy.client();
    for path in ["/error", "/panic", "/nothing"] {
        for _ in 0..2 {
            let answer = client.ask(get(path));
            assert_eq!(answer.status(), 500, "{path}");
            assert!(answer.is_sound());
            assert!(!answer.text().contains("told to"), "{}", answer.text());
            assert_eq!(client.ask(get("/plain")).text(), "plain");
        }
        let line = proxy.wait_for_line(&format!(" - GET {path} - "));
        assert!(line.contains("answered 500"), "{line}");
    }
    for words in ["told to fail", "told to panic", "returned without a reply"] {
        let line = proxy.wait_for_line(words);
        assert!(line.contains("Pages") || line.contains("pages"), "{line}");
    }
    for path in ["/late-error", "/late-panic"] {
        let mut client = proxy.client();
        client.send(get(path));
        let answer = only(&mut client, "GET");
        assert_eq!((answer.status(), answer.text()), (200, "begun".into()));
        assert!(!answer.complete, "{path}");
    }
    proxy.wait_for_line("told to fail late");
    proxy.wait_for_line("told to panic late");
    assert!(proxy.is_running());
    assert_eq!(proxy.ask(get("/plain")).text(), "plain");
}

#[test]
fn a_client_that_leaves_ends_the_task_that_answers_it() {
    let proxy = pages();
    for count in 1..=3 {
        let mut client = proxy.client();
        client.send(get("/slow"));
        proxy.wait_for_lines("/slow waits", count);
        client.reset();
        proxy.wait_for_lines("/slow is given up", count);
        assert_eq!(proxy.ask(get("/dropped")).text(), count.to_string());
    }
}

#[test]
fn a_stream_that_is_reset_ends_the_task_that_answers_it() {
    let pki = Pki::new();
    let proxy = pki.relaying().args(pki.listener());
    let proxy = proxy.plugin("routes", "Pages").start();
    let client = pki.client(&proxy).over(Way::Http2);
    let mut session = client.pipe().session(Form::Origin("https"));
    // Whether or not the request is complete.
    for (has_end, count) in [(true, 1), (false, 2)] {
        let mut stream = session.open(&Ask::get("here", "/slow"));
        if has_end {
            stream.finish();
        }
        proxy.wait_for_lines("/slow waits", count);
        stream.reset(h2::Reason::CANCEL);
        proxy.wait_for_lines("/slow is given up", count);
        let dropped = session.ask(Ask::get("here", "/dropped"));
        assert_eq!(dropped.told(), (200, count.to_string()));
    }
}

#[test]
fn others_are_answered_while_one_waits() {
    let proxy = pages();
    let mut slow = proxy.client();
    slow.send(get("/slow"));
    proxy.wait_for_line("/slow waits");
    assert_eq!(proxy.ask(get("/plain")).text(), "plain");
    assert_eq!(proxy.ask(get("/dropped")).text(), "0");
}

// ---- request content ---------------------------------------------------------------------------------------------

#[test]
fn ten_mebibytes_are_said_back_while_they_come() {
    let proxy = pages();
    let content = pattern(10 << 20);
    let chunked: Vec<u8> = content
        .chunks(70_001)
        .flat_map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    let length = format!("Content-Length: {}\r\n", content.len());
    for (fields, body) in [
        (&*length, &content),
        ("Transfer-Encoding: chunked\r\n", &chunked),
    ] {
        let mut client = proxy.client();
        let fields = format!("Connection: close\r\n{fields}");
        client.send(ask("POST", "/echo", &fields));
        let mut writer = client.socket().try_clone().expect("sockets can be cloned");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(body).expect("the proxy takes it"));
            assert_eq!(client.read_to_end(), End::Closed);
        });
        let answer = only(&mut client, "POST");
        assert!(answer.is_sound() && answer.body == content);
    }
}

#[test]
fn content_comes_and_goes_piece_by_piece() {
    let proxy = pages();
    let mut client = proxy.client();
    client.send(ask("POST", "/echo", "Transfer-Encoding: chunked\r\n"));
    for number in 0..3 {
        client.send(format!("6\r\npart {number}\r\n"));
    }
    client.send("0\r\nX-Trailer: ignored\r\n\r\n");
    assert_eq!(client.response_to("POST").text(), "part 0part 1part 2");
    assert_eq!(client.ask(get("/plain")).text(), "plain");
}

#[test]
fn echo_over_http2_has_the_same_content() {
    let pki = Pki::new();
    let proxy = pki.relaying().args(pki.listener());
    let proxy = proxy.plugin("routes", "Pages").start();
    let content = pattern(1 << 20);
    for way in [Way::Tls, Way::Http2] {
        let client = pki.client(&proxy).over(way);
        let mut session = client.pipe().session(Form::Origin("https"));
        for parts in [vec![content.clone()], vec![]] {
            let expected = parts.concat();
            let answer = session.ask(Ask::post_parts("here", "/echo", parts));
            assert_eq!((answer.status, &answer.fault), (200, &None));
            assert!(answer.body == expected, "{way:?}");
        }
        let answer = session.ask(Ask::post("here", "/body/10", "0123456789"));
        assert_eq!(answer.told(), (200, "10 bytes".into()));
    }
    let client = pki.client(&proxy).over(Way::Http2);
    let mut session = client.pipe().session(Form::Origin("https"));
    let broken = session.try_ask(Ask::get("here", "/length/10/5"));
    let is_broken = broken
        .as_ref()
        .map_or(true, |answer| answer.fault.is_some());
    assert!(is_broken, "{broken:?}");
    assert_eq!(session.ask(Ask::get("here", "/plain")).text(), "plain");
}

#[test]
fn who_waits_to_be_asked_for_content_is_asked_when_it_is_read() {
    let proxy = pages();
    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    for path in ["/echo", "/body/5"] {
        let mut client = proxy.client();
        client.send(ask("POST", path, expect));
        let invitation = client.message("POST");
        assert_eq!(invitation.status(), 100, "{path}");
        client.send("hello");
        let answer = client.response_to("POST");
        let text = if path == "/echo" { "hello" } else { "5 bytes" };
        assert_eq!(told(&answer), (200, text.into()));
        assert!(client.interim.is_empty());
        assert_eq!(client.ask(get("/plain")).text(), "plain");
    }
    // Without a 100, the client sends no content, and the connection closes.
    let mut client = proxy.client();
    client.send(ask("POST", "/unread", expect));
    let answer = client.response_to("POST");
    assert_eq!(told(&answer), (200, "unread".into()));
    assert!(client.interim.is_empty());
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn content_that_nobody_reads_ends_the_connection() {
    let proxy = pages();
    for fields in ["Content-Length: 20\r\n", "Transfer-Encoding: chunked\r\n"] {
        for path in ["/unread", "/users/7", "/stream"] {
            let mut client = proxy.client();
            client.send(ask("PUT", path, fields) + "GET / HTTP/1.1\r\n\r\n");
            let answer = client.response_to("PUT");
            assert!(answer.is_sound() && answer.status() == 200, "{path}");
            assert_eq!(client.read_to_end(), End::Closed);
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn content_over_the_limit_gets_413() {
    let proxy = pages();
    for (content, told_of_it) in [("0123456789", (200, "10 bytes")), ("", (200, "0 bytes"))] {
        let answer = proxy.ask(post("/body/10", content));
        assert_eq!(told(&answer), (told_of_it.0, told_of_it.1.into()));
    }
    let chunked = ask("POST", "/body/10", "Transfer-Encoding: chunked\r\n");
    for request in [
        post("/body/10", "0123456789a"),
        format!("{chunked}6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n"),
        // Refused before the rest arrives.
        format!("{chunked}ffffff\r\n0123456789abcdef"),
    ] {
        let answer = proxy.ask(&request);
        assert_eq!(answer.status(), 413, "{request}");
        assert!(answer.is_sound());
    }
}

#[test]
fn chunks_that_are_none_get_400() {
    let proxy = pages();
    for path in ["/body/100", "/echo"] {
        for content in [
            "x\r\n",
            "-1\r\n\r\n",
            "4\r\nabcdXX0\r\n\r\n",
            "fffffffffffffffff\r\n",
        ] {
            let mut client = proxy.client();
            client.send(ask("POST", path, "Transfer-Encoding: chunked\r\n") + content);
            let answer = client.response_to("POST");
            let is_told = answer.status() == 400 && answer.is_sound();
            // Valid content before the error may already be answered.
            let is_cut = path == "/echo" && content.starts_with('4') && !answer.complete;
            assert!(is_told || is_cut, "{path} {content:?}: {}", answer.start);
            client.read_to_end();
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn content_that_ends_before_its_time_is_not_taken_for_whole() {
    let proxy = pages();
    for fields in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = proxy.client();
        let start = if fields.starts_with('C') {
            "01234"
        } else {
            "5\r\n01234\r\n"
        };
        client.send(ask("POST", "/body/100", fields) + start);
        client.finish();
        client.read_to_end();
        let received = client.received();
        assert!(
            !contains(received, b"200 OK"),
            "{}",
            received.escape_ascii()
        );
    }
}

// ---- forwarding --------------------------------------------------------------------------------------------------

/// A port of 127.0.0.1 without a listener.
fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr();
    address.expect("a bound socket has an address").port()
}

#[test]
fn a_request_is_forwarded_with_its_content_and_the_answer_comes_back() {
    let origin = Origin::replying(|request| {
        let text = format!(
            "{} {} {}",
            request.method(),
            request.target(),
            request.text()
        );
        format!(
            "HTTP/1.1 203 Somewhat\r\nX-Origin: yes\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    });
    let proxy = pages();
    let mut client = proxy.client();
    let to = format!("/forward/http://{}", origin.authority());
    let answer = client.ask(get(&format!("{to}/a/b%3Fc=d?ours")));
    assert_eq!(answer.start, "HTTP/1.1 203 Somewhat");
    assert_eq!(answer.text(), "GET /a/b?c=d ");
    assert_eq!(answer.all("X-Origin"), ["yes"]);
    assert!(answer.field("Via").is_some());
    let line = proxy.wait_for_line(" - 203 \"Somewhat\" - ");
    let wanted = format!("GET {}/a/b?c=d - 203", origin.authority());
    assert!(
        line.contains(&wanted) && line.contains("forwarded=203"),
        "{line}"
    );
    // Both connections are reused.
    let answer = client.ask(post(&format!("{to}/p"), "content"));
    assert_eq!(answer.text(), "POST /p content");
    assert_eq!(client.ask(get("/plain")).text(), "plain");
    let chunked = ask("POST", &format!("{to}/c"), "Transfer-Encoding: chunked\r\n");
    let answer = client.ask(chunked + "3\r\none\r\n0\r\n\r\n");
    assert_eq!(answer.text(), "POST /c one");
    let head = client.ask(ask("HEAD", &format!("{to}/h"), ""));
    assert_eq!((head.status(), head.body.len()), (203, 0));

    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!(request.all("Host"), [origin.authority()]);
        assert_eq!(request.all("X-Forwarded-By"), ["Pages"]);
        assert_eq!(request.all("Via").len(), 1);
    }
}

#[test]
fn long_content_passes_both_ways() {
    let pki = Pki::new();
    let origin = pki.origin().serve_clear(|_| Answer::echo());
    let proxy = pki.relaying().args(pki.listener());
    let secure = proxy.plugin("routes", "Pages").start();
    let clear = pages();
    let content = pattern(3 << 20);
    let path = format!("/forward/http://{}/", origin.authority());
    for (proxy, way) in [
        (&clear, Way::Clear),
        (&secure, Way::Tls),
        (&secure, Way::Http2),
    ] {
        let scheme = if way == Way::Clear { "http" } else { "https" };
        let mut session = pki
            .client(proxy)
            .over(way)
            .pipe()
            .session(Form::Origin(scheme));
        let answer = session.ask(Ask::post("here", &path, content.clone()));
        assert_eq!((answer.status, &answer.fault), (200, &None));
        assert!(answer.body == content, "{way:?}");
    }
}

#[test]
fn the_clients_host_is_kept_where_the_plugin_wants_it() {
    let origin = Origin::answering(OK);
    let proxy = pages();
    let answer = proxy.ask(get(&format!("/keeping/http://{}/x", origin.authority())));
    assert_eq!(answer.text(), "origin-ok");
    let asked = origin.only_request();
    assert_eq!(
        (asked.target(), asked.all("Host")),
        ("/x", vec!["here".to_owned()])
    );
}

#[test]
fn https_upstreams_are_verified() {
    let pki = Pki::new();
    let origin = pki.origin().serve(|_| Answer::ok("secure"));
    let path = format!("/forward/https://localhost:{}/", origin.address().port());
    let trusting = pki.relaying().plugin("routes", "Pages").start();
    assert_eq!(told(&trusting.ask(get(&path))), (200, "secure".into()));
    assert_eq!(pages().ask(get(&path)).status(), 502);
}

#[test]
fn an_upstream_that_cannot_be_reached_gets_502_or_what_the_plugin_says() {
    let origin = Origin::answering(OK);
    let proxy = pages();
    let dead = dead_port();
    let mut client = proxy.client();
    let answer = client.ask(get(&format!("/forward/http://127.0.0.1:{dead}/")));
    assert_eq!(answer.status(), 502);
    assert!(answer.is_sound());
    let answer = client.ask(get(&format!("/or-503/http://127.0.0.1:{dead}/")));
    assert_eq!(answer.status(), 503);
    assert!(answer.text().starts_with("sorry: "), "{}", answer.text());
    for content in ["", "content"] {
        let path = format!("/second/{dead}/http://{}/x", origin.authority());
        assert_eq!(
            told(&client.ask(post(&path, content))),
            (200, "origin-ok".into())
        );
    }
    let contents = origin.requests();
    let contents: Vec<String> = contents.iter().map(Message::text).collect();
    assert_eq!(contents, ["", "content"]);
    assert_eq!(client.ask(get("/plain")).text(), "plain");
}

#[test]
fn filters_see_a_second_try_as_they_saw_the_first() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("routes", "Pages")
        .plugin("modify_request_header", "ModifyRequestHeader")
        .plugin_config(r#"ModifyRequestHeader.append={ x-seen = "two" }"#)
        .start();
    let path = format!("/second/{}/http://{}/x", dead_port(), origin.authority());
    let answer = proxy.ask(ask("GET", &path, "X-Seen: one\r\n"));
    assert_eq!(told(&answer), (200, "origin-ok".into()));
    assert_eq!(origin.only_request().all("x-seen"), ["one", "two"]);
}

#[test]
fn an_upstream_that_breaks_the_protocol_gets_502_and_one_that_breaks_off_is_seen_to() {
    let rude = Origin::answering("what?\r\n\r\n");
    let brief = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
    });
    let proxy = pages();
    let answer = proxy.ask(get(&format!("/forward/http://{}/", rude.authority())));
    assert_eq!(answer.status(), 502);
    let answer = proxy.ask(get(&format!("/or-503/http://{}/", rude.authority())));
    assert!(matches!(answer.status(), 502 | 503), "{}", answer.start);
    for route in ["forward", "or-503"] {
        let mut client = proxy.client();
        client.send(get(&format!("/{route}/http://{}/", brief.authority())));
        let answer = only(&mut client, "GET");
        assert_eq!((answer.status(), answer.text()), (200, "begun".into()));
        assert!(!answer.complete);
    }
}

#[test]
fn what_would_lead_to_the_proxy_itself_gets_508() {
    let proxy = pages();
    let path = format!("/forward/http://{}/plain", proxy.address());
    let answer = proxy.ask(get(&path));
    assert_eq!(answer.status(), 508, "{}", answer.text());
    assert_eq!(proxy.ask(get("/plain")).text(), "plain");
}

#[test]
fn filters_see_what_is_forwarded_and_may_answer_it() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let proxy = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin("routes", "Pages")
        .plugin_config("FilterByUpstreamHost.hosts=['localhost']")
        .start();
    let mut client = proxy.client();
    let denied = client.ask(get(&format!("/forward/http://localhost:{port}/")));
    assert_eq!(denied.status(), 418);
    origin.assert_untouched();
    let passed = client.ask(get(&format!("/forward/http://127.0.0.1:{port}/")));
    assert_eq!(told(&passed), (200, "origin-ok".into()));
    assert_eq!(client.ask(get("/plain")).text(), "plain");
}

#[test]
fn what_is_no_url_is_not_forwarded() {
    let origin = Origin::answering(OK);
    let proxy = pages();
    let authority = origin.authority();
    for url in [
        "x",
        "ftp://here/",
        "http://",
        "http:///x",
        "http://user@here/",
        "http://here/%20x",
        "http://here/%0d%0aX:y",
        "http://here:99999/",
        "http://here/%2523%23",
        &format!("HTTPX://{authority}/"),
    ] {
        let answer = proxy.ask(get(&format!("/forward/{url}")));
        assert!(
            matches!(answer.status(), 500 | 502),
            "{url}: {}",
            answer.start
        );
    }
    origin.assert_untouched();
}

#[test]
fn a_web_socket_that_is_forwarded_is_relayed() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
        while let Some(bytes) = peer.take(1) {
            peer.send(bytes);
        }
    });
    let proxy = pages();
    let mut client = proxy.client();
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(ask(
        "GET",
        &format!("/forward/http://{}/ws", origin.authority()),
        fields,
    ));
    assert_eq!(client.response().status(), 101);
    client.send("anything");
    assert_eq!(client.read_exact(8), b"anything");
}

#[test]
fn a_client_that_leaves_ends_what_is_forwarded() {
    let origin = Origin::silent();
    let proxy = pages();
    let mut client = proxy.client();
    client.send(get(&format!("/forward/http://{}/", origin.authority())));
    origin.wait_for(b"GET / HTTP/1.1");
    client.reset();
    origin.wait_for_end();
}

#[test]
fn a_response_that_never_ends_is_passed_on_as_it_comes() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        peer.park();
    });
    let proxy = pages();
    let mut client = proxy.client();
    client.send(get(&format!("/forward/http://{}/", origin.authority())));
    client.read_until(b"first");
}

/// A close-delimited response may end the connection.
#[test]
fn a_forwarded_response_until_close_reaches_the_client_whole() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let answer = pages().ask(get(&format!("/forward/http://{}/", origin.authority())));
    assert_eq!(told(&answer), (200, "until the end".into()));
    let answer = response("200 OK", "x");
    assert!(parse(answer.as_bytes(), Role::Response("GET"), false).is_some());
}

// ---- startup -----------------------------------------------------------------------------------------------------

/// A proxy with two plugins that serve these routes.
fn with_routes(first: &str, second: &str) -> crate::support::ProxyCommand {
    Proxy::command()
        .plugin("routes", "Told")
        .plugin("routes", "ToldB")
        .plugin_config(&format!("Told.routes=[{first}]"))
        .plugin_config("Told.says='first'")
        .plugin_config(&format!("ToldB.routes=[{second}]"))
        .plugin_config("ToldB.says='second'")
}

#[test]
fn two_plugins_must_not_answer_the_same_requests() {
    for (first, second, pattern) in [
        ("{ pattern = '/a' }", "{ pattern = '/a' }", "/a"),
        ("{ pattern = '/a/{x}' }", "{ pattern = '/a/{y}' }", "/a/{y}"),
        (
            "{ pattern = '/a', methods = 'GET' }",
            "{ pattern = '/a', methods = 'HEAD' }",
            "/a",
        ),
        (
            "{ pattern = '/a', kind = 'websocket' }",
            "{ pattern = '/a', kind = 'websocket' }",
            "/a",
        ),
        (
            "{ pattern = '/a.*', kind = 'regex' }",
            "{ pattern = '/a.*', kind = 'regex' }",
            "/a.*",
        ),
    ] {
        let exit = with_routes(first, second).run();
        assert_refused(&exit, &["ToldB", pattern, "conflicts", "Told,"]);
    }
}

#[test]
fn two_plugins_may_share_what_they_do_not_both_answer() {
    let proxy = with_routes(
        "{ pattern = '/a', methods = 'GET' }, { pattern = '/b/{x}' }, { pattern = '/r.*', kind = 'regex' }",
        "{ pattern = '/a', methods = 'PUT' }, { pattern = '/b/c' }, { pattern = '/ra.*', kind = 'regex' }",
    )
    .start();
    for (request, text) in [
        (get("/a"), "first"),
        (ask("PUT", "/a", ""), "second"),
        (get("/b/c"), "second"),
        (get("/b/d"), "first x=d"),
        // The first plugin wins.
        (get("/rad"), "first"),
    ] {
        assert_eq!(proxy.ask(&request).text(), text, "{request}");
    }
    let refused = proxy.ask(ask("DELETE", "/a", ""));
    assert_eq!(
        (refused.status(), refused.all("Allow")),
        (405, vec!["GET, HEAD, PUT".into()])
    );
    let line = proxy.wait_for_line("Added route /b/{x}");
    assert!(line.contains("Told"), "{line}");
}

#[test]
fn a_pattern_that_is_none_is_named_with_its_plugin() {
    for (route, words) in [
        ("{ pattern = 'a' }", ["a", "does not begin with /"]),
        ("{ pattern = '/a?b' }", ["/a?b", "query"]),
        ("{ pattern = '/{a}{b}' }", ["/{a}{b}", "write a path"]),
        ("{ pattern = '/{*a}/b' }", ["/{*a}/b", "write a path"]),
        (
            "{ pattern = '(', kind = 'regex' }",
            ["(", "regular expression"],
        ),
        ("{ pattern = '/a', methods = 'G T' }", ["/a", "G T"]),
    ] {
        let exit = with_routes("{ pattern = '/fine' }", route).run();
        assert_refused(&exit, &["ToldB", words[0], words[1]]);
    }
}

#[test]
fn a_plugin_that_cannot_tell_its_routes_is_named() {
    let exit = Proxy::command().plugin("routes", "PanicInRoutes").run();
    assert_refused(&exit, &["PanicInRoutes", "panicked", "routes"]);
}

#[test]
fn a_setting_that_a_plugin_does_not_know_is_named() {
    let exit = Proxy::command()
        .plugin("routes", "Told")
        .plugin_config("Told.paths=[]")
        .run();
    assert_refused(&exit, &["Told", "paths"]);
}
