//! One attempt at an upstream connection: the request out, the response in.
//!
//! A request without content goes out in one write and its response is read after it. Content is relayed beside the
//! response: an upstream may answer early, and its answer gets through while the client is still sending.

use std::convert::Infallible;
use std::io;

use super::reach::Destination;
use super::{Delivered, Exchange, Progress, client_has_gone, unless_reset};
use crate::buffers;
use crate::collect::Collected;
use crate::error::{ExchangeError, Peer, Step};
use crate::http1::{self, BodyDecoder, BodyEncoder, BodyFraming, RequestForward};
use crate::plugins::ContentHooks;
use crate::relay::{BodyRelay, ContentHook, Patience, RelayError};
use crate::splice;
use crate::stream::{MessageStream, Reader, Writer};
use crate::turn::Steps;

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
        destination: &Destination,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let out = self.outbound_head(destination, progress);
        if self.has_content() {
            // Boxed: most requests have no content, and idle connections need not be large for those that have.
            let turn = self.converse_with_content(out, client, upstream, progress);
            return Box::pin(turn).await;
        }
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let stall = self.worker.config.timeouts.upstream_idle;
        let sent = to_upstream.write_all(&out, stall).await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Upstream, Step::SendHead, error))?;
        progress.is_sent.set(true);
        let patience = self.worker.config.timeouts.upstream_response;
        from_upstream.deadline().arm(patience);
        let (from_client, mut to_client) = client.split();
        let download = std::pin::pin!(self.receive(&mut from_upstream, &mut to_client, progress));
        // Boxed, as a future that waits for readiness is large and kept twice here.
        unless_reset(Box::pin(from_client.reset()), download).await
    }

    /// The request's head as it goes out.
    fn outbound_head(&mut self, destination: &Destination, progress: &Progress) -> Vec<u8> {
        self.decline_extensions();
        let form = self.route(destination).request_form();
        progress
            .is_for_parent
            .set(form != http1::RequestForm::Origin);
        let options = RequestForward {
            via: self.via_for(destination, form),
            drop_fields: &self.worker.config.disable_headers,
            framing: self.outbound_framing(),
            upgrade: http1::requested_upgrade(&self.head),
            form,
        };
        let mut out = buffers::small();
        http1::forward_request(&self.head, &options, &mut out);
        out
    }

    async fn converse_with_content(
        &mut self,
        out: Vec<u8>,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let timeouts = self.worker.config.timeouts;
        let framing = self.outbound_framing();
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        // The upstream's time begins when it has the request; until then the upload has its own limits.
        let answer_within = from_upstream.deadline();
        answer_within.disarm();
        let patience = Patience {
            sender: timeouts.client_idle,
            receiver: timeouts.upstream_idle,
        };
        let mut content = Content {
            decoder: BodyDecoder::new(self.framing),
            begun: Vec::new(),
            hooks: None,
        };
        // Kept until the upstream has answered: it may have to be sent again.
        let mut whole: Option<Box<Collected>> = None;
        match (self.upload.is_done, self.upload.collected.take()) {
            (true, collected) => whole = collected,
            (false, Some(collected)) => {
                content.begun = collected.content;
                content.decoder = collected.decoder;
            }
            (false, None) => {}
        }
        if let (None, Some(session), Some(plan)) = (&whole, &self.session, &self.upload.plan) {
            content.hooks = Some(ContentHooks::new(session, plan, &self.head, None));
        }
        let kept = whole.as_deref();
        let upload = async {
            let sent = match kept {
                Some(whole) => send_whole(out, whole, framing, patience, &mut to_upstream).await,
                None => {
                    let (from, to) = (&mut from_client, &mut to_upstream);
                    send_content(out, content, framing, patience, from, to).await
                }
            };
            if !progress.is_answered.get() {
                answer_within.arm(timeouts.upstream_response);
            }
            sent?;
            progress.is_sent.set(true);
            from_client.reset().await;
            Err(NotSent::ByClient(client_has_gone()))
        };
        let download = self.receive(&mut from_upstream, &mut to_client, progress);
        let delivered = both(upload, download).await;
        self.upload.collected = whole;
        Ok(match delivered? {
            // Answered before the request was over: neither connection can be used again.
            Delivered::Final {
                client_may_continue,
                ..
            } if !progress.is_sent.get() => Delivered::Final {
                upstream_is_reusable: false,
                client_may_continue,
            },
            delivered => delivered,
        })
    }
}

/// The content of a request that is passed on as it comes.
struct Content {
    decoder: BodyDecoder,
    /// What was read of it before.
    begun: Vec<u8>,
    hooks: Option<ContentHooks>,
}

/// Sends the request, head and body, as the client's bytes arrive.
async fn send_content(
    out: Vec<u8>,
    mut content: Content,
    framing: BodyFraming,
    patience: Patience,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
) -> Result<(), NotSent> {
    let mut written = 0;
    let mut relay = BodyRelay {
        decoder: content.decoder,
        encoder: encoder(framing),
        out,
        begun: content.begun,
        hook: content
            .hooks
            .as_mut()
            .map(|hooks| hooks as &mut dyn ContentHook),
        patience,
        may_splice: splice::IS_AVAILABLE,
        steps: Steps::default(),
        written: &mut written,
    };
    relay.run(from, to).await.map_err(|error| match error {
        RelayError::Receiver(_) => NotSent::UpstreamRefused,
        RelayError::Sender(cause) => NotSent::ByClient(ExchangeError {
            peer: Peer::Client,
            step: Step::ReadBody,
            cause,
        }),
        RelayError::Hook(error) => NotSent::ByClient(ExchangeError::content(Peer::Client, error)),
    })
}

/// Sends a request whose content is all here.
async fn send_whole(
    mut out: Vec<u8>,
    whole: &Collected,
    framing: BodyFraming,
    patience: Patience,
    to: &mut Writer<'_>,
) -> Result<(), NotSent> {
    let encoder = encoder(framing);
    if !whole.content.is_empty() {
        encoder.begin_chunk(&mut out, whole.content.len());
    }
    let mut end = Vec::new();
    if !whole.content.is_empty() {
        encoder.end_chunk(&mut end);
    }
    encoder.finish(&mut end, whole.decoder.trailers());
    let mut slices = [
        io::IoSlice::new(&out),
        io::IoSlice::new(&whole.content),
        io::IoSlice::new(&end),
    ];
    let sent = to.write_all_vectored(&mut slices, patience.receiver).await;
    buffers::give_back(out);
    sent.map_err(|_| NotSent::UpstreamRefused)
}

fn encoder(framing: BodyFraming) -> BodyEncoder {
    match framing {
        BodyFraming::Chunked => BodyEncoder::Chunked,
        _ => BodyEncoder::Identity,
    }
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
