//! One attempt at an upstream connection: the request out, the response in.
//!
//! A request without content goes out in one write and its response is read after it. Content is relayed beside the
//! response: an upstream may answer early, and its answer gets through while the client is still sending.

use std::convert::Infallible;

use super::{Delivered, Exchange, Progress, client_has_gone, unless_reset};
use crate::buffers;
use crate::error::{ExchangeError, Peer, Step};
use crate::http1::{self, BodyDecoder, BodyEncoder, BodyFraming, RequestForward};
use crate::relay::{BodyRelay, Patience, RelayError};
use crate::splice;
use crate::stream::{MessageStream, Reader, Writer};

/// Why a request's content was not sent whole.
enum NotSent {
    /// The upstream takes no more of it; it may still answer.
    UpstreamRefused,
    /// The client did not send it whole, or not correctly, or it has gone.
    ByClient(ExchangeError),
}

impl Exchange {
    /// One attempt: the request there, the response back, both at once when there is a body.
    pub(super) async fn converse(
        &mut self,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let mut out = buffers::small();
        let options = RequestForward {
            via: &self.worker.config.via,
            drop_fields: &self.worker.config.disable_headers,
            framing: self.framing,
            upgrade: http1::requested_upgrade(&self.head),
            form: http1::RequestForm::Origin,
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
        progress.is_sent.set(true);
        from_upstream.deadline().arm(timeouts.upstream_response);
        let (from_client, mut to_client) = client.split();
        let download = std::pin::pin!(self.receive(&mut from_upstream, &mut to_client, progress));
        unless_reset(from_client.reset(), download).await
    }

    async fn converse_with_content(
        &mut self,
        out: Vec<u8>,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let timeouts = self.worker.config.timeouts;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        // The upstream's time begins when it has the request; until then the upload has its own limits.
        let answer_within = from_upstream.deadline();
        answer_within.disarm();
        let patience = Patience {
            sender: timeouts.client_idle,
            receiver: timeouts.upstream_idle,
        };
        let framing = self.framing;
        let upload = async {
            let sent =
                send_content(out, framing, patience, &mut from_client, &mut to_upstream).await;
            if !progress.is_answered.get() {
                answer_within.arm(timeouts.upstream_response);
            }
            sent?;
            progress.is_sent.set(true);
            from_client.reset().await;
            Err(NotSent::ByClient(client_has_gone()))
        };
        let download = self.receive(&mut from_upstream, &mut to_client, progress);
        let delivered = both(upload, download).await?;
        Ok(match delivered {
            // Answered before the request was over: neither connection can be used again.
            Delivered::Final { .. } if !progress.is_sent.get() => Delivered::Final {
                upstream_is_reusable: false,
                client_may_continue: false,
            },
            delivered => delivered,
        })
    }
}

/// Sends the request, head and body, as the client's bytes arrive.
async fn send_content(
    out: Vec<u8>,
    framing: BodyFraming,
    patience: Patience,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
) -> Result<(), NotSent> {
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
        may_splice: splice::IS_AVAILABLE,
        written: &mut written,
    };
    relay.run(from, to).await.map_err(|error| match error {
        RelayError::Receiver(_) => NotSent::UpstreamRefused,
        RelayError::Sender(cause) => NotSent::ByClient(ExchangeError {
            peer: Peer::Client,
            step: Step::ReadBody,
            cause,
        }),
        RelayError::Hook(failure) => {
            NotSent::ByClient(ExchangeError::new(Peer::Plugin, Step::Hook, failure))
        }
    })
}

/// Runs the upload beside the download. Ends with the download, or when the client fails.
async fn both(
    upload: impl Future<Output = Result<Infallible, NotSent>>,
    download: impl Future<Output = Result<Delivered, ExchangeError>>,
) -> Result<Delivered, ExchangeError> {
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    let mut is_uploading = true;
    loop {
        tokio::select! {
            biased;
            Err(end) = &mut upload, if is_uploading => match end {
                NotSent::UpstreamRefused => is_uploading = false,
                NotSent::ByClient(error) => return Err(error),
            },
            delivered = &mut download => return delivered,
        }
    }
}
