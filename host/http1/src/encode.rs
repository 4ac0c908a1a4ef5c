//! Appends parts of a head to a buffer, without formatting machinery or allocations.
//!
//! Names and values are written unchecked; the caller must have checked them.

use crate::fields::FieldView;

/// Writes `HTTP/1.1 status reason` and the line end; the grammar requires the space before an empty reason.
pub fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line.
pub fn write_field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: &[u8]) {
    out.extend_from_slice(name.as_ref());
    out.push(b':');
    if !value.is_empty() {
        out.push(b' ');
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line as received.
pub(crate) fn write_line(out: &mut Vec<u8>, line: FieldView<'_>) {
    write_field(out, line.name, line.value);
}

/// Writes a field line with a decimal value.
pub fn write_decimal(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: u64) {
    out.extend_from_slice(name.as_ref());
    out.extend_from_slice(b": ");
    push_decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `value` in decimal digits.
pub fn push_decimal(out: &mut Vec<u8>, value: u64) {
    push_digits::<10>(out, value);
}

/// Writes `value` in hexadecimal digits.
pub fn push_hexadecimal(out: &mut Vec<u8>, value: u64) {
    push_digits::<16>(out, value);
}

fn push_digits<const BASE: u64>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b"0123456789abcdef"[(value % BASE) as usize];
        value /= BASE;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// The registered reason phrase of a status (RFC 9110 §15), or an empty one.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Whether a reason phrase is empty, the registered one for its status in any case, or one that widespread servers
/// send.
pub fn is_usual_reason(status: u16, reason: &[u8]) -> bool {
    let usual: &[&str] = match status {
        200 => &["Connection established"],
        302 => &["Moved Temporarily"],
        405 => &["Not Allowed"],
        408 => &["Request Time-out"],
        413 => &["Request Entity Too Large", "Payload Too Large"],
        414 => &["Request-URI Too Large", "Request-URI Too Long"],
        416 => &["Requested Range Not Satisfiable"],
        418 => &["I'm a tea pot", "I'm a teapot"],
        422 => &["Unprocessable Entity"],
        503 => &["Service Temporarily Unavailable"],
        504 => &["Gateway Time-out"],
        _ => &[],
    };
    let is_same = |phrase: &str| reason.eq_ignore_ascii_case(phrase.as_bytes());
    reason.is_empty()
        || is_same(reason_phrase(status))
        || usual.iter().any(|phrase| is_same(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_have_no_leading_zeros() {
        for value in [0, 7, 10, 255, 65_536, u64::MAX] {
            assert_eq!(written(|out| push_decimal(out, value)), format!("{value}"));
            let hexadecimal = written(|out| push_hexadecimal(out, value));
            assert_eq!(hexadecimal, format!("{value:x}"));
        }
    }

    #[test]
    fn lines_end_with_crlf() {
        let line = written(|out| write_status_line(out, 204, b""));
        assert_eq!(line, "HTTP/1.1 204 \r\n");
        assert_eq!(written(|out| write_field(out, "A", b"b")), "A: b\r\n");
        assert_eq!(written(|out| write_field(out, "A", b"")), "A:\r\n");
        assert_eq!(written(|out| write_decimal(out, "A", 9)), "A: 9\r\n");
    }
}
