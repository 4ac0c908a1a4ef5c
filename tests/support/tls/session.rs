//! HTTP as a client speaks it, in either version, on any connection.

use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Ping, Reason, RecvStream, SendStream};
use http::{Method, Request, Response, Uri};
use tokio::task::JoinHandle;

use super::http1::text_of;
use super::http2::{fields_of, map};
use super::stream_io::{Io, StreamIo, send_all};
use super::{Fields, Pipe, Shown, Version, WebSocket, values, web_socket};
use crate::support::background::{background, within};
use crate::support::{End, Message, Role, parse};

/// The form of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For an origin, or inside a tunnel to one; with the scheme for HTTP/2.
    Origin(&'static str),
    /// For a proxy: the whole URL, or all pseudo-fields of HTTP/2.
    Proxy,
}

/// A request under construction.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: String,
    authority: String,
    path: String,
    fields: Fields,
    parts: Vec<Vec<u8>>,
    states_length: bool,
    trailers: Fields,
}

impl Ask {
    /// A request without content.
    pub(crate) fn new(method: &str, authority: &str, path: &str) -> Ask {
        Ask {
            method: method.into(),
            authority: authority.into(),
            path: path.into(),
            fields: Vec::new(),
            parts: Vec::new(),
            states_length: true,
            trailers: Vec::new(),
        }
    }

    /// A GET.
    pub(crate) fn get(authority: &str, path: &str) -> Ask {
        Ask::new("GET", authority, path)
    }

    /// A POST with content of a stated length.
    pub(crate) fn post(authority: &str, path: &str, body: impl Into<Vec<u8>>) -> Ask {
        let mut ask = Ask::new("POST", authority, path);
        ask.parts = vec![body.into()];
        ask
    }

    /// A POST with content without a stated length.
    pub(crate) fn post_parts(authority: &str, path: &str, parts: Vec<Vec<u8>>) -> Ask {
        let mut ask = Ask::new("POST", authority, path);
        (ask.parts, ask.states_length) = (parts, false);
        ask
    }

    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Ask {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a trailer; then no length is stated.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Ask {
        self.trailers.push((name.into(), value.into()));
        self.states_length = false;
        self
    }

    /// The request as HTTP/1.1 text.
    fn text(&self, form: Form) -> Vec<u8> {
        let Ask {
            method,
            authority,
            path,
            ..
        } = self;
        let target = match form {
            Form::Origin(_) => path.clone(),
            Form::Proxy => format!("http://{authority}{path}"),
        };
        let has_host = !values(&self.fields, "host").is_empty();
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !has_host {
            text.push_str(&format!("Host: {authority}\r\n"));
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let whole = self.parts.concat();
        if !self.states_length {
            text.push_str("Transfer-Encoding: chunked\r\n\r\n");
            let mut bytes = text.into_bytes();
            for part in self.parts.iter().filter(|part| !part.is_empty()) {
                bytes.extend(format!("{:x}\r\n", part.len()).bytes());
                bytes.extend(part);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n");
            for (name, value) in &self.trailers {
                bytes.extend(format!("{name}: {value}\r\n").bytes());
            }
            bytes.extend(b"\r\n");
            return bytes;
        }
        if !self.parts.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", whole.len()));
        }
        text.push_str("\r\n");
        [text.into_bytes(), whole].concat()
    }

    /// Its head for HTTP/2.
    fn head(&self, form: Form) -> Request<()> {
        let scheme = match form {
            Form::Origin(scheme) => scheme,
            Form::Proxy => "http",
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).expect("a method");
        *request.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(self.authority.as_str())
            .path_and_query(self.path.as_str())
            .build()
            .expect("a target of a test");
        *request.headers_mut() = map(&self.fields);
        if self.states_length && !self.parts.is_empty() {
            let len: usize = self.parts.iter().map(Vec::len).sum();
            request.headers_mut().insert("content-length", len.into());
        }
        request
    }

    fn has_content(&self) -> bool {
        !self.parts.is_empty() || !self.states_length
    }
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) version: Version,
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// The 1xx responses before it.
    pub(crate) interim: Vec<(u16, Fields)>,
    /// Why it is incomplete.
    pub(crate) fault: Option<String>,
}

impl Received {
    /// The first value of the field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// All values of the field called `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        values(&self.fields, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and text of a complete response.
    #[track_caller]
    pub(crate) fn told(&self) -> (u16, String) {
        assert_eq!(self.fault, None, "a response that is not whole");
        (self.status, self.text())
    }

    fn of(message: Message, interim: Vec<(u16, Fields)>) -> Received {
        let broken = (!message.complete).then(|| "it breaks off".to_owned());
        Received {
            version: Version::Http1,
            status: message.status(),
            fields: text_of(&message.fields),
            trailers: text_of(&message.trailers),
            fault: message.fault.or(broken),
            body: message.body,
            interim,
        }
    }

    fn head(response: &Response<RecvStream>, interim: Vec<(u16, Fields)>) -> Received {
        Received {
            version: Version::Http2,
            status: response.status().as_u16(),
            fields: fields_of(response.headers()),
            body: Vec::new(),
            trailers: Vec::new(),
            interim,
            fault: None,
        }
    }
}

/// HTTP on a connection.
pub(crate) struct Session {
    wire: Wire,
    form: Form,
    /// The client's own address.
    pub(crate) local: SocketAddr,
    chain: Vec<Vec<u8>>,
}

enum Wire {
    Http1(Pipe),
    Http2 {
        send: SendRequest<Bytes>,
        connection: JoinHandle<Result<(), h2::Error>>,
    },
}

/// A request in flight.
pub(crate) struct Pending(JoinHandle<Result<Received, String>>);

impl Pending {
    /// Its response, or the error.
    pub(crate) fn finish(self) -> Result<Received, String> {
        within("a response", self.0).expect("the client is well")
    }
}

impl Session {
    pub(super) fn on(mut pipe: Pipe, form: Form) -> Session {
        let (local, chain) = (pipe.local, mem::take(&mut pipe.chain));
        let wire = match pipe.version() {
            Version::Http1 => Wire::Http1(pipe),
            Version::Http2 => start(pipe.io),
        };
        Session {
            wire,
            form,
            local,
            chain,
        }
    }

    /// The version of HTTP.
    pub(crate) fn version(&self) -> Version {
        match self.wire {
            Wire::Http1(_) => Version::Http1,
            Wire::Http2 { .. } => Version::Http2,
        }
    }

    /// The received end certificate.
    pub(crate) fn certificate(&self) -> Shown {
        Shown::of(&self.chain[0])
    }

    /// The received end certificate in DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.chain[0]
    }

    /// Sends a request and reads its final response.
    #[track_caller]
    pub(crate) fn ask(&mut self, ask: Ask) -> Received {
        let shown = format!("{} {}{}", ask.method, ask.authority, ask.path);
        let answered = self.try_ask(ask);
        answered.unwrap_or_else(|fault| panic!("no response to {shown}: {fault}"))
    }

    /// The same, if there may be no response.
    pub(crate) fn try_ask(&mut self, ask: Ask) -> Result<Received, String> {
        match &mut self.wire {
            Wire::Http1(pipe) => {
                pipe.send(ask.text(self.form));
                response(pipe, &ask.method)
            }
            Wire::Http2 { .. } => self.begin(ask).finish(),
        }
    }

    /// Sends a request on its own stream, without waiting.
    pub(crate) fn begin(&self, ask: Ask) -> Pending {
        let (send, form) = (self.http2(), self.form);
        Pending(background().spawn(exchange(send, ask, form)))
    }

    /// Opens a stream whose content the test sends and reads itself.
    pub(crate) fn open(&self, ask: &Ask) -> Stream {
        let (send, head) = (self.http2(), ask.head(self.form));
        let mut ready = within("room for a stream", send.ready()).expect("an open connection");
        let (response, send) = ready.send_request(head, false).expect("a sound request");
        Stream {
            send,
            response: Some(response),
            receive: None,
        }
    }

    /// Opens a tunnel; the response if it was refused.
    pub(crate) fn connect(self, authority: &str) -> Result<Pipe, Box<Received>> {
        match self.wire {
            Wire::Http1(mut pipe) => {
                pipe.send(format!(
                    "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
                ));
                let answer = response(&mut pipe, "CONNECT").expect("an answer to CONNECT");
                match answer.status {
                    200..300 => Ok(pipe),
                    _ => Err(Box::new(answer)),
                }
            }
            Wire::Http2 { .. } => self.connect_stream(authority),
        }
    }

    /// Opens a tunnel on its own stream; the response if it was refused.
    pub(crate) fn connect_stream(&self, authority: &str) -> Result<Pipe, Box<Received>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = authority.parse().expect("an authority of a test");
        let opened = within("an answer to CONNECT", converse(self.http2(), request));
        let (received, io) = opened.expect("an answer to CONNECT");
        io.map(|io| Pipe::new(io, self.local))
            .ok_or_else(|| Box::new(received))
    }

    /// Upgrades to a WebSocket; the response if it was refused.
    pub(crate) fn web_socket(
        self,
        authority: &str,
        path: &str,
    ) -> Result<WebSocket, Box<Received>> {
        match self.wire {
            Wire::Http1(mut pipe) => {
                let ask = Ask::get(authority, path)
                    .field("Connection", "Upgrade")
                    .field("Upgrade", "websocket")
                    .field("Sec-WebSocket-Version", "13")
                    .field("Sec-WebSocket-Key", WebSocket::KEY);
                pipe.send(ask.text(self.form));
                let answer = response(&mut pipe, "GET").expect("an answer to an upgrade");
                if answer.status != 101 {
                    return Err(Box::new(answer));
                }
                let accept = answer.field("Sec-WebSocket-Accept");
                assert_eq!(accept, Some(web_socket::accept(WebSocket::KEY)));
                Ok(WebSocket::new(pipe.received().to_vec(), pipe.io))
            }
            Wire::Http2 { .. } => {
                let ask = Ask::get(authority, path).field("sec-websocket-version", "13");
                let mut request = ask.head(self.form);
                *request.method_mut() = Method::CONNECT;
                request
                    .extensions_mut()
                    .insert(Protocol::from_static("websocket"));
                let opened = within("an answer to CONNECT", converse(self.http2(), request));
                let (received, io) = opened.expect("an answer to CONNECT");
                io.map(|io| WebSocket::new(Vec::new(), io))
                    .ok_or_else(|| Box::new(received))
            }
        }
    }

    /// Whether the peer supports extended CONNECT (RFC 8441).
    pub(crate) fn extends_connect(&self) -> bool {
        self.http2().is_extended_connect_protocol_enabled()
    }

    /// Waits until the peer closes the connection; with HTTP/2, returns its reason.
    pub(crate) fn wait_for_end(self) -> Option<Reason> {
        match self.wire {
            Wire::Http1(mut pipe) => {
                let (_, end) = pipe.read_to_end();
                assert_eq!(end, End::Closed);
                None
            }
            Wire::Http2 { send, connection } => {
                // Dropping the last handle would close the connection from this side.
                let ended = within("the end of the connection", connection);
                drop(send);
                let ended = ended.expect("the client is well");
                ended.err().and_then(|error| error.reason())
            }
        }
    }

    fn http2(&self) -> SendRequest<Bytes> {
        match &self.wire {
            Wire::Http2 { send, .. } => send.clone(),
            Wire::Http1(_) => panic!("only streams of HTTP/2 can do this"),
        }
    }
}

/// An HTTP/2 stream, step by step.
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
}

impl Stream {
    /// Sends content.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let sent = within("room on the stream", send_all(&mut self.send, bytes, false));
        sent.expect("the stream takes content");
    }

    /// How many of the `wanted` bytes the stream accepts while nobody reads them.
    pub(crate) fn send_until_full(&mut self, wanted: usize) -> usize {
        let mut sent = 0;
        let quiet = std::time::Duration::from_millis(500);
        while sent < wanted {
            let part = vec![0; 16384.min(wanted - sent)];
            let len = part.len();
            let sending = send_all(&mut self.send, &part, false);
            let in_time =
                background().block_on(async { tokio::time::timeout(quiet, sending).await });
            if !matches!(in_time, Ok(Ok(()))) {
                break;
            }
            sent += len;
        }
        sent
    }

    /// Ends the content.
    pub(crate) fn finish(&mut self) {
        self.send
            .send_data(Bytes::new(), true)
            .expect("the stream is open");
    }

    /// Ends the content with trailers.
    pub(crate) fn finish_with(&mut self, name: &str, value: &str) {
        let trailers = map(&vec![(name.to_owned(), value.to_owned())]);
        self.send
            .send_trailers(trailers)
            .expect("the stream is open");
    }

    /// Resets the stream.
    pub(crate) fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The head of the response; content is read with [`read`](Self::read).
    pub(crate) fn head(&mut self) -> Result<Received, String> {
        let response = self.response.take().expect("the head is read once");
        let answered = within("the head of a response", final_head(response));
        let (response, interim) = answered.map_err(|error| error.to_string())?;
        let received = Received::head(&response, interim);
        self.receive = Some(response.into_body());
        Ok(received)
    }

    /// The next piece of content; empty at its end.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>, String> {
        let receive = self.receive.as_mut().expect("the head was read");
        let Some(data) = within("content", receive.data()) else {
            return Ok(Vec::new());
        };
        let data = data.map_err(|error| error.to_string())?;
        let released = receive.flow_control().release_capacity(data.len());
        released.map_err(|error| error.to_string())?;
        Ok(data.to_vec())
    }

    /// Reads until `len` bytes of content have arrived.
    pub(crate) fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < len {
            let part = self.read().expect("the stream goes on");
            assert!(
                !part.is_empty(),
                "the end after {} of {len} bytes",
                received.len()
            );
            received.extend(part);
        }
        received
    }

    /// The trailers, once the content has ended.
    pub(crate) fn trailers(&mut self) -> Fields {
        let receive = self.receive.as_mut().expect("the head was read");
        let trailers = within("trailers", receive.trailers()).expect("the stream ends well");
        trailers.map(|map| fields_of(&map)).unwrap_or_default()
    }
}

/// The client side of HTTP/2; afterwards, the peer's settings are known.
fn start(io: Io) -> Wire {
    let started = within("a handshake of HTTP/2", async {
        let (send, mut connection) = h2::client::handshake(io).await?;
        let mut ping = connection.ping_pong().expect("it is asked for once");
        let connection = tokio::spawn(connection);
        // A peer that answers this has sent its settings before.
        ping.ping(Ping::opaque()).await?;
        Ok::<_, h2::Error>((send, connection))
    });
    let (send, connection) = started.expect("the peer speaks HTTP/2");
    Wire::Http2 { send, connection }
}

/// The final response to a request with `method`.
fn response(pipe: &mut Pipe, method: &str) -> Result<Received, String> {
    let mut interim = Vec::new();
    loop {
        let ended = pipe.end() == Some(End::Closed);
        let parsed = parse(pipe.received(), Role::Response(method), ended);
        match parsed {
            Some(message)
                if message.complete || message.fault.is_some() || pipe.end().is_some() =>
            {
                pipe.take(message.len);
                if !message.is_interim() {
                    return Ok(Received::of(message, interim));
                }
                interim.push((message.status(), text_of(&message.fields)));
            }
            _ if pipe.end().is_some() => {
                return Err(format!("{:?}", pipe.end()));
            }
            _ => {
                pipe.fill();
            }
        }
    }
}

type Head = (Response<RecvStream>, Vec<(u16, Fields)>);

/// The final head, and the interim ones before it.
async fn final_head(mut response: ResponseFuture) -> Result<Head, h2::Error> {
    let mut interim = Vec::new();
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
            interim.push((head.status().as_u16(), fields_of(head.headers())));
        }
        Pin::new(&mut response).poll(cx)
    })
    .await?;
    Ok((head, interim))
}

async fn exchange(send: SendRequest<Bytes>, ask: Ask, form: Form) -> Result<Received, String> {
    let mut ready = send.ready().await.map_err(|error| error.to_string())?;
    let has_content = ask.has_content();
    let sent = ready.send_request(ask.head(form), !has_content);
    let (response, mut send) = sent.map_err(|error| error.to_string())?;
    let sending = async {
        if has_content {
            send_content(&mut send, &ask).await?;
        }
        Ok::<_, h2::Error>(send)
    };
    let receiving = async {
        let (response, interim) = final_head(response)
            .await
            .map_err(|error| error.to_string())?;
        let mut received = Received::head(&response, interim);
        match super::http2::read(&mut response.into_body()).await {
            Ok((body, trailers)) => (received.body, received.trailers) = (body, trailers),
            Err(error) => received.fault = Some(error.to_string()),
        }
        Ok(received)
    };
    // A server may answer before it has read everything; then the rest does not matter.
    let (_sent, received) = tokio::join!(sending, receiving);
    received
}

async fn send_content(send: &mut SendStream<Bytes>, ask: &Ask) -> Result<(), h2::Error> {
    for part in &ask.parts {
        send_all(send, part, false).await?;
    }
    match ask.trailers.is_empty() {
        true => send.send_data(Bytes::new(), true),
        false => send.send_trailers(map(&ask.trailers)),
    }
}

/// Sends a CONNECT; returns its stream if it was accepted.
async fn converse(
    send: SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(Received, Option<Io>), h2::Error> {
    let (response, send) = send.ready().await?.send_request(request, false)?;
    let (response, interim) = final_head(response).await?;
    let mut received = Received::head(&response, interim);
    let mut body = response.into_body();
    if (200..300).contains(&received.status) {
        return Ok((received, Some(Box::new(StreamIo::new(send, body)))));
    }
    match super::http2::read(&mut body).await {
        Ok((body, trailers)) => (received.body, received.trailers) = (body, trailers),
        Err(error) => received.fault = Some(error.to_string()),
    }
    Ok((received, None))
}
