//! Who logs: the plugin that is being called on this thread, or else its library.
//!
//! Lines of the crates `log` and `tracing` come from anywhere in a library and do not name a plugin. So each call of a
//! plugin is marked with its type, in libraries that use one of these features; in others, nothing is done.

use std::any::type_name;
#[cfg(any(feature = "log", feature = "tracing"))]
use std::{cell::Cell, sync::OnceLock};

/// A function that returns the name of a type, and the name under which the plugin of this type is exported.
pub type PluginName = (fn() -> &'static str, &'static str);

/// The library, as `export_plugins!` knows it.
#[derive(Debug)]
pub struct Library {
    /// The name of its crate.
    pub name: &'static str,
    /// The type of each plugin, and its exported name.
    pub plugins: &'static [PluginName],
}

#[cfg(any(feature = "log", feature = "tracing"))]
thread_local! {
    /// The type of the plugin that is being called; empty without one.
    static CALLED: Cell<&'static str> = const { Cell::new("") };
}

#[cfg(any(feature = "log", feature = "tracing"))]
static LIBRARY: OnceLock<&'static Library> = OnceLock::new();

/// A plugin, by its type.
#[derive(Clone, Copy)]
pub(crate) struct LogOrigin {
    #[cfg(any(feature = "log", feature = "tracing"))]
    type_name: &'static str,
}

#[cfg(not(any(feature = "log", feature = "tracing")))]
impl LogOrigin {
    #[inline(always)]
    pub(crate) fn of<P>() -> Self {
        let _ = type_name::<P>;
        Self {}
    }

    pub(crate) fn current() -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn during_call<T>(self, body: impl FnOnce() -> T) -> T {
        body()
    }
}

#[cfg(any(feature = "log", feature = "tracing"))]
impl LogOrigin {
    /// The plugin of this type.
    #[inline]
    pub(crate) fn of<P>() -> Self {
        Self {
            type_name: type_name::<P>(),
        }
    }

    /// The plugin that is being called, for tasks and work on other threads.
    pub(crate) fn current() -> Self {
        Self {
            type_name: CALLED.try_with(Cell::get).unwrap_or_default(),
        }
    }

    /// Runs a call of this plugin.
    #[inline]
    pub(crate) fn during_call<T>(self, body: impl FnOnce() -> T) -> T {
        struct Restored(&'static str);
        impl Drop for Restored {
            fn drop(&mut self) {
                // Missing only while the thread ends.
                let _ = CALLED.try_with(|called| called.set(self.0));
            }
        }
        let outer = CALLED.try_with(|called| called.replace(self.type_name));
        let _restored = Restored(outer.unwrap_or_default());
        body()
    }

    /// The exported name; that of the library if no plugin is being called and there are several.
    pub(crate) fn name(self) -> &'static str {
        let Some(library) = LIBRARY.get() else {
            return "";
        };
        let is_this = |plugin: &&PluginName| (plugin.0)() == self.type_name;
        match (library.plugins.iter().find(is_this), library.plugins) {
            (Some((_, name)), _) | (None, [(_, name)]) => name,
            _ => library.name,
        }
    }
}

/// Sets the library whose names are used.
pub(crate) fn set_library(library: &'static Library) {
    #[cfg(any(feature = "log", feature = "tracing"))]
    let _ = LIBRARY.set(library);
    #[cfg(not(any(feature = "log", feature = "tracing")))]
    let _ = library;
}
