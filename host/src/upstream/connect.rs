//! CONNECT through a parent proxy (RFC 9110 §9.3.6).
//!
//! Any final status other than 2xx is a failure of the parent, including 407: the credentials for the parent belong to
//! the proxy, so the client is not asked for them. Bytes after the response of the parent come from the destination and
//! stay buffered.

use std::io;
use std::time::Duration;

use super::failure::ParentFailure;
use super::route::Route;
use crate::buffers;
use crate::http1::{HeadKind, HeadLimits, ResponseHead};
use crate::stream::{MessageStream, ReadHeadError, Reader};

/// Interim responses that are skipped.
const MAX_INTERIM: usize = 10;

/// Requests a connection to the destination of `route`. The caller limits the total time; `stall` limits single writes.
pub(super) async fn handshake(
    stream: &mut MessageStream,
    route: &Route<'_>,
    authorization: Option<&[u8]>,
    limits: &HeadLimits,
    stall: Duration,
) -> Result<(), ParentFailure> {
    let (mut reader, mut writer) = stream.split();
    let request = request(route, authorization);
    writer
        .write_all(&request, stall)
        .await
        .map_err(ParentFailure::Io)?;
    for _ in 0..=MAX_INTERIM {
        match status(&mut reader, limits).await? {
            100..=199 => {}
            200..=299 => return Ok(()),
            status => return Err(ParentFailure::Refused(status)),
        }
    }
    Err(ParentFailure::TooManyInterim)
}

fn request(route: &Route<'_>, authorization: Option<&[u8]>) -> Vec<u8> {
    let authority = route.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if !route.via.is_empty() {
        crate::http1::write_field(&mut request, "Via", route.via);
    }
    if let Some(authorization) = authorization {
        crate::http1::write_field(&mut request, "Proxy-Authorization", authorization);
    }
    request.extend_from_slice(b"\r\n");
    request
}

async fn status(reader: &mut Reader<'_>, limits: &HeadLimits) -> Result<u16, ParentFailure> {
    let received = reader
        .read_head(HeadKind::Response, limits, || ())
        .await
        .map_err(|error| match error {
            ReadHeadError::Head(error) => ParentFailure::Head(error),
            ReadHeadError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                ParentFailure::Io(error)
            }
            ReadHeadError::Io(_) | ReadHeadError::Closed | ReadHeadError::CutOff => {
                ParentFailure::Closed
            }
        })?;
    let (status, used) =
        match ResponseHead::parse(received.text, received.start, buffers::lines(), limits) {
            Ok(head) => (Ok(head.status()), head.into_buffers()),
            Err(refused) => (
                Err(ParentFailure::Head(refused.error)),
                (refused.text, refused.lines),
            ),
        };
    buffers::give_back_head(used);
    status
}
