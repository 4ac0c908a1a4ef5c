//! Responses of the proxy itself, and the only tables from errors to statuses and to replies of SOCKS5.
//!
//! A reply describes the error in its body and, for programs, in `Proxy-Status` (RFC 9209).

use std::borrow::Cow;
use std::io;

use crate::ca::page::PageReply;
use crate::content_coding::DecodeError;
use crate::error::{
    Cause, ContentRefusedReason, ExchangeError, Peer, PluginFailureKind, Refusal, Step,
};
use crate::http1::{self, FramingError, HeadError};
use crate::socks5::server::SocksReply;
use crate::transport::ChannelError;
use crate::upstream::{DialFailure, ParentFailure, SocksError, TlsFault, alert_in};

/// How the proxy names itself in `Proxy-agent` and `Server`.
pub(crate) const AGENT: &str = concat!("proxy v", env!("CARGO_PKG_VERSION"));

/// A whole response, ready to be written.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: Cow<'static, str>,
    fields: Vec<(Cow<'static, str>, Cow<'static, [u8]>)>,
    pub(crate) body: Cow<'static, [u8]>,
    /// It comes from the web server, and not from the proxy.
    is_server: bool,
    /// What a client is told that has sent its request by SOCKS5.
    pub(crate) socks: SocksReply,
}

/// A response that a plugin has made.
#[derive(Debug, Default)]
pub(crate) struct PluginReply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// How the end of a reply's content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFraming {
    Length(u64),
    Chunked,
    /// Where the connection ends.
    UntilClose,
}

/// How a reply is written for the client's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyForm {
    /// The request was HEAD: the body is left out, its length is not.
    pub(crate) is_head: bool,
    /// The connection closes after the reply.
    pub(crate) is_last: bool,
}

impl Reply {
    /// A short text for people.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            reason: http1::reason_phrase(status).into(),
            fields: vec![TEXT],
            body: format!("{text}\n").into_bytes().into(),
            is_server: false,
            socks: SocksReply::Failed,
        }
    }

    /// As [`text`](Self::text), for a constant text, which ends with a line feed.
    pub(crate) fn fixed_text(status: u16, text: &'static str) -> Self {
        Self {
            status,
            reason: http1::reason_phrase(status).into(),
            fields: vec![TEXT],
            body: text.as_bytes().into(),
            is_server: false,
            socks: SocksReply::Failed,
        }
    }

    /// As [`text`](Self::text), which begins with the status.
    pub(crate) fn status_text(status: u16, text: &str) -> Self {
        Self::text(
            status,
            &format!("{status} {}: {text}", http1::reason_phrase(status)),
        )
    }

    /// Reports a failure to the client. `pseudonym` names this proxy in `Proxy-Status`.
    pub(crate) fn for_error(error: &ExchangeError, pseudonym: &str) -> Self {
        let (status, error_type) = classify(error);
        let text = match &error.cause {
            Cause::Plugin(_) => "a plugin failed".to_owned(),
            Cause::Loop { .. } => {
                "proxy loop detected: a plugin chose this proxy as its parent proxy".to_owned()
            }
            _ => explain(error),
        };
        let mut reply = Self {
            socks: socks_reply(error),
            ..Self::status_text(status, &text)
        };
        let mut value = format!("{pseudonym}; error={error_type}; details=\"");
        value.extend(
            text.chars()
                .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')),
        );
        value.push('"');
        reply = reply.with_field("Proxy-Status", value);
        if status == 407 {
            reply
                .fields
                .push(fixed_field("Proxy-Authenticate", "Basic realm=\"proxy\""));
        }
        if status == 405 {
            reply.fields.push(fixed_field("Allow", ALLOWED));
        }
        reply
    }

    /// The answer to OPTIONS for the proxy itself.
    pub(crate) fn options() -> Self {
        Self {
            status: 200,
            reason: "OK".into(),
            fields: vec![fixed_field("Allow", ALLOWED)],
            body: Cow::default(),
            is_server: false,
            socks: SocksReply::Failed,
        }
    }

    /// The answer to TRACE for the proxy itself: the request as it was received (RFC 9110 §9.3.8).
    pub(crate) fn trace(request: Vec<u8>) -> Self {
        Self {
            status: 200,
            reason: "OK".into(),
            fields: vec![fixed_field("Content-Type", "message/http")],
            body: request.into(),
            is_server: false,
            socks: SocksReply::Failed,
        }
    }

    /// A page of the proxy itself.
    pub(crate) fn page(page: PageReply) -> Self {
        let fields = page.fields.into_iter();
        Self {
            status: page.status,
            reason: http1::reason_phrase(page.status).into(),
            fields: fields
                .map(|(name, value)| (name.into(), value.into_bytes().into()))
                .collect(),
            body: page.body.into(),
            is_server: false,
            socks: SocksReply::Failed,
        }
    }

    /// A plugin's answer.
    pub(crate) fn from_plugin(reply: PluginReply) -> Self {
        let reason = if reply.reason.is_empty() {
            http1::reason_phrase(reply.status).into()
        } else {
            reply.reason.into()
        };
        let fields = reply.fields.into_iter();
        Self {
            status: reply.status,
            reason,
            fields: fields
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            body: reply.body.into(),
            is_server: false,
            socks: SocksReply::NotAllowed,
        }
    }

    /// The same, as the web server's.
    pub(crate) fn of_server(self) -> Self {
        Self {
            is_server: true,
            ..self
        }
    }

    /// With one more field line.
    pub(crate) fn with_field(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        let value = match value.into() {
            Cow::Borrowed(value) => value.as_bytes().into(),
            Cow::Owned(value) => value.into_bytes().into(),
        };
        self.fields.push((name.into(), value));
        self
    }

    /// Whether its status allows content (RFC 9110 §6.4.1).
    pub(crate) fn may_have_content(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// Appends the reply's bytes to `out`.
    pub(crate) fn encode(&self, form: ReplyForm, date: &str, out: &mut Vec<u8>) {
        let framing = ReplyFraming::Length(self.body.len() as u64);
        self.encode_head(framing, form, date, out);
        if self.may_have_content() && !form.is_head {
            out.extend_from_slice(&self.body);
        }
    }

    /// Appends the reply's head to `out`, for content that is framed like this.
    pub(crate) fn encode_head(
        &self,
        framing: ReplyFraming,
        form: ReplyForm,
        date: &str,
        out: &mut Vec<u8>,
    ) {
        http1::write_status_line(out, self.status, self.reason.as_bytes());
        let name = if self.is_server {
            "Server"
        } else {
            "Proxy-agent"
        };
        http1::write_field(out, name, AGENT.as_bytes());
        let mut names = self.fields.iter().map(|(name, _)| name);
        if !names.any(|name| name.eq_ignore_ascii_case("date")) {
            http1::write_field(out, "Date", date.as_bytes());
        }
        for (name, value) in &self.fields {
            http1::write_field(out, name.as_bytes(), value);
        }
        match framing {
            _ if !self.may_have_content() => {}
            ReplyFraming::Length(len) => http1::write_decimal(out, "Content-Length", len),
            ReplyFraming::Chunked => http1::write_field(out, "Transfer-Encoding", b"chunked"),
            ReplyFraming::UntilClose => {}
        }
        if form.is_last {
            http1::write_field(out, "Connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The methods that RFC 9110 and RFC 5789 define; others are forwarded as well.
const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH";

const TEXT: (Cow<'static, str>, Cow<'static, [u8]>) =
    fixed_field("Content-Type", "text/plain; charset=utf-8");

const fn fixed_field(
    name: &'static str,
    value: &'static str,
) -> (Cow<'static, str>, Cow<'static, [u8]>) {
    (Cow::Borrowed(name), Cow::Borrowed(value.as_bytes()))
}

fn explain(error: &ExchangeError) -> String {
    let subject = match error.peer {
        Peer::Client => "the request",
        Peer::Upstream => "the upstream",
        Peer::Plugin => "a plugin",
    };
    match &error.cause {
        Cause::Refused(refusal) => refusal.to_string(),
        Cause::Dial(error) => error.to_string(),
        cause if error.peer == Peer::Upstream => format!("{subject}, {}: {cause}", error.step),
        cause => format!("{subject}: {cause}"),
    }
}

/// The status and the RFC 9209 error type of a failure.
pub(crate) fn classify(error: &ExchangeError) -> (u16, &'static str) {
    match (&error.cause, error.peer) {
        (Cause::Refused(refusal), _) => refused(*refusal),
        (Cause::Plugin(failure), _) => match failure.kind {
            PluginFailureKind::Broken => (500, "proxy_internal_error"),
            PluginFailureKind::Late => (504, "proxy_internal_error"),
        },
        (Cause::Content(refused), peer) => content(refused.reason, peer),
        (Cause::Coded(DecodeError::Bomb), Peer::Client) => (413, "http_request_error"),
        (Cause::Coded(_), Peer::Client) => (400, "http_request_error"),
        (Cause::Coded(_), _) => (502, "http_response_content_coding"),
        (Cause::Loop { .. }, _) => (508, "proxy_loop_detected"),
        // Not answered, see `Exchange::answer_failure`.
        (Cause::PinnedClosed(_), _) => (502, "connection_terminated"),
        (Cause::NotEncoded | Cause::ClosedByPlugin(_), _) => (500, "proxy_internal_error"),
        (Cause::Dial(error), _) => dial(&error.failure),
        (Cause::Head(error), Peer::Client) => request_head(*error),
        (Cause::Head(HeadError::HeadTooLong | HeadError::TooManyFields), _) => {
            (502, "http_response_header_section_size")
        }
        (Cause::Framing(FramingError::TransferCodingUnsupported), Peer::Client) => {
            (501, "http_request_error")
        }
        (Cause::Full(_), _) => (503, "proxy_internal_error"),
        (Cause::Framing(_) | Cause::Body(_), Peer::Client) => (400, "http_request_error"),
        (Cause::Head(_) | Cause::Framing(_) | Cause::Body(_), _) => (502, "http_protocol_error"),
        (Cause::TimedOut, Peer::Client) => (408, "http_request_error"),
        (Cause::TimedOut, _) => match error.step {
            Step::SendHead | Step::SendBody => (504, "connection_write_timeout"),
            _ => (504, "http_response_timeout"),
        },
        (Cause::Closed, Peer::Client) => (400, "http_request_error"),
        (Cause::Closed, _) => (502, "http_response_incomplete"),
        (Cause::Io(_) | Cause::Channel(_), Peer::Client) => (400, "http_request_error"),
        (Cause::Io(error), _) if alert_in(error).is_some() => (502, "tls_alert_received"),
        (Cause::Channel(ChannelError::Malformed(_)), _) => (502, "http_protocol_error"),
        (Cause::Io(_) | Cause::Channel(_), _) => (502, "connection_terminated"),
    }
}

/// What a client is told of a failure by SOCKS5 (RFC 1928 §6).
fn socks_reply(error: &ExchangeError) -> SocksReply {
    match &error.cause {
        Cause::Refused(_) | Cause::Loop { .. } => SocksReply::NotAllowed,
        Cause::Dial(error) => match &error.failure {
            DialFailure::TimedOut(_) => SocksReply::TtlExpired,
            DialFailure::Resolve { .. } => SocksReply::HostUnreachable,
            DialFailure::Itself => SocksReply::NotAllowed,
            DialFailure::Parent(ParentFailure::Socks(SocksError::Refused(code))) => {
                SocksReply::of_parent(*code)
            }
            DialFailure::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => SocksReply::ConnectionRefused,
                io::ErrorKind::TimedOut => SocksReply::TtlExpired,
                io::ErrorKind::HostUnreachable => SocksReply::HostUnreachable,
                io::ErrorKind::NetworkUnreachable => SocksReply::NetworkUnreachable,
                _ => SocksReply::Failed,
            },
            DialFailure::Tls(_) | DialFailure::Http2(_) | DialFailure::Parent(_) => {
                SocksReply::Failed
            }
        },
        Cause::TimedOut => SocksReply::TtlExpired,
        _ => SocksReply::Failed,
    }
}

fn content(reason: ContentRefusedReason, peer: Peer) -> (u16, &'static str) {
    match (reason, peer) {
        (ContentRefusedReason::TooLong(_), Peer::Client) => (413, "http_request_error"),
        (ContentRefusedReason::Coding, Peer::Client) => (415, "http_request_error"),
        (ContentRefusedReason::TooLong(_), _) => (502, "http_response_body_size"),
        (ContentRefusedReason::Coding, _) => (502, "http_response_content_coding"),
    }
}

fn refused(refusal: Refusal) -> (u16, &'static str) {
    match refusal {
        Refusal::Unauthorized => (407, "http_request_denied"),
        Refusal::NotAProxyRequest => (400, "http_request_error"),
        Refusal::NotAProxy => (403, "http_request_denied"),
        Refusal::SecureTarget => (501, "http_request_error"),
        Refusal::NestedConnect => (400, "http_request_error"),
        Refusal::Loop | Refusal::OwnTunnel => (508, "proxy_loop_detected"),
        Refusal::Misdirected => (421, "http_request_error"),
        Refusal::UnaskedUpgrade | Refusal::UnaskedExtension => (502, "http_upgrade_failed"),
        Refusal::UnauthorizedAtParent => (502, "http_request_denied"),
        Refusal::TooManyInterim => (502, "http_protocol_error"),
    }
}

fn request_head(error: HeadError) -> (u16, &'static str) {
    let status = match error {
        HeadError::TargetTooLong => 414,
        HeadError::HeadTooLong | HeadError::TooManyFields => 431,
        HeadError::VersionUnsupported => 505,
        _ => 400,
    };
    (status, "http_request_error")
}

fn dial(failure: &DialFailure) -> (u16, &'static str) {
    match failure {
        DialFailure::TimedOut(_) => (504, "connection_timeout"),
        DialFailure::Resolve { error, .. } if error.is_late() => (504, "dns_timeout"),
        DialFailure::Resolve { .. } => (502, "dns_error"),
        DialFailure::Tls(failure) => tls(&failure.fault),
        DialFailure::Http2(_) => (502, "http_protocol_error"),
        DialFailure::Itself => (508, "proxy_loop_detected"),
        // The client cannot answer a 407 of the parent.
        DialFailure::Parent(failure) => match failure {
            ParentFailure::Itself => (508, "proxy_loop_detected"),
            ParentFailure::Refused(508) => (508, "proxy_loop_detected"),
            ParentFailure::Refused(_) => (502, "destination_unavailable"),
            ParentFailure::Socks(SocksError::Refused(3 | 4)) => (502, "destination_ip_unroutable"),
            ParentFailure::Socks(SocksError::Refused(5)) => (502, "connection_refused"),
            ParentFailure::Socks(SocksError::Refused(_) | SocksError::NameTooLong) => {
                (502, "destination_unavailable")
            }
            ParentFailure::Socks(SocksError::NoMethod | SocksError::Unauthorized) => {
                (502, "destination_unavailable")
            }
            ParentFailure::Socks(SocksError::VersionInvalid | SocksError::AddressTypeInvalid)
            | ParentFailure::Head(_)
            | ParentFailure::TooManyInterim => (502, "http_protocol_error"),
            ParentFailure::Closed | ParentFailure::Io(_) => (502, "connection_terminated"),
        },
        DialFailure::Connect(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (502, "connection_refused"),
            io::ErrorKind::TimedOut => (504, "connection_timeout"),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                (502, "destination_ip_unroutable")
            }
            _ => (502, "destination_unavailable"),
        },
    }
}

fn tls(fault: &TlsFault) -> (u16, &'static str) {
    match fault {
        TlsFault::Certificate(_) | TlsFault::NameInvalid => (502, "tls_certificate_error"),
        TlsFault::Alert(_) => (502, "tls_alert_received"),
        TlsFault::Protocol(_) | TlsFault::NotTls | TlsFault::SpokeFirst => {
            (502, "tls_protocol_error")
        }
        TlsFault::Ended(_) => (502, "connection_terminated"),
        TlsFault::TimedOut(_) => (504, "connection_timeout"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::DialError;

    fn dialling(failure: DialFailure) -> ExchangeError {
        let error = DialError {
            host: "a.example".to_owned(),
            port: 443,
            parent: None,
            failure,
        };
        ExchangeError::new(Peer::Upstream, Step::Dial, error)
    }

    fn connecting(kind: io::ErrorKind) -> ExchangeError {
        dialling(DialFailure::Connect(kind.into()))
    }

    fn parent(code: u8) -> ExchangeError {
        let failure = ParentFailure::Socks(SocksError::Refused(code));
        dialling(DialFailure::Parent(failure))
    }

    #[test]
    fn a_socks_client_is_told_why_there_is_no_connection() {
        let refused = ExchangeError::new(Peer::Client, Step::Route, Refusal::Unauthorized);
        let late = dialling(DialFailure::TimedOut(Duration::from_secs(1)));
        for (error, code) in [
            (connecting(io::ErrorKind::ConnectionRefused), 5),
            (connecting(io::ErrorKind::NetworkUnreachable), 3),
            (connecting(io::ErrorKind::HostUnreachable), 4),
            (connecting(io::ErrorKind::TimedOut), 6),
            (connecting(io::ErrorKind::PermissionDenied), 1),
            (late, 6),
            (dialling(DialFailure::Itself), 2),
            (refused, 2),
            // What a SOCKS parent says of the destination is passed on, and nothing else.
            (parent(1), 1),
            (parent(2), 2),
            (parent(6), 6),
            (parent(7), 1),
            (parent(0xff), 1),
        ] {
            let reply = Reply::for_error(&error, "proxy");
            assert_eq!(reply.socks as u8, code, "{error}");
        }
    }
}
