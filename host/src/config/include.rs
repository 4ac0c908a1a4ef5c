//! The files that a configuration file includes.
//!
//! `include = ["conf.d/*.toml"]` reads all files that a pattern matches, in the order of their names. Each overrides
//! the file that includes it and the included files before it; lists of tables, such as `[[plugins]]`, grow instead.
//! Included files include no others.

use std::path::{Path, PathBuf};

use super::document::{Files, Node, Place, SyntaxError, Value};
use super::error::ConfigError;
use super::load;

/// The key of the list of patterns.
const KEY: &str = "include";

/// A file, and those that it includes, each to be laid over the ones before it. What cannot be read is left out, and noted
/// in `errors`.
pub(super) fn read(
    files: &mut Files,
    path: &Path,
    text: String,
    errors: &mut Vec<ConfigError>,
) -> Vec<Node> {
    let document = match parse(files, path, text) {
        Ok(document) => document,
        Err(wrong) => {
            errors.extend(wrong);
            return Vec::new();
        }
    };
    let patterns = patterns(&document);
    let mut documents = vec![document];
    for (place, pattern) in patterns {
        let paths = match matches(path, &pattern) {
            Ok(paths) => paths,
            Err(reason) => {
                errors.push(ConfigError::of_setting(files, &place, KEY, reason));
                continue;
            }
        };
        for path in paths {
            match included(files, &path, &place) {
                Ok(document) => documents.push(document),
                Err(wrong) => errors.extend(wrong),
            }
        }
    }
    documents
}

fn parse(files: &mut Files, path: &Path, text: String) -> Result<Node, Vec<ConfigError>> {
    files.parse(path.to_owned(), text).map_err(|wrong| {
        let errors = wrong.into_iter().map(|SyntaxError { place, message }| {
            ConfigError::of_setting(files, &place, "", message)
        });
        errors.collect()
    })
}

/// What stands in the list; what is no text is found when the settings are read.
fn patterns(document: &Node) -> Vec<(Place, String)> {
    let Some(Value::Array(items)) = document.find(KEY).map(|node| &node.value) else {
        return Vec::new();
    };
    let text = |node: &Node| match &node.value {
        Value::String(text) => Some((node.place.clone(), text.clone())),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

/// The files that a pattern means, relative to the directory of the file in which it stands.
fn matches(file: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let dir = file.parent().unwrap_or(Path::new(""));
    // Characters of the directory's own name stand for themselves.
    let dir = dir.to_str().map(glob::Pattern::escape);
    let dir = dir.ok_or("the directory of this file is not UTF-8")?;
    let pattern = Path::new(&dir).join(pattern);
    let pattern = pattern.to_string_lossy();
    let paths = glob::glob(&pattern).map_err(|error| format!("is not a pattern: {error}"))?;
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let paths = paths.map_err(|error| error.to_string())?;
    let has_wildcard = pattern.contains(['*', '?', '[']);
    match paths.is_empty() && !has_wildcard {
        true => Err("no such file; remove it, or create it".to_owned()),
        false => Ok(paths),
    }
}

fn included(files: &mut Files, path: &Path, by: &Place) -> Result<Node, Vec<ConfigError>> {
    let text = load::read(path).map_err(|error| {
        let reason = format!(
            "{}: {error}; make it readable, or remove it",
            path.display()
        );
        vec![ConfigError::of_setting(files, by, KEY, reason)]
    })?;
    let document = parse(files, path, text)?;
    match document.find(KEY) {
        Some(node) => {
            let reason = "an included file cannot include others".to_owned();
            Err(vec![ConfigError::of_setting(
                files,
                &node.place,
                KEY,
                reason,
            )])
        }
        None => Ok(document),
    }
}
