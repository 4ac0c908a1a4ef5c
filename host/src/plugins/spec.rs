//! Which library an operator means, and which plugin in it.
//!
//! Three ways of writing are understood: `path/lib.so:Name`, `path/lib.so` (all its plugins) and the dotted
//! `path/lib.Name`, in which users of proxy.py name a class. A library is looked for where it is written first,
//! then under its plain name in the plugin directories. Whether what is found is a plugin is for `file_check`
//! and `load` to say.

use super::load::{LoadError, LoadProblem};
use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const LIBRARY_SUFFIXES: [&str; 3] = [".so", ".dylib", ".dll"];

/// A plugin as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSpec {
    /// The whole text, for messages.
    pub written: String,
    /// The library's path, with or without prefix and suffix.
    pub library: String,
    /// The plugin's name in the library; without one, all of them are meant.
    pub name: Option<String>,
}

impl PluginSpec {
    /// Takes a specification apart; anything that is not of another form is a path.
    ///
    /// # Errors
    /// `NotASpec` if there is no path, or a colon at the end without a name.
    pub fn parse(written: &str) -> Result<Self, LoadError> {
        let written = written.trim();
        if written.is_empty() || written.starts_with(':') || written.ends_with(':') {
            return Err(LoadError::new(
                format!("\"{written}\""),
                LoadProblem::NotASpec,
            ));
        }
        let (library, name) = match split_name(written) {
            Some((library, name)) => (library, Some(name.to_owned())),
            None => (written, None),
        };
        Ok(Self {
            written: written.to_owned(),
            library: library.to_owned(),
            name,
        })
    }

    /// Whether `declared`, the name of a plugin, is meant: names match with and without the suffix `Plugin`.
    pub fn means(&self, declared: &str) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| bare(name) == bare(declared))
    }

    /// The names its library may have in a plugin directory, without prefix and suffix.
    fn stems(&self) -> Vec<String> {
        let file = self.library.rsplit(['/', '\\']).next().unwrap_or_default();
        let suffix = LIBRARY_SUFFIXES
            .iter()
            .find(|suffix| file.ends_with(**suffix));
        let stem = suffix
            .and_then(|suffix| file.strip_suffix(suffix))
            .unwrap_or(file);
        let stem = stem.strip_prefix("lib").unwrap_or(stem);
        let mut stems = vec![stem.to_owned(), stem.replace('-', "_")];
        if let (Some(name), None) = (&self.name, suffix) {
            // `proxy.plugin.ShortLinkPlugin`: only the class tells.
            stems.extend([snake_case(bare(name)), bare(name).to_ascii_lowercase()]);
        }
        stems
    }
}

/// Finds the library's file.
///
/// # Errors
/// `Missing`, which lists every place that was looked at.
pub fn find(spec: &PluginSpec, dirs: &[PathBuf]) -> Result<PathBuf, LoadError> {
    let places = places(spec, dirs);
    let mut directory = None;
    for place in &places {
        match fs::metadata(place) {
            Ok(metadata) if metadata.is_dir() => directory = directory.or(Some(place)),
            Err(error) if is_absent(error.kind()) => {}
            // What is wrong with it will be found when it is opened.
            Ok(_) | Err(_) => return Ok(place.clone()),
        }
    }
    match directory {
        Some(directory) => Ok(directory.clone()),
        None => Err(LoadError::missing(&spec.written, places)),
    }
}

fn is_absent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput
    )
}

/// Where the library may be, each place once, in the order of preference.
fn places(spec: &PluginSpec, dirs: &[PathBuf]) -> Vec<PathBuf> {
    let written = Path::new(&spec.library);
    let parent = written.parent().unwrap_or(Path::new(""));
    let mut places = vec![written.to_owned()];
    for dir in [parent]
        .into_iter()
        .chain(dirs.iter().map(PathBuf::as_path))
    {
        for stem in spec.stems() {
            places.push(dir.join(format!("lib{stem}{DLL_SUFFIX}")));
            places.push(dir.join(format!("{stem}{DLL_SUFFIX}")));
        }
    }
    let mut seen = Vec::with_capacity(places.len());
    places.retain(|place| {
        !seen.contains(place) && {
            seen.push(place.clone());
            true
        }
    });
    places
}

/// The library and the name in it, if there is a name.
fn split_name(written: &str) -> Option<(&str, &str)> {
    if let Some((library, name)) = written.rsplit_once(':') {
        // Not the colon of `C:\lib.dll`.
        return is_name(name).then_some((library, name));
    }
    let (library, name) = written.rsplit_once('.')?;
    let is_class = is_name(name) && name.starts_with(|first: char| first.is_ascii_uppercase());
    let has_stem = !library.is_empty() && !library.ends_with(['/', '\\', '.']);
    (is_class && has_stem).then_some((library, name))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A plugin's name without the suffix that proxy.py's have.
fn bare(name: &str) -> &str {
    name.strip_suffix("Plugin")
        .filter(|bare| !bare.is_empty())
        .unwrap_or(name)
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::{PluginSpec, find, places};
    use std::path::PathBuf;

    fn spec(written: &str) -> PluginSpec {
        PluginSpec::parse(written).unwrap()
    }

    #[test]
    fn takes_every_way_of_writing_apart() {
        for (written, library, name) in [
            ("path/libx.so:Name", "path/libx.so", Some("Name")),
            ("path/libx.so", "path/libx.so", None),
            ("path/x.Name", "path/x", Some("Name")),
            (
                "proxy.plugin.ShortLinkPlugin",
                "proxy.plugin",
                Some("ShortLinkPlugin"),
            ),
            (r"C:\x.dll:Name", r"C:\x.dll", Some("Name")),
            (r"C:\x.dll", r"C:\x.dll", None),
            ("libx.so.1", "libx.so.1", None),
            ("../X", "../X", None),
            (" libx.so:a_1 ", "libx.so", Some("a_1")),
        ] {
            let asked = spec(written);
            assert_eq!(
                (asked.library.as_str(), asked.name.as_deref()),
                (library, name)
            );
        }
    }

    #[test]
    fn names_match_with_and_without_the_suffix() {
        for (asked, declared, is_meant) in [
            ("x:ShortLink", "ShortLink", true),
            ("x:ShortLinkPlugin", "ShortLink", true),
            ("x:ShortLink", "ShortLinkPlugin", true),
            ("x:Plugin", "Plugin", true),
            ("x:Plugin", "ShortLink", false),
            ("x:shortlink", "ShortLink", false),
            ("x.so", "Anything", true),
        ] {
            assert_eq!(spec(asked).means(declared), is_meant, "{asked} {declared}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn looks_where_it_is_written_and_then_in_the_plugin_directories() {
        let asked = spec("plugin_examples/shortlink.ShortLinkPlugin");
        let places = places(&asked, &[PathBuf::from("/p")]);
        assert_eq!(places[0], PathBuf::from("plugin_examples/shortlink"));
        assert_eq!(places[1], PathBuf::from("plugin_examples/libshortlink.so"));
        assert!(places.contains(&PathBuf::from("/p/libshortlink.so")));
        let asked = spec("proxy.plugin.FilterByUpstreamHostPlugin");
        let by_class = PathBuf::from("/p/libfilter_by_upstream_host.so");
        assert!(super::places(&asked, &[PathBuf::from("/p")]).contains(&by_class));
    }

    #[test]
    fn tells_every_place_it_has_looked_at() {
        let asked = spec("/nowhere/x.Name");
        let refused = find(&asked, &[PathBuf::from("/nowhere/else")])
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("/nowhere/x.Name: there is no such library"),
            "{refused}"
        );
        assert!(refused.contains("/nowhere/else/"), "{refused}");
        assert_eq!(refused.lines().count(), 1);
    }

    #[test]
    fn refuses_a_specification_without_a_path_or_a_name() {
        for written in ["", " ", ":Name", "libx.so:"] {
            let refused = PluginSpec::parse(written).unwrap_err().to_string();
            assert!(refused.ends_with("write path/library.so:Name"), "{refused}");
        }
    }
}
