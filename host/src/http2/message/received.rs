//! Writes messages of HTTP/2 peers as HTTP/1.1 text.

use h2::ext::Protocol;
use http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    TE,
};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, request, response};

use super::super::websocket_key;
use super::{
    IncomingBody, MessageError, Padding, RequestKind, RequestTargets, is_connection_specific,
    read_length,
};
use crate::http1::{Scheme, push_hexadecimal, reason_phrase, write_field, write_status_line};

/// Writes the head of a request. `path` is the original path, if it was replaced for `h2`.
pub(in crate::http2) fn write_request(
    parts: &request::Parts,
    path: Option<&[u8]>,
    has_content: bool,
    targets: RequestTargets,
    out: &mut Vec<u8>,
) -> Result<(RequestKind, IncomingBody), MessageError> {
    let headers = &parts.headers;
    let key = websocket_key(parts)?;
    let is_connect = parts.method == Method::CONNECT;
    let is_tunnel = is_connect && key.is_none();
    let authority = request_authority(parts, is_connect, targets)?;
    let method = match key {
        Some(_) => "GET",
        None => parts.method.as_str(),
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    match is_tunnel {
        true => out.extend_from_slice(authority),
        false => write_target(parts, path, authority, targets, out)?,
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !authority.is_empty() || headers.contains_key(HOST) {
        write_field(out, "host", authority);
    }
    write_received(headers, key.is_some(), Padding::Refused, out)?;
    let has_te = headers.contains_key(TE);
    if has_te {
        // `write_received` has checked that it is `trailers`.
        write_field(out, "te", b"trailers");
    }
    let (kind, body) = if let Some(key) = key {
        write_field(out, "upgrade", b"websocket");
        write_field(out, "sec-websocket-key", &key);
        let accept = websocket_key::accept(&key);
        (RequestKind::WebSocket(accept), IncomingBody::Tunnel)
    } else if is_tunnel {
        (RequestKind::Tunnel, IncomingBody::Tunnel)
    } else {
        let kind = match parts.method {
            Method::HEAD => RequestKind::Head,
            _ => RequestKind::Ordinary,
        };
        (kind, write_framing(headers, has_content, out)?)
    };
    write_connection(has_te, key.is_some(), out);
    out.extend_from_slice(b"\r\n");
    Ok((kind, body))
}

fn write_connection(has_te: bool, is_websocket: bool, out: &mut Vec<u8>) {
    match (has_te, is_websocket) {
        (false, false) => {}
        (true, false) => write_field(out, "connection", b"TE"),
        (false, true) => write_field(out, "connection", b"Upgrade"),
        (true, true) => write_field(out, "connection", b"TE, Upgrade"),
    }
}

/// A key for the handshake in HTTP/1.1, if the request asks for a WebSocket (RFC 8441 §4).
fn websocket_key(parts: &request::Parts) -> Result<Option<[u8; 24]>, MessageError> {
    match parts.extensions.get::<Protocol>() {
        None => Ok(None),
        Some(protocol) if !protocol.as_str().eq_ignore_ascii_case("websocket") => {
            Err(MessageError::ProtocolUnknown)
        }
        Some(_) if parts.headers.contains_key(CONTENT_LENGTH) => Err(MessageError::LengthInvalid),
        Some(_) => websocket_key::random().map(Some).ok_or(MessageError::NoKey),
    }
}

/// The value of Host: the authority, which a Host field must not contradict (RFC 9113 §8.3.1).
fn request_authority(
    parts: &request::Parts,
    is_connect: bool,
    targets: RequestTargets,
) -> Result<&[u8], MessageError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(MessageError::HostConflict);
    }
    let Some(authority) = parts.uri.authority() else {
        return match host {
            _ if is_connect => Err(MessageError::AuthorityMissing),
            Some(host) => Padding::Refused.apply(host),
            None => Ok(b""),
        };
    };
    let authority = authority.as_str().as_bytes();
    if authority.contains(&b'@') {
        return Err(MessageError::Userinfo);
    }
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority) => {
            let default_port = match (parts.uri.scheme_str(), targets) {
                _ if is_connect && parts.uri.scheme().is_none() => None,
                (Some("http"), _) => Some(Scheme::Http.default_port()),
                (Some("https"), _) => Some(Scheme::Https.default_port()),
                (Some(_), _) | (None, RequestTargets::Origin) => None,
                (None, RequestTargets::Absolute { default_scheme, .. }) => {
                    Some(default_scheme.default_port())
                }
            };
            match is_same_authority(host, authority, default_port) {
                true => Ok(authority),
                false => Err(MessageError::HostConflict),
            }
        }
        _ => Ok(authority),
    }
}

/// Whether two authorities are equal when normalised: case is ignored, and a missing or empty port is the default port
/// (RFC 3986 §6.2.3).
fn is_same_authority(one: &[u8], other: &[u8], default_port: Option<u16>) -> bool {
    let split = |authority: &'_ [u8]| {
        let host_len = match authority.iter().rposition(|&byte| byte == b':') {
            // Colons inside of brackets do not begin a port.
            Some(colon) if !authority[colon..].contains(&b']') => colon,
            _ => authority.len(),
        };
        let port = match authority[host_len..].strip_prefix(b":") {
            None | Some(b"") => default_port,
            Some(digits) => Some(str::from_utf8(digits).ok()?.parse().ok()?),
        };
        Some((authority[..host_len].to_ascii_lowercase(), port))
    };
    matches!((split(one), split(other)), (Some(one), Some(other)) if one == other)
}

fn write_target(
    parts: &request::Parts,
    path: Option<&[u8]>,
    authority: &[u8],
    targets: RequestTargets,
    out: &mut Vec<u8>,
) -> Result<(), MessageError> {
    let shown = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let path = path.unwrap_or(shown.as_bytes());
    let is_asterisk = path == b"*" && parts.method == Method::OPTIONS;
    if !path.starts_with(b"/") && !is_asterisk {
        return Err(MessageError::PathInvalid);
    }
    match targets {
        RequestTargets::Absolute {
            default_scheme,
            answers_https,
        } if !authority.is_empty() => {
            let scheme = parts.uri.scheme_str();
            if answers_https && scheme == Some("https") {
                write_path(path, out);
                return Ok(());
            }
            out.extend_from_slice(scheme.unwrap_or(default_scheme.as_str()).as_bytes());
            out.extend_from_slice(b"://");
            out.extend_from_slice(authority);
            // The asterisk is a missing path there (RFC 9112 §3.2.4).
            if !is_asterisk {
                write_path(path, out);
            }
        }
        _ => write_path(path, out),
    }
    Ok(())
}

/// Writes a path unchanged, except that bytes that would end the target or the line become SUB, which is refused like
/// any control character.
fn write_path(path: &[u8], out: &mut Vec<u8>) {
    const SUB: u8 = 0x1a;
    let start = out.len();
    out.extend_from_slice(path);
    for byte in &mut out[start..] {
        if *byte <= b' ' || *byte == 0x7f {
            *byte = SUB;
        }
    }
}

/// Writes the head of a response, interim or final.
pub(in crate::http2) fn write_response(
    parts: &response::Parts,
    has_content: bool,
    kind: &RequestKind,
    out: &mut Vec<u8>,
) -> Result<IncomingBody, MessageError> {
    let status = parts.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(MessageError::SwitchingProtocols);
    }
    if let (RequestKind::WebSocket(accept), true) = (kind, status.is_success()) {
        write_status_line(out, 101, reason_phrase(101).as_bytes());
        write_received(&parts.headers, true, Padding::Trimmed, out)?;
        write_field(out, "upgrade", b"websocket");
        write_field(out, "connection", b"Upgrade");
        write_field(out, "sec-websocket-accept", accept);
        out.extend_from_slice(b"\r\n");
        return Ok(IncomingBody::Tunnel);
    }
    let status = status.as_u16();
    write_status_line(out, status, reason_phrase(status).as_bytes());
    write_received(&parts.headers, false, Padding::Trimmed, out)?;
    let body = match status {
        100..=199 | 204 => IncomingBody::Empty,
        304 => {
            write_length(&parts.headers, out)?;
            IncomingBody::Empty
        }
        _ if *kind == RequestKind::Head => {
            write_length(&parts.headers, out)?;
            IncomingBody::Empty
        }
        _ => {
            if !has_content && !parts.headers.contains_key(CONTENT_LENGTH) {
                write_field(out, "content-length", b"0");
            }
            write_framing(&parts.headers, has_content, out)?
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(body)
}

/// Writes the last chunk of a body, with its trailers.
pub(in crate::http2) fn write_last_chunk(
    trailers: Option<&HeaderMap>,
    padding: Padding,
    out: &mut Vec<u8>,
) -> Result<(), MessageError> {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers {
            if is_connection_specific(name) {
                return Err(MessageError::ConnectionField);
            }
            write_field(out, name, padding.apply(value.as_bytes())?);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes the line before the content of a chunk.
pub(in crate::http2) fn write_chunk_size(len: usize, out: &mut Vec<u8>) {
    push_hexadecimal(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

/// Writes the received fields, except for those that are written elsewhere: Host, framing, TE, and those of a WebSocket
/// handshake. The parts of a Cookie become one field (RFC 9113 §8.2.3).
fn write_received(
    headers: &HeaderMap,
    is_websocket: bool,
    padding: Padding,
    out: &mut Vec<u8>,
) -> Result<(), MessageError> {
    let mut has_cookie = false;
    for (name, value) in headers {
        if is_connection_specific(name) {
            return Err(MessageError::ConnectionField);
        }
        let value = padding.apply(value.as_bytes())?;
        if name == COOKIE {
            if !has_cookie {
                write_cookie(headers, padding, out)?;
            }
            has_cookie = true;
        } else if name == TE && value != b"trailers" {
            return Err(MessageError::ConnectionField);
        } else if name == HOST
            || name == TE
            || name == CONTENT_LENGTH
            || (is_websocket && (name == SEC_WEBSOCKET_KEY || name == SEC_WEBSOCKET_ACCEPT))
        {
            // Written elsewhere.
        } else {
            write_field(out, name, value);
        }
    }
    Ok(())
}

fn write_cookie(
    headers: &HeaderMap,
    padding: Padding,
    out: &mut Vec<u8>,
) -> Result<(), MessageError> {
    out.extend_from_slice(b"cookie: ");
    let mut separator: &[u8] = b"";
    for crumb in headers.get_all(COOKIE) {
        let crumb = padding.apply(crumb.as_bytes())?;
        if !crumb.is_empty() {
            out.extend_from_slice(separator);
            out.extend_from_slice(crumb);
            separator = b"; ";
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_framing(
    headers: &HeaderMap,
    has_content: bool,
    out: &mut Vec<u8>,
) -> Result<IncomingBody, MessageError> {
    let length = write_length(headers, out)?;
    Ok(match length {
        _ if !has_content => IncomingBody::Empty,
        Some(length) => IncomingBody::Length(length),
        None => {
            write_field(out, "transfer-encoding", b"chunked");
            IncomingBody::Chunked
        }
    })
}

/// Writes Content-Length, if there is one; repeated ones must be equal.
fn write_length(headers: &HeaderMap, out: &mut Vec<u8>) -> Result<Option<u64>, MessageError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    if lengths.any(|length| length != first) {
        return Err(MessageError::LengthInvalid);
    }
    let length = read_length(first.as_bytes()).map_err(|_| MessageError::LengthInvalid)?;
    write_field(out, "content-length", first.as_bytes());
    Ok(Some(length))
}
