//! Converts messages between HTTP/2 and HTTP/1.1 (RFC 9113 §8, RFC 8441 §5): all rules, no sockets.
//!
//! From HTTP/2 come pseudo-fields and fields as `h2` has decoded them, and go out as the text of a head that `http1`
//! then reads like any other: hosts, paths and limits are checked there. What belongs to the connection is refused, as
//! is whatever would read differently in text. Towards HTTP/2 goes the text that this host has written itself, so that
//! a fault in it is an error of ours; what belongs to the connection is left out of it. The bytes of fields are not
//! copied one by one: they stay parts of the one text.

use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, TE,
};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, StatusCode, request, response};
use thiserror::Error;

use super::websocket_key;
use crate::http1::{
    BodyFraming, FieldId, Scheme, Trailers, push_hexadecimal, reason_phrase, write_field,
    write_status_line,
};

/// Most fields of a head that this host writes: what it may have received, and what plugins have added.
const FIELDS_BOUND: usize = 512;

/// Why a message of a peer's does not become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unfit {
    #[error("the authority is missing")]
    AuthorityMissing,
    #[error("the authority contains user information")]
    Userinfo,
    #[error("Host is repeated or differs from the authority")]
    HostConflict,
    #[error("the path does not begin with /")]
    PathInvalid,
    #[error("a connection-specific field")]
    ConnectionField,
    #[error("TE has a value other than trailers")]
    TeInvalid,
    #[error("a field name contains an upper-case letter")]
    NameUpperCase,
    #[error("a field name contains an invalid character")]
    NameInvalid,
    #[error("a field value contains a control character")]
    ValueInvalid,
    /// Of a request: white space around a value of a response is taken off.
    #[error("a field value begins or ends with white space")]
    ValuePadded,
    #[error("a pseudo-header field in the trailers")]
    PseudoInTrailers,
    #[error("a request pseudo-header field in a response")]
    PseudoOfRequest,
    #[error("a response pseudo-header field in a request")]
    PseudoOfResponse,
    #[error("an unknown pseudo-header field")]
    PseudoUnknown,
    #[error("a pseudo-header field after a regular field")]
    PseudoLate,
    #[error("a repeated pseudo-header field")]
    PseudoRepeated,
    #[error("the response has no :status")]
    StatusMissing,
    #[error("trailers that do not end the stream")]
    TrailersUnended,
    #[error(
        "Content-Length is invalid, has conflicting values, or differs from the length of the content"
    )]
    LengthInvalid,
    #[error("status 101, which HTTP/2 does not allow")]
    SwitchingProtocols,
    /// Not malformed: 501 (RFC 9220 §3).
    #[error("a protocol other than websocket")]
    ProtocolUnknown,
    /// Not the peer's fault.
    #[error("no random numbers available for a WebSocket key")]
    NoKey,
}

/// What a request asks for, as far as its response depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Content,
    /// HEAD: the response has no content, whatever it says.
    Head,
    /// CONNECT.
    Tunnel,
    /// A WebSocket; what `Sec-WebSocket-Accept` has to say in HTTP/1.1.
    WebSocket([u8; 28]),
}

/// How the DATA frames of a stream continue a head in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Not at all: there is no content.
    Nothing,
    /// As they are, this many bytes.
    Length(u64),
    /// In chunks, with trailers.
    Chunked,
    /// As they are, both ways, once the other side has agreed: a tunnel.
    Bytes,
}

/// How text continues behind a head, and so which DATA frames it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continued {
    Framed(BodyFraming),
    /// A tunnel.
    Bytes,
}

/// Whom the requests of a connection are for, which decides the form of their targets (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestTargets {
    /// For a proxy: absolute form. A request without authority gets its Host, and this scheme.
    Absolute {
        default_scheme: Scheme,
        /// What is asked with https is for the proxy itself, and gets origin form: on this connection nobody can mean
        /// anybody else by it, as https origins are reached by CONNECT.
        answers_https: bool,
    },
    /// For the origin that the connection was made to: origin form.
    Origin,
}

/// What becomes of white space around a value, which RFC 9113 §8.2.1 calls malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// It is refused: requests.
    Refused,
    /// It is taken off: responses. Many servers send it, and in text it means nothing.
    TakenOff,
}

/// Writes the head of a request. `path` is the one that `h2` was not shown, where there is one.
pub(super) fn write_request(
    parts: &request::Parts,
    path: Option<&[u8]>,
    has_content: bool,
    targets: RequestTargets,
    out: &mut Vec<u8>,
) -> Result<(Asked, Carried), Unfit> {
    let headers = &parts.headers;
    let protocol = parts.extensions.get::<Protocol>();
    let is_connect = parts.method == Method::CONNECT;
    let is_tunnel = is_connect && protocol.is_none();
    let key = match protocol {
        None => None,
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => {
            if headers.contains_key(CONTENT_LENGTH) {
                return Err(Unfit::LengthInvalid);
            }
            Some(websocket_key::random().ok_or(Unfit::NoKey)?)
        }
        Some(_) => return Err(Unfit::ProtocolUnknown),
    };
    let authority = request_authority(parts, is_connect, targets)?;
    let method = if key.is_some() {
        "GET"
    } else {
        parts.method.as_str()
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    if is_tunnel {
        out.extend_from_slice(authority);
    } else {
        write_target(parts, path, authority, targets, out)?;
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !authority.is_empty() || headers.contains_key(HOST) {
        write_field(out, "host", authority);
    }
    write_received(headers, key.is_some(), Padding::Refused, out)?;
    let mut connection: &[u8] = b"";
    if headers.contains_key(TE) {
        // `trailers`, or it would not have come here.
        write_field(out, "te", b"trailers");
        connection = b"TE";
    }
    let (asked, carried) = if let Some(key) = key {
        write_field(out, "upgrade", b"websocket");
        write_field(out, "sec-websocket-key", &key);
        connection = match connection {
            b"" => b"Upgrade",
            _ => b"TE, Upgrade",
        };
        let accept = websocket_key::accept(&key);
        (Asked::WebSocket(accept), Carried::Bytes)
    } else if is_tunnel {
        (Asked::Tunnel, Carried::Bytes)
    } else {
        let asked = match parts.method {
            Method::HEAD => Asked::Head,
            _ => Asked::Content,
        };
        (asked, write_framing(headers, has_content, out)?)
    };
    if !connection.is_empty() {
        write_field(out, "connection", connection);
    }
    out.extend_from_slice(b"\r\n");
    Ok((asked, carried))
}

/// What Host will say: the authority, which Host must not contradict (RFC 9113 §8.3.1).
fn request_authority(
    parts: &request::Parts,
    is_connect: bool,
    targets: RequestTargets,
) -> Result<&[u8], Unfit> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Unfit::HostConflict);
    }
    let Some(authority) = parts.uri.authority() else {
        return match host {
            _ if is_connect => Err(Unfit::AuthorityMissing),
            Some(host) => Padding::Refused.settle(host),
            None => Ok(b""),
        };
    };
    let authority = authority.as_str().as_bytes();
    if authority.contains(&b'@') {
        return Err(Unfit::Userinfo);
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
                false => Err(Unfit::HostConflict),
            }
        }
        _ => Ok(authority),
    }
}

/// Whether two authorities are the same once both are normalised: case makes no difference, and a port that is missing or
/// empty is the scheme's (RFC 3986 §6.2.3).
fn is_same_authority(one: &[u8], other: &[u8], default_port: Option<u16>) -> bool {
    let split = |authority: &'_ [u8]| {
        let host_len = match authority.iter().rposition(|&byte| byte == b':') {
            // The colons of an address in brackets are no port's.
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
) -> Result<(), Unfit> {
    let shown = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let path = path.unwrap_or(shown.as_bytes());
    let is_asterisk = path == b"*" && parts.method == Method::OPTIONS;
    if !path.starts_with(b"/") && !is_asterisk {
        return Err(Unfit::PathInvalid);
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

/// Writes a path as it is. What would end the target, or the line, is written as SUB, which is refused like any control
/// character.
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

/// Writes the head of a response, interim ones too.
pub(super) fn write_response(
    parts: &response::Parts,
    has_content: bool,
    asked: &Asked,
    out: &mut Vec<u8>,
) -> Result<Carried, Unfit> {
    let status = parts.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unfit::SwitchingProtocols);
    }
    if let (Asked::WebSocket(accept), true) = (asked, status.is_success()) {
        write_status_line(out, 101, reason_phrase(101).as_bytes());
        write_received(&parts.headers, true, Padding::TakenOff, out)?;
        write_field(out, "upgrade", b"websocket");
        write_field(out, "connection", b"Upgrade");
        write_field(out, "sec-websocket-accept", accept);
        out.extend_from_slice(b"\r\n");
        return Ok(Carried::Bytes);
    }
    let status = status.as_u16();
    write_status_line(out, status, reason_phrase(status).as_bytes());
    write_received(&parts.headers, false, Padding::TakenOff, out)?;
    let carried = match status {
        100..=199 | 204 => Carried::Nothing,
        304 => {
            write_length(&parts.headers, out)?;
            Carried::Nothing
        }
        _ if *asked == Asked::Head => {
            write_length(&parts.headers, out)?;
            Carried::Nothing
        }
        _ => {
            if !has_content && !parts.headers.contains_key(CONTENT_LENGTH) {
                write_field(out, "content-length", b"0");
            }
            write_framing(&parts.headers, has_content, out)?
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(carried)
}

/// Writes the chunk that ends a body, with its trailers.
pub(super) fn write_last_chunk(
    trailers: Option<&HeaderMap>,
    padding: Padding,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers {
            if is_connection_specific(name) {
                return Err(Unfit::ConnectionField);
            }
            write_field(out, name, padding.settle(value.as_bytes())?);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes what stands before the content of a chunk.
pub(super) fn write_chunk_size(len: usize, out: &mut Vec<u8>) {
    push_hexadecimal(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields as they came, but for those that are written elsewhere: Host, framing, TE, and the handshake of
/// a WebSocket. The crumbs of a cookie become one field (RFC 9113 §8.2.3).
fn write_received(
    headers: &HeaderMap,
    is_websocket: bool,
    padding: Padding,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let mut has_cookie = false;
    for (name, value) in headers {
        if is_connection_specific(name) {
            return Err(Unfit::ConnectionField);
        }
        let value = padding.settle(value.as_bytes())?;
        if name == COOKIE {
            if !has_cookie {
                write_cookie(headers, padding, out)?;
            }
            has_cookie = true;
        } else if name == TE && value != b"trailers" {
            return Err(Unfit::ConnectionField);
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

fn write_cookie(headers: &HeaderMap, padding: Padding, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.extend_from_slice(b"cookie: ");
    let mut separator: &[u8] = b"";
    for crumb in headers.get_all(COOKIE) {
        let crumb = padding.settle(crumb.as_bytes())?;
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
) -> Result<Carried, Unfit> {
    let length = write_length(headers, out)?;
    Ok(match length {
        _ if !has_content => Carried::Nothing,
        Some(length) => Carried::Length(length),
        None => {
            write_field(out, "transfer-encoding", b"chunked");
            Carried::Chunked
        }
    })
}

/// Writes Content-Length, if there is one; repeats have to be the same.
fn write_length(headers: &HeaderMap, out: &mut Vec<u8>) -> Result<Option<u64>, Unfit> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    if lengths.any(|length| length != first) {
        return Err(Unfit::LengthInvalid);
    }
    let length = read_length(first.as_bytes()).map_err(|_| Unfit::LengthInvalid)?;
    write_field(out, "content-length", first.as_bytes());
    Ok(Some(length))
}

impl Padding {
    /// The value as it would be read in text. Control characters are refused by its type.
    fn settle(self, value: &[u8]) -> Result<&[u8], Unfit> {
        let is_padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        match is_padding(value.first()) || is_padding(value.last()) {
            false => Ok(value),
            true if self == Self::TakenOff => Ok(value.trim_ascii()),
            true => Err(Unfit::ValuePadded),
        }
    }
}

fn is_connection_specific(name: &HeaderName) -> bool {
    matches!(
        FieldId::of(name.as_str().as_bytes()),
        FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::TransferEncoding
            | FieldId::Upgrade
    )
}

/// Reads a request that this host has written for the next hop, in origin form.
pub(super) fn read_request(
    text: &Bytes,
    scheme: Scheme,
    may_upgrade: bool,
) -> io::Result<(http::Request<()>, Asked, Continued)> {
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
    let asked = match (&key, method) {
        (Some(key), _) => {
            *out.method_mut() = Method::CONNECT;
            out.extensions_mut()
                .insert(Protocol::from_static("websocket"));
            Asked::WebSocket(websocket_key::accept(key))
        }
        (None, "HEAD") => Asked::Head,
        (None, _) => Asked::Content,
    };
    if key.is_none() {
        *out.method_mut() = Method::from_bytes(method.as_bytes()).map_err(io::Error::other)?;
    }
    let is_connect = method == "CONNECT";
    let continued = match (is_connect, &key, fields.kept.framing) {
        (true, _, _) => return Err(unwritable("CONNECT is not for an upstream")),
        (_, Some(_), _) => Continued::Bytes,
        (_, None, None) => Continued::Framed(BodyFraming::Empty),
        (_, None, Some(framing)) => Continued::Framed(framing),
    };
    *out.headers_mut() = fields.kept.map;
    if key.is_some() {
        out.headers_mut().remove(SEC_WEBSOCKET_KEY);
    }
    Ok((out, asked, continued))
}

/// The fields of a request, and what they say about it.
struct RequestFields<'a> {
    kept: Kept,
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
            kept: Kept::read(text, lines)?,
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

/// The path with those characters percent-encoded that no URI may have, which HTTP/1.1 servers take as they are and
/// `http` refuses.
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

/// Reads a response that this host has written for a client, interim ones too.
pub(super) fn read_response(
    text: &Bytes,
    asked: &Asked,
) -> io::Result<(http::Response<()>, Continued)> {
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_BOUND];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut response, text, &mut table);
    check_whole(parsed, text)?;
    let Some(mut status) = response.code else {
        return Err(unwritable("the response's head has no status"));
    };
    let mut kept = Kept::read(text, response.headers)?;
    let is_switched = status == 101;
    if is_switched {
        check_accepted(&kept.map, asked)?;
        kept.map.remove(SEC_WEBSOCKET_ACCEPT);
        status = 200;
    }
    let is_tunnel = *asked == Asked::Tunnel && (200..300).contains(&status);
    if is_switched || is_tunnel || status < 200 || status == 204 {
        kept.map.remove(CONTENT_LENGTH);
    }
    let continued = match status {
        _ if is_switched || is_tunnel => Continued::Bytes,
        100..=199 | 204 | 304 => Continued::Framed(BodyFraming::Empty),
        _ if *asked == Asked::Head => Continued::Framed(BodyFraming::Empty),
        _ => Continued::Framed(kept.framing.unwrap_or(BodyFraming::UntilClose)),
    };
    let mut out = http::Response::new(());
    *out.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    *out.headers_mut() = kept.map;
    Ok((out, continued))
}

/// Whether a switch of protocols is the answer to this request (RFC 6455 §4.1).
fn check_accepted(headers: &HeaderMap, asked: &Asked) -> io::Result<()> {
    let Asked::WebSocket(expected) = asked else {
        return Err(unwritable("a protocol switch without a request to upgrade"));
    };
    match headers.get(SEC_WEBSOCKET_ACCEPT) {
        Some(accept) if accept.as_bytes() == expected => Ok(()),
        _ => Err(unwritable("Sec-WebSocket-Accept does not match the key")),
    }
}

/// The trailers of a body that this host has written.
pub(super) fn read_trailers(trailers: &Trailers) -> io::Result<HeaderMap> {
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

/// The fields that travel on, and the framing that those said which do not.
struct Kept {
    map: HeaderMap,
    framing: Option<BodyFraming>,
}

impl Kept {
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
            if stays(id) || is_nominated(lines, line.name) {
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

/// Whether a field is for the HTTP/1.1 connection alone, or becomes a pseudo-field (RFC 9113 §8.2.2, §8.3.1).
fn stays(id: FieldId) -> bool {
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

fn read_length(value: &[u8]) -> io::Result<u64> {
    let invalid = || unwritable("Content-Length is not a number of bytes");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let value = str::from_utf8(value).map_err(|_| invalid())?;
    value.parse().map_err(|_| invalid())
}

/// Whether the text is one head, as its writer promised.
fn check_whole(parsed: httparse::Result<usize>, text: &Bytes) -> io::Result<()> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len == text.len() => Ok(()),
        Ok(_) => Err(unwritable("more or less than one head")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// A message of this host's that HTTP/2 cannot carry.
fn unwritable(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
