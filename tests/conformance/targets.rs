//! The request line: method, target, version (RFC 9112 §3).
//!
//! The target decides where a request goes, so an ambiguous target is refused.

use super::case::{Case, case};

const LINE: &str = "9112 3";
const TARGET: &str = "9112 3.2";
const AUTHORITY: &str = "9110 4.2";

pub(super) fn cases() -> Vec<Case> {
    [
        methods(),
        lines(),
        versions(),
        authorities(),
        numeric_hosts(),
        paths(),
        forms(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A GET for this target, with a valid Host.
fn target(id: &'static str, rule: &'static str, target: impl AsRef<[u8]>) -> Case {
    case(id, rule).send([b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: {H}\r\n\r\n"].concat())
}

fn methods() -> Vec<Case> {
    let method = |id, method: &'static str| {
        let row = case(id, "9110 9.1").methods(vec![method].leak());
        row.send(format!("{method} {{T}}/m HTTP/1.1\r\nHost: {{H}}\r\n\r\n"))
    };
    vec![
        method("method_unknown", "FROB")
            .statuses(&[200])
            .origin_start("FROB /m HTTP/1.1"),
        method("method_in_lower_case", "get")
            .statuses(&[200])
            .origin_start("get /m HTTP/1.1"),
        method("method_with_token_characters", "M-SEARCH!")
            .statuses(&[200])
            .origin_start("M-SEARCH! /m HTTP/1.1"),
        method("method_with_parenthesis", "G(T").refused(400),
        method("method_with_at_sign", "@GET").refused(400),
        method("method_with_high_byte", "GÉT").refused(400),
        method("method_with_nul", "G\0ET").refused(400),
        case("method_missing", LINE)
            .send(" {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .refused(400),
    ]
}

fn lines() -> Vec<Case> {
    let line = |id, line: &str| case(id, LINE).send(format!("{line}\r\nHost: {{H}}\r\n\r\n"));
    vec![
        line("line_with_two_spaces", "GET  {T}/  HTTP/1.1").refused(400),
        line("line_with_tabs", "GET\t{T}/\tHTTP/1.1").refused(400),
        line("line_with_form_feeds", "GET\x0c{T}/\x0cHTTP/1.1").refused(400),
        line("line_with_leading_space", " GET {T}/ HTTP/1.1").refused(400),
        line("line_with_trailing_space", "GET {T}/ HTTP/1.1 ").refused_as(&[400, 505]),
        line("line_of_four_words", "GET {T}/ HTTP/1.1 HTTP/1.1").refused_as(&[400, 505]),
        line("line_of_two_words", "GET {T}/").refused_as(&[400, 505]),
        line("line_of_one_word", "GET").refused(400),
        line("line_without_target", "GET HTTP/1.1").refused(400),
        line("line_with_empty_target", "GET  HTTP/1.1").refused(400),
        case("line_of_garbage", LINE)
            .send(b"\x80\x00\xff\xfe\r\n\r\n")
            .refused(400),
        case("line_of_a_tls_hello", LINE)
            .send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
            .refused(400),
        case("line_of_socks", LINE)
            .send(b"\x05\x01\x00")
            .refused(400),
        case("empty_lines_before_are_skipped", "9112 2.2")
            .send("\r\n\r\nGET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200])
            .requests(1),
        case("lone_lf_before", "9112 2.2")
            .send("\nGET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .refused(400),
    ]
}

fn versions() -> Vec<Case> {
    let version = |id, version: &str| {
        case(id, "9112 2.3").send(format!("GET {{T}}/ {version}\r\nHost: {{H}}\r\n\r\n"))
    };
    vec![
        version("version_1.2", "HTTP/1.2").refused_as(&[400, 505]),
        version("version_2.0", "HTTP/2.0").refused_as(&[400, 505]),
        version("version_3", "HTTP/3").refused_as(&[400, 505]),
        version("version_0.9", "HTTP/0.9").refused_as(&[400, 505]),
        version("version_1.10", "HTTP/1.10").refused_as(&[400, 505]),
        version("version_01.1", "HTTP/01.1").refused_as(&[400, 505]),
        version("version_1", "HTTP/1").refused_as(&[400, 505]),
        version("version_with_letters", "HTTP/1.1a").refused_as(&[400, 505]),
        version("version_in_lower_case", "http/1.1").refused_as(&[400, 505]),
        version("version_of_another_protocol", "RTSP/1.0").refused_as(&[400, 505]),
        version("version_1.0_is_sent_on_as_1.1", "HTTP/1.0")
            .statuses(&[200])
            .origin_start("GET / HTTP/1.1"),
    ]
}

fn authorities() -> Vec<Case> {
    vec![
        target("userinfo", "9110 4.2.4", "http://user:word@{H}/").refused(400),
        target(
            "userinfo_as_a_decoy",
            "9110 4.2.4",
            "http://{H}@no-such.invalid/",
        )
        .refused(400),
        target("userinfo_empty", "9110 4.2.4", "http://@{H}/").refused(400),
        target("host_of_target_empty", "9110 4.2.1", "http:///x").refused(400),
        target(
            "host_of_target_empty_with_port",
            "9110 4.2.1",
            "http://:{P}/x",
        )
        .refused(400),
        target(
            "host_of_target_percent_encoded",
            AUTHORITY,
            "http://127.0.0.%31:{P}/",
        )
        .refused(400),
        target(
            "host_of_target_with_high_byte",
            AUTHORITY,
            b"http://ex\xe4mple:{P}/",
        )
        .refused(400),
        target(
            "host_of_target_with_backslash",
            AUTHORITY,
            "http://127.0.0.1:{P}\\@evil/",
        )
        .refused(400),
        target(
            "host_of_target_with_comma",
            AUTHORITY,
            "http://127.0.0.1,evil:{P}/",
        )
        .refused(400),
        target(
            "host_of_target_in_upper_case",
            AUTHORITY,
            "http://LOCALHOST:{P}/up",
        )
        .statuses(&[200])
        .origin_line("Host: localhost:{P}"),
        target("port_not_a_number", AUTHORITY, "http://127.0.0.1:{P}x/").refused(400),
        target("port_zero", AUTHORITY, "http://127.0.0.1:0/").refused(400),
        target("port_past_range", AUTHORITY, "http://127.0.0.1:65536/").refused(400),
        target("port_wraps_16_bits", AUTHORITY, "http://127.0.0.1:131072/").refused(400),
        target("port_plus", AUTHORITY, "http://127.0.0.1:+{P}/").refused(400),
        target("port_twice", AUTHORITY, "http://127.0.0.1:{P}:{P}/").refused(400),
        target(
            "port_with_leading_zeros",
            AUTHORITY,
            "http://127.0.0.1:000{P}/",
        )
        .status_in(&[200, 400]),
        target("ipv6", AUTHORITY, "http://{6}/v6")
            .over_ipv6()
            .statuses(&[200])
            .origin_line("Host: {6}")
            .origin_start("GET /v6 HTTP/1.1"),
        target("ipv6_without_brackets", AUTHORITY, "http://::1:{P}/").refused(400),
        target("ipv6_not_closed", AUTHORITY, "http://[::1:{P}/").refused(400),
        target("ipv6_with_zone", AUTHORITY, "http://[::1%25lo]:{P}/").refused(400),
        target("ipv6_malformed", AUTHORITY, "http://[::1::2]:{P}/").refused(400),
        target("ipv6_then_junk", AUTHORITY, "http://[::1]x:{P}/").refused(400),
        target("ip_of_the_future", AUTHORITY, "http://[v1.a]:{P}/").refused(400),
    ]
}

/// Other spellings of an address would bypass a filter that compares host names.
fn numeric_hosts() -> Vec<Case> {
    let host = |id, host: &str| target(id, "3986 3.2.2", format!("http://{host}:{{P}}/"));
    vec![
        host("address_in_two_parts", "127.1").refused(400),
        host("address_in_one_part", "2130706433").refused(400),
        host("address_in_hexadecimal", "0x7f000001").refused(400),
        host("address_part_in_hexadecimal", "127.0.0.0x1").refused(400),
        host("address_in_octal", "0177.0.0.1").refused(400),
        host("address_with_leading_zero", "127.0.0.01").refused(400),
        host("address_part_past_range", "127.0.0.257").refused(400),
        host("address_of_five_parts", "127.0.0.0.1").refused(400),
    ]
}

fn paths() -> Vec<Case> {
    let sent = |id, path: &str, start: &str| {
        target(id, TARGET, format!("http://{{H}}{path}"))
            .statuses(&[200])
            .origin_start(start)
    };
    vec![
        sent("path_missing", "", "GET / HTTP/1.1"),
        sent("path_missing_with_query", "?q=1", "GET /?q=1 HTTP/1.1"),
        sent("path_with_two_slashes", "//a//b", "GET //a//b HTTP/1.1"),
        sent("path_with_dots", "/a/../b/./c", "GET /a/../b/./c HTTP/1.1"),
        sent("path_with_percent", "/a%2Fb%zz%", "GET /a%2Fb%zz% HTTP/1.1"),
        sent(
            "path_with_reserved_characters",
            "/a;b=c,d@e:f!$&'()*+",
            "GET /a;b=c,d@e:f!$&'()*+ HTTP/1.1",
        ),
        sent(
            "query_with_question_marks",
            "/?a?b=/c",
            "GET /?a?b=/c HTTP/1.1",
        ),
        target("path_with_space", TARGET, "http://{H}/a b").refused_as(&[400, 505]),
        target("path_with_nul", TARGET, "http://{H}/a\0b").refused(400),
        target("path_with_cr", TARGET, "http://{H}/a\rb").refused(400),
        target("path_with_control", TARGET, "http://{H}/a\x01b").refused(400),
        target("path_with_delete", TARGET, "http://{H}/a\x7fb").refused(400),
        target("path_with_high_bytes", TARGET, b"http://{H}/\xc3\xa4")
            .statuses(&[200])
            .origin_has(b"GET /\xc3\xa4 HTTP/1.1\r\n"),
        target("path_that_is_no_utf8", TARGET, b"http://{H}/a\xffb").refused(400),
        target("path_with_half_a_character", TARGET, b"http://{H}/a\xc3").refused(400),
        target("query_that_is_no_utf8", TARGET, b"http://{H}/?q=\xe4").refused(400),
        target("fragment", "9110 4.2.5", "http://{H}/a#b").refused(400),
        target(
            "fragment_before_the_path",
            "9110 4.2.5",
            "http://{H}#@evil/",
        )
        .refused(400),
        sent(
            "path_of_8000_characters",
            &format!("/{}", "p".repeat(8000)),
            &format!("GET /{} HTTP/1.1", "p".repeat(8000)),
        ),
        target(
            "path_of_20000_characters",
            LINE,
            format!("http://{{H}}/{}", "p".repeat(20_000)),
        )
        .refused(414),
        target(
            "path_of_300000_characters",
            LINE,
            format!("http://{{H}}/{}", "p".repeat(300_000)),
        )
        .refused(414),
    ]
}

fn forms() -> Vec<Case> {
    let any_error = &[400, 403, 421, 426, 501, 502, 505];
    vec![
        target("scheme_in_upper_case", "3986 3.1", "HTTP://{H}/s")
            .statuses(&[200])
            .origin_start("GET /s HTTP/1.1"),
        target(
            "scheme_https_is_never_sent_in_clear",
            "9110 4.2.2",
            "https://{H}/",
        )
        .refused_as(any_error),
        target("scheme_ftp", TARGET, "ftp://{H}/").refused_as(any_error),
        target("scheme_unknown", TARGET, "frob://{H}/").refused_as(any_error),
        target("scheme_without_slashes", TARGET, "http:{H}/").refused(400),
        target("scheme_with_one_slash", TARGET, "http:/{H}/").refused(400),
        target("scheme_empty", TARGET, "://{H}/").refused(400),
        target("origin_form_is_explained", "9112 3.2.1", "/x").refused(400),
        target("authority_form_of_get", "9112 3.2.3", "{H}").refused(400),
        target("asterisk_of_get", "9112 3.2.4", "*").refused(400),
        target("path_without_slash", TARGET, "x/y").refused(400),
        target("backslash_for_slash", TARGET, "http:\\\\{H}\\").refused(400),
        case("options_asterisk_is_for_the_proxy", "9110 9.3.7")
            .methods(&["OPTIONS"])
            .send("OPTIONS * HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200])
            .field("Allow")
            .origin_lacks("OPTIONS"),
        case("options_without_path_becomes_asterisk", "9112 3.2.4")
            .methods(&["OPTIONS"])
            .send("OPTIONS {T} HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200])
            .origin_start("OPTIONS * HTTP/1.1"),
        case("options_with_slash_stays", "9112 3.2.4")
            .methods(&["OPTIONS"])
            .send("OPTIONS {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200])
            .origin_start("OPTIONS / HTTP/1.1"),
    ]
}
