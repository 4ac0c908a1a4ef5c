//! The origin's side of HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};

use super::answer::{Answer, Content, Ending, ReceivedRequest};
use super::origin::{ClientSide, Shared};
use super::stream_io::{Io, StreamIo, send_all};
use super::{Fields, Version, web_socket};

/// The limits of an origin for its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) max_concurrent_streams: u32,
    pub(super) extends_connect: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_concurrent_streams: 250,
            extends_connect: true,
        }
    }
}

/// Serves streams until the connection ends.
pub(super) async fn serve(io: Io, shared: &Arc<Shared>, client: &ClientSide) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(shared.settings.max_concurrent_streams);
    if shared.settings.extends_connect {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (shared, client) = (shared.clone(), client.clone());
        tokio::spawn(async move {
            // Only its client sees a broken stream.
            drop(stream(request, respond, &shared, &client).await);
        });
    }
}

async fn stream(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
    client: &ClientSide,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let seen = seen(&head, client);
    let answer = (shared.handler)(&seen);
    let method = head.method;
    let index = shared.record(seen);
    if let Some(gate) = &answer.gate {
        gate.passed().await;
    }
    for (status, fields) in &answer.interim {
        respond.send_informational(response(*status, fields))?;
    }
    match &answer.content {
        Content::WebSocket => {
            shared.complete(index, Vec::new(), Vec::new(), true);
            let send = respond.send_response(response(200, &answer.fields), false)?;
            web_socket::echo(&mut (Box::new(StreamIo::new(send, body)) as Io)).await;
        }
        Content::Echo => {
            let mut send = respond.send_response(response(200, &answer.fields), false)?;
            let mut received = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                received.extend_from_slice(&data);
                send_all(&mut send, &data, false).await?;
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            shared.complete(index, received, fields_of(&trailers), true);
            match trailers.is_empty() {
                true => send.send_data(Bytes::new(), true)?,
                false => send.send_trailers(trailers)?,
            }
        }
        Content::Reset(reason) => {
            shared.complete(index, Vec::new(), Vec::new(), true);
            respond.send_reset(*reason);
        }
        Content::ResetBehind(reason) => {
            let (received, trailers) = read(&mut body).await?;
            shared.complete(index, received, trailers, true);
            respond.send_reset(*reason);
        }
        _ => {
            // A CONNECT does not end by itself.
            let (received, trailers) = match method == Method::CONNECT {
                true => Default::default(),
                false => read(&mut body).await?,
            };
            shared.complete(index, received, trailers, true);
            let has_content = method != "HEAD" && !matches!(answer.status, 204 | 304);
            send_answer(&answer, has_content, &mut respond).await?;
        }
    }
    Ok(())
}

async fn send_answer(
    answer: &Answer,
    has_content: bool,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut head = response(answer.status, &answer.fields);
    let parts = match &answer.content {
        Content::Whole(whole) => {
            if answer.ending == Ending::Proper {
                head.headers_mut()
                    .insert("content-length", whole.len().into());
            }
            vec![whole.clone()]
        }
        Content::Parts(parts) => parts.clone(),
        _ => Vec::new(),
    };
    let is_empty = !has_content || parts.is_empty();
    if is_empty && answer.trailers.is_empty() && answer.ending == Ending::Proper {
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut send = respond.send_response(head, false)?;
    let ends_here = answer.trailers.is_empty() && answer.ending == Ending::Proper;
    for (number, part) in parts.iter().enumerate() {
        let is_last = ends_here && number + 1 == parts.len();
        send_all(&mut send, part, is_last).await?;
    }
    match answer.ending {
        Ending::Broken => send.send_reset(Reason::INTERNAL_ERROR),
        Ending::Proper if !ends_here => send.send_trailers(map(&answer.trailers))?,
        Ending::Proper => {}
    }
    Ok(())
}

/// The whole body and the trailers.
pub(super) async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Fields), h2::Error> {
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((received, fields_of(&trailers)))
}

fn seen(head: &http::request::Parts, client: &ClientSide) -> ReceivedRequest {
    let path = head.uri.path_and_query();
    ReceivedRequest {
        connection: client.connection,
        version: Version::Http2,
        method: head.method.to_string(),
        path: path.map(ToString::to_string).unwrap_or_default(),
        authority: head
            .uri
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default(),
        scheme: head.uri.scheme_str().map(str::to_owned),
        protocol: head
            .extensions
            .get::<h2::ext::Protocol>()
            .map(|protocol| protocol.as_str().to_owned()),
        fields: fields_of(&head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
        is_complete: false,
        server_name: client.server_name.clone(),
        client_certificate: client.certificate.clone(),
    }
}

fn response(status: u16, fields: &Fields) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().expect("a status of a test");
    *response.headers_mut() = map(fields);
    response
}

pub(super) fn fields_of(map: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

pub(super) fn map(fields: &Fields) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name of a test");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value of a test");
        (name, value)
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(pair) {
        map.append(name, value);
    }
    map
}
