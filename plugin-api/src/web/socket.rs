//! A WebSocket that is served by a plugin with routes (RFC 6455).
#![expect(unsafe_code, reason = "calls the host's callbacks")]

use super::exchange::{WebExchange, polled};
use crate::abi::code;
use crate::abi::web::MessageView;
use crate::{EditError, Error, MessageKind, Reply, Request, close_data, waker};
use abi_stable::std_types::RSlice;
use std::future::poll_fn;
use std::task::Poll;

/// A WebSocket that a client has requested or opened. The proxy handles frames, masks and pings.
///
/// A client that violates the protocol gets a Close with a matching code, and the plugin sees the end of the messages.
/// The same happens when the WebSocket is idle for `tunnel_idle`.
pub struct WebSocket {
    exchange: WebExchange,
    close: Option<SocketMessage>,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketMessage {
    /// The kind: [`Text`](MessageKind::Text) or [`Binary`](MessageKind::Binary).
    pub kind: MessageKind,
    /// The data; UTF-8 if it is text.
    pub data: Vec<u8>,
}

impl SocketMessage {
    /// The text; none for other kinds.
    pub fn text(&self) -> Option<&str> {
        match self.kind {
            MessageKind::Text => std::str::from_utf8(&self.data).ok(),
            _ => None,
        }
    }
}

// SAFETY, for all calls below: as in `exchange`.
impl WebSocket {
    pub(super) fn new(exchange: WebExchange) -> Self {
        Self {
            exchange,
            close: None,
        }
    }

    /// The request: route, captures, client and so on.
    pub fn exchange(&self) -> &WebExchange {
        &self.exchange
    }

    /// The head of that request.
    pub fn request(&self) -> Request<'_> {
        self.exchange.request()
    }

    /// Adds a field to the access log line.
    pub fn add_log_field(&mut self, key: &str, value: &str) {
        self.exchange.add_log_field(key, value);
    }

    /// Accepts it, with one of the subprotocols that the client offers in `Sec-WebSocket-Protocol`. By default, it is
    /// accepted without a subprotocol.
    ///
    /// # Errors
    /// The client does not offer this subprotocol, or the WebSocket has been accepted already.
    pub fn accept(&mut self, subprotocol: &str) -> Result<(), EditError> {
        let view = self.exchange.view();
        EditError::check(unsafe { view.callbacks.accept()(view.host, subprotocol.into()) })
    }

    /// Replies with this instead of accepting the WebSocket; the task should then return.
    ///
    /// # Errors
    /// When the proxy refuses: see [`WebExchange::reply`], or it has been accepted already.
    pub fn refuse(&mut self, reply: Reply) -> Result<(), Error> {
        self.exchange.reply(reply)
    }

    /// The next text or binary message; none if the client has closed the WebSocket or disconnected. Cancel safe.
    ///
    /// # Errors
    /// The WebSocket could not be accepted.
    pub async fn receive(&mut self) -> Result<Option<SocketMessage>, Error> {
        let view = *self.exchange.view();
        loop {
            let mut message = MessageView {
                kind: 0,
                padding: 0,
                data: RSlice::from_slice(&[]),
            };
            let answer = poll_fn(|cx| {
                let waker = waker::lend(cx.waker());
                match unsafe { view.callbacks.receive()(view.host, &waker, &mut message) } {
                    code::PENDING => Poll::Pending,
                    answer => Poll::Ready(answer),
                }
            })
            .await;
            let kind = MessageKind::from_number(message.kind);
            let data = message.data.as_slice().to_vec();
            match (answer, kind) {
                (code::PROCEED, Some(kind)) => return Ok(Some(SocketMessage { kind, data })),
                // A kind that only a newer proxy knows.
                (code::PROCEED, None) => {}
                (code::CLOSE, kind) => {
                    self.close = kind.map(|kind| SocketMessage { kind, data });
                    return Ok(None);
                }
                _ => return Err(Error::new("the WebSocket was not accepted")),
            }
        }
    }

    /// Sends a message. Waits while the client does not read.
    ///
    /// # Errors
    /// The WebSocket is closed, or the data is invalid for this kind of message.
    pub async fn send(&mut self, kind: MessageKind, data: impl AsRef<[u8]>) -> Result<(), Error> {
        let view = *self.exchange.view();
        let data = data.as_ref();
        poll_fn(|cx| {
            let waker = waker::lend(cx.waker());
            let send = view.callbacks.send_message();
            polled(
                unsafe { send(view.host, kind.number().into(), data.into(), &waker) },
                (),
            )
        })
        .await
        .map_err(|_| Error::new("the WebSocket is closed, or the message is invalid"))
    }

    /// Sends a text.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.send(MessageKind::Text, text).await
    }

    /// Closes it with a code and a reason, see [`close_data`]; the Close of the client is still
    /// [received](Self::receive). By default, it is closed with 1000 when the task ends.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        self.send(MessageKind::Close, close_data(code, reason))
            .await
    }

    /// The code of the Close of the client, after [`receive`](Self::receive) has returned none: none without a code, or
    /// without a Close.
    pub fn close_code(&self) -> Option<u16> {
        match self.close.as_ref()?.data[..] {
            [high, low, ..] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The reason of the Close of the client; may be empty.
    pub fn close_reason(&self) -> &str {
        let data = self.close.as_ref().and_then(|close| close.data.get(2..));
        data.and_then(|reason| std::str::from_utf8(reason).ok())
            .unwrap_or_default()
    }
}
