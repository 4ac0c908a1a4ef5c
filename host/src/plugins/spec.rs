//! A plugin specification: a library, and a plugin in it.
//!
//! Three ways of writing are understood: `path/lib.so:Name`, `path/lib.so` (all its plugins) and the dotted
//! `path/lib.Name`, in which users of proxy.py name a class. Where that library is, `search` finds out; whether what
//! is found is a plugin is decided by `file_check` and `load`.

use std::path::{Component, Path};

use super::load_error::{LoadError, LoadProblem};

const LIBRARY_SUFFIXES: [&str; 3] = [".so", ".dylib", ".dll"];

/// A plugin as it was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSpec {
    /// The whole text, for messages.
    pub written: String,
    /// The library's path, with or without prefix and suffix.
    pub library: String,
    /// The plugin's name in the library; without one, all of them are meant.
    pub name: Option<String>,
}

/// How close a plugin's name is to the requested one; smaller is closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// Letter for letter.
    Same,
    /// One has the suffix `Plugin` and the other has not.
    ButForSuffix,
    /// Some letters are upper case in one and lower case in the other, as in `FilterByURLRegexPlugin`.
    ButForCase,
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

    /// How well `declared`, the name of a plugin, matches the requested one; `None` if it does not. Without a
    /// name in the specification, every plugin fits.
    pub fn likeness(&self, declared: &str) -> Option<Likeness> {
        let Some(name) = &self.name else {
            return Some(Likeness::Same);
        };
        if name == declared {
            Some(Likeness::Same)
        } else if bare(name) == bare(declared) {
            Some(Likeness::ButForSuffix)
        } else if bare(name).eq_ignore_ascii_case(bare(declared)) {
            Some(Likeness::ButForCase)
        } else {
            None
        }
    }

    /// Those of `items` whose plugin fits best.
    pub fn closest<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        declared: impl for<'a> Fn(&'a T) -> &'a str,
    ) -> Vec<T> {
        let fits = items.into_iter().filter_map(|item| {
            let likeness = self.likeness(declared(&item))?;
            Some((likeness, item))
        });
        let fits: Vec<_> = fits.collect();
        let best = fits.iter().map(|fit| fit.0).min();
        let is_best = |fit: &(Likeness, T)| Some(fit.0) == best;
        let fits = fits.into_iter().filter(is_best);
        fits.map(|fit| fit.1).collect()
    }

    /// Whether the name follows a dot, as that of a class does in Python.
    pub(super) fn is_dotted(&self) -> bool {
        self.name.is_some() && !self.written.contains(':')
    }

    /// Whether the library is named as a file, suffix included, so that no other will do.
    pub fn names_a_file(&self) -> bool {
        self.library_suffix().is_some()
    }

    /// Whether the library's place is written, so that it is not searched for anywhere else: an absolute path, one that
    /// begins with `./` or `../`, or a file with its suffix in a directory.
    pub fn names_a_place(&self) -> bool {
        let path = Path::new(&self.library);
        let first = path.components().next();
        let is_rooted = !matches!(first, None | Some(Component::Normal(_)));
        let has_directory = path.parent().is_some_and(|parent| parent != Path::new(""));
        is_rooted || self.names_a_file() && has_directory
    }

    fn library_suffix(&self) -> Option<&'static str> {
        LIBRARY_SUFFIXES
            .into_iter()
            .find(|suffix| self.library.ends_with(suffix))
    }

    /// The names its library may have in a plugin directory, without prefix and suffix.
    pub(super) fn stems(&self) -> Vec<String> {
        let file = self.library.rsplit(['/', '\\']).next().unwrap_or_default();
        let suffix = self.library_suffix();
        let stem = suffix
            .and_then(|suffix| file.strip_suffix(suffix))
            .unwrap_or(file);
        let stem = stem.strip_prefix("lib").unwrap_or(stem);
        let mut stems = vec![stem.to_owned(), stem.replace('-', "_")];
        if let (Some(name), None) = (&self.name, suffix) {
            // `proxy.plugin.ShortLinkPlugin`: only the class counts.
            stems.extend([snake_case(bare(name)), bare(name).to_ascii_lowercase()]);
        }
        stems
    }
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
    use super::{Likeness, PluginSpec};

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
    fn names_match_with_and_without_the_suffix_and_in_any_case() {
        use Likeness::{ButForCase, ButForSuffix, Same};
        for (asked, declared, likeness) in [
            ("x:ShortLink", "ShortLink", Some(Same)),
            ("x:ShortLinkPlugin", "ShortLink", Some(ButForSuffix)),
            ("x:ShortLink", "ShortLinkPlugin", Some(ButForSuffix)),
            ("x:Plugin", "Plugin", Some(Same)),
            ("x:Plugin", "ShortLink", None),
            ("x:shortlink", "ShortLink", Some(ButForCase)),
            (
                "x.FilterByURLRegexPlugin",
                "FilterByUrlRegex",
                Some(ButForCase),
            ),
            ("x.so", "Anything", Some(Same)),
        ] {
            assert_eq!(
                spec(asked).likeness(declared),
                likeness,
                "{asked} {declared}"
            );
        }
    }

    #[test]
    fn the_closest_name_wins_over_one_in_another_case() {
        for (asked, declared, closest) in [
            ("x:Ab", &["AB", "Ab", "AbPlugin"][..], &["Ab"][..]),
            ("x:Ab", &["AB", "AbPlugin"], &["AbPlugin"]),
            ("x:Ab", &["AB", "aB", "Other"], &["AB", "aB"]),
            ("x:Ab", &["Other"], &[]),
            ("x", &["A", "B"], &["A", "B"]),
        ] {
            let asked = spec(asked);
            let found = asked.closest(declared.iter().copied(), |name| name);
            assert_eq!(found, closest);
        }
    }

    #[test]
    fn refuses_a_specification_without_a_path_or_a_name() {
        for written in ["", " ", ":Name", "libx.so:"] {
            let refused = PluginSpec::parse(written).unwrap_err().to_string();
            assert!(refused.ends_with("write path/library.so:Name"), "{refused}");
        }
    }
}
