//! Determines where a message body ends (RFC 9112 §6.3).
//!
//! If a proxy and an origin disagree about that, one client can send requests in the name of another. So everything
//! ambiguous is an error, and nothing is repaired: a length with a transfer coding, contradicting lengths, a coding
//! other than exactly `chunked`. In a response, `identity` alone counts as no coding, and the connection is not reused.
//! Decides by the head alone; `body` reads the body.

use thiserror::Error;

use plugin_contract::field::is_token;

use crate::fields::{FieldId, Fields};
use crate::head::{RequestHead, ResponseHead, Version};

/// How the end of a message body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    Empty,
    /// After this many bytes; at most `i64::MAX`.
    Length(u64),
    /// After the last chunk and the trailer section.
    Chunked,
    /// When the origin closes the connection; responses only.
    UntilClose,
}

/// Why the framing of a message is ambiguous. The connection must be closed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// Content-Length with Transfer-Encoding (RFC 9112 §6.1).
    #[error("Content-Length and Transfer-Encoding in one message")]
    LengthWithTransferCoding,
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    TransferCodingInHttp10,
    /// A transfer coding other than chunked: 501 to a client (RFC 9112 §6.1).
    #[error("a transfer coding other than chunked")]
    TransferCodingUnsupported,
    /// Chunked twice, not last or with parameters, or an empty list (RFC 9112 §6.3, §7).
    #[error("Transfer-Encoding is not exactly \"chunked\"")]
    TransferCodingInvalid,
    /// A length that is not all digits, or above `i64::MAX` (RFC 9110 §8.6).
    #[error("Content-Length is not a number of bytes")]
    LengthInvalid,
    /// Different lengths (RFC 9110 §8.6).
    #[error("Content-Length has conflicting values")]
    LengthConflict,
    /// A CONNECT request with content (RFC 9110 §9.3.6).
    #[error("a CONNECT request with content")]
    ContentOnConnect,
    /// A TRACE request with content (RFC 9110 §9.3.8).
    #[error("a TRACE request with content")]
    ContentOnTrace,
}

/// Where the body of this request ends.
///
/// # Errors
/// The client violated the protocol; reply with 400, or 501 for `TransferCodingUnsupported`, and close.
pub fn request_framing(head: &RequestHead) -> Result<BodyFraming, FramingError> {
    let framing = match announced(head.fields(), head.version())? {
        BodyFraming::UntilClose => BodyFraming::Empty,
        framing => framing,
    };
    let has_content = !matches!(framing, BodyFraming::Empty | BodyFraming::Length(0));
    match head.method() {
        "CONNECT" if has_content => Err(FramingError::ContentOnConnect),
        "TRACE" if has_content => Err(FramingError::ContentOnTrace),
        _ => Ok(framing),
    }
}

/// Where the body of this response ends. Interim responses have none; the caller handles a 2xx to CONNECT.
///
/// # Errors
/// The origin violated the protocol; reply with 502 and close its connection.
pub fn response_framing(
    head: &ResponseHead,
    request_method: &str,
) -> Result<BodyFraming, FramingError> {
    let fields = head.fields();
    let framing = match names_identity(fields) {
        true => content_length(fields)?.map_or(BodyFraming::UntilClose, BodyFraming::Length),
        false => announced(fields, head.version())?,
    };
    match head.status() {
        100..=199 | 204 | 304 => Ok(BodyFraming::Empty),
        _ if request_method == "HEAD" => Ok(BodyFraming::Empty),
        _ => Ok(framing),
    }
}

/// Whether the only transfer coding is `identity`, which RFC 2616 defined and RFC 9112 §7 does not: no coding.
pub(crate) fn names_identity(fields: Fields<'_>) -> bool {
    let mut values = fields.all(FieldId::TransferEncoding);
    let is_identity = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
    values.next().is_some_and(is_identity) && values.next().is_none()
}

/// The framing that the fields announce, whether or not the message may have a body; `UntilClose` if there is none.
fn announced(fields: Fields<'_>, version: Version) -> Result<BodyFraming, FramingError> {
    let length = content_length(fields)?;
    if !fields.has(FieldId::TransferEncoding) {
        return Ok(length.map_or(BodyFraming::UntilClose, BodyFraming::Length));
    }
    if length.is_some() {
        return Err(FramingError::LengthWithTransferCoding);
    }
    if version == Version::Http10 {
        return Err(FramingError::TransferCodingInHttp10);
    }
    check_transfer_coding(fields)?;
    Ok(BodyFraming::Chunked)
}

/// The length that all Content-Length members agree on.
pub(crate) fn content_length(fields: Fields<'_>) -> Result<Option<u64>, FramingError> {
    let mut agreed = None;
    if !fields.has(FieldId::ContentLength) {
        return Ok(agreed);
    }
    for member in fields.raw_members(FieldId::ContentLength) {
        let length = decimal(member).ok_or(FramingError::LengthInvalid)?;
        if agreed.is_some_and(|earlier| earlier != length) {
            return Err(FramingError::LengthConflict);
        }
        agreed = Some(length);
    }
    Ok(agreed)
}

fn check_transfer_coding(fields: Fields<'_>) -> Result<(), FramingError> {
    let (mut chunked, mut unsupported) = (false, false);
    for member in fields.raw_members(FieldId::TransferEncoding) {
        if chunked {
            return Err(FramingError::TransferCodingInvalid);
        }
        chunked = is_chunked(member)?;
        unsupported |= !chunked;
    }
    match unsupported {
        true => Err(FramingError::TransferCodingUnsupported),
        false => Ok(()),
    }
}

/// Whether this member is `chunked`; `Ok(false)` for another coding.
fn is_chunked(member: &[u8]) -> Result<bool, FramingError> {
    if member.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let name = member.split(|&byte| byte == b';').next().unwrap_or(member);
    let name = name.trim_ascii();
    if !is_token(name) || name.eq_ignore_ascii_case(b"chunked") {
        return Err(FramingError::TransferCodingInvalid);
    }
    Ok(false)
}

/// The number in `bytes`, if they are 1*DIGIT and not above `i64::MAX`.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        let value = value.checked_mul(10)?.checked_add(digit)?;
        (value <= i64::MAX as u64).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::BodyFraming::*;
    use super::FramingError::*;
    use super::*;
    use crate::connection::is_persistent;
    use crate::head::tests::{request, response};

    /// The framing of HTTP/1.1 messages with these field lines, for requests and responses; a request cannot end at
    /// close.
    const FIELDS: &[(&str, Result<BodyFraming, FramingError>)] = &[
        ("", Ok(UntilClose)),
        ("Content-Length: 0\r\n", Ok(Length(0))),
        ("Content-Length: 5\r\n", Ok(Length(5))),
        ("content-length: 0005\r\n", Ok(Length(5))),
        ("Content-Length: 5, 5\r\n", Ok(Length(5))),
        ("Content-Length: 5\r\nContent-length:5\r\n", Ok(Length(5))),
        (
            "Content-Length: 9223372036854775807\r\n",
            Ok(Length(i64::MAX as u64)),
        ),
        (
            "Content-Length: 9223372036854775808\r\n",
            Err(LengthInvalid),
        ),
        (
            "Content-Length: 18446744073709551617\r\n",
            Err(LengthInvalid),
        ),
        ("Content-Length:\r\n", Err(LengthInvalid)),
        ("Content-Length: +5\r\n", Err(LengthInvalid)),
        ("Content-Length: -5\r\n", Err(LengthInvalid)),
        ("Content-Length: 0x5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5 5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5,\r\n", Err(LengthInvalid)),
        ("Content-Length: ,5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5.0\r\n", Err(LengthInvalid)),
        ("Content-Length: \"5\"\r\n", Err(LengthInvalid)),
        ("Content-Length: 5;a\r\n", Err(LengthInvalid)),
        ("Content-Length: 5, 6\r\n", Err(LengthConflict)),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Err(LengthConflict),
        ),
        (
            "Content-Length: 5\r\nContent-Length:\r\n",
            Err(LengthInvalid),
        ),
        ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
        ("transfer-encoding:\tCHUNKED \r\n", Ok(Chunked)),
        ("Transfer-Encoding:\r\n", Err(TransferCodingInvalid)),
        (
            "Transfer-Encoding: ,chunked\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked,\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked, gzip\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked;a=b\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked ;a\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: \"chunked\"\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chun ked\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(TransferCodingInvalid),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(TransferCodingUnsupported),
        ),
        (
            "Transfer-Encoding: gzip\r\n",
            Err(TransferCodingUnsupported),
        ),
        (
            "Transfer-Encoding: identity\r\n",
            Err(TransferCodingUnsupported),
        ),
        (
            "Transfer-Encoding: xchunked\r\n",
            Err(TransferCodingUnsupported),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(LengthWithTransferCoding),
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: identity\r\n",
            Err(LengthWithTransferCoding),
        ),
        (
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
            Err(LengthInvalid),
        ),
    ];

    #[test]
    fn requests_are_framed_by_their_fields() {
        for (fields, expected) in FIELDS {
            let head = request(&format!(
                "POST http://a/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
            ));
            let expected = match *expected {
                Ok(UntilClose) => Ok(Empty),
                expected => expected,
            };
            assert_eq!(request_framing(&head), expected, "{fields}");
        }
    }

    #[test]
    fn responses_are_framed_by_their_fields() {
        for (fields, expected) in FIELDS {
            let head = response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            let expected = in_response(fields, *expected);
            assert_eq!(response_framing(&head, "GET"), expected, "{fields}");
        }
    }

    /// The framing of a response with these fields, where `identity` is no coding.
    fn in_response(
        fields: &str,
        said: Result<BodyFraming, FramingError>,
    ) -> Result<BodyFraming, FramingError> {
        match fields {
            "Transfer-Encoding: identity\r\n" => Ok(UntilClose),
            "Content-Length: 0\r\nTransfer-Encoding: identity\r\n" => Ok(Length(0)),
            _ => said,
        }
    }

    #[test]
    fn identity_alone_counts_as_no_transfer_coding_in_a_response() {
        for (fields, expected) in [
            ("Transfer-Encoding: Identity \r\n", Ok(UntilClose)),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 2\r\n",
                Ok(Length(2)),
            ),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 2\r\nContent-Length: 3\r\n",
                Err(LengthConflict),
            ),
            (
                "Transfer-Encoding: identity\r\nContent-Length: +2\r\n",
                Err(LengthInvalid),
            ),
            (
                "Transfer-Encoding: identity, identity\r\n",
                Err(TransferCodingUnsupported),
            ),
            (
                "Transfer-Encoding: identity, chunked\r\n",
                Err(TransferCodingUnsupported),
            ),
            (
                "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
                Err(TransferCodingUnsupported),
            ),
            (
                "Transfer-Encoding: identity;a=b\r\n",
                Err(TransferCodingUnsupported),
            ),
        ] {
            let head = response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            assert_eq!(response_framing(&head, "GET"), expected, "{fields}");
            assert_eq!(
                response_framing(&head, "HEAD"),
                expected.map(|_| Empty),
                "{fields}"
            );
            assert!(expected.is_err() || !is_persistent(&head), "{fields}");
        }
        let head =
            response("HTTP/1.0 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(response_framing(&head, "GET"), Ok(Length(2)));
    }

    #[test]
    fn a_response_without_body_still_needs_valid_framing_fields() {
        for (status, method) in [(100, "GET"), (204, "GET"), (304, "GET"), (200, "HEAD")] {
            for (fields, said) in FIELDS {
                let head = response(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n"));
                let expected = in_response(fields, *said).map(|_| Empty);
                assert_eq!(
                    response_framing(&head, method),
                    expected,
                    "{status} {fields}"
                );
            }
        }
    }

    #[test]
    fn connect_and_trace_have_no_content() {
        for (start, expected) in [
            ("CONNECT a:443", ContentOnConnect),
            ("TRACE http://a/", ContentOnTrace),
        ] {
            let with = |fields| request(&format!("{start} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(request_framing(&with("")), Ok(Empty));
            assert_eq!(
                request_framing(&with("Content-Length: 0\r\n")),
                Ok(Length(0))
            );
            let length = with("Content-Length: 1\r\n");
            assert_eq!(request_framing(&length), Err(expected));
            let chunked = with("Transfer-Encoding: chunked\r\n");
            assert_eq!(request_framing(&chunked), Err(expected));
        }
    }

    #[test]
    fn http_1_0_has_no_transfer_coding() {
        let fields = "Transfer-Encoding: chunked\r\n";
        let head = request(&format!("POST http://a/ HTTP/1.0\r\n{fields}\r\n"));
        assert_eq!(request_framing(&head), Err(TransferCodingInHttp10));
        let head = response(&format!("HTTP/1.0 200 OK\r\n{fields}\r\n"));
        assert_eq!(response_framing(&head, "GET"), Err(TransferCodingInHttp10));
    }
}
