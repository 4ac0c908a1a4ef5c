//! A set of hooks: those that a filter implements, or those of them that are async.
//!
//! `#[filter]` creates these sets from the implemented functions, so the proxy never calls other hooks.

use crate::abi::hook::{self, Hook};

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u64);

impl Hooks {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// All hooks of this version.
    pub const ALL: Self = Self((1 << Hook::COUNT) - 1);

    /// The hooks of a mask from the boundary, including unknown bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The mask, as it crosses the boundary.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether the set contains all of `wanted`.
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the known hooks in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = hook::NAMES.iter().enumerate();
        named
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| *name)
    }
}

macro_rules! sets {
    ($($(#[$doc:meta])* $hook:ident $constant:ident $function:ident: $kind:ident $(($twin:ident))? [$($may:ident)*])+) => {
        impl Hooks {
            $(
                #[doc = concat!("[`Filter::", stringify!($function), "`](crate::Filter::", stringify!($function), ").")]
                pub const $constant: Self = Self(Hook::$hook.bit());
            )+
        }
    };
}

plugin_contract::hooks!(sets);

/// The text for a permission in the documentation of [`Filter`](crate::Filter).
macro_rules! permitted {
    (SetUser) => { "[name the user](Exchange::set_user)" };
    (EditRequest) => { "[edit the request](Exchange::request_mut)" };
    (EditResponse) => { "[edit the response](Exchange::response_mut)" };
    (EditTrailers) => { "[edit the trailers](Exchange::trailers_mut)" };
    (ReplaceContent) => { "[replace the content](Exchange::set_body)" };
    (ReplaceData) => { "[replace or drop](Chunk) what passes" };
    (SendMessages) => { "[send messages](Exchange::send_message)" };
    (SetUpstream) => {
        "set the [upstream](Exchange::set_upstream), its [scheme](Exchange::set_upstream_scheme) and a \
         [parent proxy](Exchange::set_parent)"
    };
    (SetAddresses) => {
        "set the upstream's [addresses](Exchange::set_addresses) and the \
         [source address](Exchange::set_source_address)"
    };
    (SetClientBody) => { "choose how it gets the [request's body](Exchange::set_client_body)" };
    (SetUpstreamBody) => { "choose how it gets the [response's body](Exchange::set_upstream_body)" };
    (Retry) => { "[retry](crate::retry)" };
    (Reply) => { "[reply](crate::reply)" };
    (Close) => { "[close](crate::close)" };
}

/// Defines `may!`: a sentence for each hook that lists its permissions.
macro_rules! sentences {
    ($(
        $(#[$doc:meta])*
        $hook:ident $constant:ident $function:ident: $kind:ident $(($twin:ident))? [$($first:ident $($may:ident)*)?]
    )+) => {
        macro_rules! may {
            $(($function) => {
                concat!($("May ", permitted!($first) $(, "; ", permitted!($may))*, ".")?)
            };)+
        }
    };
}

plugin_contract::hooks!(sentences);

#[cfg(test)]
mod tests {
    use super::{Hooks, hook};

    #[test]
    fn names_the_hooks_of_a_mask_and_ignores_unknown_bits() {
        let hooks = Hooks::from_bits(1 << 63).with(Hooks::ON_ACCESS_LOG);
        assert_eq!(hooks.names().collect::<Vec<_>>(), ["on_access_log"]);
        assert_eq!(Hooks::ALL.names().count(), hook::NAMES.len());
        assert_eq!(Hooks::HANDLE_TUNNEL_CHUNK.bits(), 1 << 16);
    }
}
