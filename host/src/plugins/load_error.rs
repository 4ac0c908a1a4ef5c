//! Why plugins cannot be loaded, each time in one line: which file, what is wrong, what to do.
//!
//! The reader is a person who starts or reloads the proxy.

use crate::config::PluginPart;
use crate::plugins::file_check::FileFault;
use plugin_api::abi::{API_MAJOR, API_MINOR};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a plugin cannot be loaded.
#[derive(Debug, Error)]
#[error("{file}: {problem}")]
pub struct LoadError {
    /// The library's path, or the specification if there is none.
    file: String,
    problem: LoadProblem,
}

/// What is wrong with a library or one of its plugins.
#[derive(Debug, Error)]
pub enum LoadProblem {
    /// The specification names nothing.
    #[error("specifies no plugin: write path/library.so:Name")]
    NotASpec,
    /// There is no library of that name in the places that were searched.
    #[error(
        "library not found (tried {}{}): check the path, or add its directory with --plugin-dir{}",
        listed(.places), also_searched(.name.as_deref(), .dirs), for_python(*.may_be_python)
    )]
    Missing {
        /// Where a file of its name could have been.
        places: Vec<PathBuf>,
        /// The plugin that libraries of other names could have held.
        name: Option<String>,
        /// The directories that were searched for such a library.
        dirs: Vec<PathBuf>,
        /// Whether it is written as a class of Python is.
        may_be_python: bool,
    },
    /// There is no file at the path, and a path is not searched for anywhere else.
    #[error(
        "library not found (tried {}): check the path; only names without a path are searched for in plugin \
         directories",
        listed(.0)
    )]
    Absent(Vec<PathBuf>),
    /// Nothing is named for it, and several hold it.
    #[error("{name} is in several libraries ({}): write path/library.so:{name}", listed(.of))]
    Ambiguous {
        /// The requested name.
        name: String,
        /// Where it is.
        of: Vec<PathBuf>,
    },
    /// A directory in the place of a file.
    #[error("is a directory: specify the library in it")]
    Directory,
    /// The system does not let us read it.
    #[error("cannot be read: {0}: make it readable for the user of the proxy")]
    Unreadable(io::Error),
    /// Its own headers speak against it.
    #[error(transparent)]
    File(#[from] FileFault),
    /// A library, but not of plugins.
    #[error("is not a proxy plugin: export it with export_plugins!")]
    NotAPlugin,
    /// A plugin for another kind of proxy.
    #[error(
        "is built with plugin-api {}.{}, but this proxy provides {API_MAJOR}.{API_MINOR}: rebuild it with \
         proxy-plugin-api {API_MAJOR}",
        .0.0, .0.1
    )]
    OtherApi((u16, u16)),
    /// The version is right and the layout is not.
    #[error(
        "is incompatible with the plugin-api of this proxy ({0}): rebuild it with the proxy-plugin-api of this proxy"
    )]
    Layout(String),
    /// A panic in it could not be contained.
    #[error(
        "is built with panic = \"abort\", so a panic in it would terminate the proxy: rebuild it with panic = \
         \"unwind\""
    )]
    AbortsOnPanic,
    /// The system's loader refused it.
    #[error("cannot be loaded: {0}")]
    CannotOpen(String),
    /// It needs a library that the system's loader does not find.
    #[error(
        "cannot be loaded: {0}: install that library in a system library directory or a directory of \
         LD_LIBRARY_PATH; the directory of the plugin ($ORIGIN) is not searched"
    )]
    NeedsLibrary(String),
    /// There is no place for the copy that is loaded.
    #[error(
        "cannot create the private copy to load: {0}: free space in the directory for temporary files"
    )]
    NotCopied(io::Error),
    /// Its initialisation failed without a reason.
    #[error("failed to initialize: rebuild it with the proxy-plugin-api of this proxy")]
    InitFailed,
    /// The requested plugin is not in it.
    #[error("has no plugin named {name}: it provides {}", .has.join(", "))]
    UnknownName {
        /// The requested name.
        name: String,
        /// What could have been.
        has: Vec<String>,
    },
    /// A plugin of a kind that came later.
    #[error(
        "{name} is a plugin of kind {kind}, which this version of the proxy does not support: update the proxy"
    )]
    UnknownKind {
        /// The plugin.
        name: String,
        /// The kind that it declares.
        kind: u32,
    },
    /// Plugins whose names differ only in case, and none has the requested case.
    #[error("has several plugins named {name} that differ only in case: write one of {}", .of.join(", "))]
    AmbiguousName {
        /// The requested name.
        name: String,
        /// What could be meant.
        of: Vec<String>,
    },
    /// A plugin is in the chain once at most.
    #[error("{0} is listed twice: remove one entry")]
    Twice(String),
    /// The schema of a plugin's settings cannot be read.
    #[error("the schema of {name} is not JSON ({reason}): correct its CONFIG_SCHEMA")]
    Schema {
        /// The plugin.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin did not accept its configuration.
    #[error("{name} rejected its configuration: {reason}")]
    Config {
        /// The plugin.
        name: String,
        /// The message of the plugin.
        reason: String,
    },
    /// The plugin panicked when it was made.
    #[error("{name} {reason}: check its configuration, or report it to its author")]
    Panicked {
        /// The plugin.
        name: String,
        /// Message and place.
        reason: String,
    },
}

impl LoadError {
    pub(crate) fn new(file: impl Into<String>, problem: impl Into<LoadProblem>) -> Self {
        Self {
            file: file.into(),
            problem: problem.into(),
        }
    }

    /// Which part of the plugin's entry is at fault. For its settings, the key that the reason names, by the convention
    /// that it begins with it, or as serde names it.
    pub fn part(&self) -> PluginPart<'_> {
        match &self.problem {
            LoadProblem::UnknownName { .. }
            | LoadProblem::AmbiguousName { .. }
            | LoadProblem::Twice(_) => PluginPart::Name,
            LoadProblem::Panicked { .. } => PluginPart::Config(""),
            LoadProblem::Config { reason, .. } => PluginPart::Config(key_in(reason)),
            _ => PluginPart::Library,
        }
    }

    /// What is wrong.
    pub fn problem(&self) -> &LoadProblem {
        &self.problem
    }
}

/// The key in `key: reason`, or in serde's words for one that does not exist.
fn key_in(reason: &str) -> &str {
    if let Some((_, rest)) = reason.split_once("unknown field `") {
        return rest.split('`').next().unwrap_or_default();
    }
    let key = reason.split_once(": ").map_or("", |(key, _)| key);
    // Of a path, the last key.
    let key = key.rsplit('.').next().unwrap_or(key);
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if key.bytes().all(is_key) { key } else { "" }
}

fn also_searched(name: Option<&str>, dirs: &[PathBuf]) -> String {
    match name {
        Some(name) if !dirs.is_empty() => {
            format!(
                "; no library in {} provides a plugin named {name}",
                listed(dirs)
            )
        }
        _ => String::new(),
    }
}

fn for_python(may_be_python: bool) -> &'static str {
    match may_be_python {
        true => {
            "; a Python class cannot be loaded: use a bundled plugin, or write it with plugin-api"
        }
        false => "",
    }
}

fn listed(places: &[PathBuf]) -> String {
    let places: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    places.join(", ")
}

/// The texts of an error and all its causes; libraries of the system keep what matters in the cause.
pub(super) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    one_line(&text)
}

/// Text from elsewhere, made fit for the middle of a line.
pub(super) fn one_line(text: &str) -> String {
    let parts = text.split(char::is_control).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::{LoadError, LoadProblem, key_in, one_line};

    #[test]
    fn a_refusal_names_the_key_at_fault() {
        for (reason, key) in [
            ("hosts: `a b` is not a host", "hosts"),
            ("rules.url: is not a URL", "url"),
            ("unknown field `prot`, expected `hosts` or `port`", "prot"),
            ("allow: unknown field `prot`, expected `port`", "prot"),
            ("missing field `hosts`", ""),
            ("no such file: x", ""),
            ("nothing", ""),
        ] {
            assert_eq!(key_in(reason), key, "{reason}");
        }
    }

    #[test]
    fn an_other_version_is_told_with_both() {
        let text = LoadError::new("x.so", LoadProblem::OtherApi((2, 1))).to_string();
        assert_eq!(
            text,
            "x.so: is built with plugin-api 2.1, but this proxy provides 1.0: rebuild it with proxy-plugin-api 1"
        );
    }

    #[test]
    fn foreign_text_becomes_one_line() {
        assert_eq!(one_line("a:\n  b\r\n\tc\n"), "a: b c");
    }
}
