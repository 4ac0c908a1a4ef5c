//! What the default file says about each setting.

use std::collections::HashMap;

use super::super::command::DEFAULTS;

/// The comments of `proxy.toml`, by the path of the setting, such as `timeouts.hosts.stall`.
pub(super) struct Documentation(HashMap<String, String>);

impl Documentation {
    pub(super) fn of_default_file() -> Self {
        Self::read(DEFAULTS)
    }

    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// A comment is about the lines below it, up to an empty line or the next comment. `# text` is a comment, and `#key =`
    /// or `#[table]` a setting that the file does not make.
    fn read(text: &str) -> Self {
        let mut documented = HashMap::new();
        let mut table = String::new();
        let mut comment = Comment::default();
        for line in text.lines() {
            if line.is_empty() {
                comment = Comment::default();
            } else if let Some(text) = line.strip_prefix("# ") {
                comment.add(text);
                continue;
            }
            let line = line.strip_prefix('#').unwrap_or(line);
            let path = if let Some(header) = header(line) {
                table = format!("{header}.");
                header.to_owned()
            } else if let Some((key, _)) = line.split_once(" = ") {
                format!("{table}{key}")
            } else {
                continue;
            };
            comment.is_complete = true;
            if !comment.text.is_empty() {
                documented.insert(path, comment.text.clone());
            }
        }
        Self(documented)
    }
}

/// The table of a line such as `[table]` or `[[table]]`.
fn header(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    Some(inner.strip_suffix(']').unwrap_or(inner))
}

/// The comment above a setting.
#[derive(Default)]
struct Comment {
    text: String,
    /// A setting follows, so the next line of a comment begins another one.
    is_complete: bool,
}

impl Comment {
    fn add(&mut self, line: &str) {
        if self.is_complete {
            *self = Self::default();
        }
        // The lines of a list stay lines.
        match self.text.is_empty() {
            true => {}
            false if line.starts_with("- ") => self.text.push('\n'),
            false => self.text.push(' '),
        }
        self.text.push_str(line.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_about_the_settings_below_it() {
        let text = "# Of the file.\n\n# Where to\n# listen.\nhost = 1\nport = 2\n\nbare = 3\n[table]\n# Either:\n# - a\n\
                    # - b\n#list = []\n# Other.\n#[[table.inner]]\n#key = 1\n";
        let documentation = Documentation::read(text);
        for (path, text) in [
            ("host", Some("Where to listen.")),
            ("port", Some("Where to listen.")),
            ("bare", None),
            ("table", None),
            ("table.list", Some("Either:\n- a\n- b")),
            ("table.inner", Some("Other.")),
        ] {
            assert_eq!(documentation.get(path), text, "{path}");
        }
    }
}
