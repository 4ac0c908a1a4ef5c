//! Passes content through the plugins: piece by piece, or whole.
//!
//! Each plugin gets the output of the previous one, in the form that it requests: if a plugin needs decoded content and
//! its neighbour does not, the content is decoded and encoded between them. Unchanged content is forwarded as it
//! arrived, except that content which streams through a decoder is encoded again.

use std::task::{Context, Poll};

use plugin_api::abi::{code, flag};

use super::exchange::ExchangePlugins;
use super::exchange_state::{ExchangeState, Subject};
use super::listener::Verdict;
use super::plan::{BodyListener, BodyPlan, Delivery};
use crate::content_coding::{Coding, DecodeError, DecodeFailure, Decoder, Encoder};
use crate::error::{ContentError, PluginFailure, PluginFailureKind};
use crate::held::HeldBytes;
use crate::http1::{RequestHead, ResponseHead, Trailers};
use crate::relay::{ContentHook, Seen};
use crate::side::Side;

/// The most bytes that one encoded byte may decode to, on average after the first MiB.
const MAX_RATIO: u32 = 100;
/// Content that is decoded or encoded in one go, in bytes: what it decodes to keeps the worker busy for some milliseconds
/// at most.
const MAX_CODED_PIECE: usize = 8 * 1024;
/// Whole content that is decoded and encoded on the worker itself, in bytes; larger content goes to a blocking thread.
const MAX_CODED_ON_WORKER: usize = 16 * 1024;

/// The plugins that see one body pass.
pub(crate) struct ContentHooks {
    exchange: ExchangePlugins,
    side: Side,
    stages: Vec<Stage>,
    is_plain: bool,
    has_begun: bool,
    has_trailer_hooks: bool,
}

/// What happens to each piece, one after the other.
enum Stage {
    Hook(BodyListener),
    /// None once the content is over.
    Decode(Option<Box<Decoder>>),
    Encode(Option<Box<Encoder>>),
}

impl ContentHooks {
    /// The heads are shown as they are now; the response stays where it is until this is dropped.
    pub(crate) fn new(
        exchange: &ExchangePlugins,
        plan: &BodyPlan,
        request: &RequestHead,
        response: Option<&ResponseHead>,
    ) -> Self {
        exchange.with(|state| state.show(request, response));
        let mut stages = Vec::with_capacity(plan.listeners.len());
        let mut is_decoded = false;
        for listener in &plan.listeners {
            if listener.is_decoded != is_decoded
                && let Some(coding) = plan.coding
            {
                stages.push(Stage::between(coding, listener.is_decoded));
                is_decoded = listener.is_decoded;
            }
            stages.push(Stage::Hook(*listener));
        }
        if let (true, Some(coding)) = (is_decoded, plan.coding) {
            stages.push(Stage::between(coding, false));
        }
        Self {
            exchange: exchange.clone(),
            side: plan.side,
            is_plain: stages.iter().all(|stage| matches!(stage, Stage::Hook(_))),
            stages,
            has_begun: false,
            has_trailer_hooks: plan.has_trailer_hooks,
        }
    }
}

impl Stage {
    fn between(coding: Coding, is_decoded: bool) -> Self {
        if is_decoded {
            Self::Decode(Some(Box::new(Decoder::new(coding, MAX_RATIO))))
        } else {
            Self::Encode(Some(Box::new(Encoder::new(coding))))
        }
    }
}

impl Drop for ContentHooks {
    fn drop(&mut self) {
        if self.side == Side::Upstream {
            self.exchange.with(ExchangeState::hide_response);
        }
    }
}

impl ContentHook for ContentHooks {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.exchange.poll_not_waiting(cx)
    }

    fn see(
        &mut self,
        content: &[u8],
        is_end: bool,
        replacement: &mut Vec<u8>,
    ) -> Result<Seen, ContentError> {
        if content.is_empty() && !self.has_begun {
            // A body without content.
            return Ok(Seen::Unchanged);
        }
        self.has_begun = true;
        let piece = Piece {
            exchange: &self.exchange,
            side: self.side,
        };
        if self.is_plain {
            return piece.plain(&self.stages, content, is_end, replacement);
        }
        piece.feed(&mut self.stages, content, is_end, replacement)?;
        Ok(Seen::Replaced)
    }

    fn max_piece(&self) -> usize {
        match self.is_plain {
            true => usize::MAX,
            false => MAX_CODED_PIECE,
        }
    }

    fn see_trailers(&mut self, trailers: &mut Trailers) -> Result<(), ContentError> {
        if !self.has_trailer_hooks {
            return Ok(());
        }
        self.exchange
            .run_trailers(self.side.trailers_hook(), trailers)
            .map_err(ContentError::Plugin)
    }
}

/// One piece of content on its way through the stages.
#[derive(Clone, Copy)]
struct Piece<'a> {
    exchange: &'a ExchangePlugins,
    side: Side,
}

impl Piece<'_> {
    /// Hooks alone: what no plugin changes is not copied.
    fn plain(
        self,
        stages: &[Stage],
        content: &[u8],
        is_end: bool,
        replacement: &mut Vec<u8>,
    ) -> Result<Seen, ContentError> {
        let mut seen = Seen::Unchanged;
        for stage in stages {
            let Stage::Hook(listener) = stage else {
                continue;
            };
            let current: &[u8] = match seen {
                Seen::Unchanged => content,
                Seen::Replaced => replacement,
            };
            if current.is_empty() && !is_end {
                break;
            }
            if let Some(emitted) = self.call(*listener, current, is_end)? {
                *replacement = emitted;
                seen = Seen::Replaced;
            }
        }
        Ok(seen)
    }

    /// Hooks and codings; what comes out at the end is appended to `out`.
    fn feed(
        self,
        stages: &mut [Stage],
        content: &[u8],
        is_end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        let Some((stage, rest)) = stages.split_first_mut() else {
            out.extend_from_slice(content);
            return Ok(());
        };
        if content.is_empty() && !is_end {
            return Ok(());
        }
        match stage {
            Stage::Hook(listener) => match self.call(*listener, content, is_end)? {
                None => self.feed(rest, content, is_end, out),
                Some(emitted) => self.feed(rest, &emitted, is_end, out),
            },
            Stage::Decode(decoder) => {
                if let Some(decoder) = decoder {
                    let sink = |piece: &[u8]| self.feed(rest, piece, false, out);
                    decoder.decode(content, sink).map_err(failed)?;
                }
                if is_end && let Some(decoder) = decoder.take() {
                    decoder.finish().map_err(ContentError::Coded)?;
                    return self.feed(rest, b"", true, out);
                }
                Ok(())
            }
            Stage::Encode(encoder) => {
                let mut coded = Vec::new();
                let encoded = match (encoder.as_mut(), is_end) {
                    (Some(encoder), false) => encoder
                        .encode(content, &mut coded)
                        .and_then(|()| encoder.flush(&mut coded)),
                    (Some(working), true) => working.encode(content, &mut coded).and_then(|()| {
                        encoder
                            .take()
                            .map_or(Ok(()), |encoder| encoder.finish(&mut coded))
                    }),
                    (None, _) => Ok(()),
                };
                encoded.map_err(|_| ContentError::NotEncoded)?;
                self.feed(rest, &coded, is_end, out)
            }
        }
    }

    /// What a plugin puts in the place of `content`; `None`: nothing.
    fn call(
        self,
        listener: BodyListener,
        content: &[u8],
        is_end: bool,
    ) -> Result<Option<Vec<u8>>, ContentError> {
        let plugin = self
            .exchange
            .listener(listener.plugin, self.side.chunk_hook());
        let flags = if is_end { flag::END } else { 0 };
        match plugin.call_with(content, flags) {
            code::PROCEED => Ok(None),
            code::REPLACED if listener.delivery == Delivery::Watch => {
                let message = "it replaced content that it only observes".to_owned();
                Err(plugin.failed(message, PluginFailureKind::Broken).into())
            }
            code::REPLACED => Ok(Some(plugin.take_emitted().unwrap_or_default())),
            code::CLOSE => Err(ContentError::Closed(plugin.name().to_owned())),
            result => Err(plugin.failure(result).into()),
        }
    }
}

fn failed(failure: DecodeFailure<ContentError>) -> ContentError {
    match failure {
        DecodeFailure::Coded(error) => ContentError::Coded(error),
        DecodeFailure::Sink(error) => error,
    }
}

/// What became of content that plugins were given whole.
pub(crate) enum WholeOutcome {
    /// It goes on.
    Content { content: Vec<u8>, is_changed: bool },
    /// A plugin has ended the exchange, or failed.
    Ended(Verdict),
    /// The decoded size exceeds every limit: here is the content, still encoded.
    TooLong { content: Vec<u8>, len: u64 },
}

impl ExchangePlugins {
    /// Gives the whole content to the plugins, one after the other.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run_whole(
        &self,
        plan: &BodyPlan,
        content: Vec<u8>,
        subject: Subject<'_>,
    ) -> Result<WholeOutcome, ContentError> {
        let max_len = self.chain().max_body_buffer();
        let (content, mut plain) = match decode(plan, content, max_len).await? {
            Decoded::Content { coded, plain } => (coded, plain),
            Decoded::TooLong { coded, len } => {
                return Ok(WholeOutcome::TooLong {
                    content: coded,
                    len,
                });
            }
        };
        if plan.exceeds_decoded_limit(plain.len() as u64) {
            let len = plain.len() as u64;
            return Ok(WholeOutcome::TooLong { content, len });
        }
        // What it takes besides the content as it came, which its owner counts.
        let mut held = HeldBytes::default();
        held.set(plain.len() as u64).map_err(ContentError::Full)?;
        self.with(|state| state.attach(subject));
        let _attached = AttachedWhole(self);
        let mut body = WholeBody {
            current: content,
            is_decoded: false,
            is_changed: false,
        };
        let mut coding = plan.coding;
        for listener in &plan.listeners {
            if let Some(coding) = coding {
                body.turn(listener.is_decoded, coding, &mut plain).await?;
            }
            if let Some(verdict) = self.give(plan.side, *listener, &mut body).await? {
                return Ok(WholeOutcome::Ended(verdict));
            }
            if !body.is_decoded && body.is_changed {
                // A plugin that replaces encoded content may have changed its Content-Encoding.
                coding = self.with(|state| state.coding(plan.side));
            }
        }
        if let Some(coding) = coding {
            body.turn(false, coding, &mut plain).await?;
        }
        Ok(WholeOutcome::Content {
            content: body.current,
            is_changed: body.is_changed,
        })
    }

    async fn give(
        &self,
        side: Side,
        listener: BodyListener,
        body: &mut WholeBody,
    ) -> Result<Option<Verdict>, ContentError> {
        if !matches!(listener.delivery, Delivery::Whole { .. }) {
            let piece = Piece {
                exchange: self,
                side,
            };
            if let Some(emitted) = piece.call(listener, &body.current, true)? {
                body.current = emitted;
                body.is_changed = true;
            }
            return Ok(None);
        }
        let content = std::mem::take(&mut body.current);
        self.with(|state| state.lend_content(content, listener.is_decoded));
        let plugin = self.listener(listener.plugin, side.body_hook());
        let verdict = plugin.decide().await;
        let content = self.with(ExchangeState::take_content);
        body.current = content.bytes;
        body.is_changed |= content.is_replaced;
        Ok(match verdict {
            Verdict::Proceed => None,
            verdict => Some(verdict),
        })
    }
}

/// Heads are attached to the exchange. Detaches them, and drops the content, when plugins are through with it.
struct AttachedWhole<'a>(&'a ExchangePlugins);

impl Drop for AttachedWhole<'_> {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.detach();
            drop(state.take_content());
        });
    }
}

struct WholeBody {
    current: Vec<u8>,
    is_decoded: bool,
    is_changed: bool,
}

impl WholeBody {
    /// Decodes or encodes the content. `kept` has the other form of what came, until a plugin changes it.
    async fn turn(
        &mut self,
        is_decoded: bool,
        coding: Coding,
        kept: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        if self.is_decoded == is_decoded {
            return Ok(());
        }
        self.is_decoded = is_decoded;
        if !self.is_changed {
            std::mem::swap(&mut self.current, kept);
            return Ok(());
        }
        let current = std::mem::take(&mut self.current);
        self.current = off_worker(current.len(), move || match is_decoded {
            true => decoded(coding, &current, u64::MAX)
                .map(|(plain, _)| plain)
                .map_err(ContentError::Coded),
            false => encoded(coding, &current),
        })
        .await?;
        Ok(())
    }
}

enum Decoded {
    /// `plain` is empty if no plugin needs decoded content.
    Content { coded: Vec<u8>, plain: Vec<u8> },
    /// At least of this length.
    TooLong { coded: Vec<u8>, len: u64 },
}

/// The decoded content, within the limits of the plugins that need it whole; within `max_len` if none does.
async fn decode(plan: &BodyPlan, coded: Vec<u8>, max_len: u64) -> Result<Decoded, ContentError> {
    let (Some(coding), true) = (
        plan.coding,
        plan.listeners.iter().any(|listener| listener.is_decoded),
    ) else {
        let plain = Vec::new();
        return Ok(Decoded::Content { coded, plain });
    };
    let limit = plan.largest_decoded_limit().unwrap_or(max_len);
    off_worker(coded.len(), move || {
        let (plain, is_whole) = decoded(coding, &coded, limit)?;
        Ok(match is_whole {
            true => Decoded::Content { coded, plain },
            false => Decoded::TooLong {
                coded,
                len: plain.len() as u64,
            },
        })
    })
    .await
}

/// Runs work that takes long for long content; on another thread if the content is long.
async fn off_worker<T: Send + 'static>(
    len: usize,
    work: impl FnOnce() -> Result<T, ContentError> + Send + 'static,
) -> Result<T, ContentError> {
    if len <= MAX_CODED_ON_WORKER {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(ContentError::NotEncoded))
}

/// The decoded content; `false`: it is longer than `limit`, and decoding was stopped.
fn decoded(coding: Coding, coded: &[u8], limit: u64) -> Result<(Vec<u8>, bool), DecodeError> {
    let mut plain = Vec::new();
    let mut decoder = Decoder::new(coding, MAX_RATIO);
    let sink = |piece: &[u8]| {
        plain.extend_from_slice(piece);
        match plain.len() as u64 > limit {
            true => Err(()),
            false => Ok(()),
        }
    };
    match decoder.decode(coded, sink) {
        Ok(()) => decoder.finish()?,
        Err(DecodeFailure::Sink(())) => return Ok((plain, false)),
        Err(DecodeFailure::Coded(error)) => return Err(error),
    }
    Ok((plain, true))
}

fn encoded(coding: Coding, plain: &[u8]) -> Result<Vec<u8>, ContentError> {
    let mut coded = Vec::new();
    let mut encoder = Encoder::new(coding);
    encoder
        .encode(plain, &mut coded)
        .and_then(|()| encoder.finish(&mut coded))
        .map_err(|_| ContentError::NotEncoded)?;
    Ok(coded)
}

impl From<DecodeError> for ContentError {
    fn from(error: DecodeError) -> Self {
        Self::Coded(error)
    }
}

impl From<PluginFailure> for ContentError {
    fn from(failure: PluginFailure) -> Self {
        Self::Plugin(failure)
    }
}
