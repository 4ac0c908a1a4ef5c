//! TRACE and Max-Forwards (RFC 9110 §7.6.2, §9.3.8).

use crate::encode::write_line;
use crate::fields::FieldId;
use crate::framing::decimal;
use crate::head::RequestHead;

/// The content of the response to TRACE: the request as received, without the fields that contain secrets (RFC 9110
/// §9.3.8).
pub fn trace_content(head: &RequestHead) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend_from_slice(head.method().as_bytes());
    content.push(b' ');
    content.extend_from_slice(head.raw_target());
    content.push(b' ');
    content.extend_from_slice(b"HTTP/");
    content.extend_from_slice(head.version().as_str().as_bytes());
    content.extend_from_slice(b"\r\n");
    for line in head.fields().lines() {
        let is_secret = ["authorization", "proxy-authorization", "cookie"]
            .iter()
            .any(|secret| line.name.eq_ignore_ascii_case(secret.as_bytes()));
        if !is_secret {
            write_line(&mut content, line);
        }
    }
    content.extend_from_slice(b"\r\n");
    content
}

/// How often an OPTIONS or TRACE may still be forwarded (RFC 9110 §7.6.2); `None` if the field is missing or invalid.
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    if !head.is_method("OPTIONS") && !head.is_method("TRACE") {
        return None;
    }
    let mut values = head.fields().all(FieldId::MaxForwards);
    let value = decimal(values.next()?)?;
    values.next().is_none().then_some(value)
}
