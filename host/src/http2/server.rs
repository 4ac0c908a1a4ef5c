//! An HTTP/2 connection of a client: every stream becomes a channel.
//!
//! Streams are accepted as fast as they arrive, since a waiting one would cost as much. Their number is limited by the
//! setting that the client gets, and to twice that if it resets streams faster than their exchanges end. Clients that
//! do little but reset streams, or flood the proxy with frames without content, are disconnected. The caller serves the
//! exchanges.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};

use super::field_blocks::StreamFacts;
use super::incoming::Incoming;
use super::io::{Activity, Io};
use super::limits::{SEND_BUFFER, STREAM_WINDOW};
pub(crate) use super::message::RequestTargets;
use super::message::{self, MessageError, Padding};
use super::resets::StreamCounts;
use super::server_stream::ServerStream;
use crate::buffers;
use crate::deadline::{Deadline, Deadlines};
use crate::transport::{Channel, Transport};

/// What a client may send on all its streams together before it is read, in bytes; then it waits, also with streams
/// that are read. `h2` allows half as much overhead for unread small frames: beyond that, the client is disconnected
/// (`ENHANCE_YOUR_CALM`).
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that the client may reset before they are accepted, within one read; beyond that, it is disconnected.
const RESET_BEFORE_ACCEPTED: usize = 64;

/// Streams that `h2` may reset or refuse for violations of the protocol, over the life of a connection; beyond that,
/// the client is disconnected.
const PROTOCOL_ERRORS: usize = 1_024;

/// How long a client may take to react to a GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// How a client's connection is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) targets: RequestTargets,
    /// Concurrent streams; further ones are refused, and the client may retry them.
    pub(crate) max_concurrent_streams: u32,
    /// The longest head in bytes, as HTTP/2 counts it (32 more for each field). If it is exceeded, the response is 431;
    /// if it is exceeded several times over, the client is disconnected.
    pub(crate) max_head_len: usize,
    /// How long the client may take to send its connection preface.
    pub(crate) handshake_timeout: Duration,
    /// How long the connection may be without a stream; then it is closed.
    pub(crate) idle_timeout: Duration,
    /// How long the client may accept nothing of the remaining responses; then the connection is closed.
    pub(crate) stall_timeout: Duration,
}

/// Why a client connection has ended.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// Either side has closed it.
    Closed,
    /// There was no stream for too long.
    Idle,
    /// The client did not send its preface in time.
    HandshakeTimedOut,
    /// The client exceeded a limit against abuse.
    Abusive(Abuse),
    /// The transport failed, or either side violated the protocol.
    Failed(h2::Error),
}

/// What a client did too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// It did little but reset streams.
    Resets,
    /// It sent too many frames without content.
    IdleFrames,
    /// It exceeded a limit of `h2`: on small DATA frames, CONTINUATION frames or large heads.
    Frames,
}

impl fmt::Display for Abuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resets => "too many stream resets",
            Self::IdleFrames => "too many frames without content",
            Self::Frames => "too many small frames or too large heads",
        })
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Idle => f.write_str("idle for too long"),
            Self::HandshakeTimedOut => f.write_str("HTTP/2 handshake timed out"),
            Self::Abusive(abuse) => write!(f, "{abuse}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Serves a client connection to its end. `on_stream` gets a channel for every request, to be dropped when the exchange
/// is over. `is_draining` is called at every event, and whenever `deadlines` wakes all tasks; once it returns true, the
/// client gets a GOAWAY, and the connection ends with its last stream.
pub(crate) async fn serve(
    transport: Transport,
    options: &ServerOptions,
    deadlines: &Rc<Deadlines>,
    is_draining: impl Fn() -> bool,
    on_stream: impl FnMut(Rc<dyn Channel>),
) -> ConnectionEnd {
    let deadline = deadlines.slot();
    deadline.arm(options.handshake_timeout);
    let facts = Rc::<StreamFacts>::default();
    let (io, activity) = Io::to_client(
        transport,
        options.max_head_len,
        Rc::clone(&facts),
        deadlines,
    );
    let handshake = builder(options).handshake(io);
    let connection = match deadline.bound(handshake).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => return ConnectionEnd::Failed(error),
        None => return ConnectionEnd::HandshakeTimedOut,
    };
    deadline.arm(options.idle_timeout);
    let mut serving = Serving {
        connection,
        options,
        deadline,
        is_draining,
        on_stream,
        counts: Rc::new(StreamCounts::new()),
        phase: Phase::Idle,
        is_delivering: false,
        activity,
        facts,
    };
    poll_fn(|cx| serving.poll(cx)).await
}

fn builder(options: &ServerOptions) -> Builder {
    let mut builder = Builder::new();
    let streams = options.max_concurrent_streams;
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(options.max_head_len).unwrap_or(u32::MAX))
        // Frames for a stream that was reset here may still arrive for a second; if `h2` has forgotten the stream, they
        // end the connection.
        .max_concurrent_reset_streams(streams as usize * 2)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPTED)
        .max_local_error_reset_streams(Some(PROTOCOL_ERRORS))
        .enable_connect_protocol();
    builder
}

/// A connection whose handshake is over.
struct Serving<'a, D, S> {
    connection: Connection<Io, Bytes>,
    options: &'a ServerOptions,
    deadline: Deadline,
    is_draining: D,
    on_stream: S,
    counts: Rc<StreamCounts>,
    phase: Phase,
    /// At the last write there was no channel left, but `h2` had not finished sending a response.
    is_delivering: bool,
    activity: Rc<Activity>,
    facts: Rc<StreamFacts>,
}

/// The phase of a connection, and what its deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There are streams, and no deadline.
    Busy,
    /// There is no stream: the idle timeout.
    Idle,
    /// GOAWAY was sent: the client may open no more streams.
    Draining { is_idle: bool, is_timed: bool },
    /// The time for that is over: unsent data is discarded.
    Closing { is_idle: bool },
    /// The client is being disconnected: the time for the GOAWAY to be sent.
    Disconnecting(Abuse),
}

impl<D: Fn() -> bool, S: FnMut(Rc<dyn Channel>)> Serving<'_, D, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(request, respond);
                    if self.abuse().is_none() {
                        continue;
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.failed(error)),
                Poll::Ready(None) => return Poll::Ready(self.end()),
                Poll::Pending => {}
            }
            if self.advance_phase(cx) {
                continue;
            }
            if self.activity.is_closing() || self.deadline.poll_passed(cx).is_pending() {
                return Poll::Pending;
            }
            let Phase::Draining { is_idle, .. } = self.phase else {
                return Poll::Ready(self.end());
            };
            self.phase = Phase::Closing { is_idle };
            self.deadline.arm(GOAWAY_TIMEOUT);
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    fn failed(&self, error: h2::Error) -> ConnectionEnd {
        let is_enhance_your_calm =
            error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        match self.phase {
            Phase::Disconnecting(abuse) => ConnectionEnd::Abusive(abuse),
            _ if is_enhance_your_calm => ConnectionEnd::Abusive(Abuse::Frames),
            Phase::Closing { .. } => self.end(),
            _ => ConnectionEnd::Failed(error),
        }
    }

    fn end(&self) -> ConnectionEnd {
        match self.phase {
            Phase::Disconnecting(abuse) => ConnectionEnd::Abusive(abuse),
            Phase::Draining { is_idle: true, .. } | Phase::Closing { is_idle: true } => {
                ConnectionEnd::Idle
            }
            Phase::Idle | Phase::Busy | Phase::Draining { .. } | Phase::Closing { .. } => {
                ConnectionEnd::Closed
            }
        }
    }

    /// Why the client must be disconnected now.
    fn abuse(&self) -> Option<Abuse> {
        match self.phase {
            Phase::Disconnecting(_) => None,
            _ if self.counts.is_abusive() => Some(Abuse::Resets),
            _ if self.activity.is_flooded() => Some(Abuse::IdleFrames),
            _ => None,
        }
    }

    /// Moves on to the next phase if it is due; `true`: the connection has something to send.
    fn advance_phase(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(abuse) = self.abuse() {
            self.disconnect(abuse);
            return true;
        }
        let has_streams = self.counts.live() > 0;
        match self.phase {
            Phase::Busy if !has_streams => {
                self.deadline.arm(self.quiet_timeout());
                self.is_delivering = self.connection.has_streams();
                self.phase = Phase::Idle;
            }
            Phase::Idle if has_streams => {
                self.deadline.disarm();
                self.phase = Phase::Busy;
            }
            Phase::Draining { is_idle, is_timed } if is_timed == has_streams => {
                match has_streams {
                    true => self.deadline.disarm(),
                    // `h2` may still be sending a response.
                    false if self.connection.has_streams() => {
                        self.deadline.arm(self.quiet_timeout());
                    }
                    false => self.deadline.arm(GOAWAY_TIMEOUT),
                }
                let is_timed = !has_streams;
                self.phase = Phase::Draining { is_idle, is_timed };
            }
            _ => {}
        }
        self.watch_delivery(has_streams);
        let is_idle = self.phase == Phase::Idle && self.deadline.poll_passed(cx).is_ready();
        let is_ending = !matches!(self.phase, Phase::Idle | Phase::Busy);
        if is_ending || !(is_idle || (self.is_draining)()) {
            return false;
        }
        self.counts.stop_lingering();
        // Corrected in the next iteration.
        let is_timed = has_streams;
        self.phase = Phase::Draining { is_idle, is_timed };
        self.connection.graceful_shutdown();
        true
    }

    fn disconnect(&mut self, abuse: Abuse) {
        self.phase = Phase::Disconnecting(abuse);
        self.counts.stop_lingering();
        self.deadline.arm(GOAWAY_TIMEOUT);
        self.activity.skip_linger();
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }

    /// Restarts the deadline when something was written: `h2` may still be sending the end of a response, whose exchange is
    /// over, to a slow client.
    fn watch_delivery(&mut self, has_streams: bool) {
        let has_written = self.activity.take_written();
        let is_awaited = self.phase == Phase::Idle || matches!(self.phase, Phase::Draining { .. });
        if has_written && is_awaited && !has_streams {
            let is_delivering = self.connection.has_streams();
            if is_delivering || self.is_delivering {
                self.deadline.arm(self.quiet_timeout());
            }
            self.is_delivering = is_delivering;
        }
    }

    /// How long a client without streams may be inactive: the stall timeout while `h2` is still sending a response, the
    /// idle timeout otherwise.
    fn quiet_timeout(&self) -> Duration {
        match self.connection.has_streams() {
            true => self.options.stall_timeout,
            false => self.options.idle_timeout,
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let is_flooded =
            self.counts.live() >= self.options.max_concurrent_streams.saturating_mul(2);
        if is_flooded || matches!(self.phase, Phase::Disconnecting(_)) {
            self.counts.count_reset();
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        if self.facts.is_unchecked() {
            self.counts.count_reset();
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        let path = self.facts.take_path(respond.stream_id().as_u32());
        let (parts, recv) = request.into_parts();
        let mut text = buffers::small();
        let has_content = !recv.is_end_stream();
        let (path, targets) = (path.as_deref(), self.options.targets);
        match message::write_request(&parts, path, has_content, targets, &mut text) {
            Ok((kind, body)) => {
                let facts = Rc::clone(&self.facts);
                let incoming = Incoming::new(text, recv, body, Padding::Refused, facts);
                let counts = Rc::clone(&self.counts);
                let stream = ServerStream::new(kind, incoming, respond, counts);
                (self.on_stream)(Rc::new(stream));
            }
            Err(error) => {
                buffers::give_back(text);
                self.refuse(error, &mut respond);
            }
        }
    }

    fn refuse(&self, error: MessageError, respond: &mut SendResponse<Bytes>) {
        tracing::debug!(%error, "refused a stream");
        match error {
            MessageError::ProtocolUnknown => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
                // Fails only if the client has gone.
                let _ = respond.send_response(response, true);
            }
            MessageError::NoKey => respond.send_reset(Reason::INTERNAL_ERROR),
            _ => {
                self.counts.count_reset();
                respond.send_reset(Reason::PROTOCOL_ERROR);
            }
        }
    }
}
