//! The chunked coding, received from a client (RFC 9112 §7.1).
//!
//! A fault may be found after the head is forwarded; the origin must then never see a complete request.

use super::case::Act::{Early, WaitFor};
use super::case::{Case, chunked_post, say};

const CHUNK: &str = "9112 7.1";
const EXT: &str = "9112 7.1.1";
const TRAILER: &str = "9112 7.1.2";

pub(super) fn cases() -> Vec<Case> {
    [
        accepted(),
        sizes(),
        line_ends(),
        extensions(),
        trailers(),
        cut_off(),
        overtaken(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn accepted() -> Vec<Case> {
    let whole = |id, body: &str| {
        chunked_post(id, CHUNK, body)
            .statuses(&[200])
            .requests(1)
            .origin_body("hello")
            .stays()
    };
    vec![
        whole("chunk_one", "5\r\nhello\r\n0\r\n\r\n"),
        whole(
            "chunk_per_byte",
            "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
        ),
        whole("chunk_size_with_zeros", "0005\r\nhello\r\n0\r\n\r\n"),
        whole("last_chunk_of_many_zeros", "5\r\nhello\r\n0000000\r\n\r\n"),
        whole("extension_with_value", "5;a=b\r\nhello\r\n0;end\r\n\r\n"),
        whole("extension_quoted", "5;a=\"x;y, z\"\r\nhello\r\n0\r\n\r\n"),
        chunked_post(
            "chunk_size_upper_and_lower_case",
            CHUNK,
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        )
        .statuses(&[200])
        .origin_body("01234567890123456789"),
        chunked_post(
            "chunks_hold_any_byte",
            CHUNK,
            b"8\r\n0\r\n\r\n\x00\xff\n\r\n0\r\n\r\n",
        )
        .statuses(&[200])
        .origin_body(b"0\r\n\r\n\x00\xff\n"),
        chunked_post("chunked_empty", CHUNK, "0\r\n\r\n")
            .statuses(&[200])
            .requests(1)
            .origin_body(""),
    ]
}

fn sizes() -> Vec<Case> {
    let bad =
        |id, line: &str| chunked_post(id, CHUNK, format!("{line}\r\nhello\r\n0\r\n\r\n")).aborted();
    vec![
        bad("size_missing", ""),
        bad("size_minus", "-5"),
        bad("size_plus", "+5"),
        bad("size_hex_prefix", "0x5"),
        bad("size_letters", "five"),
        bad("size_underscore", "0_5"),
        bad("size_leading_space", " 5"),
        bad("size_leading_tab", "\t5"),
        bad("size_then_word", "5 hello"),
        bad("size_then_comma", "5,5"),
        bad("size_quoted", "\"5\""),
        bad("size_wraps_64_bits", "10000000000000005"),
        bad("size_past_signed_64_bits", "8000000000000005"),
        bad("size_all_ones", "ffffffffffffffff"),
        bad("size_of_many_digits", "00000000000000000000000000000005"),
        bad("size_nul", "5\0"),
        chunked_post("size_larger_than_data", CHUNK, "6\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("size_smaller_than_data", CHUNK, "4\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("size_empty_then_zero", CHUNK, "\r\n0\r\n\r\n").aborted(),
    ]
}

fn line_ends() -> Vec<Case> {
    vec![
        chunked_post("lf_after_size", CHUNK, "5\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("lf_after_data", CHUNK, "5\r\nhello\n0\r\n\r\n").aborted(),
        chunked_post("lf_everywhere", CHUNK, "5\nhello\n0\n\n").aborted(),
        chunked_post("lf_after_last_chunk", CHUNK, "5\r\nhello\r\n0\n\r\n").aborted(),
        chunked_post("lf_at_the_end", CHUNK, "5\r\nhello\r\n0\r\n\n").aborted(),
        chunked_post("cr_after_size", CHUNK, "5\rhello\r\n0\r\n\r\n").aborted(),
        chunked_post("cr_cr_lf_after_size", CHUNK, "5\r\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("cr_after_data", CHUNK, "5\r\nhello\r0\r\n\r\n").aborted(),
        chunked_post("data_ends_without_line_end", CHUNK, "5\r\nhello0\r\n\r\n").aborted(),
        chunked_post("other_bytes_for_the_line_end", CHUNK, "5\r\nhelloXX0\r\n\r\n").aborted(),
        chunked_post(
            "lf_in_extension_hides_a_request",
            CHUNK,
            "2;\nxx\r\n4c\r\n0\r\n\r\nGET {T}/hidden HTTP/1.1\r\nHost: {H}\r\nContent-Length: 9\r\n\r\n\r\n0\r\n\r\n",
        )
        .aborted()
        .origin_lacks(";\n"),
    ]
}

fn extensions() -> Vec<Case> {
    let long = "x".repeat(5000);
    let many = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(40);
    vec![
        chunked_post("extension_with_lf", EXT, "5;a\nb\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("extension_with_cr", EXT, "5;a\rb\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("extension_with_nul", EXT, "5;a\0b\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post("extension_without_size", EXT, ";a=b\r\nhello\r\n0\r\n\r\n").aborted(),
        chunked_post(
            "extension_too_long",
            EXT,
            format!("5;a={long}\r\nhello\r\n0\r\n\r\n"),
        )
        .aborted(),
        chunked_post(
            "extensions_too_long_in_total",
            EXT,
            format!("{many}0\r\n\r\n"),
        )
        .aborted(),
        chunked_post(
            "extension_of_the_last_chunk_too_long",
            EXT,
            format!("5\r\nhello\r\n0;a={long}\r\n\r\n"),
        )
        .aborted(),
        chunked_post(
            "extensions_are_not_forwarded",
            EXT,
            "5;secret=1\r\nhello\r\n0\r\n\r\n",
        )
        .statuses(&[200])
        .origin_lacks("secret"),
    ]
}

fn trailers() -> Vec<Case> {
    let ended = |id, trailers: &str| {
        chunked_post(id, TRAILER, format!("5\r\nhello\r\n0\r\n{trailers}\r\n"))
    };
    let (long, many) = (
        format!("X-T: {}\r\n", "t".repeat(70_000)),
        "X-T: 1\r\n".repeat(300),
    );
    vec![
        ended("trailer_well_formed", "X-Sum: 1\r\nX-More: 2\r\n")
            .statuses(&[200])
            .requests(1)
            .origin_body("hello")
            .stays(),
        ended(
            "trailer_must_not_frame",
            "Content-Length: 3\r\nTransfer-Encoding: gzip\r\n",
        )
        .dropped("Content-Length: 3"),
        ended("trailer_must_not_route", "Host: evil.example\r\n").dropped("evil.example"),
        ended(
            "trailer_must_not_authorize",
            "Authorization: Basic ZXZpbA==\r\n",
        )
        .dropped("ZXZpbA"),
        ended("trailer_line_without_colon", "GET /hidden HTTP/1.1\r\n").aborted(),
        ended("trailer_space_before_colon", "X-T : 1\r\n").aborted(),
        ended("trailer_folded", "X-T: 1\r\n 2\r\n").aborted(),
        ended("trailer_begins_with_space", " X-T: 1\r\n").aborted(),
        ended("trailer_with_nul", "X-T: \0\r\n").aborted(),
        ended("trailer_with_lf", "X-T: 1\nX-U: 2\r\n").aborted(),
        ended("trailer_with_cr", "X-T: 1\rX-U: 2\r\n").aborted(),
        ended("trailer_name_empty", ": 1\r\n").aborted(),
        ended("trailers_too_long", &long).aborted_as(&[400, 431]),
        ended("trailers_too_many", &many).aborted_as(&[400, 431]),
    ]
}

fn cut_off() -> Vec<Case> {
    let cut = |id, body: &str| {
        chunked_post(id, "9112 8", body)
            .pause(100)
            .finish()
            .aborted()
    };
    vec![
        cut("cut_off_before_the_body", ""),
        cut("cut_off_in_a_size", "5"),
        cut("cut_off_in_data", "5\r\nhel"),
        cut("cut_off_after_data", "5\r\nhello"),
        cut("cut_off_between_chunks", "5\r\nhello\r\n"),
        cut("cut_off_after_the_last_chunk", "5\r\nhello\r\n0\r\n"),
        cut("cut_off_in_a_trailer", "5\r\nhello\r\n0\r\nX-T: 1\r\n"),
    ]
}

/// The response starts before the fault is found: the proxy can only truncate it.
fn overtaken() -> Vec<Case> {
    let begun = |id, framing: &str| {
        let first = format!("HTTP/1.1 200 OK\r\n{framing}0123456789");
        chunked_post(id, "9112 8", "5\r\nhello\r\n")
            .origin([Early, say(first), WaitFor(b"never".to_vec())])
            .wait_for("0123456789")
    };
    let cut = |row: Case| {
        row.closes()
            .status_in(&[200])
            .truncated()
            .client_lacks("HTTP/1.1 4")
    };
    let length = "Content-Length: 100\r\n\r\n";
    let chunks = "Transfer-Encoding: chunked\r\n\r\n64\r\n";
    vec![
        cut(begun("bad_size_after_the_answer_began", length).send("ZZ\r\n")),
        cut(begun("bad_size_after_a_chunked_answer_began", chunks).send("ZZ\r\n")),
        cut(begun("bad_size_after_an_unframed_answer_began", "\r\n").send("ZZ\r\n")),
        cut(begun("cut_off_after_the_answer_began", length).finish()),
        cut(begun("cut_off_after_a_chunked_answer_began", chunks).finish()),
    ]
}
