//! Content on its way through the plugins: piece by piece, or whole.
//!
//! Each plugin gets what the one before it made of the content, in the form it has asked for: where a plugin wants
//! the content coding undone and its neighbour does not, it is undone and redone between them. What nobody changed goes
//! on as it came, except that content which streams through a decoder is coded anew.

use std::task::{Context, Poll};

use plugin_api::abi::{code, flag};

use super::plan::{BodyPlan, Delivery, Way};
use super::session::{Session, Subject, Verdict};
use crate::content_coding::{Coding, DecodeError, DecodeFailure, Decoder, Encoder};
use crate::error::PluginFailure;
use crate::http1::{RequestHead, ResponseHead, Trailers};
use crate::relay::{ContentError, ContentHook, Seen};

/// How many bytes one coded byte may decode to, on average after the first MiB.
const MAX_RATIO: u32 = 100;

/// The plugins that see one body pass.
pub(crate) struct ContentHooks {
    session: Session,
    way: Way,
    stages: Vec<Stage>,
    is_plain: bool,
    has_trailer_hooks: bool,
}

/// What happens to each piece, one after the other.
enum Stage {
    Hook(usize),
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
            stages.push(Stage::Hook(step.plugin));
        }
        if let (true, Some(coding)) = (is_decoded, plan.coding) {
            stages.push(Stage::between(coding, false));
        }
        Self {
            session: session.clone(),
            way: plan.way,
            is_plain: stages.iter().all(|stage| matches!(stage, Stage::Hook(_))),
            stages,
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
        if self.way == Way::Upstream {
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
    way: Way,
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
            let Stage::Hook(plugin) = stage else { continue };
            let current: &[u8] = match seen {
                Seen::Unchanged => content,
                Seen::Replaced => replacement,
            };
            if let Some(emitted) = self.call(*plugin, current, is_end)? {
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
            Stage::Hook(plugin) => match self.call(*plugin, content, is_end)? {
                None => self.feed(rest, content, is_end, out),
                Some(emitted) => self.feed(rest, &emitted, is_end, out),
            },
            Stage::Decode(decoder) => {
                if let Some(decoder) = decoder {
                    let sink = |piece: &[u8]| self.feed(rest, piece, false, out);
                    decoder.decode(content, sink).map_err(failed)?;
                }
                if let (true, Some(decoder)) = (is_end, decoder.take()) {
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
        plugin: usize,
        content: &[u8],
        is_end: bool,
    ) -> Result<Option<Vec<u8>>, ContentError> {
        let hook = self.way.chunk_hook();
        let Some(state) = self.session.state(plugin) else {
            return Ok(None);
        };
        let flags = if is_end { flag::END } else { 0 };
        match self.session.call_with(plugin, hook, state, content, flags) {
            code::PROCEED => Ok(None),
            code::REPLACED => Ok(Some(
                self.session
                    .with(|inner| std::mem::take(&mut inner.emitted)),
            )),
            code::CLOSE => Err(ContentError::Closed(
                self.session.chain().plugins[plugin].name.clone(),
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
    Content(Vec<u8>),
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
        let mut plain = match undone(plan, &content)? {
            Undone::Content(plain) => plain,
            Undone::TooLong(len) => return Ok(Whole::TooLong { content, len }),
        };
        self.with(|inner| inner.attach(subject));
        let _detached_at_the_end = DetachWhole(self);
        let mut body = WholeBody {
            current: content,
            is_decoded: false,
            is_changed: false,
        };
        for step in &plan.steps {
            if let Some(coding) = plan.coding {
                body.turn(step.is_decoded, coding, &mut plain)?;
            }
            if let Some(verdict) = self
                .give(plan.way, step.plugin, step.delivery, &mut body)
                .await?
            {
                return Ok(Whole::Ended(verdict));
            }
        }
        if let Some(coding) = plan.coding {
            body.turn(false, coding, &mut plain)?;
        }
        Ok(Whole::Content(body.current))
    }

    async fn give(
        &self,
        way: Way,
        plugin: usize,
        delivery: Delivery,
        body: &mut WholeBody,
    ) -> Result<Option<Verdict>, ContentError> {
        let walk = Walk { session: self, way };
        if delivery == Delivery::Stream {
            if let Some(emitted) = walk.call(plugin, &body.current, true)? {
                body.current = emitted;
                body.is_changed = true;
            }
            return Ok(None);
        }
        let content = std::mem::take(&mut body.current);
        self.with(|inner| inner.show_body(content));
        let verdict = self.decide(plugin, way.body_hook()).await;
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
    fn turn(
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
        let mut other = Vec::new();
        if is_decoded {
            let mut decoder = Decoder::new(coding, MAX_RATIO);
            let sink = |piece: &[u8]| -> Result<(), ContentError> {
                other.extend_from_slice(piece);
                Ok(())
            };
            decoder.decode(&self.current, sink).map_err(failed)?;
            decoder.finish().map_err(ContentError::Coded)?;
        } else {
            let mut encoder = Encoder::new(coding);
            encoder
                .encode(&self.current, &mut other)
                .and_then(|()| encoder.finish(&mut other))
                .map_err(|_| ContentError::NotEncoded)?;
        }
        self.current = other;
        Ok(())
    }
}

enum Undone {
    /// Empty when nobody wants it.
    Content(Vec<u8>),
    /// At least of this length.
    TooLong(u64),
}

/// The content without its coding, within the limit of those who collect it.
fn undone(plan: &BodyPlan, content: &[u8]) -> Result<Undone, ContentError> {
    let (Some(coding), true) = (plan.coding, plan.steps.iter().any(|step| step.is_decoded)) else {
        return Ok(Undone::Content(Vec::new()));
    };
    let limit = plan.largest_limit().unwrap_or(u64::MAX);
    let mut plain = Vec::new();
    let mut decoder = Decoder::new(coding, MAX_RATIO);
    let sink = |piece: &[u8]| {
        plain.extend_from_slice(piece);
        match plain.len() as u64 > limit {
            true => Err(plain.len() as u64),
            false => Ok(()),
        }
    };
    match decoder.decode(content, sink) {
        Ok(()) => {}
        Err(DecodeFailure::Sink(len)) => return Ok(Undone::TooLong(len)),
        Err(DecodeFailure::Coded(error)) => return Err(ContentError::Coded(error)),
    }
    decoder.finish().map_err(ContentError::Coded)?;
    Ok(Undone::Content(plain))
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
