//! The plan for a body: which plugins see it, in what form, and which of them need it whole.
//!
//! Created once the head is known and every plugin has set its mode for this body. A body that no plugin needs has no
//! plan, and is relayed as without plugins.

use plugin_api::abi::{BodyMode, delivery, over};

use super::{Hook, Session};
use crate::content_coding::{Coding, Codings};
use crate::error::{ContentRefused, ContentRefusedReason};
use crate::http1::Fields;
use crate::side::Side;

impl Side {
    pub(super) const fn chunk_hook(self) -> Hook {
        match self {
            Self::Client => Hook::HandleClientChunk,
            Self::Upstream => Hook::HandleUpstreamChunk,
        }
    }

    pub(super) const fn body_hook(self) -> Hook {
        match self {
            Self::Client => Hook::HandleClientBody,
            Self::Upstream => Hook::HandleUpstreamBody,
        }
    }

    pub(super) const fn trailers_hook(self) -> Hook {
        match self {
            Self::Client => Hook::HandleClientTrailers,
            Self::Upstream => Hook::HandleUpstreamTrailers,
        }
    }
}

/// What the head says about the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyFacts {
    pub(crate) codings: Codings,
    /// A part of something (RFC 9110 §14.4): its coding cannot be undone.
    pub(crate) is_partial: bool,
    /// Nobody on the way may code it otherwise (RFC 9110 §7.7).
    pub(crate) is_final_form: bool,
}

impl BodyFacts {
    pub(crate) fn of(fields: Fields<'_>) -> Self {
        Self {
            codings: Codings::of(fields.named("content-encoding")),
            is_partial: fields.named("content-range").next().is_some(),
            is_final_form: fields
                .named("cache-control")
                .flat_map(|value| value.split(|&byte| byte == b','))
                .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-transform")),
        }
    }
}

/// One plugin's part in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) plugin: usize,
    pub(super) delivery: Delivery,
    pub(super) is_decoded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Piece by piece, and nothing is changed.
    Watch,
    Stream,
    Whole {
        limit: u64,
        may_pass: bool,
    },
}

/// What happens to one body.
#[derive(Debug)]
pub(crate) struct BodyPlan {
    pub(super) way: Side,
    pub(super) steps: Vec<Step>,
    /// The coding that is undone for some.
    pub(super) coding: Option<Coding>,
    /// Somebody listens to trailers.
    pub(super) has_trailer_hooks: bool,
}

impl Session {
    /// What happens to the body that follows a head; `None` when no plugin wants any of it.
    pub(crate) fn body_plan(
        &self,
        way: Side,
        facts: BodyFacts,
    ) -> Result<Option<BodyPlan>, ContentRefused> {
        let has_trailer_hooks = self.has_listeners(way.trailers_hook());
        if !self.wants_bodies(way) {
            return Ok(None);
        }
        let mut plan = BodyPlan {
            way,
            steps: Vec::with_capacity(self.listeners(way.chunk_hook()).len()),
            coding: match facts.codings {
                Codings::One(coding) if !facts.is_partial => Some(coding),
                _ => None,
            },
            has_trailer_hooks,
        };
        for plugin in 0..self.chain().plugins.len() {
            if let Some(step) = self.step(way, plugin, facts)? {
                plan.steps.push(step);
            }
        }
        Ok((has_trailer_hooks || !plan.steps.is_empty()).then_some(plan))
    }

    /// Whether any plugin listens to bodies that go this way.
    pub(crate) fn wants_bodies(&self, way: Side) -> bool {
        [way.chunk_hook(), way.body_hook(), way.trailers_hook()]
            .into_iter()
            .any(|hook| self.has_listeners(hook))
    }

    fn step(
        &self,
        way: Side,
        plugin: usize,
        facts: BodyFacts,
    ) -> Result<Option<Step>, ContentRefused> {
        let loaded = self.plugin(plugin);
        let streams = loaded.listens_to(way.chunk_hook());
        let collects = loaded.listens_to(way.body_hook());
        let mode = self.mode(way, plugin);
        let may_pass = mode.over == over::PASS;
        let delivery = match mode.delivery {
            delivery::WHOLE if collects => Delivery::Whole {
                limit: self.chain().body_limit(loaded.name(), mode.limit),
                may_pass,
            },
            delivery::WHOLE | delivery::STREAM if streams => Delivery::Stream,
            delivery::WATCH if streams => Delivery::Watch,
            _ => return Ok(None),
        };
        let is_decoded = mode.decode != 0 && !matches!(facts.codings, Codings::Identity);
        // Content that streams is coded anew whatever the plugin does, whole content only if it changes.
        if is_decoded && facts.is_final_form && !matches!(delivery, Delivery::Whole { .. }) {
            return Ok(None);
        }
        if is_decoded && (facts.is_partial || matches!(facts.codings, Codings::Unknown)) {
            if may_pass || !matches!(delivery, Delivery::Whole { .. }) {
                return Ok(None);
            }
            return Err(ContentRefused {
                plugin: loaded.name().to_owned(),
                reason: ContentRefusedReason::Coding,
            });
        }
        Ok(Some(Step {
            plugin,
            delivery,
            is_decoded,
        }))
    }

    fn mode(&self, way: Side, plugin: usize) -> BodyMode {
        let said = self.with(|inner| {
            let of_plugin = |said: &&(usize, Side, BodyMode)| said.0 == plugin && said.1 == way;
            inner
                .body_modes
                .iter()
                .rev()
                .find(of_plugin)
                .map(|said| said.2)
        });
        let loaded = self.plugin(plugin);
        said.unwrap_or(match way {
            Side::Client => loaded.client_body,
            Side::Upstream => loaded.upstream_body,
        })
    }
}

impl BodyPlan {
    /// Whether anybody has to have the whole content before anything of it is sent on.
    pub(crate) fn has_whole(&self) -> bool {
        self.largest_limit().is_some()
    }

    /// Whether anybody may change the content.
    pub(crate) fn may_edit(&self) -> bool {
        self.is_recoded()
            || self
                .steps
                .iter()
                .any(|step| step.delivery != Delivery::Watch)
    }

    /// Whether content that streams is coded anew on its way.
    pub(crate) fn is_recoded(&self) -> bool {
        self.coding.is_some() && self.steps.iter().any(|step| step.is_decoded)
    }

    /// Everybody has seen the content; trailers may still come.
    pub(crate) fn end_content(&mut self) {
        self.steps.clear();
    }

    /// The most that has to be collected, in bytes.
    pub(crate) fn largest_limit(&self) -> Option<u64> {
        let limits = self.steps.iter().filter_map(|step| match step.delivery {
            Delivery::Whole { limit, .. } => Some(limit),
            Delivery::Stream | Delivery::Watch => None,
        });
        limits.max()
    }

    /// The most that has to be collected without its coding, in bytes.
    pub(super) fn largest_undone_limit(&self) -> Option<u64> {
        let limits = self.steps.iter().filter_map(|step| match step.delivery {
            Delivery::Whole { limit, .. } if step.is_decoded => Some(limit),
            _ => None,
        });
        limits.max()
    }

    /// Whether content of `len` bytes without its coding is too long for anybody who wants it whole and so.
    pub(super) fn exceeds_decoded_limit(&self, len: u64) -> bool {
        let is_short =
            |step: &Step| matches!(step.delivery, Delivery::Whole { limit, .. } if limit < len);
        self.steps
            .iter()
            .any(|step| step.is_decoded && is_short(step))
    }

    /// The content has turned out to be of at least `len` bytes: those for whom that is too long and who let it pass
    /// get its pieces, if they listen to them, and are not waited for any more.
    ///
    /// # Errors
    /// When a plugin does not let it pass.
    pub(crate) fn exceed_if_longer(
        &mut self,
        len: u64,
        session: &Session,
    ) -> Result<(), ContentRefused> {
        self.exceed(session, |_, limit| limit < len)
    }

    /// The content has turned out to be of at least `len` bytes without its coding: as
    /// [`exceed_if_longer`](Self::exceed_if_longer), for those who want it so. If nobody does, it is more than
    /// may be collected at all, and nobody gets it whole.
    ///
    /// # Errors
    /// When a plugin does not let it pass.
    pub(crate) fn exceed_undone(
        &mut self,
        len: u64,
        session: &Session,
    ) -> Result<(), ContentRefused> {
        let is_decoded = self.largest_undone_limit().is_some();
        self.exceed(session, |step, limit| {
            step.is_decoded == is_decoded && limit < len
        })
    }

    fn exceed(
        &mut self,
        session: &Session,
        is_too_long: impl Fn(&Step, u64) -> bool,
    ) -> Result<(), ContentRefused> {
        let chunk_hook = self.way.chunk_hook();
        let mut refused = None;
        self.steps.retain_mut(|step| {
            let loaded = session.plugin(step.plugin);
            match step.delivery {
                Delivery::Whole { limit, may_pass } if is_too_long(step, limit) => {
                    if !may_pass && refused.is_none() {
                        refused = Some(ContentRefused {
                            plugin: loaded.name().to_owned(),
                            reason: ContentRefusedReason::TooLong(limit),
                        });
                    }
                    step.delivery = Delivery::Stream;
                    loaded.listens_to(chunk_hook)
                }
                _ => true,
            }
        });
        match refused {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }
}
