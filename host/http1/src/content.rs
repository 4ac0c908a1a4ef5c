//! What fields say about the content.

use crate::fields::FieldsMut;
use crate::head::ResponseHead;

/// Whether a response is an event stream (`text/event-stream`), whose server may be silent for long.
pub fn is_event_stream(head: &ResponseHead) -> bool {
    head.fields().named("content-type").any(|value| {
        let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
        media_type
            .trim_ascii()
            .eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Removes the fields that describe the exact bytes of content, because those are changed: digests and ranges; a strong
/// validator becomes weak (RFC 9110 §8.8.1).
pub fn forget_digests(fields: &mut FieldsMut<'_>) {
    const OF_THE_BYTES: [&str; 5] = [
        "accept-ranges",
        "content-digest",
        "content-md5",
        "digest",
        "repr-digest",
    ];
    for name in OF_THE_BYTES {
        fields.remove(name);
    }
    let strong = fields
        .view()
        .named("etag")
        .next()
        .filter(|tag| !tag.starts_with(b"W/"))
        .map(|tag| [b"W/", tag].concat());
    if let Some(weak) = strong {
        // The tag was a valid field value, and remains one with two more letters.
        let _ = fields.set("ETag", &weak);
    }
}
