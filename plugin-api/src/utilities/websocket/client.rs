//! A WebSocket client for a thread that may block (RFC 6455).
//!
//! Handles what the protocol requires of a client: the handshake, masks, answers to Pings and to a Close, assembly of
//! messages within a limit, and a Close with a code for a server that violates the protocol. It uses TCP without TLS;
//! for TLS and timers, use the proxy.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proxy_websocket::{Assembly, FrameError, Message, MessageKind, Opcode, Sender, check_close};

use super::frame::{DEFAULT_MAX_PAYLOAD, WebsocketFrame};
use super::handshake::{self, WebSocketUrl};
use crate::utilities::new_socket_connection_within;
use crate::utilities::socket::{CONNECT_LIMIT, TimeLeft};

/// How long a server may be silent after a Close was sent to it.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// The maximum length of the response to the handshake, in bytes.
const MAX_ANSWER_LEN: usize = 16 * 1024;
/// The number of bytes read at a time.
const READ_LEN: usize = 16 * 1024;

/// A WebSocket to a server, without TLS.
///
/// Blocks the thread: use it in [`run_blocking`](crate::run_blocking), in a subscriber or on your own thread, and never
/// in a hook itself. Dropping it closes the connection without a Close.
///
/// ```no_run
/// use plugin_api::utilities::WebsocketClient;
///
/// let mut client = WebsocketClient::connect("ws://127.0.0.1:8080/feed")?;
/// client.send_text("subscribe")?;
/// client.run(|client, message| {
///     match message.as_text() {
///         Some("enough") => client.close(1000, "thank you"),
///         Some(text) => Ok(println!("{text}")),
///         None => Ok(()),
///     }
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WebsocketClient {
    stream: TcpStream,
    /// Received bytes; those from `start` to `end` are not parsed yet.
    received: Vec<u8>,
    start: usize,
    end: usize,
    assembly: Assembly,
    state: ClientState,
    /// The client is in the middle of a fragmented message.
    is_in_message: bool,
    closed_with: Option<WebsocketFrame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Open,
    /// Nothing more can be sent: a Close was sent, or something was sent in part.
    SentLast,
    /// The server's Close has arrived and was answered.
    Closed,
    /// The server violated the protocol, or disconnected without a Close.
    Failed,
}

impl WebsocketClient {
    /// Opens the WebSocket at a URL such as `ws://host:port/path`, within 10 seconds.
    ///
    /// # Errors
    /// The URL is invalid (`wss` is not supported, because this client has no TLS), the server is unreachable, or it
    /// refuses the WebSocket; the error says which.
    pub fn connect(url: &str) -> io::Result<Self> {
        Self::connect_with(url, &[], CONNECT_LIMIT)
    }

    /// Like [`connect`](Self::connect), with these headers and within this time. Such headers are Authorization, Origin
    /// or Sec-WebSocket-Protocol; those of the handshake itself are refused.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(url: &str, headers: &[(&str, &str)], limit: Duration) -> io::Result<Self> {
        let time = TimeLeft::new(limit);
        let target = WebSocketUrl::parse(url)?;
        let key = handshake::random_key()?;
        let request = target.request(&key, headers)?;
        let stream = new_socket_connection_within((target.host, target.port), time.share(1)?)?;
        let mut client = Self::new(stream);
        client
            .shake_hands(&request, &time)
            .and_then(|answer| handshake::check_response(&answer, &key, headers))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("WebSocket handshake failed: {error}"))
            })?;
        Ok(client)
    }

    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: vec![0; READ_LEN],
            start: 0,
            end: 0,
            assembly: Assembly::new(Sender::Server, DEFAULT_MAX_PAYLOAD),
            state: ClientState::Open,
            is_in_message: false,
            closed_with: None,
        }
    }

    /// Sends the request and returns the head of the response. Bytes after it wait to be read.
    fn shake_hands(&mut self, request: &[u8], time: &TimeLeft) -> io::Result<Vec<u8>> {
        const END: &[u8] = b"\r\n\r\n";
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(time.share(1)?))?;
        self.stream.write_all(request).map_err(in_words)?;
        let mut answer = Vec::new();
        loop {
            self.stream.set_read_timeout(Some(time.share(1)?))?;
            self.fill().map_err(in_words)?;
            let looked_at = answer.len().saturating_sub(END.len() - 1);
            answer.extend_from_slice(&self.received[..self.end]);
            let end = answer[looked_at..]
                .windows(END.len())
                .position(|window| window == END);
            if let Some(end) = end {
                let len = looked_at + end + END.len();
                self.start = self.end - (answer.len() - len);
                answer.truncate(len);
                break;
            }
            if answer.len() > MAX_ANSWER_LEN {
                let text = "the response of the server is too long";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        Ok(answer)
    }

    /// The connection, for its timeouts and addresses. If no message arrives within a timeout, the error is of kind
    /// `WouldBlock` or `TimedOut`, and receiving can be tried again.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sets the maximum length of messages, from the next frame on; the default is 16 MiB. If a server sends a longer
    /// one, the WebSocket is closed.
    pub fn set_max_message_len(&mut self, bytes: u64) {
        self.assembly.set_max_len(bytes);
    }

    /// Sends a text.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_text(&mut self, text: impl Into<String>) -> io::Result<()> {
        self.send(&WebsocketFrame::text(text))
    }

    /// Sends a frame, with a random mask instead of its own. A Close is the last that can be sent.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if such a frame must not be sent, or not now: then nothing was sent. Otherwise the
    /// WebSocket is closed, or the connection has failed; nothing more can be sent, but messages that have arrived can
    /// still be received.
    pub fn send(&mut self, frame: &WebsocketFrame) -> io::Result<()> {
        if self.state != ClientState::Open {
            let text = "the WebSocket is closed for sending";
            return Err(io::Error::new(io::ErrorKind::NotConnected, text));
        }
        frame.check().map_err(invalid_input)?;
        match frame.opcode {
            Opcode::Continuation if !self.is_in_message => {
                return Err(invalid_input(FrameError::Continuation));
            }
            Opcode::Text | Opcode::Binary if self.is_in_message => {
                return Err(invalid_input(FrameError::Interleaved));
            }
            _ => {}
        }
        let mut mask = [0; 4];
        getrandom::fill(&mut mask)?;
        let mut bytes = Vec::new();
        frame.write(Some(mask), &mut bytes);
        let sent = self.stream.write_all(&bytes);
        if sent.is_err() || frame.opcode == Opcode::Close {
            self.state = ClientState::SentLast;
        }
        if !frame.opcode.is_control() {
            self.is_in_message = !frame.fin;
        }
        sent
    }

    /// The next message: text, binary data, or the Pong to a Ping of ours, as one frame. Pings are answered, fragments
    /// are joined. None: the server has closed the WebSocket, see [`closed_with`](Self::closed_with).
    ///
    /// # Errors
    /// The server violates the protocol (of kind `InvalidData`, with a [`FrameError`] inside; it is sent a Close with
    /// the code), it disconnects without a Close (`UnexpectedEof`), or reading fails.
    pub fn receive(&mut self) -> io::Result<Option<WebsocketFrame>> {
        loop {
            match self.state {
                ClientState::Open | ClientState::SentLast => {}
                ClientState::Closed => return Ok(None),
                ClientState::Failed => {
                    let text = "the WebSocket has failed";
                    return Err(io::Error::new(io::ErrorKind::NotConnected, text));
                }
            }
            let mut rest = &self.received[self.start..self.end];
            let next = self.assembly.next(&mut rest);
            self.start = self.end - rest.len();
            match next {
                Ok(Some(message)) => {
                    if let Some(frame) = self.take(message) {
                        return Ok(Some(frame));
                    }
                }
                Ok(None) => self.fill()?,
                Err(error) => return Err(self.refuse(error)),
            }
        }
    }

    /// Receives messages until the server has closed the WebSocket, and calls `on_message` for each.
    ///
    /// # Errors
    /// Those of [`receive`](Self::receive), and those of `on_message`.
    pub fn run(
        &mut self,
        mut on_message: impl FnMut(&mut Self, WebsocketFrame) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(message) = self.receive()? {
            on_message(self, message)?;
        }
        Ok(())
    }

    /// Sends a Close, unless one was sent. Messages that the server has sent before its own Close can still be
    /// received; it may be silent for at most 5 seconds, or the read timeout if that is shorter.
    ///
    /// # Errors
    /// As [`send`](Self::send), except that a closed WebSocket is not an error.
    pub fn close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        if self.state != ClientState::Open {
            return Ok(());
        }
        let frame = WebsocketFrame::close(code, reason);
        check_close(&frame.payload).map_err(invalid_input)?;
        let limit = self
            .stream
            .read_timeout()?
            .map_or(CLOSE_LIMIT, |set| set.min(CLOSE_LIMIT));
        self.stream.set_read_timeout(Some(limit))?;
        self.send(&frame)
    }

    /// The server's Close, once it has arrived.
    pub fn closed_with(&self) -> Option<&WebsocketFrame> {
        self.closed_with.as_ref()
    }

    /// Handles control messages; returns the messages for the caller.
    fn take(&mut self, message: Message) -> Option<WebsocketFrame> {
        let Message { kind, data } = message;
        match kind {
            MessageKind::Ping if self.state == ClientState::Open => {
                // If sending fails, the next receive reports why: a Close, or the end.
                let _ = self.send(&WebsocketFrame::pong(data));
            }
            MessageKind::Ping => {}
            MessageKind::Close => self.answer_close(WebsocketFrame::new(Opcode::Close, data)),
            _ => return Some(WebsocketFrame::new(kind.into(), data)),
        }
        None
    }

    fn answer_close(&mut self, close: WebsocketFrame) {
        if self.state == ClientState::Open {
            // A server that does not wait for the answer has closed the WebSocket nevertheless.
            let _ = self.send(&close);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        self.closed_with = Some(close);
        self.state = ClientState::Closed;
    }

    /// Sends a server the code of its violation, if it still reads.
    fn refuse(&mut self, error: FrameError) -> io::Error {
        if self.state == ClientState::Open {
            let _ = self.send(&WebsocketFrame::close(error.close_code(), ""));
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        self.state = ClientState::Failed;
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Reads once; everything received before must have been parsed.
    fn fill(&mut self) -> io::Result<()> {
        (self.start, self.end) = (0, 0);
        loop {
            match self.stream.read(&mut self.received) {
                Ok(0) => {
                    self.state = ClientState::Failed;
                    let text = "the server closed the connection without a Close frame";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                Ok(len) => {
                    self.end = len;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn invalid_input(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// The meaning of a socket error during the handshake.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            "the server did not respond in time",
        ),
        io::ErrorKind::UnexpectedEof => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection without a response",
        ),
        _ => error,
    }
}
