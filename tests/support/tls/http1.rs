//! The origin's side of HTTP/1.1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{Answer, Content, Ending, ReceivedRequest};
use super::origin::{ClientSide, Shared};
use super::stream_io::Io;
use super::{Fields, Version, web_socket};
use crate::support::{Message, Role, parse};

/// Serves requests until the client ends the connection.
pub(super) async fn serve(mut io: Io, shared: &Shared, client: &ClientSide) {
    let mut received = Vec::new();
    while let Some(request) = request(&mut io, &mut received).await {
        let mut seen = seen(&request, client);
        let (body, trailers) = (std::mem::take(&mut seen.body), seen.trailers.clone());
        let answer = (shared.handler)(&seen);
        let index = shared.record(seen);
        shared.complete(index, body, trailers, true);
        if let Some(gate) = &answer.gate {
            gate.passed().await;
        }
        if matches!(answer.content, Content::WebSocket) {
            let key = request.field("Sec-WebSocket-Key").unwrap_or_default();
            if io
                .write_all(agreement(&answer, &key).as_bytes())
                .await
                .is_ok()
            {
                web_socket::echo(&mut io).await;
            }
            return;
        }
        let sent = io.write_all(&encode(&answer, &request)).await;
        if sent.is_err() || io.flush().await.is_err() || answer.ending == Ending::Broken {
            return;
        }
    }
    drop(io.shutdown().await);
}

/// The next complete request; `None` if there are no more.
async fn request(io: &mut Io, received: &mut Vec<u8>) -> Option<Message> {
    let mut is_invited = false;
    loop {
        if let Some(request) = parse(received, Role::Request, false) {
            if request.complete {
                received.drain(..request.len);
                return Some(request);
            }
            if request.fault.is_some() {
                return None;
            }
            if !is_invited && request.field("Expect").is_some() {
                is_invited = true;
                io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
                io.flush().await.ok()?;
            }
        }
        let mut buffer = [0; 65536];
        let len = io.read(&mut buffer).await.ok().filter(|&len| len > 0)?;
        received.extend_from_slice(&buffer[..len]);
        // TLS, for example, with an origin without TLS.
        if !received[0].is_ascii_graphic() {
            drop(
                io.write_all(b"HTTP/1.1 400 Answer\r\nContent-Length: 0\r\n\r\n")
                    .await,
            );
            return None;
        }
    }
}

fn seen(request: &Message, client: &ClientSide) -> ReceivedRequest {
    ReceivedRequest {
        connection: client.connection,
        version: Version::Http1,
        method: request.method().to_owned(),
        path: request.target().to_owned(),
        authority: request.field("Host").unwrap_or_default(),
        scheme: None,
        protocol: None,
        fields: text_of(&request.fields),
        body: request.body.clone(),
        trailers: text_of(&request.trailers),
        is_complete: true,
        server_name: client.server_name.clone(),
        client_certificate: client.certificate.clone(),
    }
}

pub(super) fn text_of(fields: &[(String, Vec<u8>)]) -> Fields {
    let text = |(name, value): &(String, Vec<u8>)| {
        (name.clone(), String::from_utf8_lossy(value).into_owned())
    };
    fields.iter().map(text).collect()
}

fn agreement(answer: &Answer, key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n{}\r\n",
        web_socket::accept(key),
        lines(&answer.fields)
    )
}

fn encode(answer: &Answer, request: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    for (status, fields) in &answer.interim {
        out.extend(format!("HTTP/1.1 {status} Interim\r\n{}\r\n", lines(fields)).into_bytes());
    }
    out.extend(
        format!(
            "HTTP/1.1 {} Answer\r\n{}",
            answer.status,
            lines(&answer.fields)
        )
        .bytes(),
    );
    let (parts, trailers) = match &answer.content {
        Content::Echo => (vec![request.body.clone()], text_of(&request.trailers)),
        Content::Parts(parts) => (parts.clone(), answer.trailers.clone()),
        Content::Whole(whole) => (vec![whole.clone()], answer.trailers.clone()),
        Content::None | Content::WebSocket | Content::Reset(_) | Content::ResetBehind(_) => {
            (Vec::new(), Vec::new())
        }
    };
    let whole = parts.concat();
    let has_length = trailers.is_empty() && !matches!(answer.content, Content::Parts(_));
    let has_content = request.method() != "HEAD" && !matches!(answer.status, 204 | 304);
    let is_broken = answer.ending == Ending::Broken;
    let states_length = has_content || !whole.is_empty();
    match (has_length && !is_broken, states_length) {
        (_, false) => {}
        (true, true) => out.extend(format!("Content-Length: {}\r\n", whole.len()).bytes()),
        (false, true) => out.extend(b"Transfer-Encoding: chunked\r\n"),
    }
    out.extend(b"\r\n");
    if !has_content {
        return out;
    }
    if has_length && !is_broken {
        out.extend(whole);
        return out;
    }
    for part in parts.iter().filter(|part| !part.is_empty()) {
        out.extend(format!("{:x}\r\n", part.len()).bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    if !is_broken {
        out.extend(format!("0\r\n{}\r\n", lines(&trailers)).bytes());
    }
    out
}

fn lines(fields: &Fields) -> String {
    let line = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
    fields.iter().map(line).collect()
}
