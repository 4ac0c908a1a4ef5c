//! Who is called: a plugin, an instance of it, and what of its code.
//!
//! Each is a number, so that one word of a thread can name what it runs; see `marks`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use plugin_api::abi::hook::{self, Hook};

/// The most plugins that are told apart in one process; what comes later shares the last number.
const MAX_PLUGINS: usize = 1024;

static PLUGINS: [OnceLock<Named>; MAX_PLUGINS] = [const { OnceLock::new() }; MAX_PLUGINS];
static PLUGIN_COUNT: Mutex<usize> = Mutex::new(0);

struct Named {
    library: String,
    name: String,
}

/// A plugin of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PluginId(u16);

impl PluginId {
    /// Stands for what is no plugin, or not known to be one.
    pub(crate) const NONE: Self = Self(0);

    /// The number of a plugin, the same for the same names; they are kept for good.
    pub(crate) fn of(library: &str, name: &str) -> Self {
        let mut count = PLUGIN_COUNT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = PLUGINS.iter().take(*count).position(|known| {
            let is_same = |known: &Named| known.library == library && known.name == name;
            known.get().is_some_and(is_same)
        });
        let index = known.unwrap_or_else(|| {
            let index = (*count).min(MAX_PLUGINS - 1);
            *count = index + 1;
            // Beyond the most plugins the last one keeps its name.
            let _ = PLUGINS[index].set(Named {
                library: library.to_owned(),
                name: name.to_owned(),
            });
            index
        });
        // Up to 1024; 0 stands for no plugin.
        Self(u16::try_from(index + 1).unwrap_or(u16::MAX))
    }

    fn named(self) -> Option<&'static Named> {
        let index = usize::from(self.0).checked_sub(1)?;
        PLUGINS.get(index)?.get()
    }

    /// Its name in its library.
    pub(crate) fn name(self) -> &'static str {
        self.named().map_or("?", |named| &named.name)
    }

    /// The file name of its library.
    pub(crate) fn library(self) -> &'static str {
        self.named().map_or("?", |named| &named.library)
    }
}

/// Whose code is called: an instance of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callee {
    plugin: PluginId,
    /// Where workers count its calls; that of another instance when this one is gone.
    slot: u32,
    /// Never used again. 0: it is no instance.
    number: u64,
}

impl Callee {
    /// Stands for what is not known to be an instance.
    pub(crate) const NONE: Self = Self {
        plugin: PluginId::NONE,
        slot: 0,
        number: 0,
    };

    /// A new instance.
    pub(super) fn new(plugin: PluginId, slot: u32) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            plugin,
            slot,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn plugin(self) -> PluginId {
        self.plugin
    }

    #[inline]
    pub(super) fn slot(self) -> usize {
        self.slot as usize
    }

    pub(super) fn number(self) -> u64 {
        self.number
    }
}

/// What of a plugin runs: a hook, or something else that its author has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u8);

impl Place {
    /// How many there are.
    pub(super) const COUNT: usize = Hook::COUNT + Self::OTHERS.len();

    const OTHERS: [&'static str; 17] = [
        "initialization",
        "new",
        "drop",
        "State::default",
        "drop of State",
        "Connection::default",
        "drop of Connection",
        "routes",
        "handle_request",
        "drop of handle_request",
        "claims",
        "serve",
        "drop of serve",
        "handle_events",
        "run_blocking",
        "spawn",
        "drop of a spawned task",
    ];

    pub(crate) const INIT: Self = Self::other(0);
    pub(crate) const NEW: Self = Self::other(1);
    pub(crate) const DROP: Self = Self::other(2);
    pub(crate) const STATE: Self = Self::other(3);
    pub(crate) const STATE_DROP: Self = Self::other(4);
    pub(crate) const CONNECTION: Self = Self::other(5);
    pub(crate) const CONNECTION_DROP: Self = Self::other(6);
    pub(crate) const ROUTES: Self = Self::other(7);
    pub(crate) const REQUEST: Self = Self::other(8);
    pub(crate) const REQUEST_DROP: Self = Self::other(9);
    pub(crate) const CLAIMS: Self = Self::other(10);
    pub(crate) const SERVE: Self = Self::other(11);
    pub(crate) const SERVE_DROP: Self = Self::other(12);
    pub(crate) const EVENTS: Self = Self::other(13);
    pub(crate) const BLOCKING: Self = Self::other(14);
    pub(crate) const TASK: Self = Self::other(15);
    pub(crate) const TASK_DROP: Self = Self::other(16);

    const fn other(number: u8) -> Self {
        assert!((number as usize) < Self::OTHERS.len());
        Self(Hook::COUNT as u8 + number)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// That of this index.
    pub(super) fn at(index: usize) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index as u8)
    }

    /// The name that its author knows it by.
    pub(crate) fn name(self) -> &'static str {
        let place = usize::from(self.0);
        let other = place.checked_sub(Hook::COUNT);
        match other {
            Some(other) => Self::OTHERS.get(other).copied().unwrap_or("?"),
            None => hook::NAMES[place],
        }
    }
}

impl From<Hook> for Place {
    #[inline]
    fn from(hook: Hook) -> Self {
        Self(hook as u8)
    }
}

/// A plugin, and what of it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call(u32);

impl Call {
    #[inline]
    pub(crate) fn new(plugin: PluginId, place: impl Into<Place>) -> Self {
        Self(u32::from(plugin.0) << 16 | u32::from(place.into().0))
    }

    #[inline]
    pub(crate) fn plugin(self) -> PluginId {
        PluginId((self.0 >> 16) as u16)
    }

    pub(crate) fn place(self) -> Place {
        Place(self.0 as u8)
    }

    /// The plugin's number above that of the place; never 0 for a plugin.
    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_one_number() {
        let first = PluginId::of("liba.so", "A");
        assert_eq!(first, PluginId::of("liba.so", "A"));
        assert_ne!(first, PluginId::of("libb.so", "A"));
        assert_eq!((first.library(), first.name()), ("liba.so", "A"));
        assert_eq!(PluginId::NONE.name(), "?");
    }

    #[test]
    fn places_have_the_names_that_authors_know() {
        let plugin = PluginId::of("libtest.so", "Names");
        let named = |place: Place| Call::new(plugin, place).place().name();
        assert_eq!(
            named(Hook::HandleClientRequest.into()),
            "handle_client_request"
        );
        assert_eq!(
            named(Hook::OnClientConnectionClose.into()),
            "on_client_connection_close"
        );
        assert_eq!(named(Place::INIT), "initialization");
        assert_eq!(named(Place::BLOCKING), "run_blocking");
        assert_eq!(named(Place::TASK_DROP), "drop of a spawned task");
    }
}
