//! One attempt on an upstream connection: sends the request, receives the response.
//!
//! A request without content is sent in one write, and its response is read after it. Content is relayed concurrently
//! with the response: an upstream may respond early, and its response is forwarded while the client is still sending.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use super::destination::Destination;
use super::progress::{Progress, Sent};
use super::reach::Connected;
use super::request::EXTENSIONS;
use super::response::{Delivered, Download};
use super::state::{Exchange, client_has_gone, unless_gone};
use super::timeline::Moment;
use super::upload::KeptContent;
use crate::buffers;
use crate::collect::Collected;
use crate::config::Timeouts;
use crate::deadline::{Company, Deadline};
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::{self, BodyEncoder, BodyFraming, RequestForward};
use crate::plugins::{ExchangePlugins, Hook};
use crate::relay::{BodyRelay, ContentHook, Keeping, Patience, RelayError};
use crate::splice;
use crate::stream::{MessageStream, Reader, Writer};
use crate::turn::Steps;

/// Why a request's content was not sent whole.
enum UploadError {
    /// The upstream reads no more of it; it may still answer.
    UpstreamRefused,
    /// The client did not send all of it, broke its framing, or disconnected; or the upstream has stalled.
    Failed(ExchangeError),
}

impl Exchange {
    /// One attempt: sends the request and delivers the response, both at once if there is content.
    pub(super) async fn attempt(
        &mut self,
        client: &mut MessageStream,
        connected: &mut Connected,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let out = self.outbound_head(&connected.destination, progress);
        let upstream = &mut connected.upstream.stream;
        let progress = &*progress;
        if self.request.has_content() {
            // Boxed: most requests have no content.
            let turn = self.attempt_with_content(out, client, upstream, progress);
            return Box::pin(turn).await;
        }
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let sent = self.send_head(out, &mut to_upstream, progress).await?;
        from_upstream
            .deadline()
            .arm(self.timeouts().upstream_response);
        let (from_client, mut to_client) = client.split();
        // Boxed, as a future that waits for readiness is large and kept twice here.
        let gone = Box::pin(gone(
            from_client,
            self.timeouts().half_closed,
            [from_upstream.deadline(), to_client.deadline()],
        ));
        let download = Download {
            exchange: self,
            from: &mut from_upstream,
            to: &mut to_client,
            progress,
        };
        let download = std::pin::pin!(download.run(sent));
        unless_gone(gone, download).await
    }

    /// Sends a request without content.
    async fn send_head(
        &mut self,
        out: Vec<u8>,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Sent, ExchangeError> {
        let sent = to.write_all(&out, self.timeouts().stall).await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Upstream, Step::SendHead, error))?;
        self.record.timeline.note(Moment::Sent);
        Ok(progress.note_sent())
    }

    /// The request's head as it is sent.
    fn outbound_head(&mut self, destination: &Destination, progress: &mut Progress) -> Vec<u8> {
        self.decline_extensions();
        let form = self.route(destination).request_form();
        progress.is_for_parent = form != http1::RequestForm::Origin;
        let options = RequestForward {
            via: self.via_for(destination, form),
            drop_fields: &self.generation.config.disable_headers,
            framing: self.request.outbound_framing(),
            upgrade: http1::requested_upgrade(&self.request.head),
            form,
        };
        let mut out = buffers::small();
        http1::forward_request(&self.request.head, &options, &mut out);
        out
    }

    /// Removes the extensions from a request for a WebSocket whose messages plugins read: compression and other extensions
    /// change what frames mean (RFC 6455 §9).
    pub(super) fn decline_extensions(&mut self) {
        if !self.watches_websocket() || !self.request.head.fields().named(EXTENSIONS).any(|_| true)
        {
            return;
        }
        self.request.head.fields_mut().remove(EXTENSIONS);
        if let Some(plugins) = &self.plugins {
            plugins.forget_request();
        }
    }

    /// Whether this is a request for a WebSocket whose messages a plugin listens to.
    pub(super) fn watches_websocket(&self) -> bool {
        let hook = Hook::HandleWebSocketMessage;
        let has_listeners = |plugins: &ExchangePlugins| plugins.has_listeners(hook);
        self.plugins.as_ref().is_some_and(has_listeners)
            && http1::requests_websocket(&self.request.head)
    }

    async fn attempt_with_content(
        &mut self,
        out: Vec<u8>,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let timeouts = *self.timeouts();
        let timeline = self.record.timeline.clone();
        let framing = self.request.outbound_framing();
        let has_sent = self
            .request
            .upload
            .kept
            .as_ref()
            .is_some_and(|kept| kept.has_content());
        let may_send = has_sent || !self.request.expects_continue(client);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        // The upstream's time limit begins when it has the request; until then the upload has its own limits.
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
        let whole = self.request.upload.collected.take();
        let upload = async {
            let sent = match &whole {
                Some(whole) => {
                    let head = std::mem::take(&mut relay.out);
                    send_whole(head, whole, framing, patience, &mut to_upstream).await
                }
                None => {
                    if !may_send {
                        let (from, to) = (&mut from_client, &mut to_upstream);
                        await_continue(&relay.out, &clocks, from, to).await?;
                        relay.note_head_written();
                    }
                    let sent = relay.run(&mut from_client, &mut to_upstream).await;
                    sent.map_err(UploadError::from)
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
            Err(UploadError::Failed(client_has_gone()))
        };
        let download = Download {
            exchange: self,
            from: &mut from_upstream,
            to: &mut to_client,
            progress,
        };
        let download = download.run(progress.note_upload());
        let delivered = clocks.watch(both(upload, download)).await;
        let is_kept = delivered.is_err() && whole.is_none() && relay.is_kept();
        let BodyRelay {
            decoder,
            out,
            is_over,
            keeping,
            ..
        } = relay;
        self.request.upload.collected = whole;
        self.request.upload.kept = match keeping {
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
        match delivered {
            // Answered before the request was over: neither connection can be used again.
            Ok(delivered) if !progress.is_sent() => Ok(delivered.before_request_end()),
            delivered => delivered,
        }
    }
}

/// Ends when the client disconnects, see [`Reader::gone`]. Its request has been sent.
async fn gone(mut client: Reader<'_>, half_closed: Duration, others: [&Deadline; 2]) {
    let watch = client.deadline();
    client.gone(watch, half_closed, &others).await;
}

/// The time limits of an exchange whose request and response are relayed at the same time.
struct Clocks<'a> {
    company: Company<'a>,
    content_within: &'a Deadline,
    client_takes_within: &'a Deadline,
    answer_within: &'a Deadline,
    timeouts: Timeouts,
    progress: &'a Progress,
}

impl Clocks<'_> {
    /// Polls both messages. Progress of one extends the time limit of the other.
    async fn watch<T>(&self, both: impl Future<Output = T>) -> T {
        let mut both = std::pin::pin!(both);
        poll_fn(|cx| {
            self.company.renew(self.least_stall());
            let polled = both.as_mut().poll(cx);
            if self.progress.take_continue() {
                // From now on the client has to send.
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

/// Sends the head of a request whose client waits for 100 (Continue). Meanwhile the upstream's time limit counts, and not
/// the client's. Ends when the client begins to send.
async fn await_continue(
    head: &[u8],
    clocks: &Clocks<'_>,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
) -> Result<(), UploadError> {
    let Clocks {
        content_within,
        answer_within,
        timeouts,
        progress,
        ..
    } = clocks;
    let sent = to.write_all(head, timeouts.stall).await;
    sent.map_err(not_taken)?;
    progress.await_continue();
    if !progress.is_answered() {
        answer_within.arm(timeouts.upstream_response);
    }
    content_within.disarm();
    let filled = from.fill().await;
    if progress.end_continue() && !progress.is_answered() {
        answer_within.disarm();
    }
    let not_sent =
        |cause| UploadError::Failed(ExchangeError::new(Peer::Client, Step::ReadBody, cause));
    match filled {
        Ok(0) => Err(not_sent(Cause::Closed)),
        Ok(_) => Ok(()),
        Err(error) => Err(not_sent(Cause::io(error))),
    }
}

/// The error of an upload that the upstream does not read.
fn not_taken(error: io::Error) -> UploadError {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            UploadError::Failed(ExchangeError::io(Peer::Upstream, Step::SendBody, error))
        }
        _ => UploadError::UpstreamRefused,
    }
}

impl From<RelayError> for UploadError {
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

/// Sends the request with its whole content.
async fn send_whole(
    mut out: Vec<u8>,
    whole: &Collected,
    framing: BodyFraming,
    patience: Patience,
    to: &mut Writer<'_>,
) -> Result<(), UploadError> {
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

/// Runs the upload concurrently with the download. Ends with the download, or when the upload fails by the client.
async fn both(
    upload: impl Future<Output = Result<Infallible, UploadError>>,
    download: impl Future<Output = Result<Delivered, ExchangeError>>,
) -> Result<Delivered, ExchangeError> {
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    let mut is_uploading = true;
    loop {
        tokio::select! {
            biased;
            Err(end) = &mut upload, if is_uploading => match end {
                UploadError::UpstreamRefused => is_uploading = false,
                UploadError::Failed(error) => return Err(error),
            },
            delivered = &mut download => return delivered,
        }
    }
}
