//! Passes content through the plugins: piece by piece, or whole.
//!
//! Each plugin gets the output of the previous one, in the form that it requests: if a plugin needs decoded content and
//! its neighbour does not, the content is decoded and encoded between them. Unchanged content is forwarded as it
//! arrived, except that content which streams through a decoder is encoded again.

use std::task::{Context, Poll};

use plugin_api::abi::{code, flag};

use super::plan::{BodyPlan, Delivery, Step};
use super::session::{Session, Subject, Verdict};
use crate::content_coding::{Coding, DecodeError, DecodeFailure, Decoder, Encoder};
use crate::error::ContentError;
use crate::error::PluginFailure;
use crate::held::Held;
use crate::http1::{RequestHead, ResponseHead, Trailers};
use crate::relay::{ContentHook, Seen};
use crate::side::Side;

/// How many bytes one coded byte may decode to, on average after the first MiB.
const MAX_RATIO: u32 = 100;
/// Coded content that is undone or redone in one go: what it decodes to keeps the worker busy for some milliseconds
/// at most.
const MAX_CODED_PIECE: usize = 8 * 1024;
/// Whole content whose coding is undone and redone on the worker itself; larger content goes to a blocking thread.
const MAX_CODED_ON_WORKER: usize = 16 * 1024;

/// The plugins that see one body pass.
pub(crate) struct ContentHooks {
    session: Session,
    way: Side,
    stages: Vec<Stage>,
    is_plain: bool,
    has_begun: bool,
    has_trailer_hooks: bool,
}

/// What happens to each piece, one after the other.
enum Stage {
    Hook(Step),
    /// None once the content is over.
    Decode(Option<Box<Decoder>>),
    Encode(Option<Box<Encoder>>),
}

impl ContentHooks {
    /// The heads are shown as they are now; the response stays where it is until this is dropped.
    pub(crate) fn new(
        session: &Session,
        plan: &BodyPlan,
        request: &RequestHead,
        response: Option<&ResponseHead>,
    ) -> Self {
        session.with(|inner| inner.show(request, response));
        let mut stages = Vec::with_capacity(plan.steps.len());
        let mut is_decoded = false;
        for step in &plan.steps {
            if step.is_decoded != is_decoded
                && let Some(coding) = plan.coding
            {
                stages.push(Stage::between(coding, step.is_decoded));
                is_decoded = step.is_decoded;
            }
            stages.push(Stage::Hook(*step));
        }
        if let (true, Some(coding)) = (is_decoded, plan.coding) {
            stages.push(Stage::between(coding, false));
        }
        Self {
            session: session.clone(),
            way: plan.way,
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
        if self.way == Side::Upstream {
            self.session.with(|inner| inner.hide_response());
        }
    }
}

impl ContentHook for ContentHooks {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.poll_quiet(cx)
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
        let walk = Walk {
            session: &self.session,
            way: self.way,
        };
        if self.is_plain {
            return walk.plain(&self.stages, content, is_end, replacement);
        }
        walk.feed(&mut self.stages, content, is_end, replacement)?;
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
        self.session
            .run_trailers(self.way.trailers_hook(), trailers)
            .map_err(ContentError::Plugin)
    }
}

/// One piece of content under way.
#[derive(Clone, Copy)]
struct Walk<'a> {
    session: &'a Session,
    way: Side,
}

impl Walk<'_> {
    /// Hooks alone: what nobody changes is not copied.
    fn plain(
        self,
        stages: &[Stage],
        content: &[u8],
        is_end: bool,
        replacement: &mut Vec<u8>,
    ) -> Result<Seen, ContentError> {
        let mut seen = Seen::Unchanged;
        for stage in stages {
            let Stage::Hook(step) = stage else { continue };
            let current: &[u8] = match seen {
                Seen::Unchanged => content,
                Seen::Replaced => replacement,
            };
            if current.is_empty() && !is_end {
                break;
            }
            if let Some(emitted) = self.call(*step, current, is_end)? {
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
            Stage::Hook(step) => match self.call(*step, content, is_end)? {
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
        step: Step,
        content: &[u8],
        is_end: bool,
    ) -> Result<Option<Vec<u8>>, ContentError> {
        let hook = self.way.chunk_hook();
        let plugin = step.plugin;
        let state = self.session.sure_state(plugin, hook)?;
        let flags = if is_end { flag::END } else { 0 };
        match self.session.call_with(plugin, hook, state, content, flags) {
            code::PROCEED => Ok(None),
            code::REPLACED if step.delivery == Delivery::Watch => {
                let mut failure = self.session.failure(plugin, hook, code::ERROR);
                failure.message = "it replaced content that it only observes".to_owned();
                Err(ContentError::Plugin(failure))
            }
            code::REPLACED => Ok(Some(
                self.session
                    .with(|inner| std::mem::take(&mut inner.emitted)),
            )),
            code::CLOSE => Err(ContentError::Closed(
                self.session.plugin(plugin).name().to_owned(),
            )),
            result => Err(ContentError::Plugin(
                self.session.failure(plugin, hook, result),
            )),
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
pub(crate) enum Whole {
    /// It goes on.
    Content { content: Vec<u8>, is_changed: bool },
    /// A plugin has ended the exchange, or failed.
    Ended(Verdict),
    /// Without its coding it is longer than anybody takes; here it is as it came.
    TooLong { content: Vec<u8>, len: u64 },
}

impl Session {
    /// Gives the whole content to the plugins, one after the other.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run_whole(
        &self,
        plan: &BodyPlan,
        content: Vec<u8>,
        subject: Subject<'_>,
    ) -> Result<Whole, ContentError> {
        let (content, mut plain) = match decode(plan, content, self.chain().max_body_buffer).await?
        {
            Decoded::Content { coded, plain } => (coded, plain),
            Decoded::TooLong { coded, len } => {
                return Ok(Whole::TooLong {
                    content: coded,
                    len,
                });
            }
        };
        if plan.exceeds_decoded_limit(plain.len() as u64) {
            let len = plain.len() as u64;
            return Ok(Whole::TooLong { content, len });
        }
        // What it takes besides the content as it came, which its owner counts.
        let mut held = Held::default();
        held.set(plain.len() as u64).map_err(ContentError::Full)?;
        self.with(|inner| inner.attach(subject));
        let _detached_at_the_end = DetachWhole(self);
        let mut body = WholeBody {
            current: content,
            is_decoded: false,
            is_changed: false,
        };
        let mut coding = plan.coding;
        for step in &plan.steps {
            if let Some(coding) = coding {
                body.turn(step.is_decoded, coding, &mut plain).await?;
            }
            if let Some(verdict) = self.give(plan.way, *step, &mut body).await? {
                return Ok(Whole::Ended(verdict));
            }
            if !body.is_decoded && body.is_changed {
                // Who replaces coded content may have said that it is coded otherwise.
                coding = self.with(|inner| inner.coding(plan.way));
            }
        }
        if let Some(coding) = coding {
            body.turn(false, coding, &mut plain).await?;
        }
        Ok(Whole::Content {
            content: body.current,
            is_changed: body.is_changed,
        })
    }

    async fn give(
        &self,
        way: Side,
        step: Step,
        body: &mut WholeBody,
    ) -> Result<Option<Verdict>, ContentError> {
        let walk = Walk { session: self, way };
        if !matches!(step.delivery, Delivery::Whole { .. }) {
            if let Some(emitted) = walk.call(step, &body.current, true)? {
                body.current = emitted;
                body.is_changed = true;
            }
            return Ok(None);
        }
        let content = std::mem::take(&mut body.current);
        self.with(|inner| inner.show_body(content, step.is_decoded));
        let verdict = self.decide(step.plugin, way.body_hook()).await;
        self.with(|inner| {
            body.current = inner.take_body();
            body.is_changed |= inner.has_new_body;
        });
        Ok(match verdict {
            Verdict::Proceed => None,
            verdict => Some(verdict),
        })
    }
}

/// Detaches the heads and drops the body when plugins are through with it.
struct DetachWhole<'a>(&'a Session);

impl Drop for DetachWhole<'_> {
    fn drop(&mut self) {
        self.0.with(|inner| {
            inner.detach();
            inner.hide_response();
            drop(inner.take_body());
        });
    }
}

struct WholeBody {
    current: Vec<u8>,
    is_decoded: bool,
    is_changed: bool,
}

impl WholeBody {
    /// Undoes or redoes the coding. `kept` has the other form of what came, for as long as nobody changed it.
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
    /// `plain` is empty when nobody wants it.
    Content { coded: Vec<u8>, plain: Vec<u8> },
    /// At least of this length.
    TooLong { coded: Vec<u8>, len: u64 },
}

/// The content without its coding, within the limit of those who collect it so; `max_len` when nobody does.
async fn decode(plan: &BodyPlan, coded: Vec<u8>, max_len: u64) -> Result<Decoded, ContentError> {
    let (Some(coding), true) = (plan.coding, plan.steps.iter().any(|step| step.is_decoded)) else {
        let plain = Vec::new();
        return Ok(Decoded::Content { coded, plain });
    };
    let limit = plan.largest_undone_limit().unwrap_or(max_len);
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

/// Runs work that takes long for long content, on another thread if it is.
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

/// The content without its coding; `false`: it is longer than `limit`, and was given up.
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
