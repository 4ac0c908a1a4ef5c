//! Field lines and the Host field (RFC 9112 §5 and §3.2, RFC 9110 §5).

use super::case::{Case, case, get_with};

const NAME: &str = "9110 5.1";
const VALUE: &str = "9110 5.5";
const HOST: &str = "9112 3.2";

pub(super) fn cases() -> Vec<Case> {
    [names(), values(), lines(), kept(), sizes(), hosts()]
        .into_iter()
        .flatten()
        .collect()
}

fn names() -> Vec<Case> {
    vec![
        get_with("name_with_space", NAME, "X A: b\r\n").refused(400),
        get_with("name_with_nul", NAME, "X\0A: b\r\n").refused(400),
        get_with("name_with_control", NAME, "X\x01A: b\r\n").refused(400),
        get_with("name_with_delete", NAME, "X\x7fA: b\r\n").refused(400),
        get_with("name_with_parentheses", NAME, "X(a): b\r\n").refused(400),
        get_with("name_with_slash", NAME, "X/a: b\r\n").refused(400),
        get_with("name_with_brackets", NAME, "X[a]: b\r\n").refused(400),
        get_with("name_with_at_sign", NAME, "X@a: b\r\n").refused(400),
        get_with("name_with_quote", NAME, "\"X\": b\r\n").refused(400),
        get_with("name_with_high_byte", NAME, b"X\xe9: b\r\n").refused(400),
        get_with("name_empty", NAME, ": b\r\n").refused(400),
        get_with("name_space_before_colon", "9112 5.1", "X-A : b\r\n").refused(400),
        get_with("name_tab_before_colon", "9112 5.1", "X-A\t: b\r\n").refused(400),
        get_with(
            "name_with_every_token_character",
            NAME,
            "X!#$%&'*+-.^_`|~9: b\r\n",
        )
        .statuses(&[200])
        .origin_line("X!#$%&'*+-.^_`|~9: b"),
        get_with(
            "name_of_a_thousand_characters",
            NAME,
            format!("{}: b\r\n", "n".repeat(1000)),
        )
        .statuses(&[200])
        .requests(1),
    ]
}

fn values() -> Vec<Case> {
    vec![
        get_with("value_with_nul", VALUE, "X-A: b\0c\r\n").refused(400),
        get_with("value_with_cr", VALUE, "X-A: b\rc\r\n").refused(400),
        get_with("value_with_cr_that_splits", VALUE, "X-A: b\rX-B: c\r\n").refused(400),
        get_with("value_with_bell", VALUE, "X-A: b\x07c\r\n").refused(400),
        get_with("value_with_delete", VALUE, "X-A: b\x7fc\r\n").refused(400),
        get_with("value_with_escape", VALUE, "X-A: \x1b[31m\r\n").refused(400),
        get_with(
            "value_with_high_bytes",
            VALUE,
            b"X-A: caf\xe9 \xe2\x82\xac\r\n",
        )
        .statuses(&[200])
        .origin_has(b"X-A: caf\xe9 \xe2\x82\xac\r\n"),
        get_with("value_with_tab_inside", VALUE, "X-A: b\tc\r\n")
            .statuses(&[200])
            .origin_line("X-A: b\tc"),
        get_with("value_empty", VALUE, "X-A:\r\nX-B: c\r\n")
            .statuses(&[200])
            .origin_has("\r\nX-A:")
            .origin_line("X-B: c"),
        get_with("value_with_colons", VALUE, "X-A: http://a:1/?b:c\r\n")
            .statuses(&[200])
            .origin_line("X-A: http://a:1/?b:c"),
        get_with(
            "value_with_comma_and_quotes",
            VALUE,
            "X-A: \"a, \\\"b\", c\r\n",
        )
        .statuses(&[200])
        .origin_line("X-A: \"a, \\\"b\", c"),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        get_with("line_folded", "9112 5.2", "X-A: one\r\n two\r\n").refused(400),
        get_with("line_folded_with_tab", "9112 5.2", "X-A: one\r\n\ttwo\r\n").refused(400),
        get_with(
            "line_folded_and_empty",
            "9112 5.2",
            "X-A: one\r\n \r\nX-B: two\r\n",
        )
        .refused(400),
        get_with("line_without_colon", "9112 5", "X-A\r\n").refused(400),
        get_with("line_of_a_colon", "9112 5", ":\r\n").refused(400),
        case("first_line_begins_with_space", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\r\n Host: {H}\r\nX-A: b\r\n\r\n")
            .refused(400),
        case("line_ends_of_lf_only", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\nHost: {H}\nX-A: b\n\n")
            .refused(400),
        case("one_line_ends_in_lf", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\nX-A: b\r\n\r\n")
            .refused(400),
        case("request_line_ends_in_lf", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\nHost: {H}\r\n\r\n")
            .refused(400),
        case("head_ends_in_lf", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\n")
            .refused(400),
        case("line_ends_of_cr_only", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\rHost: {H}\r\r")
            .finish()
            .refused(400),
        case("line_ends_in_cr_cr_lf", "9112 2.2")
            .send("GET {T}/ HTTP/1.1\r\r\nHost: {H}\r\r\n\r\r\n\r\n")
            .refused(400),
        case("head_that_never_ends", "9112 8")
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n")
            .finish()
            .refused(400),
    ]
}

fn kept() -> Vec<Case> {
    vec![
        get_with(
            "order_of_repeats_is_kept",
            "9110 5.3",
            "X-R: 1\r\nX-S: a\r\nX-R: 2\r\nX-R: 3\r\n",
        )
        .statuses(&[200])
        .origin_has("X-R: 1\r\nX-S: a\r\nX-R: 2\r\nX-R: 3\r\n"),
        get_with(
            "spelling_is_kept",
            "9110 5.1",
            "x-cAmEl: Value\r\nACCEPT: */*\r\n",
        )
        .statuses(&[200])
        .origin_line("x-cAmEl: Value")
        .origin_line("ACCEPT: */*"),
        get_with(
            "space_around_values_means_nothing",
            "9112 5.1",
            "X-A:b\r\nX-C:  \t d \t\r\n",
        )
        .statuses(&[200])
        .origin_line("X-A: b")
        .origin_line("X-C: d"),
        get_with(
            "cookie_lines_are_kept",
            "9110 5.3",
            "Cookie: a=b; c=d\r\nCookie: e=f\r\n",
        )
        .statuses(&[200])
        .origin_line("Cookie: a=b; c=d")
        .origin_line("Cookie: e=f"),
    ]
}

fn sizes() -> Vec<Case> {
    vec![
        get_with(
            "a_hundred_lines",
            "9110 5.4",
            format!("{}X-Last: 1\r\n", "X-Many: 0123456789\r\n".repeat(99)),
        )
        .statuses(&[200])
        .origin_line("X-Last: 1"),
        get_with("a_thousand_lines", "6585 5", "X-Many: 1\r\n".repeat(1000)).refused(431),
        get_with(
            "ten_thousand_lines",
            "6585 5",
            "X-Many: 0123456789\r\n".repeat(10_000),
        )
        .refused(431),
        get_with(
            "value_of_8_kib",
            "9110 5.4",
            format!("X-Long: {}\r\n", "v".repeat(8192)),
        )
        .statuses(&[200])
        .origin_line(&format!("X-Long: {}", "v".repeat(8192))),
        get_with(
            "value_of_65_kib",
            "6585 5",
            format!("X-Long: {}\r\n", "v".repeat(65 * 1024)),
        )
        .refused(431),
        get_with(
            "value_of_4_mib",
            "6585 5",
            format!("X-Long: {}\r\n", "v".repeat(4 << 20)),
        )
        .refused(431),
        get_with(
            "name_of_100_kib",
            "6585 5",
            format!("{}: v\r\n", "n".repeat(100 * 1024)),
        )
        .refused(431),
    ]
}

fn hosts() -> Vec<Case> {
    let with_host =
        |id, host: &str| case(id, HOST).send(format!("GET {{T}}/ HTTP/1.1\r\n{host}\r\n"));
    vec![
        with_host("host_missing", "").refused(400),
        with_host("host_twice", "Host: {H}\r\nHost: evil.example\r\n").refused(400),
        with_host("host_twice_the_same", "Host: {H}\r\nHost: {H}\r\n").refused(400),
        with_host(
            "host_twice_in_other_case",
            "Host: {H}\r\nX: y\r\nhOST: {H}\r\n",
        )
        .refused(400),
        with_host("host_list", "Host: {H}, evil.example\r\n").refused(400),
        with_host("host_with_path", "Host: {H}/x\r\n").refused(400),
        with_host("host_with_userinfo", "Host: user@{H}\r\n").refused(400),
        with_host("host_with_space", "Host: a b\r\n").refused(400),
        with_host("host_with_scheme", "Host: http://{H}\r\n").refused(400),
        with_host("host_with_bad_port", "Host: example.com:80x\r\n").refused(400),
        with_host("host_with_port_past_range", "Host: example.com:65536\r\n").refused(400),
        with_host("host_with_broken_ipv6", "Host: [::1\r\n").refused(400),
        with_host("host_with_high_byte", "Host: ex\u{e4}mple\r\n").refused(400),
        with_host("host_differs_from_target", "Host: evil.example\r\n")
            .statuses(&[200])
            .origin_line("Host: {H}")
            .origin_lacks("evil"),
        with_host("host_empty", "Host:\r\n")
            .statuses(&[200])
            .origin_line("Host: {H}"),
        with_host(
            "host_keeps_its_place",
            "X-A: 1\r\nHost: other\r\nX-B: 2\r\n",
        )
        .statuses(&[200])
        .origin_has("X-A: 1\r\nHost: 127"),
        case("host_missing_in_http_1.0", HOST)
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .statuses(&[200])
            .origin_line("Host: {H}"),
    ]
}
