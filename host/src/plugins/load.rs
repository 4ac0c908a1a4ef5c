//! Loads and configures the plugins of the configuration.
//!
//! All or nothing: whatever is wrong is the answer, one line for each. Libraries are opened in `library`;
//! here the requested plugins are selected and configured. Calling them is left to their instances.

mod library;
mod private_copy;

pub use super::load_error::{LoadError, LoadProblem};

use super::instance::{Filter, Instance, Origin, Protocol, Subscriber, Web};
use super::load_error::one_line;
use super::search::find;
use super::spec::PluginSpec;
use crate::config::schema::PluginSchema;
use abi_stable::std_types::ROption;
use library::{Digest, OpenLibrary};
use plugin_api::abi::{HostTableRef, PluginDeclarationRef, kind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A request for a plugin.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// Which one.
    pub spec: PluginSpec,
    /// Its table, as TOML.
    pub config: String,
    /// How long each of its hooks may wait.
    pub hook_limit: Duration,
    /// Its position in the configuration, for messages.
    pub position: usize,
}

/// The requested plugins, by kind, each in the order of the requests.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Those that see exchanges.
    pub filters: Vec<Arc<Instance<Filter>>>,
    /// Those that subscribe to events.
    pub subscribers: Vec<Arc<Instance<Subscriber>>>,
    /// Those that speak a protocol of their own.
    pub protocols: Vec<Arc<Instance<Protocol>>>,
    /// Those that answer requests for the proxy itself.
    pub web: Vec<Arc<Instance<Web>>>,
    /// All of them, as the log names them, each with the file that it was loaded from.
    pub names: Vec<String>,
}

/// Loads what is requested, in that order. A library is opened once in a process however often it is named, and by
/// whatever path; a file whose content has changed is another library. A request without a plugin's name gives all of
/// its library. A plugin of `before` with the same content of its library and the same configuration is taken over.
///
/// # Errors
/// Everything that is wrong, with the positions of the requests; at least one thing. What was loaded is ended; its libraries stay in memory.
pub fn load(
    requests: &[LoadRequest],
    dirs: &[PathBuf],
    host: HostTableRef,
    before: &Loaded,
) -> Result<Loaded, Vec<(usize, LoadError)>> {
    let mut loading = Loading {
        before,
        taken: Vec::new(),
        loaded: Loaded::default(),
    };
    let mut errors = Vec::new();
    for request in requests {
        if let Err(error) = loading.add(request, dirs, host) {
            errors.push((request.position, error));
        }
    }
    match errors.is_empty() {
        true => Ok(loading.loaded),
        false => Err(errors),
    }
}

/// The schemas of the plugins that a specification means; none of them is configured.
///
/// # Errors
/// The library cannot be loaded, or has no such plugin, or a schema is not JSON.
pub fn schemas(
    spec: &PluginSpec,
    dirs: &[PathBuf],
    host: HostTableRef,
) -> Result<Vec<PluginSchema>, LoadError> {
    let library = Library::open(spec, dirs, host)?;
    let declared = library.declared(spec)?.into_iter();
    declared
        .map(|declaration| library.schema(declaration))
        .collect()
}

/// What is loaded so far.
struct Loading<'a> {
    before: &'a Loaded,
    taken: Vec<(Digest, String)>,
    loaded: Loaded,
}

impl Loading<'_> {
    /// Loads what one request is for.
    fn add(
        &mut self,
        request: &LoadRequest,
        dirs: &[PathBuf],
        host: HostTableRef,
    ) -> Result<(), LoadError> {
        let library = Library::open(&request.spec, dirs, host)?;
        for declaration in library.declared(&request.spec)? {
            let name = declaration.name().to_string();
            let id = (library.opened.digest, name.clone());
            if self.taken.contains(&id) {
                return Err(library.error(LoadProblem::Twice(name)));
            }
            self.taken.push(id);
            library.configure(declaration, request, self.before, &mut self.loaded)?;
        }
        Ok(())
    }
}

/// The instance among `before` that is made of the same.
fn known<K>(before: &[Arc<Instance<K>>], origin: &Origin) -> Option<Arc<Instance<K>>> {
    before
        .iter()
        .find(|instance| instance.origin() == origin)
        .map(Arc::clone)
}

/// An open library, and where it was found.
struct Library {
    path: PathBuf,
    opened: OpenLibrary,
}

impl Library {
    /// Opens the library that is meant.
    fn open(spec: &PluginSpec, dirs: &[PathBuf], host: HostTableRef) -> Result<Self, LoadError> {
        let path = find(spec, dirs)?;
        let opened = library::open(&path, host);
        let opened =
            opened.map_err(|problem| LoadError::new(path.display().to_string(), problem))?;
        Ok(Self { path, opened })
    }

    /// The plugins that are meant; at least one.
    fn declared(&self, spec: &PluginSpec) -> Result<Vec<PluginDeclarationRef>, LoadError> {
        let declarations = self.opened.declarations();
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
                has: names(declarations),
            })),
            _ => Ok(meant),
        }
    }

    /// Makes one plugin of whatever kind.
    fn configure(
        &self,
        declaration: PluginDeclarationRef,
        request: &LoadRequest,
        before: &Loaded,
        loaded: &mut Loaded,
    ) -> Result<(), LoadError> {
        let origin = Origin {
            library: self.file_name(),
            digest: self.opened.digest,
            name: declaration.name().to_string(),
            version: declaration.version().to_string(),
            config: request.config.clone(),
        };
        let file = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let shown = format!(
            "{}:{} {} from {}",
            origin.library,
            origin.name,
            origin.version,
            file.display()
        );
        let name = origin.name.clone();
        let made = match (
            declaration.kind(),
            declaration.filter(),
            declaration.subscriber(),
            declaration.protocol(),
            declaration.web(),
        ) {
            (kind::FILTER, ROption::RSome(table), ..) => {
                let limit = request.hook_limit;
                known(&before.filters, &origin)
                    .filter(|known| known.hook_limit == limit)
                    .map_or_else(|| Instance::filter(origin, declaration, table, limit), Ok)
                    .map(|made| loaded.filters.push(made))
            }
            (kind::SUBSCRIBER, _, ROption::RSome(table), ..) => known(&before.subscribers, &origin)
                .map_or_else(|| Instance::subscriber(origin, table), Ok)
                .map(|made| loaded.subscribers.push(made)),
            (kind::PROTOCOL, .., ROption::RSome(table), _) => known(&before.protocols, &origin)
                .map_or_else(|| Instance::protocol(origin, table), Ok)
                .map(|made| loaded.protocols.push(made)),
            (kind::WEB, .., ROption::RSome(table)) => known(&before.web, &origin)
                .map_or_else(|| Instance::web(origin, table), Ok)
                .map(|made| loaded.web.push(made)),
            (kind, ..) => return Err(self.error(LoadProblem::UnknownKind { name, kind })),
        };
        made.map_err(|reason| {
            let reason = one_line(&reason);
            self.error(refusal(&name, &reason))
        })?;
        loaded.names.push(shown);
        Ok(())
    }

    fn schema(&self, declaration: PluginDeclarationRef) -> Result<PluginSchema, LoadError> {
        let name = declaration.name().to_string();
        let schema = match declaration.config_schema().as_str() {
            "" => serde_json::Value::Bool(true),
            text => serde_json::from_str(text).map_err(|reason| {
                let (name, reason) = (name.clone(), reason.to_string());
                self.error(LoadProblem::Schema { name, reason })
            })?,
        };
        Ok(PluginSchema {
            library: self.file_name(),
            name,
            schema,
        })
    }

    fn file_name(&self) -> String {
        let file_name = self.path.file_name().unwrap_or(self.path.as_os_str());
        file_name.to_string_lossy().into_owned()
    }

    fn error(&self, problem: LoadProblem) -> LoadError {
        LoadError::new(self.path.display().to_string(), problem)
    }
}

fn refusal(name: &str, reason: &str) -> LoadProblem {
    let (name, reason) = (name.to_owned(), reason.to_owned());
    match reason.starts_with("panicked") {
        true => LoadProblem::Panicked { name, reason },
        false => LoadProblem::Config { name, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::{LoadRequest, Loaded, load};
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
            position: 0,
        };
        let errors = load(&[request], &[], HOST_TABLE, &Loaded::default()).unwrap_err();
        let text = errors[0].1.to_string();
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
