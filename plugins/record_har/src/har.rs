//! An entry in the format HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>).
//!
//! Unknown values are omitted if allowed, otherwise -1 or empty. Cookies are not parsed: they are in the fields, unless
//! redacted.

use crate::recording::{Content, ContentState, Recording, RequestRecord, ResponseRecord};
use crate::spans::Spans;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

/// A recorded exchange, with the values known at its end.
pub(crate) struct Finished {
    pub(crate) recording: Recording,
    pub(crate) spans: Spans,
    pub(crate) connection_id: u64,
    pub(crate) upstream_host: String,
    /// The remote address of the upstream connection.
    pub(crate) server_ip: Option<IpAddr>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HarEntry<'a> {
    started_date_time: String,
    time: f64,
    request: RequestPart<'a>,
    response: ResponsePart<'a>,
    cache: Nothing,
    timings: Timings,
    #[serde(rename = "serverIPAddress", skip_serializing_if = "Option::is_none")]
    server_ip_address: Option<String>,
    connection: String,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestPart<'a> {
    method: &'a str,
    url: &'a str,
    http_version: &'static str,
    cookies: [Nothing; 0],
    headers: Vec<Pair<'a>>,
    query_string: Vec<Pair<'a>>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponsePart<'a> {
    status: u16,
    status_text: &'a str,
    http_version: &'static str,
    cookies: [Nothing; 0],
    headers: Vec<Pair<'a>>,
    content: ContentPart<'a>,
    #[serde(rename = "redirectURL")]
    redirect_url: &'a str,
    headers_size: i64,
    body_size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentPart<'a> {
    size: u64,
    mime_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
struct Pair<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    ssl: f64,
    send: f64,
    wait: f64,
    receive: f64,
}

/// The time of a phase that did not happen.
const NOT_APPLICABLE: f64 = -1.0;

/// The entry as one line, without line end; none if no request was seen.
pub(crate) fn to_json(finished: &Finished) -> Option<Vec<u8>> {
    let recording = &finished.recording;
    let spans = finished.spans;
    let named = finished.upstream_host.parse::<IpAddr>().ok();
    let entry = HarEntry {
        started_date_time: format!("{:.3}", recording.started),
        time: millis(spans.total()),
        request: request_part(recording.request.as_ref()?),
        response: match &recording.response {
            Some(response) => response_part(response, &recording.content),
            None => no_response(),
        },
        cache: Nothing {},
        timings: Timings {
            blocked: millis(spans.blocked),
            dns: spans.dns.map_or(NOT_APPLICABLE, millis),
            connect: spans.connect.map_or(NOT_APPLICABLE, millis),
            ssl: spans.ssl.map_or(NOT_APPLICABLE, millis),
            send: millis(spans.send),
            wait: millis(spans.wait),
            receive: millis(spans.receive),
        },
        server_ip_address: named.or(finished.server_ip).map(|ip| ip.to_string()),
        connection: finished.connection_id.to_string(),
    };
    serde_json::to_vec(&entry).ok()
}

fn request_part(request: &RequestRecord) -> RequestPart<'_> {
    RequestPart {
        method: &request.method,
        url: &request.url,
        http_version: version(request.version),
        cookies: [],
        headers: pairs(&request.fields),
        query_string: query(&request.url),
        headers_size: -1,
        body_size: request
            .content_len
            .and_then(|len| i64::try_from(len).ok())
            .unwrap_or(-1),
    }
}

fn response_part<'a>(response: &'a ResponseRecord, content: &'a Content) -> ResponsePart<'a> {
    ResponsePart {
        status: response.status,
        status_text: &response.reason,
        http_version: version(response.version),
        cookies: [],
        headers: pairs(&response.fields),
        content: content_part(&response.media_type, content),
        redirect_url: &response.location,
        headers_size: -1,
        body_size: i64::try_from(content.len).unwrap_or(-1),
        comment: (content.progress == ContentState::Begun).then_some("the response was cut off"),
    }
}

/// Browsers write the same if there was no response.
fn no_response() -> ResponsePart<'static> {
    ResponsePart {
        status: 0,
        status_text: "",
        http_version: "",
        cookies: [],
        headers: Vec::new(),
        content: content_part("", &EMPTY),
        redirect_url: "",
        headers_size: -1,
        body_size: -1,
        comment: Some("no response: a tunnel, or the connection closed before the response"),
    }
}

static EMPTY: Content = Content {
    kept: Vec::new(),
    len: 0,
    progress: ContentState::None,
};

fn content_part<'a>(media_type: &'a str, content: &'a Content) -> ContentPart<'a> {
    let (text, encoding) = match as_text(content) {
        _ if content.kept.is_empty() => (None, None),
        Some(text) => (Some(Cow::Borrowed(text)), None),
        None => (
            Some(Cow::Owned(STANDARD.encode(&content.kept))),
            Some("base64"),
        ),
    };
    let comment = content
        .is_truncated()
        .then(|| format!("only the first {} bytes were kept", content.kept.len()));
    ContentPart {
        size: content.len,
        mime_type: media_type,
        text,
        encoding,
        comment,
    }
}

/// The recorded content, if it is text. A character that was cut at the end is omitted.
fn as_text(content: &Content) -> Option<&str> {
    match std::str::from_utf8(&content.kept) {
        Ok(text) => Some(text),
        Err(error) if content.is_truncated() && error.error_len().is_none() => {
            std::str::from_utf8(&content.kept[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn pairs(fields: &[(String, String)]) -> Vec<Pair<'_>> {
    fields
        .iter()
        .map(|(name, value)| Pair {
            name: Cow::Borrowed(name),
            value: Cow::Borrowed(value),
        })
        .collect()
}

/// The parameters of a URL's query, decoded like form data.
fn query(url: &str) -> Vec<Pair<'_>> {
    let Some((_, query)) = url.split_once('?') else {
        return Vec::new();
    };
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Pair {
                name: decoded(name),
                value: decoded(value),
            }
        })
        .collect()
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match hex(*high, *low) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = after;
                }
                None => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn version(number: u32) -> &'static str {
    match number {
        10 => "HTTP/1.0",
        20 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{content_part, query};
    use crate::recording::Content;

    fn content(bytes: &[u8], max_len: usize) -> Content {
        let mut content = Content::default();
        content.add(bytes, true, max_len);
        content
    }

    fn json(content: &Content) -> String {
        serde_json::to_string(&content_part("a/b", content)).unwrap()
    }

    #[test]
    fn text_stays_text_and_everything_else_is_base64() {
        for (bytes, max_len, expected) in [
            (
                &b"a\"b"[..],
                9,
                r#"{"size":3,"mimeType":"a/b","text":"a\"b"}"#,
            ),
            (
                b"\xff\x00",
                9,
                r#"{"size":2,"mimeType":"a/b","text":"/wA=","encoding":"base64"}"#,
            ),
            (b"", 9, r#"{"size":0,"mimeType":"a/b"}"#),
            (
                "aä".as_bytes(),
                2,
                r#"{"size":3,"mimeType":"a/b","text":"a","comment":"only the first 2 bytes were kept"}"#,
            ),
            (
                b"abc",
                0,
                r#"{"size":3,"mimeType":"a/b","comment":"only the first 0 bytes were kept"}"#,
            ),
        ] {
            assert_eq!(json(&content(bytes, max_len)), expected);
        }
    }

    #[test]
    fn parses_the_query() {
        let pairs = query("http://a/?x=1&y&=z&a+b=%C3%A4%2&&");
        let found: Vec<_> = pairs
            .iter()
            .map(|pair| (&*pair.name, &*pair.value))
            .collect();
        assert_eq!(found, [("x", "1"), ("y", ""), ("", "z"), ("a b", "ä%2")]);
        assert!(query("http://a/").is_empty());
    }
}
