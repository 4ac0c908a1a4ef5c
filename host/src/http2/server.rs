//! An HTTP/2 connection of a client: every stream becomes a channel, until either side closes it.
//!
//! Streams are accepted as fast as they come, since one that waits would cost as much; how many there may be is bounded
//! by what the client was told, and by twice that where it resets streams faster than their exchanges notice. Whoever
//! does little else than reset streams, or floods us with frames without content, is disconnected. The exchanges are
//! for the caller.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};

use super::field_blocks::Remarks;
use super::incoming::Incoming;
use super::io::{Io, Pulse};
use super::limits::{SEND_BUFFER, STREAM_WINDOW};
pub(crate) use super::message::RequestTargets;
use super::message::{self, Padding, Unfit};
use super::resets::StreamCounts;
use super::server_stream::ServerStream;
use crate::buffers;
use crate::deadline::{Deadline, Deadlines};
use crate::transport::{Channel, Transport};

/// What a client may send on all its streams together before it is read, in bytes. Past it the client waits, also with
/// streams that are read. `h2` allows half as much for the keeping of small frames: a client that has so many of them
/// unread is sent away (`ENHANCE_YOUR_CALM`).
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that the client resets before they are even looked at, within one read; past it the client is sent away.
const RESET_BEFORE_ACCEPTED: usize = 64;

/// Streams that `h2` resets or refuses for breaking the protocol, over the life of a connection; past it the client is
/// sent away.
const PROTOCOL_ERRORS: usize = 1_024;

/// How long a client may take to answer that it has understood a GOAWAY.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a client's connection is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) targets: RequestTargets,
    /// Streams open at once; further ones are refused, which a client may repeat.
    pub(crate) max_concurrent_streams: u32,
    /// Longest head in bytes, as HTTP/2 counts them (32 more for each field). Past it 431; past a few times as much the
    /// client is sent away.
    pub(crate) max_head_len: usize,
    /// How long the client may take to say that it speaks HTTP/2.
    pub(crate) handshake_timeout: Duration,
    /// How long there may be no stream; then the connection is closed.
    pub(crate) idle_timeout: Duration,
    /// How long the client may take nothing of what is left of its answers; then the connection is closed.
    pub(crate) stall_timeout: Duration,
}

/// Why a client's connection has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Either side has said goodbye.
    Closed,
    /// There was no stream for too long.
    Idle,
    /// The client did not speak HTTP/2 in time.
    HandshakeTimedOut,
    /// The client did more of what costs it nothing than is allowed.
    Abusive(Abuse),
    /// It broke, or either side broke the protocol.
    Failed(h2::Error),
}

/// What a client did too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// It did little else than reset streams.
    Resets,
    /// It sent frames that carry nothing.
    IdleFrames,
    /// It is beyond a limit of `h2`'s: on small DATA frames, on CONTINUATION frames, on large heads.
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

impl fmt::Display for End {
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

/// Serves a client's connection to its end. `on_stream` is given a channel for every request, to be dropped when the
/// exchange is over. `is_draining` is asked whenever something happens, and whenever `deadlines` wake everybody; then
/// the client is told to open no more streams, and the connection ends with the last one.
pub(crate) async fn serve(
    transport: Transport,
    options: &ServerOptions,
    deadlines: &Rc<Deadlines>,
    is_draining: impl Fn() -> bool,
    on_stream: impl FnMut(Rc<dyn Channel>),
) -> End {
    let deadline = deadlines.slot();
    deadline.arm(options.handshake_timeout);
    let remarks = Rc::<Remarks>::default();
    let (io, pulse) = Io::to_client(
        transport,
        options.max_head_len,
        Rc::clone(&remarks),
        deadlines,
    );
    let handshake = builder(options).handshake(io);
    let connection = match deadline.bound(handshake).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => return End::Failed(error),
        None => return End::HandshakeTimedOut,
    };
    deadline.arm(options.idle_timeout);
    let mut serving = Serving {
        connection,
        options,
        deadline,
        is_draining,
        on_stream,
        counts: Rc::new(StreamCounts::new()),
        mood: Mood::Idle,
        is_delivering: false,
        pulse,
        remarks,
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
        // What was reset here may still be sent to for a second; frames for a stream that is forgotten end the
        // connection.
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
    mood: Mood,
    /// There is no stream, but the end of an answer was still on its way when something was written last.
    is_delivering: bool,
    pulse: Rc<Pulse>,
    remarks: Rc<Remarks>,
}

/// What the deadline of a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// There are streams, and no deadline.
    Busy,
    /// There is no stream: the idle timeout.
    Idle,
    /// The client has been told to open no more streams.
    Leaving { is_idle: bool, is_timed: bool },
    /// It had its time to answer that: what still waits to be sent is given up.
    Closing { is_idle: bool },
    /// The client has been sent away: the time it may take to be told.
    SentAway(Abuse),
}

impl<D: Fn() -> bool, S: FnMut(Rc<dyn Channel>)> Serving<'_, D, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
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
            if self.settle(cx) {
                continue;
            }
            if self.pulse.is_closing() || self.deadline.poll_passed(cx).is_pending() {
                return Poll::Pending;
            }
            let Mood::Leaving { is_idle, .. } = self.mood else {
                return Poll::Ready(self.end());
            };
            self.mood = Mood::Closing { is_idle };
            self.deadline.arm(GOODBYE);
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    fn failed(&self, error: h2::Error) -> End {
        let is_calming = error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        match self.mood {
            Mood::SentAway(abuse) => End::Abusive(abuse),
            _ if is_calming => End::Abusive(Abuse::Frames),
            Mood::Closing { .. } => self.end(),
            _ => End::Failed(error),
        }
    }

    fn end(&self) -> End {
        match self.mood {
            Mood::SentAway(abuse) => End::Abusive(abuse),
            Mood::Leaving { is_idle: true, .. } | Mood::Closing { is_idle: true } => End::Idle,
            Mood::Idle | Mood::Busy | Mood::Leaving { .. } | Mood::Closing { .. } => End::Closed,
        }
    }

    /// Why the client has to be sent away now.
    fn abuse(&self) -> Option<Abuse> {
        match self.mood {
            Mood::SentAway(_) => None,
            _ if self.counts.is_abusive() => Some(Abuse::Resets),
            _ if self.pulse.is_flooded() => Some(Abuse::IdleFrames),
            _ => None,
        }
    }

    /// Does what the state of things asks for; `true`: the connection has something to send.
    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(abuse) = self.abuse() {
            self.mood = Mood::SentAway(abuse);
            self.counts.leave();
            self.deadline.arm(GOODBYE);
            self.pulse.hurry();
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            return true;
        }
        let has_streams = self.counts.live() > 0;
        match self.mood {
            Mood::Busy if !has_streams => {
                self.deadline.arm(self.quiet_timeout());
                self.is_delivering = self.connection.has_streams();
                self.mood = Mood::Idle;
            }
            Mood::Idle if has_streams => {
                self.deadline.disarm();
                self.mood = Mood::Busy;
            }
            Mood::Leaving { is_idle, is_timed } if is_timed == has_streams => {
                match has_streams {
                    true => self.deadline.disarm(),
                    // The end of an answer may still be on its way.
                    false if self.connection.has_streams() => {
                        self.deadline.arm(self.quiet_timeout());
                    }
                    false => self.deadline.arm(GOODBYE),
                }
                let is_timed = !has_streams;
                self.mood = Mood::Leaving { is_idle, is_timed };
            }
            _ => {}
        }
        // The end of an answer whose exchange is over may still be on its way to a client that takes its time.
        let has_written = self.pulse.take_written();
        let is_awaited = self.mood == Mood::Idle || matches!(self.mood, Mood::Leaving { .. });
        if has_written && is_awaited && !has_streams {
            let is_delivering = self.connection.has_streams();
            if is_delivering || self.is_delivering {
                self.deadline.arm(self.quiet_timeout());
            }
            self.is_delivering = is_delivering;
        }
        let is_idle = self.mood == Mood::Idle && self.deadline.poll_passed(cx).is_ready();
        let is_leaving = !matches!(self.mood, Mood::Idle | Mood::Busy);
        if is_leaving || !(is_idle || (self.is_draining)()) {
            return false;
        }
        self.counts.leave();
        // Set right the next time round.
        let is_timed = has_streams;
        self.mood = Mood::Leaving { is_idle, is_timed };
        self.connection.graceful_shutdown();
        true
    }

    /// How long a client without streams may do nothing: it may still have to take the end of an answer.
    fn quiet_timeout(&self) -> Duration {
        match self.connection.has_streams() {
            true => self.options.stall_timeout,
            false => self.options.idle_timeout,
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let is_flooded =
            self.counts.live() >= self.options.max_concurrent_streams.saturating_mul(2);
        if is_flooded || matches!(self.mood, Mood::SentAway(_)) {
            self.counts.count_reset();
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        if self.remarks.is_blind() {
            self.counts.count_reset();
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        let path = self.remarks.take_path(respond.stream_id().as_u32());
        let (parts, recv) = request.into_parts();
        let mut text = buffers::small();
        let has_content = !recv.is_end_stream();
        let (path, targets) = (path.as_deref(), self.options.targets);
        match message::write_request(&parts, path, has_content, targets, &mut text) {
            Ok((asked, carried)) => {
                let remarks = Rc::clone(&self.remarks);
                let incoming = Incoming::new(text, recv, carried, Padding::Refused, remarks);
                let counts = Rc::clone(&self.counts);
                let stream = ServerStream::new(asked, incoming, respond, counts);
                (self.on_stream)(Rc::new(stream));
            }
            Err(unfit) => {
                buffers::give_back(text);
                self.refuse(unfit, &mut respond);
            }
        }
    }

    fn refuse(&self, unfit: Unfit, respond: &mut SendResponse<Bytes>) {
        tracing::debug!(error = %unfit, "refused a stream");
        match unfit {
            Unfit::ProtocolUnknown => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
                // A client that is gone needs no answer.
                let _ = respond.send_response(response, true);
            }
            Unfit::NoKey => respond.send_reset(Reason::INTERNAL_ERROR),
            _ => {
                self.counts.count_reset();
                respond.send_reset(Reason::PROTOCOL_ERROR);
            }
        }
    }
}
