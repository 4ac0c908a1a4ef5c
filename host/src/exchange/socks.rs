//! A request by SOCKS5: negotiated with the client, then served as the CONNECT that it means.
//!
//! User name and password become a `Proxy-Authorization` field, so that everything behind this file is the same for both
//! protocols: checks, plugins, interception, limits, events. A client whose credentials are not those of the
//! configuration is told so before its request (RFC 1929); what plugins decide, and what fails, is the reply to its
//! request. Clients that are not served get the answer of their protocol if there is one, and a line in the access log.

use std::time::Instant;

use super::answer::GONE;
use super::client::ClientProtocol;
use super::connection::Connection;
use super::next::Next;
use super::persistence::{CloseReason, Persistence};
use super::refuse::log_refused;
use super::state::Exchange;
use crate::buffers;
use crate::config::BasicAuth;
use crate::generation::WorkerGeneration;
use crate::http1::{Foreign, Glimpse, RequestHead};
use crate::plugins::Hook;
use crate::reply::{Reply, ReplyForm};
use crate::socks5::server::{
    Destination, Method, Offered, SocksFault, decode_greeting, decode_login, decode_request,
    encode_login_answer, encode_method,
};
use crate::stream::{MessageStream, Reader};
use crate::telemetry::AccessDetails;

/// Why there is no request.
#[derive(Debug)]
enum Unserved {
    /// The first byte is of another protocol.
    Foreign,
    Fault(SocksFault),
    /// The credentials are not those of the configuration.
    Unauthorized,
    TimedOut,
    Gone,
}

impl Unserved {
    /// Whether the client may not use the proxy, rather than cannot.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Fault(SocksFault::NoMethod))
    }
}

impl From<SocksFault> for Unserved {
    fn from(fault: SocksFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for Unserved {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Gone,
        }
    }
}

/// Serves the only request of a connection; its first bytes have arrived.
pub(crate) async fn serve_socks(client: &mut MessageStream, connection: &Connection) -> Next {
    let began_at = Instant::now();
    let consumed = client.consumed();
    let generation = connection.current.get();
    let head = match negotiate(client, &generation).await {
        Ok(head) => head,
        Err(unserved) => return refuse(client, connection, &generation, unserved, began_at).await,
    };
    let mut exchange = Exchange::new(connection, generation, head, began_at);
    exchange.client.protocol = ClientProtocol::Socks5;
    let ended = exchange.run_to_end(client, consumed).await;
    exchange.into_next(ended)
}

/// Exchanges the messages before the reply. All of it has to be over within `header_read`.
async fn negotiate(
    client: &mut MessageStream,
    generation: &WorkerGeneration,
) -> Result<RequestHead, Unserved> {
    let config = &generation.config;
    let stall = config.timeouts.stall;
    let (mut reader, mut writer) = client.split();
    reader.deadline().arm(config.timeouts.header_read);
    let offered = match receive(&mut reader, decode_greeting).await {
        Err(Unserved::Fault(SocksFault::VersionInvalid)) => return Err(Unserved::Foreign),
        received => received?,
    };
    let method = select_method(offered, generation).ok_or(SocksFault::NoMethod)?;
    writer
        .write_all(&encode_method(Some(method)), stall)
        .await?;
    let mut credentials = None;
    if method == Method::Password {
        let given = receive(&mut reader, |received| {
            let decoded = decode_login(received)?;
            let field = |(login, len): (crate::socks5::server::Login<'_>, usize)| {
                (BasicAuth::field_value_of(login.user, login.password), len)
            };
            Ok(decoded.map(field))
        });
        let given = given.await?.ok_or(Unserved::Unauthorized)?;
        if let Some(expected) = &config.basic_auth
            && !expected.matches(&given)
        {
            return Err(Unserved::Unauthorized);
        }
        writer.write_all(&encode_login_answer(true), stall).await?;
        credentials = Some(given);
    }
    let destination = receive(&mut reader, decode_request).await?;
    reader.deadline().disarm();
    connect_head(&destination, credentials.as_deref(), generation)
}

/// How a client is to authenticate; `None`: as it cannot.
fn select_method(offered: Offered, generation: &WorkerGeneration) -> Option<Method> {
    let no_authentication = offered
        .no_authentication
        .then_some(Method::NoAuthentication);
    let password = offered.password.then_some(Method::Password);
    if generation.config.basic_auth.is_some() {
        password
    } else if generation.chain.has_listeners(Hook::Authenticate) {
        // Whether there has to be a password is for the plugins to decide.
        password.or(no_authentication)
    } else {
        no_authentication.or(password)
    }
}

/// Reads until `decode` returns a value, and consumes only the bytes of that value.
async fn receive<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, SocksFault>,
) -> Result<T, Unserved> {
    loop {
        if let Some((value, len)) = decode(reader.buffered())? {
            reader.consume(len);
            return Ok(value);
        }
        if reader.fill().await? == 0 {
            return Err(Unserved::Gone);
        }
    }
}

/// The request as HTTP has it.
fn connect_head(
    destination: &Destination,
    credentials: Option<&[u8]>,
    generation: &WorkerGeneration,
) -> Result<RequestHead, Unserved> {
    let Destination { host, port } = destination;
    let mut text = buffers::small();
    let line = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    text.extend_from_slice(line.as_bytes());
    if let Some(credentials) = credentials {
        text.extend_from_slice(b"Proxy-Authorization: ");
        text.extend_from_slice(credentials);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let limits = generation.config.limits.head();
    RequestHead::parse(text, 0, buffers::lines(), &limits).map_err(|refused| {
        buffers::give_back_head((refused.text, refused.lines));
        SocksFault::HostInvalid.into()
    })
}

/// Answers as far as there is an answer, logs, and closes.
async fn refuse(
    client: &mut MessageStream,
    connection: &Connection,
    generation: &WorkerGeneration,
    unserved: Unserved,
    began_at: Instant,
) -> Next {
    let refused = Refused::of(&unserved, client.reader().buffered(), generation);
    let Refused {
        answer,
        glimpse,
        note,
    } = refused;
    tracing::debug!(client.address = %connection.client, note, "refused a client that was to speak SOCKS5");
    let stall = generation.config.timeouts.stall;
    let is_gone = matches!(unserved, Unserved::Gone)
        || client.writer().write_all(&answer, stall).await.is_err();
    let is_refused = unserved.is_refusal();
    let details = AccessDetails {
        answered_by: if is_gone { "" } else { "proxy" },
        // As over HTTP, so that the same lines are found.
        status: if is_refused { 407 } else { 0 },
        error: match (is_gone, is_refused) {
            (true, _) => "client_disconnected",
            (false, true) => "http_request_denied",
            (false, false) => "http_request_error",
        },
        ..AccessDetails::default()
    };
    log_refused(
        connection,
        &generation.worker,
        &glimpse,
        began_at,
        &note,
        details,
    );
    Next::Answered(Persistence::Close(match is_gone {
        true => CloseReason::Gone,
        false => CloseReason::Malformed,
    }))
}

/// What becomes of a client that is not served.
struct Refused {
    /// In the protocol of the client; empty if that has none.
    answer: Vec<u8>,
    /// What could be read of a request by HTTP.
    glimpse: Glimpse,
    /// For the access log.
    note: String,
}

impl Refused {
    /// `received` is what has not been decoded.
    fn of(unserved: &Unserved, received: &[u8], generation: &WorkerGeneration) -> Self {
        let (answer, note) = match unserved {
            Unserved::Foreign => return Self::foreign(received, generation),
            Unserved::Fault(fault) => (fault.answer(), format!("closed, the client sent {fault}")),
            Unserved::Unauthorized => {
                let note = "closed, wrong user name or password (SOCKS5)";
                (encode_login_answer(false).to_vec(), note.to_owned())
            }
            Unserved::TimedOut => {
                let note = "closed, the client timed out (SOCKS5)";
                (Vec::new(), note.to_owned())
            }
            Unserved::Gone => (Vec::new(), GONE.to_owned()),
        };
        Self {
            answer,
            glimpse: Glimpse::default(),
            note,
        }
    }

    /// For a client that speaks another protocol.
    fn foreign(received: &[u8], generation: &WorkerGeneration) -> Self {
        let glimpse = Glimpse::of(received);
        let is_http = !glimpse.path.is_empty() || glimpse.authority.is_some();
        let (name, remedy) = match Foreign::of(received) {
            Some(foreign) => (foreign.name, ""),
            None if is_http => ("HTTP", ": set the proxy URL to socks5h://, not http://"),
            None => ("an unknown protocol", ""),
        };
        Self {
            answer: match name {
                "HTTP" => http_answer(generation),
                _ => Vec::new(),
            },
            note: format!("closed, this port speaks SOCKS5; the client sent {name}{remedy}"),
            glimpse,
        }
    }
}

/// An answer for a client that speaks HTTP.
fn http_answer(generation: &WorkerGeneration) -> Vec<u8> {
    let text = "this port speaks SOCKS5: set the proxy URL to socks5h://, not http://";
    let reply = Reply::status_text(400, text);
    let form = ReplyForm {
        is_head: false,
        is_last: true,
    };
    let mut out = Vec::new();
    let worker = &generation.worker;
    worker.with_date(|date| reply.encode(form, date, &mut out));
    out
}
