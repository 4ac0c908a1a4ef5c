//! CONNECT as a message: its target, its response, the bytes after it (RFC 9110 §9.3.6).

use super::case::Act::{Close, Pause, Repeat, Reset, WaitFor};
use super::case::{Case, case, say, tunnel};

const RULE: &str = "9110 9.3.6";

pub(super) fn cases() -> Vec<Case> {
    [targets(), heads(), bytes()]
        .into_iter()
        .flatten()
        .collect()
}

fn connect(id: &'static str, target: &str) -> Case {
    case(id, "9112 3.2.3")
        .methods(&["CONNECT"])
        .send(format!("CONNECT {target} HTTP/1.1\r\nHost: {{H}}\r\n\r\n"))
}

fn targets() -> Vec<Case> {
    vec![
        connect("connect_without_port", "127.0.0.1").refused(400),
        connect("connect_with_empty_port", "127.0.0.1:").refused(400),
        connect("connect_to_port_zero", "127.0.0.1:0").refused(400),
        connect("connect_to_port_past_range", "127.0.0.1:65536").refused(400),
        connect("connect_to_a_service_name", "127.0.0.1:http").refused(400),
        connect("connect_without_host", ":{P}").refused(400),
        connect("connect_with_path", "{H}/x").refused(400),
        connect("connect_with_query", "{H}?x").refused(400),
        connect("connect_with_userinfo", "user@{H}").refused(400),
        connect("connect_with_scheme", "http://{H}").refused(400),
        connect("connect_to_asterisk", "*").refused(400),
        connect("connect_to_a_path", "/etc/passwd:80").refused(400),
        connect("connect_to_a_short_address", "127.1:{P}").refused(400),
        connect("connect_to_an_address_in_decimal", "2130706433:{P}").refused(400),
        connect("connect_to_ipv6_without_brackets", "::1:{P}").refused(400),
        connect("connect_to_ipv6_with_zone", "[::1%lo]:{P}").refused(400),
        case("connect_in_lower_case_is_another_method", RULE)
            .send("connect {H} HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .refused(400),
        connect("connect_to_a_closed_port", "127.0.0.1:1")
            .statuses(&[502])
            .field("Proxy-Status"),
        connect("connect_to_ipv6", "{6}")
            .over_ipv6()
            .raw_origin([say("hi")])
            .statuses(&[200])
            .client_has("\r\n\r\nhi"),
    ]
}

fn heads() -> Vec<Case> {
    let with = |id, fields: &str, body: &str| {
        case(id, RULE).methods(&["CONNECT"]).send(format!(
            "CONNECT {{H}} HTTP/1.1\r\nHost: {{H}}\r\n{fields}\r\n{body}"
        ))
    };
    vec![
        tunnel("connect_answer_to_the_byte", RULE, [say("hi")])
            .client_has("HTTP/1.1 200 Connection established\r\n\r\nhi"),
        tunnel("connect_answer_has_no_framing", RULE, [])
            .no_field("Content-Length")
            .no_field("Transfer-Encoding"),
        with(
            "connect_with_content_length",
            "Content-Length: 5\r\n",
            "hello",
        )
        .refused(400),
        with(
            "connect_with_chunks",
            "Transfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        )
        .refused(400),
        with(
            "connect_with_content_length_zero",
            "Content-Length: 0\r\n",
            "",
        )
        .raw_origin([say("hi")])
        .statuses(&[200])
        .client_has("\r\n\r\nhi"),
        case("connect_without_host_field", "9112 3.2")
            .methods(&["CONNECT"])
            .send("CONNECT {H} HTTP/1.1\r\n\r\n")
            .refused(400),
        case("connect_with_another_host_field", RULE)
            .methods(&["CONNECT"])
            .send("CONNECT {H} HTTP/1.1\r\nHost: evil.example:1\r\n\r\n")
            .raw_origin([say("hi")])
            .statuses(&[200])
            .client_has("\r\n\r\nhi"),
        case("connect_in_http_1.0", RULE)
            .methods(&["CONNECT"])
            .send("CONNECT {H} HTTP/1.0\r\n\r\n")
            .raw_origin([say("hi")])
            .statuses(&[200])
            .client_has("\r\n\r\nhi"),
        case("connect_that_fails_then_a_request", RULE)
            .methods(&["GET", "GET"])
            .send("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n")
            .wait_for("\r\n\r\n")
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n")
            .closes()
            .client_has("HTTP/1.1 502"),
        case("connect_after_a_request", RULE)
            .methods(&["GET", "CONNECT"])
            .send("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\n\r\n")
            .wait_for("HTTP/1.1 502")
            .send("CONNECT {H} HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .raw_origin([say("hi")])
            .statuses(&[502, 200])
            .client_has("\r\n\r\nhi"),
    ]
}

fn bytes() -> Vec<Case> {
    let every: Vec<u8> = (0..=255).collect();
    vec![
        tunnel(
            "tunnel_carries_every_byte",
            RULE,
            [WaitFor(every.clone()), say(&every)],
        )
        .send(&every)
        .client_has(&every),
        case("bytes_sent_with_the_head", RULE)
            .methods(&["CONNECT"])
            .send("CONNECT {H} HTTP/1.1\r\nHost: {H}\r\n\r\nhello")
            .raw_origin([WaitFor(b"hello".to_vec()), say("hi")])
            .statuses(&[200])
            .client_has("\r\n\r\nhi"),
        tunnel(
            "tunnel_does_not_read_http",
            RULE,
            [
                WaitFor(b"\r\n\r\n".to_vec()),
                say("HTTP/1.1 999 raw\r\nBad Line\n\n"),
            ],
        )
        .send("GET /not-for-you HTTP/9.9\r\nBad Line\r\n\r\n")
        .client_has("HTTP/1.1 999 raw\r\nBad Line\n\n")
        .origin_has("GET /not-for-you HTTP/9.9\r\nBad Line\r\n\r\n"),
        tunnel(
            "tunnel_client_ends_first",
            RULE,
            [
                WaitFor(b"bye".to_vec()),
                Pause(150),
                say("last words"),
                Close,
            ],
        )
        .send("bye")
        .finish()
        .closes()
        .client_has("last words"),
        tunnel(
            "tunnel_origin_ends_first",
            RULE,
            [
                WaitFor(b"go".to_vec()),
                Repeat(200, vec![b'z'; 1000]),
                say("END"),
                Close,
            ],
        )
        .send("go")
        .closes()
        .client_has("zzzzEND"),
        tunnel(
            "tunnel_origin_resets",
            RULE,
            [WaitFor(b"go".to_vec()), Reset],
        )
        .send("go")
        .closes(),
        case("tunnel_client_resets", RULE)
            .methods(&["CONNECT"])
            .send("CONNECT {H} HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .wait_for("\r\n\r\n")
            .send("go")
            .pause(50)
            .raw_origin([WaitFor(b"go".to_vec())])
            .reset()
            .origin_has("go"),
    ]
}
