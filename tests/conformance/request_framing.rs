//! Framing of requests (RFC 9112 §6).
//!
//! Ambiguous framing is refused; forwarded requests are reframed.

use super::case::{Case, case, get_with, post};

const LEN: &str = "9110 8.6";
const CODING: &str = "9112 6.1";
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    [lengths(), codings(), bodies()]
        .into_iter()
        .flatten()
        .collect()
}

fn lengths() -> Vec<Case> {
    vec![
        post("length_plain", LEN, "Content-Length: 5\r\n", "hello")
            .statuses(&[200])
            .origin_body("hello")
            .requests(1),
        post("length_zero_is_kept", LEN, "Content-Length: 0\r\n", "")
            .statuses(&[200])
            .origin_line("Content-Length: 0"),
        post(
            "length_with_leading_zeros",
            LEN,
            "Content-Length: 0005\r\n",
            "hello",
        )
        .refused_or_body("hello"),
        post(
            "lengths_in_two_lines_differ",
            LEN,
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "hello!",
        )
        .refused(400),
        post(
            "lengths_in_three_lines_differ",
            LEN,
            "Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\ncontent-length: 4\r\n",
            "hello",
        )
        .refused(400),
        post(
            "lengths_in_a_list_differ",
            LEN,
            "Content-Length: 5, 6\r\n",
            "hello!",
        )
        .refused(400),
        post(
            "lengths_in_two_lines_agree",
            LEN,
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "hello",
        )
        .refused_or_body("hello"),
        post(
            "lengths_in_a_list_agree",
            LEN,
            "Content-Length: 5, 5\r\n",
            "hello",
        )
        .refused_or_body("hello"),
        post(
            "length_list_with_empty_member",
            LEN,
            "Content-Length: 5,\r\n",
            "hello",
        )
        .refused_or_body("hello"),
        post("length_empty", LEN, "Content-Length:\r\n", "").refused(400),
        post(
            "length_empty_after_valid",
            LEN,
            "Content-Length: 5\r\nContent-Length:\r\n",
            "hello",
        )
        .refused(400),
        post("length_plus", LEN, "Content-Length: +5\r\n", "hello").refused(400),
        post("length_minus", LEN, "Content-Length: -5\r\n", "hello").refused(400),
        post("length_minus_zero", LEN, "Content-Length: -0\r\n", "").refused(400),
        post(
            "length_hexadecimal",
            LEN,
            "Content-Length: 0x5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_two_numbers",
            LEN,
            "Content-Length: 5 5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_trailing_letters",
            LEN,
            "Content-Length: 5b\r\n",
            "hello",
        )
        .refused(400),
        post("length_underscore", LEN, "Content-Length: 0_5\r\n", "hello").refused(400),
        post(
            "length_decimal_point",
            LEN,
            "Content-Length: 5.0\r\n",
            "hello",
        )
        .refused(400),
        post("length_exponent", LEN, "Content-Length: 5e0\r\n", "hello").refused(400),
        post("length_quoted", LEN, "Content-Length: \"5\"\r\n", "hello").refused(400),
        post(
            "length_semicolon",
            LEN,
            "Content-Length: 5;a=b\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_arabic_digit",
            LEN,
            b"Content-Length: \xd9\xa5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_form_feed",
            LEN,
            "Content-Length: \x0c5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_vertical_tab_after",
            LEN,
            "Content-Length: 5\x0b\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_wraps_64_bits",
            LEN,
            "Content-Length: 18446744073709551621\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_wraps_32_bits",
            LEN,
            "Content-Length: 4294967301\r\n",
            "hello",
        )
        .pause(100)
        .finish()
        .aborted(),
        post(
            "length_past_signed_64_bits",
            LEN,
            "Content-Length: 9223372036854775808\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_of_forty_digits",
            LEN,
            format!("Content-Length: {}5\r\n", "9".repeat(39)),
            "hello",
        )
        .refused(400),
        post(
            "length_space_before_colon",
            "9112 5.1",
            "Content-Length : 5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_tab_before_colon",
            "9112 5.1",
            "Content-Length\t: 5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_folded",
            "9112 5.2",
            "Content-Length:\r\n 5\r\n",
            "hello",
        )
        .refused(400),
        post(
            "length_in_upper_case",
            LEN,
            "CONTENT-LENGTH: 5\r\n",
            "hello",
        )
        .statuses(&[200])
        .origin_body("hello")
        .requests(1),
        post(
            "length_with_tabs_around",
            LEN,
            "Content-Length:\t5 \t\r\n",
            "hello",
        )
        .statuses(&[200])
        .origin_body("hello"),
    ]
}

fn codings() -> Vec<Case> {
    vec![
        post("length_with_chunked", CODING, "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", CHUNKS).refused(400),
        post("chunked_with_length", CODING, "Transfer-Encoding: chunked\r\nContent-Length: 15\r\n", CHUNKS).refused(400),
        post("length_zero_with_chunked", CODING, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", CHUNKS).refused(400),
        post("length_with_unknown_coding", CODING, "Content-Length: 5\r\nTransfer-Encoding: frob\r\n", "hello").refused_as(&[400, 501]),
        post("coding_unknown", CODING, "Transfer-Encoding: frob\r\n", CHUNKS).refused(501),
        post("coding_identity", CODING, "Transfer-Encoding: identity\r\n", "").refused_as(&[400, 501]),
        post("coding_before_chunked", CODING, "Transfer-Encoding: gzip, chunked\r\n", CHUNKS).refused_as(&[400, 501]),
        post("coding_after_chunked", CODING, "Transfer-Encoding: chunked, identity\r\n", CHUNKS).refused_as(&[400, 501]),
        post("coding_after_chunked_in_a_second_line", CODING, "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_twice", CODING, "Transfer-Encoding: chunked, chunked\r\n", CHUNKS).refused(400),
        post("chunked_in_two_lines", CODING, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS).refused(400),
        post("chunked_with_parameter", "9112 7", "Transfer-Encoding: chunked;q=1\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_in_quotes", CODING, "Transfer-Encoding: \"chunked\"\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_with_prefix", CODING, "Transfer-Encoding: xchunked\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_split_by_space", CODING, "Transfer-Encoding: chun ked\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_after_vertical_tab", CODING, "Transfer-Encoding: \x0bchunked\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_with_no_break_space", CODING, b"Transfer-Encoding: chunked\xa0\r\n", CHUNKS).refused_as(&[400, 501]),
        post("chunked_in_mixed_case", CODING, "transfer-encoding: ChunKed\r\n", CHUNKS).statuses(&[200]).origin_body("hello").requests(1),
        post("chunked_after_empty_member", CODING, "Transfer-Encoding: , chunked\r\n", CHUNKS).refused_or_body("hello"),
        post("coding_empty", CODING, "Transfer-Encoding:\r\n", "").refused_as(&[400, 501]),
        post("coding_empty_with_length", CODING, "Transfer-Encoding:\r\nContent-Length: 5\r\n", "hello").refused_as(&[400, 501]),
        post("coding_space_before_colon", "9112 5.1", "Transfer-Encoding : chunked\r\n", CHUNKS).refused(400),
        post("coding_folded", "9112 5.2", "Transfer-Encoding:\r\n chunked\r\n", CHUNKS).refused(400),
        post("coding_after_no_break_space_in_name", "9110 5.1", b"Transfer-Encoding\xa0: chunked\r\n", CHUNKS).refused(400),
        case("coding_in_http_1.0", CODING)
            .methods(&["POST"])
            .send(format!("POST {{T}}/ HTTP/1.0\r\nHost: {{H}}\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"))
            .refused(400),
        case("coding_in_http_1.0_with_length", CODING)
            .methods(&["POST"])
            .send("POST {T}/ HTTP/1.0\r\nHost: {H}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")
            .refused(400),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        get_with("get_without_body", "9112 6.3", "").statuses(&[200]).origin_no_field("Content-Length").origin_no_field("Transfer-Encoding"),
        post("post_without_framing_has_no_body", "9112 6.3", "", "").statuses(&[200]).origin_body("").origin_no_field("Transfer-Encoding"),
        case("body_of_get_is_not_the_next_request", "9110 9.3.1")
            .methods(&["GET", "GET"])
            .send("GET {T}/a HTTP/1.1\r\nHost: {H}\r\nContent-Length: 26\r\n\r\nGET /hidden HTTP/1.1\r\nX: zGET {T}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200, 200])
            .requests(2)
            .origin_body("GET /hidden HTTP/1.1\r\nX: z"),
        case("chunked_body_of_get", "9110 9.3.1")
            .send(format!("GET {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"))
            .statuses(&[200])
            .requests(1)
            .origin_body("hello"),
        case("body_of_delete", "9110 9.3.5")
            .methods(&["DELETE"])
            .send("DELETE {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello")
            .statuses(&[200])
            .origin_body("hello"),
        case("body_of_options", "9110 9.3.7")
            .methods(&["OPTIONS"])
            .send("OPTIONS {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello")
            .statuses(&[200])
            .origin_body("hello"),
        case("trace_with_length", "9110 9.3.8")
            .methods(&["TRACE"])
            .send("TRACE {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello")
            .refused(400),
        case("trace_with_chunks", "9110 9.3.8")
            .methods(&["TRACE"])
            .send(format!("TRACE {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"))
            .refused(400),
        post(
            "nominated_length_still_frames",
            "9110 7.6.1",
            "Connection: Content-Length\r\nContent-Length: 36\r\n",
            "GET /hidden HTTP/1.1\r\nHost: evil\r\n\r\n",
        )
        .refused_or_body("GET /hidden HTTP/1.1\r\nHost: evil\r\n\r\n"),
        post("nominated_coding_still_frames", "9110 7.6.1", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", CHUNKS)
            .refused_or_body("hello"),
        case("length_in_http_1.0", "9112 6.3")
            .methods(&["POST"])
            .send("POST {T}/ HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
            .statuses(&[200])
            .origin_body("hello")
            .closes(),
        case("length_that_never_comes", "9112 8")
            .methods(&["POST"])
            .send("POST {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 10\r\n\r\nhello")
            .pause(100)
            .finish()
            .aborted(),
        case("bytes_after_the_body_are_a_bad_request", "9112 6.3")
            .methods(&["POST", "GET"])
            .send("POST {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello\x00\x01\r\n\r\n")
            .statuses(&[200, 400])
            .requests(1)
            .closes(),
        case("empty_line_after_the_body_is_skipped", "9112 2.2")
            .methods(&["POST", "GET"])
            .send("POST {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello\r\nGET {T}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .statuses(&[200, 200])
            .requests(2),
    ]
}
