//! One attempt on an upstream connection: sends the request, receives the response.
//!
//! A request without content is sent in one write, and its response is read after it. Content is relayed concurrently
//! with the response: an upstream may respond early, and its response is forwarded while the client is still sending.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use super::reach::Destination;
use super::upload::KeptContent;
use super::{Delivered, Exchange, Moment, Progress, client_has_gone, unless_gone};
use crate::buffers;
use crate::collect::Collected;
use crate::config::Timeouts;
use crate::deadline::{Company, Deadline};
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::{self, BodyEncoder, BodyFraming, FieldId, RequestForward, Version};
use crate::relay::{BodyRelay, ContentHook, Keeping, Patience, RelayError};
use crate::splice;
use crate::stream::{MessageStream, Reader, Writer};
use crate::turn::Steps;

/// Why a request's content was not sent whole.
enum NotSent {
    /// The upstream takes no more of it; it may still answer.
    UpstreamRefused,
    /// The client did not send it whole, or not correctly, or it has gone; or the upstream has stalled.
    Failed(ExchangeError),
}

impl Exchange {
    /// One attempt: the request there, the response back, both at once when there is a body.
    pub(super) async fn converse(
        &mut self,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        destination: &Destination,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let out = self.outbound_head(destination, progress);
        let progress = &*progress;
        if self.has_content() {
            // Boxed: most requests have no content, and idle connections need not be large for those that have.
            let turn = self.converse_with_content(out, client, upstream, progress);
            return Box::pin(turn).await;
        }
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let stall = self.timeouts().stall;
        let sent = to_upstream.write_all(&out, stall).await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Upstream, Step::SendHead, error))?;
        progress.note_sent();
        self.record.timeline.note(Moment::Sent);
        let patience = self.timeouts().upstream_response;
        from_upstream.deadline().arm(patience);
        let (from_client, mut to_client) = client.split();
        // Boxed, as a future that waits for readiness is large and kept twice here.
        let gone = Box::pin(gone(
            from_client,
            self.timeouts().half_closed,
            [from_upstream.deadline(), to_client.deadline()],
        ));
        let download = std::pin::pin!(self.receive(&mut from_upstream, &mut to_client, progress));
        unless_gone(gone, download).await
    }

    /// The request's head as it goes out.
    fn outbound_head(&mut self, destination: &Destination, progress: &mut Progress) -> Vec<u8> {
        self.decline_extensions();
        let form = self.route(destination).request_form();
        progress.is_for_parent = form != http1::RequestForm::Origin;
        let options = RequestForward {
            via: self.via_for(destination, form),
            drop_fields: &self.generation.config.disable_headers,
            framing: self.outbound_framing(),
            upgrade: http1::requested_upgrade(&self.head),
            form,
        };
        let mut out = buffers::small();
        http1::forward_request(&self.head, &options, &mut out);
        out
    }

    /// Whether the client waits for the upstream's word before it sends content.
    fn expects_continue(&self, client: &MessageStream) -> bool {
        let mut expectations = self.head.fields().all(FieldId::Expect);
        expectations.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
            && self.head.version() != Version::Http10
            && !client.has_buffered()
    }

    async fn converse_with_content(
        &mut self,
        out: Vec<u8>,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let timeouts = *self.timeouts();
        let timeline = self.record.timeline.clone();
        let framing = self.outbound_framing();
        let has_sent = self
            .upload
            .kept
            .as_ref()
            .is_some_and(|kept| kept.has_content());
        let is_invited = has_sent || !self.expects_continue(client);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        // The upstream's time begins when it has the request; until then the upload has its own limits.
        let answer_within = from_upstream.deadline();
        answer_within.disarm();
        let clocks = Clocks {
            company: Company([
                from_client.deadline(),
                to_upstream.deadline(),
                answer_within,
                to_client.deadline(),
            ]),
            content_within: from_client.deadline(),
            client_takes_within: to_client.deadline(),
            answer_within,
            timeouts,
            progress,
        };
        let patience = Patience {
            sender: timeouts.stall,
            receiver: timeouts.stall,
        };
        let KeptContent {
            text,
            head_len,
            content_len,
            held,
            is_over,
            decoder,
            begun,
            mut hooks,
        } = self.content_with(out);
        let is_answered = || progress.is_answered();
        let keeping = progress.may_repeat.then(|| {
            Box::new(Keeping {
                is_answered: &is_answered,
                head_len,
                content_len,
                written: 0,
                is_intact: true,
                held,
            })
        });
        let mut written = 0;
        let mut relay = BodyRelay {
            decoder,
            encoder: encoder(framing),
            out: text,
            begun,
            is_over,
            keeping,
            hook: hooks.as_mut().map(|hooks| hooks as &mut dyn ContentHook),
            patience,
            may_splice: splice::IS_AVAILABLE,
            steps: Steps::default(),
            written: &mut written,
        };
        // Kept until the upstream has answered: it may have to be sent again.
        let whole = self.upload.collected.take();
        let upload = async {
            let sent = match &whole {
                Some(whole) => {
                    let head = std::mem::take(&mut relay.out);
                    send_whole(head, whole, framing, patience, &mut to_upstream).await
                }
                None => {
                    if !is_invited {
                        let (from, to) = (&mut from_client, &mut to_upstream);
                        await_invitation(&relay.out, &clocks, from, to).await?;
                        relay.note_head_written();
                    }
                    let sent = relay.run(&mut from_client, &mut to_upstream).await;
                    sent.map_err(NotSent::from)
                }
            };
            if !progress.is_answered() {
                answer_within.arm(timeouts.upstream_response);
            }
            sent?;
            progress.note_sent();
            timeline.note(Moment::Sent);
            clocks.content_within.disarm();
            let watch = clocks.content_within.another();
            let others = [answer_within, clocks.client_takes_within];
            let gone = from_client.gone(&watch, timeouts.half_closed, &others);
            let mut gone = std::pin::pin!(gone);
            poll_fn(|cx| {
                relay.release_if_answered();
                gone.as_mut().poll(cx)
            })
            .await;
            Err(NotSent::Failed(client_has_gone()))
        };
        let download = self.receive(&mut from_upstream, &mut to_client, progress);
        let delivered = clocks.watch(both(upload, download)).await;
        let is_kept = delivered.is_err() && whole.is_none() && relay.is_kept();
        let BodyRelay {
            decoder,
            out,
            is_over,
            keeping,
            ..
        } = relay;
        self.upload.collected = whole;
        self.upload.kept = match keeping {
            Some(kept) if is_kept => Some(Box::new(KeptContent {
                text: out,
                head_len: kept.head_len,
                content_len: kept.content_len,
                held: kept.held,
                is_over,
                decoder,
                begun: Vec::new(),
                hooks,
            })),
            _ => {
                buffers::give_back(out);
                None
            }
        };
        Ok(match delivered? {
            // Answered before the request was over: neither connection can be used again.
            Delivered::Answered { persistence, .. } if !progress.is_sent() => Delivered::Answered {
                persistence,
                upstream_is_reusable: false,
            },
            delivered => delivered,
        })
    }
}

/// Ends when a client has gone whose request has been sent, see [`Reader::gone`].
async fn gone(mut client: Reader<'_>, half_closed: Duration, others: [&Deadline; 2]) {
    let watch = client.deadline();
    client.gone(watch, half_closed, &others).await;
}

/// The limits of an exchange whose request and response are under way at the same time.
struct Clocks<'a> {
    company: Company<'a>,
    content_within: &'a Deadline,
    client_takes_within: &'a Deadline,
    answer_within: &'a Deadline,
    timeouts: Timeouts,
    progress: &'a Progress,
}

impl Clocks<'_> {
    /// Polls both messages, each with the time that it has left after what the other one has done.
    async fn watch<T>(&self, both: impl Future<Output = T>) -> T {
        let mut both = std::pin::pin!(both);
        poll_fn(|cx| {
            self.company.renew(self.least_stall());
            let polled = both.as_mut().poll(cx);
            if self.progress.take_invited() {
                // From now on it is the client that is waited for.
                self.answer_within.disarm();
                self.content_within.arm(self.timeouts.stall);
            }
            polled
        })
        .await
    }

    fn least_stall(&self) -> Duration {
        match self.progress.is_event_stream() {
            true => self.timeouts.tunnel_idle,
            false => Duration::ZERO,
        }
    }
}

/// Sends the head of a request whose client waits to be told that its content may come. Meanwhile the upstream's time
/// runs, and not the client's. Ends when the client begins to send.
async fn await_invitation(
    head: &[u8],
    clocks: &Clocks<'_>,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
) -> Result<(), NotSent> {
    let Clocks {
        content_within,
        answer_within,
        timeouts,
        progress,
        ..
    } = clocks;
    let sent = to.write_all(head, timeouts.stall).await;
    sent.map_err(not_taken)?;
    progress.await_invitation();
    if !progress.is_answered() {
        answer_within.arm(timeouts.upstream_response);
    }
    content_within.disarm();
    let filled = from.fill().await;
    if progress.end_invitation() && !progress.is_answered() {
        answer_within.disarm();
    }
    let not_sent = |cause| NotSent::Failed(ExchangeError::new(Peer::Client, Step::ReadBody, cause));
    match filled {
        Ok(0) => Err(not_sent(Cause::Closed)),
        Ok(_) => Ok(()),
        Err(error) => Err(not_sent(Cause::io(error))),
    }
}

/// What follows when the upstream does not take the request.
fn not_taken(error: io::Error) -> NotSent {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            NotSent::Failed(ExchangeError::io(Peer::Upstream, Step::SendBody, error))
        }
        _ => NotSent::UpstreamRefused,
    }
}

impl From<RelayError> for NotSent {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Receiver(error) => not_taken(error),
            RelayError::Sender(cause) => Self::Failed(ExchangeError {
                peer: Peer::Client,
                step: Step::ReadBody,
                cause,
            }),
            RelayError::Hook(error) => Self::Failed(ExchangeError::content(Peer::Client, error)),
        }
    }
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
    sent.map_err(not_taken)
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
                NotSent::Failed(error) => return Err(error),
            },
            delivered = &mut download => return delivered,
        }
    }
}
