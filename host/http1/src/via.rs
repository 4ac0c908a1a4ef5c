//! Via: the intermediaries that have forwarded a message (RFC 9110 §7.6.3).

use crate::fields::FieldId;
use crate::head::{RequestHead, Version};

/// Whether an intermediary called `pseudonym` has already forwarded the request (RFC 9110 §7.6.3).
pub fn is_named_in_via(head: &RequestHead, pseudonym: &str) -> bool {
    let fields = head.fields();
    // Most requests have no Via.
    fields.has(FieldId::Via)
        && fields.members(FieldId::Via).any(|member| {
            let words = member.split(|byte| byte.is_ascii_whitespace());
            let mut words = words.filter(|word| !word.is_empty());
            words.nth(1) == Some(pseudonym.as_bytes())
        })
}

/// The value of Via in the forwarded request: the received value, and `pseudonym`.
pub fn via_value(head: &RequestHead, pseudonym: &str) -> Vec<u8> {
    let mut value = Vec::new();
    for received in head.fields().all(FieldId::Via) {
        value.extend_from_slice(received);
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(head.version().as_str().as_bytes());
    value.push(b' ');
    value.extend_from_slice(pseudonym.as_bytes());
    value
}

/// Via contains the version that was received (RFC 9110 §7.6.3).
pub(crate) fn write_via(pseudonym: &str, received: Version, out: &mut Vec<u8>) {
    if pseudonym.is_empty() {
        return;
    }
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(received.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::request;

    #[test]
    fn a_looping_request_is_recognised_by_via() {
        let head = |fields: &str| {
            request(&format!(
                "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{fields}\r\n"
            ))
        };
        for (fields, expected) in [
            ("Via: 1.1 p-1\r\n", true),
            ("Via: 1.0 x, 1.1 p-1 (comment)\r\n", true),
            ("Via: 1.0 x\r\nvia: HTTP/2.0   p-1\r\n", true),
            ("Via: 1.1 p-12\r\n", false),
            ("Via: 1.1 P-1\r\n", false),
            ("Via: 1.1 x (p-1)\r\n", false),
            ("Via: p-1 x\r\n", false),
            ("Via: p-1\r\n", false),
            ("Via:\r\n", false),
            ("X-Via: 1.1 p-1\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_named_in_via(&head(fields), "p-1"), expected, "{fields}");
        }
        let value = |fields| String::from_utf8(via_value(&head(fields), "p-1")).unwrap();
        assert_eq!(value(""), "1.1 p-1");
        assert_eq!(
            value("Via: 1.0 x, 1.1 y (c)\r\nvia: 1.1 z\r\n"),
            "1.0 x, 1.1 y (c), 1.1 z, 1.1 p-1"
        );
    }
}
