//! What an origin sends, and what the client may receive (RFC 9112 §4 and §6.3, RFC 9110 §15).
//!
//! A malformed response becomes a 502; a truncated response is visibly truncated.

use super::case::Act::{Close, Early, Pause, Repeat, Reset};
use super::case::{Act, Case, answered, case, get_with, say};

const LEN: &str = "9112 6.3";
const CUT: &str = "9112 8";
const STATUS: &str = "9112 4";
const SYNTAX: &str = "9112 5";

pub(super) fn cases() -> Vec<Case> {
    [
        bodiless(),
        lengths(),
        chunks(),
        close_delimited(),
        cut_off(),
        status_lines(),
        syntax(),
        interim(),
        strays(),
        early(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A row whose origin sends these bytes, then performs `end`.
fn ended(id: &'static str, rule: &'static str, response: impl AsRef<[u8]>, end: Act) -> Case {
    get_with(id, rule, "").origin([say(response), Pause(100), end])
}

fn bodiless() -> Vec<Case> {
    let then_get = |id, first: &'static str, response: &str| {
        let methods: &[&str] = vec![first, "GET"].leak();
        let bytes = format!(
            "{first} {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\n\r\nGET {{T}}/b HTTP/1.1\r\nHost: {{H}}\r\n\r\n"
        );
        case(id, LEN)
            .methods(methods)
            .send(bytes)
            .origin([say(response)])
            .client_has("origin-ok")
    };
    vec![
        then_get(
            "head_keeps_the_length",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n",
        )
        .statuses(&[200, 200])
        .line("Content-Length: 123"),
        then_get(
            "head_of_a_chunked_answer",
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .statuses(&[200, 200]),
        then_get(
            "head_without_framing",
            "HEAD",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n",
        )
        .statuses(&[200, 200]),
        then_get(
            "not_modified_with_length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        )
        .statuses(&[304, 200]),
        then_get(
            "not_modified_without_length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
        )
        .statuses(&[304, 200]),
        then_get("no_content", "GET", "HTTP/1.1 204 No Content\r\n\r\n")
            .statuses(&[204, 200])
            .no_field("Transfer-Encoding"),
        then_get(
            "length_of_zero",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
        .statuses(&[200, 200])
        .body(""),
        then_get(
            "reset_content",
            "GET",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        )
        .statuses(&[205, 200]),
        answered(
            "body_after_no_content_is_dropped",
            LEN,
            "HTTP/1.1 204 No Content\r\n\r\nsurprise",
        )
        .statuses(&[204])
        .client_lacks("surprise")
        .next_is_clean(),
        answered(
            "body_after_not_modified_is_dropped",
            LEN,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsurprise",
        )
        .statuses(&[304])
        .client_lacks("surprise")
        .next_is_clean(),
        case("body_after_head_is_dropped", LEN)
            .methods(&["HEAD"])
            .send("HEAD {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .origin([say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsurprise")])
            .statuses(&[200])
            .client_lacks("surprise")
            .next_is_clean(),
    ]
}

fn lengths() -> Vec<Case> {
    let of = |id, fields: &str| answered(id, LEN, format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello"));
    vec![
        of("response_length", "Content-Length: 5\r\n")
            .statuses(&[200])
            .body("hello")
            .stays(),
        of(
            "response_lengths_agree",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
        )
        .status_in(&[200, 502])
        .no_repeat(),
        of(
            "response_lengths_differ",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
        )
        .bad_gateway(),
        of(
            "response_lengths_in_a_list_differ",
            "Content-Length: 5, 6\r\n",
        )
        .bad_gateway(),
        of("response_length_not_a_number", "Content-Length: 5x\r\n").bad_gateway(),
        of("response_length_plus", "Content-Length: +5\r\n").bad_gateway(),
        of("response_length_minus", "Content-Length: -5\r\n").bad_gateway(),
        of("response_length_empty", "Content-Length:\r\n").bad_gateway(),
        of(
            "response_length_wraps_64_bits",
            "Content-Length: 18446744073709551621\r\n",
        )
        .bad_gateway(),
        of(
            "response_length_with_chunked",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        )
        .bad_gateway(),
        of("response_coding_unknown", "Transfer-Encoding: frob\r\n").bad_gateway(),
        of(
            "response_coding_before_chunked",
            "Transfer-Encoding: gzip, chunked\r\n",
        )
        .bad_gateway(),
        of(
            "response_coding_after_chunked",
            "Transfer-Encoding: chunked, gzip\r\n",
        )
        .bad_gateway(),
        of(
            "response_chunked_twice",
            "Transfer-Encoding: chunked, chunked\r\n",
        )
        .bad_gateway(),
        of("response_coding_empty", "Transfer-Encoding:\r\n").bad_gateway(),
        answered(
            "response_coding_from_1.0",
            LEN,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .bad_gateway(),
        get_with("response_of_four_mebibytes", LEN, "")
            .origin([
                say("HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n"),
                Repeat(4096, vec![b'd'; 1024]),
            ])
            .statuses(&[200])
            .body_len(4 << 20),
    ]
}

fn chunks() -> Vec<Case> {
    let of = |id, body: &str| {
        answered(
            id,
            "9112 7.1",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        )
    };
    vec![
        of("response_chunks", "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n").statuses(&[200]).body("hello world").client_lacks("x=y").stays(),
        of("response_chunks_empty", "0\r\n\r\n").statuses(&[200]).body(""),
        of("response_chunk_size_bad", "5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n").truncated(),
        of("response_chunk_size_wraps", "5\r\nhello\r\n10000000000000005\r\nworld\r\n0\r\n\r\n").truncated(),
        of("response_chunk_ends_in_lf", "5\r\nhello\n0\r\n\r\n").truncated(),
        of("response_chunk_size_ends_in_lf", "5\nhello\r\n0\r\n\r\n").truncated(),
        of("response_chunk_too_long", "4\r\nhello\r\n0\r\n\r\n").truncated(),
        of("response_trailer_bad", "5\r\nhello\r\n0\r\nbad line\r\n\r\n").truncated(),
        of("response_trailer_must_not_set_cookies", "5\r\nhello\r\n0\r\nSet-Cookie: evil=1\r\nContent-Length: 1\r\n\r\n")
            .statuses(&[200])
            .body("hello")
            .client_lacks("evil"),
        get_with("response_trailers_travel", "9112 7.1.2", "Connection: TE\r\nTE: trailers\r\n")
            .origin([say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")])
            .statuses(&[200])
            .body("hello")
            .client_has("\r\nX-Sum: 42\r\n"),
        get_with("chunks_byte_by_byte", "9112 7.1", "")
            .origin(byte_by_byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n"))
            .statuses(&[200])
            .body("hello"),
        case("chunks_are_not_for_1.0", "9112 6.1")
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .origin([say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")])
            .closes()
            .statuses(&[200])
            .no_field("Transfer-Encoding")
            .body("hello"),
        case("broken_chunks_are_visible_to_1.0", CUT)
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .origin([say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), Pause(100), Close])
            .truncated(),
    ]
}

fn byte_by_byte(text: &str) -> Vec<Act> {
    text.bytes().map(|byte| say([byte])).collect()
}

fn close_delimited() -> Vec<Case> {
    let parts = |head: &str| {
        [
            say(format!("{head}\r\n\r\nhello ")),
            Pause(100),
            say("world"),
            Close,
        ]
    };
    vec![
        get_with("close_delimited_becomes_chunked", LEN, "")
            .origin(parts("HTTP/1.1 200 OK\r\nX-A: b"))
            .statuses(&[200])
            .line("Transfer-Encoding: chunked")
            .body("hello world")
            .stays(),
        get_with("close_delimited_from_1.0", LEN, "")
            .origin(parts("HTTP/1.0 200 OK"))
            .statuses(&[200])
            .body("hello world")
            .client_has("HTTP/1.1 200 OK"),
        case("close_delimited_to_1.0", LEN)
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .origin(parts("HTTP/1.0 200 OK"))
            .closes()
            .statuses(&[200])
            .no_field("Transfer-Encoding")
            .body("hello world"),
        ended(
            "close_delimited_and_empty",
            LEN,
            "HTTP/1.1 200 OK\r\n\r\n",
            Close,
        )
        .statuses(&[200])
        .body(""),
        ended(
            "close_delimited_ends_in_reset",
            CUT,
            "HTTP/1.1 200 OK\r\n\r\nhello",
            Reset,
        )
        .truncated(),
        answered(
            "own_version_in_the_answer",
            "9110 2.5",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        )
        .statuses(&[200])
        .client_has("HTTP/1.1 200 OK\r\n")
        .body("hello"),
    ]
}

fn cut_off() -> Vec<Case> {
    vec![
        ended(
            "cut_off_before_the_length",
            CUT,
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            Close,
        )
        .truncated(),
        ended(
            "cut_off_before_the_length_by_reset",
            CUT,
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            Reset,
        )
        .truncated(),
        ended(
            "cut_off_before_the_last_chunk",
            CUT,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Close,
        )
        .truncated(),
        ended(
            "cut_off_in_a_chunk_by_reset",
            CUT,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello",
            Reset,
        )
        .truncated(),
        ended(
            "cut_off_before_the_final_line_end",
            CUT,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            Close,
        )
        .truncated(),
        ended(
            "cut_off_in_the_head",
            CUT,
            "HTTP/1.1 200 OK\r\nContent-Le",
            Close,
        )
        .bad_gateway(),
        ended(
            "cut_off_after_an_interim_response",
            CUT,
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            Close,
        )
        .bad_gateway(),
        get_with("closed_without_a_word", CUT, "")
            .origin([Close])
            .bad_gateway(),
        get_with("reset_without_a_word", CUT, "")
            .origin([Reset])
            .bad_gateway(),
        case("post_closed_without_a_word", CUT)
            .methods(&["POST"])
            .send("POST {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 2\r\n\r\nhi")
            .origin([Close])
            .bad_gateway()
            .requests(1),
    ]
}

fn status_lines() -> Vec<Case> {
    let line = |id, line: &str| {
        answered(
            id,
            STATUS,
            format!("{line}\r\nContent-Length: 5\r\n\r\nhello"),
        )
    };
    vec![
        line("status_of_two_digits", "HTTP/1.1 20 OK").bad_gateway(),
        line("status_of_four_digits", "HTTP/1.1 2000 OK").bad_gateway(),
        line("status_zero", "HTTP/1.1 000 OK").bad_gateway(),
        line("status_with_letter", "HTTP/1.1 2o0 OK").bad_gateway(),
        line("status_missing", "HTTP/1.1 OK").bad_gateway(),
        line("status_negative", "HTTP/1.1 -200 OK").bad_gateway(),
        line("status_after_two_spaces", "HTTP/1.1  200 OK").bad_gateway(),
        line("status_without_version", "200 OK").bad_gateway(),
        line("response_version_2", "HTTP/2 200 OK").bad_gateway(),
        line("response_version_1.10", "HTTP/1.10 200 OK").bad_gateway(),
        line("response_version_in_lower_case", "http/1.1 200 OK").bad_gateway(),
        line("response_of_icecast", "ICY 200 OK").bad_gateway(),
        line("reason_missing", "HTTP/1.1 200")
            .statuses(&[200])
            .body("hello"),
        line("reason_empty", "HTTP/1.1 200 ")
            .statuses(&[200])
            .body("hello"),
        line("reason_is_kept", "HTTP/1.1 200 All Is Fine")
            .statuses(&[200])
            .client_has("HTTP/1.1 200 All Is Fine\r\n"),
        answered(
            "reason_with_high_bytes",
            STATUS,
            b"HTTP/1.1 200 caf\xe9\r\nContent-Length: 5\r\n\r\nhello",
        )
        .statuses(&[200])
        .body("hello"),
        answered(
            "reason_with_nul",
            STATUS,
            "HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello",
        )
        .status_in(&[502])
        .client_lacks("\0"),
        line("status_unknown", "HTTP/1.1 299 Frob")
            .statuses(&[299])
            .body("hello"),
        line("status_past_the_classes", "HTTP/1.1 799 Frob").status_in(&[799, 502]),
        ended(
            "another_protocol",
            "9110 15.6.3",
            "SSH-2.0-OpenSSH_9.2\r\nbla\r\n\r\n",
            Close,
        )
        .bad_gateway(),
        ended("garbage_without_an_end", "9110 15.6.3", [0xff; 300], Close).bad_gateway(),
    ]
}

fn syntax() -> Vec<Case> {
    let field = |id, line: &[u8]| {
        answered(
            id,
            SYNTAX,
            [
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
                line,
                b"\r\n\r\nhello",
            ]
            .concat(),
        )
    };
    vec![
        field("response_field_folded", b"X-A: one\r\n two")
            .status_in(&[200, 502])
            .client_lacks("\r\n two"),
        field("response_space_before_colon", b"X-A : b")
            .status_in(&[200, 502])
            .client_lacks("X-A :"),
        field("response_cr_in_value", b"X-A: b\rSet-Cookie: evil=1")
            .status_in(&[502])
            .client_lacks("evil"),
        field("response_lf_line_end", b"X-A: b\nX-B: c")
            .status_in(&[502])
            .client_lacks("X-B: c"),
        field("response_nul_in_value", b"X-A: b\0c")
            .status_in(&[502])
            .client_lacks("\0"),
        field("response_name_with_space", b"X A: b")
            .status_in(&[502])
            .client_lacks("X A"),
        field("response_name_empty", b": b").bad_gateway(),
        field("response_line_without_colon", b"just text").bad_gateway(),
        field("response_value_with_high_bytes", b"X-A: caf\xe9")
            .statuses(&[200])
            .client_has(b"X-A: caf\xe9\r\n"),
        get_with("response_head_of_four_mebibytes", "9110 5.4", "")
            .origin([
                say("HTTP/1.1 200 OK\r\nX-A: "),
                Repeat(4096, vec![b'a'; 1024]),
                say("\r\n\r\n"),
            ])
            .bad_gateway(),
        get_with("response_of_ten_thousand_fields", "9110 5.4", "")
            .origin([
                say("HTTP/1.1 200 OK\r\n"),
                Repeat(10_000, b"X-A: b\r\n".to_vec()),
                say("\r\n"),
            ])
            .bad_gateway(),
    ]
}

fn interim() -> Vec<Case> {
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin-ok";
    vec![
        answered(
            "early_hints_travel",
            "9110 15.2",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{plain}"),
        )
        .interim(&[103])
        .statuses(&[200])
        .client_has("\r\nLink: </a>\r\n")
        .body("origin-ok"),
        answered(
            "two_interim_responses",
            "9110 15.2",
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{plain}"),
        )
        .interim(&[100, 102])
        .statuses(&[200]),
        answered(
            "interim_response_with_length",
            "9112 6.3",
            format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n{plain}"),
        )
        .status_in(&[200, 502])
        .client_lacks("Content-Length: 5\r\n"),
        answered(
            "interim_response_without_end",
            "9110 15.2",
            format!("{}{plain}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(5000)),
        )
        .status_in(&[200, 502]),
        case("interim_responses_are_not_for_1.0", "9110 15.2")
            .send("GET {T}/ HTTP/1.0\r\n\r\n")
            .origin([say(format!("HTTP/1.1 103 Early Hints\r\n\r\n{plain}"))])
            .closes()
            .interim(&[])
            .statuses(&[200])
            .body("origin-ok"),
        answered(
            "switch_that_nobody_asked_for",
            "9110 15.2.2",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: frob\r\n\r\nraw",
        )
        .bad_gateway()
        .client_lacks("101 Switching"),
    ]
}

fn strays() -> Vec<Case> {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin-ok";
    vec![
        answered(
            "second_answer_in_advance",
            "9112 9.2",
            format!("{plain}{poison}"),
        )
        .statuses(&[200])
        .client_lacks("poison")
        .next_is_clean(),
        get_with("answer_on_an_idle_connection", "9112 9.2", "")
            .origin([say(plain), Pause(60), say(poison)])
            .pause(200)
            .statuses(&[200])
            .client_lacks("poison")
            .next_is_clean(),
        answered(
            "bytes_after_the_length",
            "9112 9.2",
            format!("{plain}trailing junk"),
        )
        .statuses(&[200])
        .client_lacks("junk")
        .next_is_clean(),
        answered(
            "bytes_after_the_last_chunk",
            "9112 9.2",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\njunk",
        )
        .statuses(&[200])
        .client_lacks("junk")
        .next_is_clean(),
    ]
}

fn early() -> Vec<Case> {
    vec![
        case("final_answer_while_the_body_is_coming", "9112 9.3")
            .methods(&["POST"])
            .send(format!(
                "POST {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nContent-Length: 10000000\r\n\r\n{}",
                "u".repeat(50_000)
            ))
            .wait_for("HTTP/1.1 413")
            .origin([
                Early,
                say("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"),
                Pause(300),
                Close,
            ])
            .statuses(&[413])
            .body("no"),
        get_with("first_bytes_come_at_once", "9110 7.6", "")
            .wait_for("data:1")
            .origin([
                say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n"),
                Pause(300),
                say("6\r\ndata:2\r\n0\r\n\r\n"),
            ])
            .statuses(&[200])
            .body("data:1data:2"),
    ]
}
