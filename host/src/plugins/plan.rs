//! The plan for a body: which plugins see it, in what form, and which of them need it whole.
//!
//! Created once the head is known and every plugin has set its mode for this body. A body that no plugin needs has no
//! plan, and is relayed as without plugins.

use plugin_api::abi::hook::Hook;
use plugin_api::abi::{BodyMode, delivery, over};

use super::exchange::ExchangePlugins;
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

/// Facts of the head about the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyFacts {
    pub(crate) codings: Codings,
    /// A part of a representation (RFC 9110 §14.4), which cannot be decoded.
    pub(crate) is_partial: bool,
    /// No intermediary may change its coding (RFC 9110 §7.7).
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

/// A plugin that sees a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyListener {
    /// Its position in the chain.
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
    pub(super) side: Side,
    /// In call order.
    pub(super) listeners: Vec<BodyListener>,
    /// The content coding, which is removed for plugins that need decoded content.
    pub(super) coding: Option<Coding>,
    /// Any plugin listens to trailers.
    pub(super) has_trailer_hooks: bool,
}

impl ExchangePlugins {
    /// What happens to the body that follows a head; `None` when no plugin wants any of it.
    pub(crate) fn body_plan(
        &self,
        side: Side,
        facts: BodyFacts,
    ) -> Result<Option<BodyPlan>, ContentRefused> {
        let has_trailer_hooks = self.has_listeners(side.trailers_hook());
        if !self.wants_bodies(side) {
            return Ok(None);
        }
        let mut plan = BodyPlan {
            side,
            listeners: Vec::with_capacity(self.chain().listeners(side.chunk_hook()).len()),
            coding: match facts.codings {
                Codings::One(coding) if !facts.is_partial => Some(coding),
                _ => None,
            },
            has_trailer_hooks,
        };
        for plugin in 0..self.chain().plugins().len() {
            if let Some(listener) = self.body_listener(side, plugin, facts)? {
                plan.listeners.push(listener);
            }
        }
        Ok((has_trailer_hooks || !plan.listeners.is_empty()).then_some(plan))
    }

    /// Whether any plugin listens to bodies from this side.
    pub(crate) fn wants_bodies(&self, side: Side) -> bool {
        [side.chunk_hook(), side.body_hook(), side.trailers_hook()]
            .into_iter()
            .any(|hook| self.has_listeners(hook))
    }

    fn body_listener(
        &self,
        side: Side,
        plugin: usize,
        facts: BodyFacts,
    ) -> Result<Option<BodyListener>, ContentRefused> {
        let loaded = self.chain().plugin(plugin);
        let streams = loaded.listens_to(side.chunk_hook());
        let collects = loaded.listens_to(side.body_hook());
        let mode = self.mode(side, plugin);
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
        // Content that streams is encoded again whatever the plugin does, whole content only if it changes.
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
        Ok(Some(BodyListener {
            plugin,
            delivery,
            is_decoded,
        }))
    }

    fn mode(&self, side: Side, plugin: usize) -> BodyMode {
        let chosen = self.with(|state| {
            let is_its = |mode: &&(usize, Side, BodyMode)| mode.0 == plugin && mode.1 == side;
            let mut latest_first = state.body_modes.iter().rev();
            latest_first.find(is_its).map(|mode| mode.2)
        });
        let loaded = self.chain().plugin(plugin);
        chosen.unwrap_or(match side {
            Side::Client => loaded.client_body,
            Side::Upstream => loaded.upstream_body,
        })
    }
}

impl BodyPlan {
    /// Whether any plugin needs the whole content before anything of it is forwarded.
    pub(crate) fn has_whole(&self) -> bool {
        self.largest_limit().is_some()
    }

    /// Whether any plugin may change the content.
    pub(crate) fn may_edit(&self) -> bool {
        self.is_recoded()
            || self
                .listeners
                .iter()
                .any(|listener| listener.delivery != Delivery::Watch)
    }

    /// Whether content that streams is decoded and encoded again.
    pub(crate) fn is_recoded(&self) -> bool {
        self.coding.is_some() && self.listeners.iter().any(|listener| listener.is_decoded)
    }

    /// All plugins have seen the content; trailers may still come.
    pub(crate) fn end_content(&mut self) {
        self.listeners.clear();
    }

    /// The most content that has to be collected, in bytes.
    pub(crate) fn largest_limit(&self) -> Option<u64> {
        let limits = self
            .listeners
            .iter()
            .filter_map(|listener| match listener.delivery {
                Delivery::Whole { limit, .. } => Some(limit),
                Delivery::Stream | Delivery::Watch => None,
            });
        limits.max()
    }

    /// The most decoded content that has to be collected, in bytes.
    pub(super) fn largest_decoded_limit(&self) -> Option<u64> {
        let limits = self
            .listeners
            .iter()
            .filter_map(|listener| match listener.delivery {
                Delivery::Whole { limit, .. } if listener.is_decoded => Some(limit),
                _ => None,
            });
        limits.max()
    }

    /// Whether decoded content of `len` bytes is too long for any plugin that needs it whole and decoded.
    pub(super) fn exceeds_decoded_limit(&self, len: u64) -> bool {
        let is_short = |listener: &BodyListener| matches!(listener.delivery, Delivery::Whole { limit, .. } if limit < len);
        self.listeners
            .iter()
            .any(|listener| listener.is_decoded && is_short(listener))
    }

    /// The content has turned out to have at least `len` bytes. Plugins with a lower limit that let longer content pass get
    /// its pieces, if they listen to them; nothing is collected for them any more.
    ///
    /// # Errors
    /// When a plugin does not let it pass.
    pub(crate) fn note_length(
        &mut self,
        len: u64,
        exchange: &ExchangePlugins,
    ) -> Result<(), ContentRefused> {
        self.exceed(exchange, |_, limit| limit < len)
    }

    /// The content has turned out to have at least `len` bytes when it is decoded: as [`note_length`](Self::note_length),
    /// for plugins that need it decoded. If none does, it is more than may be collected at all, and no plugin gets it
    /// whole.
    ///
    /// # Errors
    /// When a plugin does not let it pass.
    pub(crate) fn note_decoded_length(
        &mut self,
        len: u64,
        exchange: &ExchangePlugins,
    ) -> Result<(), ContentRefused> {
        let is_decoded = self.largest_decoded_limit().is_some();
        self.exceed(exchange, |listener, limit| {
            listener.is_decoded == is_decoded && limit < len
        })
    }

    fn exceed(
        &mut self,
        exchange: &ExchangePlugins,
        is_too_long: impl Fn(&BodyListener, u64) -> bool,
    ) -> Result<(), ContentRefused> {
        let chunk_hook = self.side.chunk_hook();
        let mut refused = None;
        self.listeners.retain_mut(|listener| {
            let loaded = exchange.chain().plugin(listener.plugin);
            match listener.delivery {
                Delivery::Whole { limit, may_pass } if is_too_long(listener, limit) => {
                    if !may_pass && refused.is_none() {
                        refused = Some(ContentRefused {
                            plugin: loaded.name().to_owned(),
                            reason: ContentRefusedReason::TooLong(limit),
                        });
                    }
                    listener.delivery = Delivery::Stream;
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
