//! From what the operator wrote to plugins that are ready to be called.
//!
//! All or nothing: the first thing that is wrong is the answer, in one line. Libraries are opened in `library`;
//! here the plugins asked for are picked and given their configuration. Calling them is left to the chain.
#![expect(
    unsafe_code,
    reason = "calls the plugins' own functions to make and end them"
)]

mod error;
mod library;
mod private_copy;

pub use error::{LoadError, LoadProblem};

use super::call::{Call, Place, PluginId};
use super::guard::guarded;
use super::search::find;
use super::spec::PluginSpec;
use abi_stable::std_types::{ROption, RStr};
use core::ffi::c_void;
use library::ContentId;
use plugin_api::abi::web::WebTableRef;
use plugin_api::abi::{
    BodyMode, ErrorSink, FilterTableRef, HostTableRef, PluginDeclarationRef, PluginLibraryRef,
    ProtocolTableRef, SubscriberTableRef, hook, kind,
};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a plugin is asked for with.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// Which one.
    pub spec: PluginSpec,
    /// Its table, as TOML.
    pub config: String,
    /// How long each of its hooks may wait.
    pub hook_limit: Duration,
    /// Where that stands, for messages: `proxy.toml: plugins[0]`.
    pub config_origin: String,
}

/// The plugins that were asked for, by kind, each in the order of the requests.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Those that see exchanges.
    pub filters: Vec<LoadedPlugin>,
    /// Those that are told what has happened.
    pub subscribers: Vec<LoadedObject<SubscriberTableRef>>,
    /// Those that speak a protocol of their own.
    pub protocols: Vec<LoadedObject<ProtocolTableRef>>,
    /// Those that answer requests for the proxy itself.
    pub web: Vec<LoadedObject<WebTableRef>>,
    /// All of them, as the log names them, each with the file that it was loaded from.
    pub names: Vec<String>,
}

/// A configured plugin that is no filter. Ended when dropped.
pub struct LoadedObject<T> {
    pub(crate) id: PluginId,
    /// Its name in its library.
    pub name: String,
    /// The plugin itself, first argument of most of its functions.
    pub object: *mut c_void,
    /// Its functions.
    pub table: T,
    destroy: unsafe extern "C" fn(*mut c_void),
}

// SAFETY: the traits that authors implement are Send and Sync, and the tables' functions say what they need beyond.
unsafe impl<T: Send> Send for LoadedObject<T> {}
// SAFETY: see above.
unsafe impl<T: Sync> Sync for LoadedObject<T> {}

impl<T> Drop for LoadedObject<T> {
    fn drop(&mut self) {
        let _mark = Call::new(self.id, Place::DROP).mark();
        // SAFETY: made by its table, and dropped after all that uses it.
        unsafe { (self.destroy)(self.object) }
    }
}

impl<T> fmt::Debug for LoadedObject<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A configured filter, ready to be called. Ended when dropped.
pub struct LoadedPlugin {
    pub(crate) id: PluginId,
    /// File name of its library, for the log.
    pub library: String,
    /// Its name in that library.
    pub name: String,
    /// Version of its crate.
    pub version: String,
    /// What its crate says it is.
    pub description: String,
    /// Bits of the hooks to call.
    pub hooks: u64,
    /// Those that may answer PENDING.
    pub async_hooks: u64,
    /// How long each of them may wait; past it the exchange fails.
    pub hook_limit: Duration,
    /// 0 if it keeps nothing for an exchange.
    pub needs_state: u32,
    /// 0 if it keeps nothing for a client connection.
    pub needs_connection_state: u32,
    /// How it wants request bodies, unless it says otherwise for an exchange.
    pub client_body: BodyMode,
    /// How it wants response bodies, unless it says otherwise for an exchange.
    pub upstream_body: BodyMode,
    /// The plugin itself, first argument of most of its functions.
    pub object: *mut c_void,
    /// Its functions.
    pub table: FilterTableRef,
}

impl LoadedPlugin {
    /// The hooks it implements and that this version never calls.
    pub fn uncalled_hooks(&self) -> impl Iterator<Item = String> + use<> {
        let known = (1 << hook::NAMES.len()) - 1;
        let uncalled = self.hooks & !known;
        (0..u64::BITS)
            .filter(move |bit| uncalled >> bit & 1 == 1)
            .map(|bit| match hook::NAMES.get(bit as usize) {
                Some(name) => (*name).to_owned(),
                None => format!("hook number {bit}"),
            })
    }
}

// SAFETY: `object` is a `Filter`, which is Send and Sync, and the table's functions say what they need beyond that.
unsafe impl Send for LoadedPlugin {}
// SAFETY: see above.
unsafe impl Sync for LoadedPlugin {}

impl Drop for LoadedPlugin {
    fn drop(&mut self) {
        let _mark = Call::new(self.id, Place::DROP).mark();
        // SAFETY: made by this table, and dropped after all that uses it.
        unsafe { self.table.destroy()(self.object) }
    }
}

impl fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.library, self.name, self.version)
    }
}

/// Loads what is asked for, in that order. A library is opened once in a process however often it is named, and by
/// whatever path; a file whose content has changed is another library. A request without a plugin's name gives all of
/// its library.
///
/// # Errors
/// The first thing that is wrong. What was loaded before is ended; its libraries stay in memory.
pub fn load(
    requests: &[LoadRequest],
    dirs: &[PathBuf],
    host: HostTableRef,
) -> Result<Loaded, LoadError> {
    let mut taken: Vec<(ContentId, &str)> = Vec::new();
    let mut loaded = Loaded::default();
    for request in requests {
        let library = Library::open(&request.spec, dirs, host)?;
        for declaration in library.declared(&request.spec)? {
            let name = declaration.name().as_str();
            let id = (library.id, name);
            if taken.contains(&id) {
                return Err(library.error(LoadProblem::Twice(name.to_owned())));
            }
            taken.push(id);
            library.configure(declaration, request, &mut loaded)?;
        }
    }
    Ok(loaded)
}

/// An open library.
struct Library {
    path: PathBuf,
    id: ContentId,
    root: PluginLibraryRef,
}

impl Library {
    /// Opens the library that is meant.
    fn open(spec: &PluginSpec, dirs: &[PathBuf], host: HostTableRef) -> Result<Self, LoadError> {
        let path = find(spec, dirs)?;
        let opened = library::open(&path, host);
        let opened =
            opened.map_err(|problem| LoadError::new(path.display().to_string(), problem))?;
        Ok(Self {
            path,
            id: opened.id,
            root: opened.root,
        })
    }

    /// The plugins that are meant; at least one.
    fn declared(&self, spec: &PluginSpec) -> Result<Vec<PluginDeclarationRef>, LoadError> {
        // SAFETY: may be called at any time after `init`.
        let declarations = unsafe { self.root.plugins()() };
        let meant = spec.closest(declarations.iter().copied(), |declared| {
            declared.name().as_str()
        });
        let names = |declared: &[PluginDeclarationRef]| {
            let names = declared.iter().map(|declared| declared.name().to_string());
            names.collect::<Vec<_>>()
        };
        match (&spec.name, &meant[..]) {
            (Some(name), [_, _, ..]) => Err(self.error(LoadProblem::AmbiguousName {
                name: name.clone(),
                of: names(&meant),
            })),
            (name, []) => Err(self.error(LoadProblem::UnknownName {
                name: name.clone().unwrap_or_default(),
                has: names(&declarations),
            })),
            _ => Ok(meant),
        }
    }

    /// Makes one plugin of whatever kind.
    fn configure(
        &self,
        declaration: PluginDeclarationRef,
        request: &LoadRequest,
        loaded: &mut Loaded,
    ) -> Result<(), LoadError> {
        let name = declaration.name().to_string();
        let file_name = self.path.file_name().unwrap_or(self.path.as_os_str());
        let library = file_name.to_string_lossy().into_owned();
        let id = PluginId::of(&library, &name);
        let made = |create| {
            let _mark = Call::new(id, Place::NEW).mark();
            create_with(create, &request.config)
                .map_err(|reason| self.error(refusal(&name, &request.config_origin, &reason)))
        };
        let (version, kind) = (declaration.version().to_string(), declaration.kind());
        match (
            kind,
            declaration.filter(),
            declaration.subscriber(),
            declaration.protocol(),
            declaration.web(),
        ) {
            (kind::FILTER, ROption::RSome(table), ..) => loaded.filters.push(LoadedPlugin {
                id,
                object: made(table.create())?,
                library: library.clone(),
                name: name.clone(),
                version: version.clone(),
                description: declaration.description().to_string(),
                hooks: declaration.hooks(),
                async_hooks: declaration.async_hooks(),
                hook_limit: request.hook_limit,
                needs_state: declaration.needs_state(),
                needs_connection_state: declaration.needs_connection_state(),
                client_body: declaration.client_body(),
                upstream_body: declaration.upstream_body(),
                table,
            }),
            (kind::SUBSCRIBER, _, ROption::RSome(table), ..) => {
                loaded.subscribers.push(LoadedObject {
                    id,
                    object: made(table.create())?,
                    name: name.clone(),
                    destroy: table.destroy(),
                    table,
                });
            }
            (kind::PROTOCOL, .., ROption::RSome(table), _) => loaded.protocols.push(LoadedObject {
                id,
                object: made(table.create())?,
                name: name.clone(),
                destroy: table.destroy(),
                table,
            }),
            (kind::WEB, .., ROption::RSome(table)) => loaded.web.push(LoadedObject {
                id,
                object: made(table.create())?,
                name: name.clone(),
                destroy: table.destroy(),
                table,
            }),
            _ => return Err(self.error(LoadProblem::UnknownKind { name, kind })),
        }
        let file = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let file = file.display();
        loaded
            .names
            .push(format!("{library}:{name} {version} from {file}"));
        Ok(())
    }

    fn error(&self, problem: LoadProblem) -> LoadError {
        LoadError::new(self.path.display().to_string(), problem)
    }
}

type Create = unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void;

/// Makes a plugin, or tells in its own words why not.
fn create_with(create: Create, config: &str) -> Result<*mut c_void, String> {
    let mut reason = String::new();
    let errors = ErrorSink {
        context: (&raw mut reason).cast(),
        report,
    };
    // SAFETY: the sink lives through the call.
    let object = unsafe { create(config.into(), &errors) };
    if object.is_null() {
        Err(reason)
    } else {
        Ok(object)
    }
}

unsafe extern "C" fn report(context: *mut c_void, message: RStr<'_>) {
    guarded((), || {
        // SAFETY: `create` passes the address of a String that outlives the call.
        let reason = unsafe { &mut *context.cast::<String>() };
        *reason = error::one_line(&message);
    });
}

fn refusal(name: &str, origin: &str, reason: &str) -> LoadProblem {
    let (name, origin, reason) = (name.to_owned(), origin.to_owned(), reason.to_owned());
    match reason.starts_with("panicked") {
        true => LoadProblem::Panicked {
            name,
            origin,
            reason,
        },
        false => LoadProblem::Config {
            name,
            origin,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{LoadRequest, load};
    use crate::plugins::host_table::HOST_TABLE;
    use crate::plugins::spec::PluginSpec;
    use std::path::{Path, PathBuf};
    use std::{env, fs, process};

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("proxy-load-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal(library: &Path) -> String {
        let request = LoadRequest {
            spec: PluginSpec::parse(&format!("{}:Name", library.display())).unwrap(),
            config: String::new(),
            hook_limit: std::time::Duration::from_secs(5),
            config_origin: "test".to_owned(),
        };
        let text = load(&[request], &[], HOST_TABLE).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1);
        let file = library.display().to_string();
        assert!(text.starts_with(&file), "{text}");
        text[file.len()..].to_owned()
    }

    #[test]
    fn refuses_what_is_no_library() {
        let scratch = Scratch::new("no-library");
        let text = scratch.file("text.so", b"hello");
        assert!(refusal(&text).starts_with(": is not a shared library"));
        let empty = scratch.file("empty.so", b"");
        assert!(refusal(&empty).starts_with(": is not a shared library"));
        assert!(refusal(&scratch.0).starts_with(": is a directory"));
        let missing = scratch.0.join("missing.so");
        assert!(refusal(&missing).starts_with(":Name: library not found"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn refuses_a_program_that_is_no_plugin_and_what_is_left_of_it() {
        // This test itself: a program, but of the same format as a library.
        let program = env::current_exe().unwrap();
        let content = fs::read(&program).unwrap();
        let scratch = Scratch::new("program");
        for len in [5, 63, 64, 200, 5000, content.len() / 2, content.len() - 1] {
            let cut = scratch.file("cut.so", &content[..len]);
            assert!(refusal(&cut).starts_with(": is truncated"), "{len}");
        }
    }
}
