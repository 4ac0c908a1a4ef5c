//! Reads HTTP/1.1 text that this host has written, for HTTP/2 peers.

use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE,
};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, StatusCode};

use super::super::websocket_key;
use super::{OutgoingBody, RequestKind, is_connection_specific, read_length, unwritable};
use crate::http1::{BodyFraming, FieldId, Scheme, Trailers};

/// The most fields in a head that this host writes, including those that plugins have added.
const FIELDS_BOUND: usize = 512;

/// Reads a request that this host has written for the next hop, in origin form.
pub(in crate::http2) fn read_request(
    text: &Bytes,
    scheme: Scheme,
    may_upgrade: bool,
) -> io::Result<(http::Request<()>, RequestKind, OutgoingBody)> {
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_BOUND];
    let mut request = httparse::Request::new(&mut []);
    check_whole(request.parse_with_uninit_headers(text, &mut table), text)?;
    let (Some(method), Some(path)) = (request.method, request.path) else {
        return Err(unwritable("the request's head has no request line"));
    };
    let fields = RequestFields::read(text, request.headers)?;
    let key = fields
        .websocket_key
        .filter(|_| may_upgrade && method == "GET");
    let mut out = http::Request::new(());
    *out.version_mut() = http::Version::HTTP_2;
    *out.uri_mut() = origin_uri(text, scheme, fields.host, path)?;
    let kind = match (&key, method) {
        (Some(key), _) => {
            *out.method_mut() = Method::CONNECT;
            out.extensions_mut()
                .insert(Protocol::from_static("websocket"));
            RequestKind::WebSocket(websocket_key::accept(key))
        }
        (None, "HEAD") => RequestKind::Head,
        (None, _) => RequestKind::Ordinary,
    };
    if key.is_none() {
        *out.method_mut() = Method::from_bytes(method.as_bytes()).map_err(io::Error::other)?;
    }
    let is_connect = method == "CONNECT";
    let body = match (is_connect, &key, fields.forwarded.framing) {
        (true, _, _) => return Err(unwritable("CONNECT is not for an upstream")),
        (_, Some(_), _) => OutgoingBody::Tunnel,
        (_, None, None) => OutgoingBody::Framed(BodyFraming::Empty),
        (_, None, Some(framing)) => OutgoingBody::Framed(framing),
    };
    *out.headers_mut() = fields.forwarded.map;
    if key.is_some() {
        out.headers_mut().remove(SEC_WEBSOCKET_KEY);
    }
    Ok((out, kind, body))
}

/// The fields of a request, and what they say about it.
struct RequestFields<'a> {
    forwarded: ForwardedFields,
    host: &'a [u8],
    /// Present in the opening handshake of a WebSocket.
    websocket_key: Option<&'a [u8]>,
}

impl<'a> RequestFields<'a> {
    fn read(text: &Bytes, lines: &[httparse::Header<'a>]) -> io::Result<Self> {
        let named = |id| {
            let mut lines = lines.iter();
            lines
                .find(|line| FieldId::of(line.name.as_bytes()) == id)
                .map(|line| line.value)
        };
        let is_websocket = named(FieldId::Upgrade)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        let mut key = None;
        if is_websocket {
            let mut lines = lines.iter();
            key = lines.find(|line| SEC_WEBSOCKET_KEY == *line.name);
        }
        Ok(Self {
            host: named(FieldId::Host)
                .ok_or_else(|| unwritable("the request's head has no Host"))?,
            websocket_key: key.map(|line| line.value),
            forwarded: ForwardedFields::read(text, lines)?,
        })
    }
}

fn origin_uri(text: &Bytes, scheme: Scheme, host: &[u8], path: &str) -> io::Result<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => http::uri::Scheme::HTTP,
        Scheme::Https => http::uri::Scheme::HTTPS,
    });
    let authority = Authority::from_maybe_shared(text.slice_ref(host));
    parts.authority = Some(authority.map_err(io::Error::other)?);
    let path_and_query = PathAndQuery::from_maybe_shared(text.slice_ref(path.as_bytes()));
    parts.path_and_query = Some(match path_and_query {
        Ok(path_and_query) => path_and_query,
        Err(_) => {
            PathAndQuery::from_maybe_shared(Bytes::from(encoded(path))).map_err(io::Error::other)?
        }
    });
    Uri::from_parts(parts).map_err(io::Error::other)
}

/// The path with invalid characters percent-encoded: HTTP/1.1 servers accept them, but the crate `http` does not.
fn encoded(path: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.push(b'%');
                let digits = b"0123456789ABCDEF";
                encoded.push(digits[usize::from(byte >> 4)]);
                encoded.push(digits[usize::from(byte & 15)]);
            }
            byte => encoded.push(byte),
        }
    }
    encoded
}

/// Reads a response that this host has written for a client, interim or final.
pub(in crate::http2) fn read_response(
    text: &Bytes,
    kind: &RequestKind,
) -> io::Result<(http::Response<()>, OutgoingBody)> {
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_BOUND];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut response, text, &mut table);
    check_whole(parsed, text)?;
    let Some(mut status) = response.code else {
        return Err(unwritable("the response's head has no status"));
    };
    let mut forwarded = ForwardedFields::read(text, response.headers)?;
    let is_switched = status == 101;
    if is_switched {
        check_accepted(&forwarded.map, kind)?;
        forwarded.map.remove(SEC_WEBSOCKET_ACCEPT);
        status = 200;
    }
    let is_tunnel = *kind == RequestKind::Tunnel && (200..300).contains(&status);
    if is_switched || is_tunnel || status < 200 || status == 204 {
        forwarded.map.remove(CONTENT_LENGTH);
    }
    let body = match status {
        _ if is_switched || is_tunnel => OutgoingBody::Tunnel,
        100..=199 | 204 | 304 => OutgoingBody::Framed(BodyFraming::Empty),
        _ if *kind == RequestKind::Head => OutgoingBody::Framed(BodyFraming::Empty),
        _ => OutgoingBody::Framed(forwarded.framing.unwrap_or(BodyFraming::UntilClose)),
    };
    let mut out = http::Response::new(());
    *out.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    *out.headers_mut() = forwarded.map;
    Ok((out, body))
}

/// Checks that a 101 response accepts the WebSocket that the request asked for (RFC 6455 §4.1).
fn check_accepted(headers: &HeaderMap, kind: &RequestKind) -> io::Result<()> {
    let RequestKind::WebSocket(expected) = kind else {
        return Err(unwritable("a protocol switch without a request to upgrade"));
    };
    match headers.get(SEC_WEBSOCKET_ACCEPT) {
        Some(accept) if accept.as_bytes() == expected => Ok(()),
        _ => Err(unwritable("Sec-WebSocket-Accept does not match the key")),
    }
}

/// The trailers of a body that this host has written.
pub(in crate::http2) fn read_trailers(trailers: &Trailers) -> io::Result<HeaderMap> {
    let mut map = HeaderMap::with_capacity(trailers.fields().len());
    for line in trailers.fields().lines() {
        let name = HeaderName::from_bytes(line.name).map_err(io::Error::other)?;
        if !is_connection_specific(&name) {
            let value = HeaderValue::from_bytes(line.value).map_err(io::Error::other)?;
            map.append(name, value);
        }
    }
    Ok(map)
}

/// The fields that are forwarded, and the framing that the omitted ones described.
struct ForwardedFields {
    map: HeaderMap,
    framing: Option<BodyFraming>,
}

impl ForwardedFields {
    fn read(text: &Bytes, lines: &[httparse::Header<'_>]) -> io::Result<Self> {
        let mut map = HeaderMap::with_capacity(lines.len());
        let (mut length, mut is_chunked) = (None, false);
        for line in lines {
            let id = FieldId::of(line.name.as_bytes());
            match id {
                FieldId::TransferEncoding => is_chunked = true,
                FieldId::ContentLength => length = Some(read_length(line.value)?),
                FieldId::Te if has_trailers(line.value) => {
                    map.insert(TE, HeaderValue::from_static("trailers"));
                    continue;
                }
                _ => {}
            }
            if is_omitted(id) || is_nominated(lines, line.name) {
                continue;
            }
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(io::Error::other)?;
            let value = HeaderValue::from_maybe_shared(text.slice_ref(line.value))
                .map_err(io::Error::other)?;
            map.append(name, value);
        }
        let framing = match (length, is_chunked) {
            (Some(_), true) => return Err(unwritable("Content-Length together with chunked")),
            (Some(length), false) => Some(BodyFraming::Length(length)),
            (None, true) => Some(BodyFraming::Chunked),
            (None, false) => None,
        };
        Ok(Self { map, framing })
    }
}

/// Whether a field applies to the HTTP/1.1 connection only, or becomes a pseudo-field (RFC 9113 §8.2.2, §8.3.1).
fn is_omitted(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Host
            | FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::Te
            | FieldId::TransferEncoding
            | FieldId::Upgrade
            | FieldId::Http2Settings
    )
}

fn is_nominated(lines: &[httparse::Header<'_>], name: &str) -> bool {
    let mut options = lines
        .iter()
        .filter(|line| FieldId::of(line.name.as_bytes()) == FieldId::Connection)
        .flat_map(|line| line.value.split(|&byte| byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

fn has_trailers(te: &[u8]) -> bool {
    te.split(|&byte| byte == b',')
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Checks that the text is exactly one head.
fn check_whole(parsed: httparse::Result<usize>, text: &Bytes) -> io::Result<()> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len == text.len() => Ok(()),
        Ok(_) => Err(unwritable("more or less than one head")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
