//! A configured plugin, and every way into its code.
//!
//! An [`Instance`] is one value: where it comes from, what it was configured with, its functions, and the plugin itself.
//! Whoever uses a plugin owns its instance: a chain owns those of its filters, a task owns its own. The plugin ends when
//! its last owner lets it go; its library stays in memory for as long as the process lives.
//!
//! The functions of plugins are private to the files of this directory, and each of their calls goes through
//! [`Callee::run`]. So no other code can enter a plugin, and every entry is counted.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

#[cfg(test)]
pub(super) mod fake;
mod filter;
mod given;
mod protocol;
mod subscriber;
mod task;
mod web;

use std::ffi::c_void;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;

use abi_stable::std_types::RStr;
use plugin_api::abi::ErrorSink;

use super::call::Visible;
use super::callee::{Callee, Place, PluginId};
use super::guard::guarded;
use super::marks::{self, Role};
use super::statistics::Slot;

pub use filter::Filter;
pub(super) use given::{BlockingWork, SpawnedTask};
pub use protocol::Protocol;
pub use subscriber::Subscriber;
pub(crate) use task::Task;
pub use web::Web;

/// A configured plugin of one kind. Ended when dropped.
pub struct Instance<K> {
    callee: Callee,
    /// Where its calls are counted.
    _slot: Slot,
    origin: Origin,
    /// The plugin itself, the first argument of most of its functions.
    object: *mut c_void,
    destroy: Destroy,
    kind: K,
}

/// Tells one instance from all others of the process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstanceNumber(u64);

/// What an instance is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// File name of its library, for the log.
    pub library: String,
    /// SHA-256 digest of the library's content.
    pub digest: [u8; 32],
    /// Its name in that library.
    pub name: String,
    /// Version of its crate.
    pub version: String,
    /// Its table, as TOML.
    pub config: String,
}

type Create = unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void;
type Destroy = unsafe extern "C" fn(*mut c_void);

// SAFETY: the traits that authors implement are Send and Sync, and the tables' functions say what they need beyond.
unsafe impl<K: Send> Send for Instance<K> {}
// SAFETY: see above.
unsafe impl<K: Sync> Sync for Instance<K> {}

impl<K> Instance<K> {
    /// Makes a plugin.
    ///
    /// # Errors
    /// The message of the plugin.
    fn create(
        origin: Origin,
        (create, destroy): (Create, Destroy),
        kind: K,
    ) -> Result<Arc<Self>, String> {
        let slot = Slot::take();
        let plugin = PluginId::of(&origin.library, &origin.name);
        let callee = Callee::new(plugin, slot.number());
        let mut reason = String::new();
        let errors = ErrorSink {
            context: (&raw mut reason).cast(),
            report,
        };
        let config = RStr::from_str(&origin.config);
        // SAFETY: the sink lives through the call.
        let object = callee.run(Place::NEW, || unsafe { create(config, &errors) });
        if object.is_null() {
            return Err(reason);
        }
        Ok(Arc::new(Self {
            callee,
            _slot: slot,
            origin,
            object,
            destroy,
            kind,
        }))
    }

    pub(crate) fn number(&self) -> InstanceNumber {
        InstanceNumber(self.callee.number())
    }

    /// What it is made of: the same again makes a plugin that does the same.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its name in its library.
    pub fn name(&self) -> &str {
        &self.origin.name
    }
}

/// What is particular to its kind.
impl<K> Deref for Instance<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.kind
    }
}

impl<K> Drop for Instance<K> {
    fn drop(&mut self) {
        let end = End {
            callee: self.callee,
            object: self.object,
            destroy: self.destroy,
        };
        if matches!(marks::role(), Role::Background) {
            return end.run();
        }
        // Its author may block there, and the last owner may be any exchange.
        let thread = thread::Builder::new().name("plugin-end".to_owned());
        let ended = thread.spawn(move || {
            let _visible = Visible::new(Role::Background);
            end.run();
        });
        if let Err(error) = ended {
            tracing::warn!(
                plugin = self.name(),
                %error,
                "cannot start a thread for the end of a plugin: it is not ended"
            );
        }
    }
}

impl<K> fmt::Debug for Instance<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin {
            library,
            name,
            version,
            ..
        } = &self.origin;
        write!(f, "{library}:{name} {version}")
    }
}

/// What ends a plugin.
struct End {
    callee: Callee,
    object: *mut c_void,
    destroy: Destroy,
}

// SAFETY: plugins are Send.
unsafe impl Send for End {}

impl End {
    fn run(self) {
        // SAFETY: made by the table that the function is of, and dropped after all that uses it.
        let destroy = || unsafe { (self.destroy)(self.object) };
        self.callee.run(Place::DROP, destroy);
    }
}

unsafe extern "C" fn report(context: *mut c_void, message: RStr<'_>) {
    guarded((), || {
        // SAFETY: `create` passes the address of a String that outlives the call.
        let reason = unsafe { &mut *context.cast::<String>() };
        message.as_str().clone_into(reason);
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Where functions of plugins may be called: here, and where a library is opened.
    const CALLERS: [&str; 2] = ["plugins/instance", "plugins/load/library.rs"];
    /// How such a call is written: a function out of a table, or out of what a plugin has given.
    const CALLS: [&str; 5] = ["()(", ".poll)(", ".drop)(", ".run)(", ".destroy)("];

    #[test]
    fn functions_of_plugins_are_called_nowhere_else() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut calls = Vec::new();
        find_calls(&sources, &sources, &mut calls);
        let is_elsewhere =
            |place: &&String| !CALLERS.iter().any(|caller| place.starts_with(caller));
        let elsewhere: Vec<_> = calls.iter().filter(is_elsewhere).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:#?}");
        assert!(calls.len() > 20, "it finds those that there are");
    }

    fn find_calls(directory: &Path, sources: &Path, calls: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find_calls(&path, sources, calls);
                continue;
            }
            let name = path.strip_prefix(sources).unwrap().to_string_lossy();
            let name = name.replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                if CALLS.iter().any(|call| line.contains(call)) {
                    calls.push(format!("{name}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
}
