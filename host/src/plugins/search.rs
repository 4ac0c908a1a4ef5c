//! Finds the library for a plugin specification.
//!
//! A path that names a place (absolute, beginning with `./` or `../`, or a file with its suffix in a directory) is that
//! file or an error: nothing else is loaded in its stead. Bare names and `folder/file.Class` are searched: where they
//! are written first, then under their plain name in the plugin directories, and last by what the libraries in those
//! directories say that they hold: `proxy.plugin.ProposedRestApiPlugin` names a class and no file. No library is loaded
//! for that; its note is read. A file that was named with its suffix is never found by what it holds.

use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::file_check::find_note;
use super::load_error::{LoadError, LoadProblem};
use super::spec::PluginSpec;

/// Finds the library's file.
///
/// # Errors
/// `Missing`, which lists every place that was searched; `Absent` if that is the only place where it may be;
/// `Ambiguous` if several libraries of a directory hold the plugin and none is named for it.
pub(super) fn find(spec: &PluginSpec, dirs: &[PathBuf]) -> Result<PathBuf, LoadError> {
    let is_exact = spec.names_a_place();
    let places = match is_exact {
        true => exact_places(spec),
        false => places(spec, dirs),
    };
    let mut directory = None;
    for place in &places {
        match fs::metadata(place) {
            Ok(metadata) if metadata.is_dir() => directory = directory.or(Some(place)),
            Err(error) if is_absent(error.kind()) => {}
            // What is wrong with it will be found when it is opened.
            Ok(_) | Err(_) => return Ok(place.clone()),
        }
    }
    if let (false, Some(path)) = (is_exact, find_by_note(spec, dirs)?) {
        return Ok(path);
    }
    match directory {
        Some(directory) => Ok(directory.clone()),
        None if is_exact => Err(LoadError::new(&spec.written, LoadProblem::Absent(places))),
        None => Err(LoadError::new(
            &spec.written,
            LoadProblem::Missing {
                places,
                name: name_to_search(spec).map(str::to_owned),
                dirs: dirs.to_vec(),
                may_be_python: spec.is_dotted(),
            },
        )),
    }
}

fn is_absent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput
    )
}

/// Where a library may be whose place is written: there, and if the suffix is left out, under the platform's name for
/// it in the same directory.
fn exact_places(spec: &PluginSpec) -> Vec<PathBuf> {
    let written = Path::new(&spec.library);
    let mut places = vec![written.to_owned()];
    if let (false, Some(file)) = (spec.names_a_file(), written.file_name()) {
        let file = file.to_string_lossy();
        let stem = file.strip_prefix("lib").unwrap_or(&file);
        places.push(written.with_file_name(format!("lib{stem}{DLL_SUFFIX}")));
        places.push(written.with_file_name(format!("{stem}{DLL_SUFFIX}")));
    }
    places
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

/// The plugin's name, if libraries of any name may hold it.
fn name_to_search(spec: &PluginSpec) -> Option<&str> {
    spec.name.as_deref().filter(|_| !spec.names_a_file())
}

/// The library in the first plugin directory that has one whose note lists the plugin.
fn find_by_note(spec: &PluginSpec, dirs: &[PathBuf]) -> Result<Option<PathBuf>, LoadError> {
    let Some(name) = name_to_search(spec) else {
        return Ok(None);
    };
    for dir in dirs {
        let held = libraries_in(dir).into_iter().flat_map(|path| {
            let plugins = plugins_in(&path);
            plugins
                .into_iter()
                .map(move |plugin| (plugin, path.clone()))
        });
        let fits = spec.closest(held, |held| &held.0);
        let mut libraries: Vec<PathBuf> = fits.into_iter().map(|fit| fit.1).collect();
        libraries.dedup();
        if libraries.len() > 1 {
            let (name, of) = (name.to_owned(), libraries);
            return Err(LoadError::new(
                &spec.written,
                LoadProblem::Ambiguous { name, of },
            ));
        }
        if let Some(library) = libraries.pop() {
            return Ok(Some(library));
        }
    }
    Ok(None)
}

/// The libraries of a directory, each once whatever its names, in an order that does not depend on the file system.
fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| is_library(path)).collect();
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    paths.retain(|path| match fs::canonicalize(path) {
        Ok(file) if !files.contains(&file) => {
            files.push(file);
            true
        }
        _ => false,
    });
    paths
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(DLL_SUFFIX)) && path.is_file()
}

/// The plugins that a library declares; none if it cannot be read or is no plugin library.
fn plugins_in(path: &Path) -> Vec<String> {
    let note = fs::read(path).ok().and_then(|content| find_note(&content));
    note.map(|note| note.plugins).unwrap_or_default()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::{find, places};
    use crate::plugins::spec::PluginSpec;
    use std::path::{Path, PathBuf};
    use std::{env, fs, process};

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        /// With libraries that hold the plugins of a list, of which only the notes are there.
        fn holding(name: &str, libraries: &[(&str, &str)]) -> Self {
            let path = env::temp_dir().join(format!("proxy-search-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            for (library, plugins) in libraries {
                let note = format!("..proxy-plugin-note:plugins={plugins};plugin-api=01.00;\0..");
                fs::write(path.join(library), note).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn spec(written: &str) -> PluginSpec {
        PluginSpec::parse(written).unwrap()
    }

    /// What was found, as a file name in `dir`, or the refusal.
    fn found(written: &str, dirs: &[&Path]) -> Result<String, String> {
        let dirs: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
        let path = find(&spec(written), &dirs).map_err(|refused| refused.to_string())?;
        Ok(path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
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
    fn a_library_is_found_by_its_name_or_by_what_it_holds() {
        let scratch = Scratch::holding(
            "notes",
            &[
                ("libshortlink.so", "ShortLink,"),
                ("libmock_rest_api.so", "ProposedRestApi,"),
                ("libfilter_by_url_regex.so", "FilterByUrlRegex,"),
                ("libfilter_by_upstream_host.so", "FilterByUpstreamHost,"),
                ("libcache_responses.so", "CacheResponses,CacheTunnels,"),
                ("libcase.so", "Twin,TWIN,"),
                ("notes.txt", "InAText,"),
            ],
        );
        fs::write(scratch.0.join("libnothing.so"), "no note").unwrap();
        for (written, library) in [
            (
                "plugin_examples/shortlink.ShortLinkPlugin",
                Ok("libshortlink.so"),
            ),
            ("proxy.plugin.ShortLinkPlugin", Ok("libshortlink.so")),
            ("proxy.plugin.ShortLink", Ok("libshortlink.so")),
            (
                "proxy.plugin.ProposedRestApiPlugin",
                Ok("libmock_rest_api.so"),
            ),
            (
                "proxy.plugin.FilterByURLRegexPlugin",
                Ok("libfilter_by_url_regex.so"),
            ),
            (
                "plugin_examples/filter_by_upstream.FilterByUpstreamHostPlugin",
                Ok("libfilter_by_upstream_host.so"),
            ),
            ("any:CacheTunnels", Ok("libcache_responses.so")),
            ("any:Twin", Ok("libcase.so")),
            (
                "proxy.plugin.WebServerPlugin",
                Err("provides a plugin named WebServerPlugin"),
            ),
            ("any.InAText", Err("provides a plugin named InAText")),
            // Who names a file gets that file.
            ("libother.so:CacheTunnels", Err("library not found")),
        ] {
            let found = found(written, &[&scratch.0]);
            match library {
                Ok(library) => assert_eq!(found.as_deref(), Ok(library), "{written}"),
                Err(words) => assert!(
                    found.clone().is_err_and(|text| text.contains(words)),
                    "{found:?}"
                ),
            }
        }
    }

    #[test]
    fn several_libraries_that_hold_the_plugin_are_listed() {
        let scratch = Scratch::holding(
            "several",
            &[("liba.so", "Twin,"), ("libb.so", "Other,Twin,")],
        );
        let refused = found("proxy.plugin.TwinPlugin", &[&scratch.0]).unwrap_err();
        assert!(
            refused.contains("liba.so") && refused.contains("libb.so"),
            "{refused}"
        );
        assert_eq!(refused.lines().count(), 1);
        // The same file under another name is no second library.
        fs::remove_file(scratch.0.join("libb.so")).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("liba.so"), scratch.0.join("libb.so")).unwrap();
        assert_eq!(
            found("proxy.plugin.Twin", &[&scratch.0]).as_deref(),
            Ok("liba.so")
        );
    }

    #[test]
    fn the_first_directory_that_has_it_counts() {
        let none = Scratch::holding("none", &[("libx.so", "X,")]);
        let first = Scratch::holding("first", &[("libfirst.so", "Twin,")]);
        let second = Scratch::holding("second", &[("libsecond.so", "Twin,")]);
        let dirs = [&*none.0, &first.0, &second.0];
        assert_eq!(found("a.Twin", &dirs).as_deref(), Ok("libfirst.so"));
    }

    #[test]
    fn tells_every_place_it_has_looked_at() {
        let refused = found("nowhere/x.Name", &[Path::new("/nowhere/else")]).unwrap_err();
        assert!(
            refused.starts_with("nowhere/x.Name: library not found"),
            "{refused}"
        );
        assert!(refused.contains("/nowhere/else/libname.so"), "{refused}");
        assert_eq!(refused.lines().count(), 1);
    }

    #[test]
    fn a_written_place_is_that_file_or_an_error() {
        let scratch = Scratch::holding("place", &[("libshortlink.so", "ShortLink,")]);
        let dir = scratch.0.display();
        for written in [
            "/nowhere/libshortlink.so:ShortLink",
            "/nowhere/libshortlink.so",
            "/nowhere/shortlink.ShortLink",
            "/nowhere/shortlink:ShortLink",
            "./libshortlink.so:ShortLink",
            "./shortlink.ShortLinkPlugin",
            "../libshortlink.so",
            "../no/shortlink.ShortLink",
            "nowhere/libshortlink.so:ShortLink",
            "nowhere/../libshortlink.so",
            &format!("{dir}/shortlink.so:ShortLink"),
            &format!("{dir}/other.ShortLink"),
        ] {
            let refused = found(written, &[&scratch.0]).unwrap_err();
            let (place, _) = written.rsplit_once(['.', ':']).unwrap();
            let place = place.strip_suffix(".so").unwrap_or(place);
            assert!(refused.contains(place), "{written}: {refused}");
            assert!(refused.contains("library not found"), "{refused}");
            assert_eq!(refused.lines().count(), 1);
        }
        for written in [
            &format!("{dir}/libshortlink.so:ShortLink"),
            &format!("{dir}/shortlink.ShortLink"),
            &format!("{dir}/libshortlink.ShortLink"),
            "libshortlink.so:ShortLink",
            "libshortlink.so",
            "shortlink:ShortLink",
            "folder/shortlink.ShortLinkPlugin",
        ] {
            let found = found(written, &[&scratch.0]);
            assert_eq!(found.as_deref(), Ok("libshortlink.so"), "{written}");
        }
    }
}
