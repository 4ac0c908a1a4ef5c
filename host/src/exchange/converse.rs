//! One attempt at an upstream connection: the request out, the response in.
//!
//! A request without content goes out in one write and its response is read after it. Content is relayed beside the
//! response: an upstream may answer early, and its answer gets through while the client is still sending.

use super::{Delivered, Exchange, Progress};
use crate::buffers;
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::{self, BodyDecoder, BodyEncoder, BodyFraming, RequestForward};
use crate::relay::{BodyRelay, Patience, RelayError};
use crate::stream::{MessageStream, Reader, Writer};

/// What became of a request's content.
enum Upload {
    /// It was sent whole.
    Done,
    /// The upstream takes no more of it; it may still answer.
    Refused,
    /// The client did not send it whole, or not correctly.
    Failed(ExchangeError),
}

impl Exchange {
    /// One attempt: the request there, the response back, both at once when there is a body.
    pub(super) async fn converse(
        &mut self,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let mut out = buffers::small();
        let options = RequestForward {
            via: &self.worker.config.via,
            drop_fields: &self.worker.config.disable_headers,
            framing: self.framing,
            upgrade: http1::requested_upgrade(&self.head),
        };
        http1::forward_request(&self.head, &options, &mut out);
        if self.has_content() {
            // Boxed: most requests have no content, and idle connections need not be large for those that have.
            return Box::pin(self.converse_with_content(out, client, upstream, progress)).await;
        }
        let timeouts = self.worker.config.timeouts;
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let sent = to_upstream.write_all(&out, timeouts.upstream_idle).await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Upstream, Step::SendHead, error))?;
        from_upstream.deadline().arm(timeouts.upstream_response);
        self.receive(&mut from_upstream, &mut client.writer(), progress)
            .await
    }

    async fn converse_with_content(
        &mut self,
        out: Vec<u8>,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let timeouts = self.worker.config.timeouts;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let answer_within = from_upstream.deadline();
        answer_within.arm(timeouts.upstream_response);
        let patience = Patience {
            sender: timeouts.client_idle,
            receiver: timeouts.upstream_idle,
        };
        let upload = send_content(
            out,
            self.framing,
            patience,
            &mut from_client,
            &mut to_upstream,
            || {
                answer_within.arm(timeouts.upstream_response);
            },
        );
        let download = self.receive(&mut from_upstream, &mut to_client, progress);
        match both(upload, download).await {
            (Some(Upload::Failed(error)), _) => Err(error),
            (Some(Upload::Done), delivered) => delivered,
            // Answered before the request was over: neither connection can be used again.
            (_, Ok(Delivered::Final { .. })) => Ok(Delivered::Final {
                upstream_is_reusable: false,
                client_may_continue: false,
            }),
            (_, other) => other,
        }
    }
}

/// Sends the request, head and body, as the client's bytes arrive.
async fn send_content(
    out: Vec<u8>,
    framing: BodyFraming,
    patience: Patience,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
    on_progress: impl Fn(),
) -> Upload {
    let mut written = 0;
    let relay = BodyRelay {
        decoder: BodyDecoder::new(framing),
        encoder: match framing {
            BodyFraming::Chunked => BodyEncoder::Chunked,
            _ => BodyEncoder::Identity,
        },
        out,
        hook: None,
        patience,
        written: &mut written,
    };
    match relay.run(from, to, on_progress).await {
        Ok(()) => Upload::Done,
        Err(RelayError::Receiver(_)) => Upload::Refused,
        Err(RelayError::Sender(cause)) => Upload::Failed(ExchangeError {
            peer: Peer::Client,
            step: Step::ReadBody,
            cause,
        }),
        Err(RelayError::Hook(failure)) => {
            Upload::Failed(ExchangeError::new(Peer::Plugin, Step::Hook, failure))
        }
    }
}

/// Runs the upload beside the download. Ends with the download, or when the client fails to send its body.
async fn both(
    upload: impl Future<Output = Upload>,
    download: impl Future<Output = Result<Delivered, ExchangeError>>,
) -> (Option<Upload>, Result<Delivered, ExchangeError>) {
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            end = &mut upload, if sent.is_none() => {
                if let Upload::Failed(_) = end {
                    let never = ExchangeError { peer: Peer::Client, step: Step::ReadBody, cause: Cause::Closed };
                    return (Some(end), Err(never));
                }
                sent = Some(end);
            }
            delivered = &mut download => return (sent, delivered),
        }
    }
}
