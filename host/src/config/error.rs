//! What is wrong with the configuration, and where.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::document::{Files, Place};

/// Everything that is wrong with the configuration; at least one thing. Displayed with one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: `proxy.toml:3:8`, `PROXY_PORT` or `--port`.
    place: String,
    /// The setting, such as `timeouts.idle`; empty if it is none, or if the place says it.
    key: String,
    reason: String,
    /// The lines of the file in question, as compilers show them.
    excerpt: Option<String>,
    is_usage: bool,
}

impl ConfigErrors {
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        ConfigErrors(errors)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// Whether the command line is at fault, not the file or the environment.
    pub fn is_usage(&self) -> bool {
        self.0.iter().any(|error| error.is_usage)
    }

    /// For people: each error with the line of the file that it is about.
    pub fn with_excerpts(&self) -> String {
        let each = self.0.iter().map(ConfigError::with_excerpt);
        each.collect::<Vec<_>>().join("\n")
    }
}

impl ConfigError {
    /// For people: with the line of the file that it is about.
    pub fn with_excerpt(&self) -> String {
        match &self.excerpt {
            Some(excerpt) => format!("{self}\n{excerpt}"),
            None => self.to_string(),
        }
    }

    /// A setting has a value that it cannot have, or does not exist.
    pub(super) fn of_setting(files: &Files, at: &Place, key: &str, reason: String) -> Self {
        let (place, excerpt) = match at {
            Place::File(file, span) => {
                (place(files, *file, span), excerpt(files, *file, span, key))
            }
            Place::Variable(name) => (name.clone(), None),
            Place::Flag(flag) => ((*flag).to_owned(), None),
            Place::Default => (String::new(), None),
        };
        ConfigError {
            place,
            key: match at {
                Place::File(..) => key.to_owned(),
                _ => String::new(),
            },
            reason,
            excerpt,
            is_usage: matches!(at, Place::Flag(_)),
        }
    }

    /// Something that is written nowhere.
    pub fn without_place(reason: String) -> Self {
        ConfigError {
            place: String::new(),
            key: String::new(),
            reason,
            excerpt: None,
            is_usage: false,
        }
    }

    /// A file cannot be read.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        ConfigError {
            place: path.display().to_string(),
            key: String::new(),
            reason: format!("{error}; specify a readable text file with --config"),
            excerpt: None,
            is_usage: false,
        }
    }

    /// The flags make no sense.
    pub(super) fn of_flags(flags: &str, reason: String) -> Self {
        ConfigError {
            place: flags.to_owned(),
            key: String::new(),
            reason,
            excerpt: None,
            is_usage: true,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Whether a setting's line is not to be shown: what plugins are configured with may be a secret, too.
pub(super) fn is_secret(key: &str) -> bool {
    key == "basic_auth" || key.starts_with("plugins")
}

/// Whether the line sets only which plugin is loaded. In an inline table, its settings may follow.
fn names_a_plugin(key: &str, line: &str) -> bool {
    let names = ["library", "name"].into_iter();
    let mut names = names.filter(|name| key.starts_with("plugins[") && key.ends_with(name));
    names.any(|name| line.trim_start().starts_with(name))
}

fn place(files: &Files, file: usize, span: &Range<usize>) -> String {
    let Some(file) = files.get(file) else {
        return String::new();
    };
    let (line, column) = position(&file.text, span.start);
    format!("{}:{line}:{column}", file.path.display())
}

/// Line and column of a byte, both from 1; the column counts characters.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The line of the span; the first one if it has several. No value is shown but that of a known setting which is not
/// secret: a misspelt key may have been meant to be one, and what is not TOML may be anything.
fn excerpt(files: &Files, file: usize, span: &Range<usize>, key: &str) -> Option<String> {
    let text = &files.get(file)?.text;
    let before = text.get(..span.start)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..]
        .find('\n')
        .map_or(text.len(), |len| start + len);
    let line = text[start..end].trim_end_matches('\r');
    // A line that is longer than any that a person writes is no help.
    if line.trim().is_empty() || line.len() > 500 {
        return None;
    }
    let is_shown = !is_secret(key) || names_a_plugin(key, line);
    let is_value = !key.is_empty() && is_shown && line[..span.start - start].contains('=');
    let line = match line.split_once('=') {
        Some((name, _)) if !is_value => &line[..name.len() + 1],
        None if !is_value && line.contains(['"', '\'']) => return None,
        _ => line,
    };
    let from = (span.start - start).min(line.len());
    let to = (span.end.min(end) - start).clamp(from, line.len());
    let (number, _) = position(text, span.start);
    let snippet = Snippet::source(line)
        .line_start(number)
        .annotation(AnnotationKind::Primary.span(from..to));
    let report = [Group::with_level(Level::ERROR).element(snippet)];
    let rendered = Renderer::plain().render(&report);
    let lines = rendered
        .lines()
        .map(|line| format!("  {}", line.trim_end()));
    Some(lines.collect::<Vec<_>>().join("\n"))
}
