//! Hop-by-hop and end-to-end fields (RFC 9110 §7.6 and §7.8).

use super::case::{Case, answered, case, get_with, post, say};

const HOP: &str = "9110 7.6.1";
const MAX: &str = "9110 7.6.2";
const VIA: &str = "9110 7.6.3";

pub(super) fn cases() -> Vec<Case> {
    [
        connection_fields(),
        others(),
        max_forwards(),
        vias(),
        responses(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn connection_fields() -> Vec<Case> {
    vec![
        get_with(
            "nominated_field_ends",
            HOP,
            "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-End: kept\r\n",
        )
        .statuses(&[200])
        .origin_no_field("X-Hop")
        .origin_no_field("Connection")
        .origin_line("X-End: kept"),
        get_with(
            "nominated_before_it_appears",
            HOP,
            "X-Hop: 1\r\nConnection: x-hop\r\nX-HOP: 2\r\n",
        )
        .statuses(&[200])
        .origin_no_field("X-Hop"),
        get_with(
            "nominated_in_two_lines",
            HOP,
            "Connection: X-A\r\nX-A: 1\r\nConnection: X-B\r\nX-B: 2\r\n",
        )
        .statuses(&[200])
        .origin_no_field("X-A")
        .origin_no_field("X-B"),
        get_with(
            "nominated_among_empty_members",
            HOP,
            "Connection: ,, X-A ,\t,X-B,\r\nX-A: 1\r\nX-B: 2\r\n",
        )
        .statuses(&[200])
        .origin_no_field("X-A")
        .origin_no_field("X-B"),
        get_with(
            "nominated_name_is_whole",
            HOP,
            "Connection: X-A\r\nX-AB: 1\r\nX: 2\r\n",
        )
        .statuses(&[200])
        .origin_line("X-AB: 1")
        .origin_line("X: 2"),
        get_with("nominated_host_stays", HOP, "Connection: Host\r\n")
            .refused_or_body("")
            .origin_has("\r\nHost: "),
        get_with(
            "nominated_cookie_ends",
            HOP,
            "Connection: Cookie\r\nCookie: a=b\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Cookie"),
        get_with("keep_alive_field", HOP, "Keep-Alive: timeout=77\r\n")
            .statuses(&[200])
            .origin_no_field("Keep-Alive"),
        get_with(
            "proxy_connection_field",
            "9112 C.2.2",
            "Proxy-Connection: keep-alive\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Proxy-Connection"),
        get_with("close_is_not_sent_on", "9112 9.6", "Connection: close\r\n")
            .statuses(&[200])
            .origin_no_field("Connection")
            .closes(),
        get_with("te_of_another_hop", "9110 10.1.4", "TE: trailers\r\n")
            .statuses(&[200])
            .origin_no_field("TE"),
        get_with(
            "te_for_this_hop",
            "9110 10.1.4",
            "Connection: TE\r\nTE: deflate;q=0.5\r\n",
        )
        .statuses(&[200])
        .origin_no_field("TE"),
        get_with(
            "te_trailers_is_announced",
            "9110 10.1.4",
            "Connection: TE\r\nTE: gzip, trailers\r\n",
        )
        .statuses(&[200])
        .origin_line("TE: trailers")
        .origin_line("Connection: TE")
        .origin_lacks("gzip"),
        get_with("trailer_without_chunks", "9110 6.6.2", "Trailer: X-Sum\r\n")
            .statuses(&[200])
            .origin_no_field("Trailer"),
    ]
}

fn others() -> Vec<Case> {
    vec![
        get_with(
            "proxy_authorization_stays_here",
            "9110 11.7.2",
            "Proxy-Authorization: Basic c2VjcmV0\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Proxy-Authorization"),
        get_with(
            "authorization_travels",
            "9110 11.6.2",
            "Authorization: Basic YTpi\r\n",
        )
        .statuses(&[200])
        .origin_line("Authorization: Basic YTpi"),
        case("expectations_are_not_for_1.0", "9110 10.1.1")
            .methods(&["POST"])
            .send("POST {T}/ HTTP/1.0\r\nHost: {H}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .statuses(&[200])
            .interim(&[])
            .origin_no_field("Expect")
            .origin_body("hello"),
        get_with(
            "http2_settings",
            "9113 3.2.1",
            "HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        )
        .statuses(&[200])
        .origin_no_field("HTTP2-Settings"),
        get_with(
            "unknown_fields_travel",
            "9110 5.1",
            "X-Frob: 1\r\nForwarded: for=a\r\nX-Forwarded-For: b\r\n",
        )
        .statuses(&[200])
        .origin_line("X-Frob: 1")
        .origin_line("Forwarded: for=a")
        .origin_line("X-Forwarded-For: b"),
        get_with(
            "conditions_and_ranges_travel",
            "9110 13",
            "If-None-Match: \"a\"\r\nRange: bytes=0-1\r\n",
        )
        .statuses(&[200])
        .origin_line("If-None-Match: \"a\"")
        .origin_line("Range: bytes=0-1"),
        post(
            "content_fields_travel",
            "9110 8",
            "Content-Type: a/b\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n",
            "zz",
        )
        .statuses(&[200])
        .origin_line("Content-Type: a/b")
        .origin_line("Content-Encoding: gzip")
        .origin_body("zz"),
    ]
}

fn max_forwards() -> Vec<Case> {
    let request = |id, method: &'static str, value: &str| {
        let row = case(id, MAX).methods(vec![method].leak());
        row.send(format!(
            "{method} {{T}}/mf HTTP/1.1\r\nHost: {{H}}\r\nMax-Forwards: {value}\r\n\r\n"
        ))
    };
    vec![
        request("options_ends_here", "OPTIONS", "0")
            .statuses(&[200])
            .origin_lacks("OPTIONS"),
        request("trace_ends_here", "TRACE", "0")
            .status_in(&[200, 405, 501])
            .origin_lacks("TRACE"),
        request("options_goes_one_further", "OPTIONS", "1")
            .statuses(&[200])
            .origin_line("Max-Forwards: 0"),
        request("trace_goes_nine_further", "TRACE", "10")
            .statuses(&[200])
            .origin_line("Max-Forwards: 9"),
        request("get_does_not_count", "GET", "0")
            .statuses(&[200])
            .origin_line("Max-Forwards: 0"),
    ]
}

fn vias() -> Vec<Case> {
    vec![
        get_with("via_is_added", VIA, "")
            .statuses(&[200])
            .origin_line("Via: 1.1 proxy")
            .line("Via: 1.1 proxy"),
        get_with(
            "via_comes_last",
            VIA,
            "Via: 1.0 fred, 1.1 p.example\r\nX-A: b\r\n",
        )
        .statuses(&[200])
        .origin_has("Via: 1.0 fred, 1.1 p.example\r\nVia: 1.1 proxy\r\n"),
        case("via_names_the_received_version", VIA)
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .statuses(&[200])
            .origin_line("Via: 1.0 proxy"),
        get_with(
            "via_cannot_be_nominated",
            VIA,
            "Via: 1.1 first\r\nConnection: Via\r\n",
        )
        .statuses(&[200])
        .origin_line("Via: 1.1 proxy"),
        answered(
            "via_of_the_response",
            VIA,
            "HTTP/1.1 200 OK\r\nVia: 1.1 near\r\nContent-Length: 1\r\n\r\nx",
        )
        .statuses(&[200])
        .client_has("Via: 1.1 near\r\nVia: 1.1 proxy\r\n"),
        get_with("via_of_a_1.0_origin", VIA, "")
            .origin([
                say("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
                super::case::Act::Close,
            ])
            .statuses(&[200])
            .line("Via: 1.0 proxy"),
    ]
}

fn responses() -> Vec<Case> {
    vec![
        answered(
            "response_nominated_field_ends",
            HOP,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nX-End: kept\r\n\r\nx",
        )
        .statuses(&[200])
        .no_field("X-Hop")
        .no_field("Keep-Alive")
        .no_field("Connection")
        .line("X-End: kept"),
        answered("response_proxy_connection", "9112 C.2.2", "HTTP/1.1 200 OK\r\nProxy-Connection: keep-alive\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[200])
            .no_field("Proxy-Connection"),
        answered("response_upgrade_offer_ends", "9110 7.8", "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[200])
            .no_field("Upgrade"),
        answered("response_426_keeps_upgrade", "9110 15.5.22", "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: HTTP/3.0\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[426])
            .line("Upgrade: HTTP/3.0"),
        answered("response_close_is_the_origins", "9112 9.6", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[200])
            .no_field("Connection")
            .stays(),
        answered("response_date_is_added", "9110 6.6.1", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").statuses(&[200]).field("Date"),
        answered("response_date_is_kept", "9110 6.6.1", "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[200])
            .line("Date: Sun, 06 Nov 1994 08:49:37 GMT"),
        answered(
            "response_set_cookie_lines_stay_apart",
            "9110 5.3",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Sun, 06 Nov 2094 08:49:37 GMT\r\nSet-Cookie: b=2\r\nContent-Length: 1\r\n\r\nx",
        )
        .statuses(&[200])
        .line("Set-Cookie: a=1; Expires=Sun, 06 Nov 2094 08:49:37 GMT")
        .line("Set-Cookie: b=2"),
        answered("response_spelling_is_kept", "9110 5.1", "HTTP/1.1 200 OK\r\neTaG: \"A\"\r\nSERVER: x/1\r\nContent-Length: 1\r\n\r\nx")
            .statuses(&[200])
            .line("eTaG: \"A\"")
            .line("SERVER: x/1"),
    ]
}
