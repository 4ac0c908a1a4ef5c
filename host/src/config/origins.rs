//! Where the settings of a configuration are written, for problems that are found when it is used: a file that does not
//! exist, a library that cannot be loaded.

use std::fmt;
use std::path::Path;

use super::document::{Files, Node, Place, Value, listed};
use super::error::ConfigError;

/// The files, variables and flags that a configuration was read from.
#[derive(Default)]
pub struct Origins {
    pub(super) files: Files,
    /// Everything, one source over the other.
    pub(super) document: Node,
}

/// A part of an entry of `plugins`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginPart<'p> {
    /// The library.
    Library,
    /// The name of the plugin in the library.
    Name,
    /// A key of its settings, at any depth. Without a name, or if the key is not there: all settings.
    Config(&'p str),
}

impl Origins {
    /// A problem with a setting, such as `tls.upstream.extra_ca_files[0]`. If it is not written, the place is that of the
    /// table around it; if that is not written either, there is none.
    pub fn of_setting(&self, setting: &str, reason: String) -> ConfigError {
        let place = &self.document.find_nearest(setting).place;
        ConfigError::of_setting(&self.files, place, setting, reason)
    }

    /// A problem with a file or a directory that a setting names. Without such a setting, there is no place.
    pub fn of_file(&self, file: &Path, reason: String) -> ConfigError {
        let named = file
            .to_str()
            .and_then(|file| naming(&self.document, "", file));
        match named {
            Some((setting, node)) => {
                ConfigError::of_setting(&self.files, &node.place, &setting, reason)
            }
            None => ConfigError::without_place(reason),
        }
    }

    /// A problem with the value of a flag that sets no single setting.
    pub fn of_flag(&self, flag: &'static str, reason: String) -> ConfigError {
        ConfigError::of_setting(&self.files, &Place::Flag(flag), "", reason)
    }

    /// A problem with a part of the plugin that is written in this entry of `plugins`.
    pub fn of_plugin(&self, entry: usize, part: PluginPart<'_>, reason: String) -> ConfigError {
        let entry = format!("plugins[{entry}]");
        let (setting, key) = match part {
            PluginPart::Library => (format!("{entry}.library"), None),
            PluginPart::Name => (format!("{entry}.name"), None),
            PluginPart::Config(key) => (format!("{entry}.config"), Some(key)),
        };
        let config = self.document.find(&setting);
        let found = key.zip(config);
        let found = found.and_then(|(key, config)| with_key(config, &setting, key));
        match found {
            Some((setting, place)) => ConfigError::of_setting(&self.files, place, &setting, reason),
            None => self.of_setting(&setting, reason),
        }
    }
}

/// The first setting, outside of the tables of plugins, whose value is this text.
fn naming<'d>(node: &'d Node, path: &str, text: &str) -> Option<(String, &'d Node)> {
    match &node.value {
        Value::String(own) if own == text => Some((path.to_owned(), node)),
        Value::Text(own) => {
            let mut items = listed(&node.place, own).into_iter();
            let is_item = items.any(|item| matches!(item.value, Value::Text(item) if item == text));
            (own == text || is_item).then(|| (path.to_owned(), node))
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| naming(item, &format!("{path}[{index}]"), text))
        }
        Value::Table(table) => {
            let mut entries = table.iter().filter(|(key, _)| key.name != "plugins");
            entries.find_map(|(key, node)| naming(node, &joined(path, &key.name), text))
        }
        _ => None,
    }
}

/// The first place below `node` where this key is.
fn with_key<'d>(node: &'d Node, path: &str, name: &str) -> Option<(String, &'d Place)> {
    match &node.value {
        Value::Table(table) => {
            let own = table.iter().find(|(key, _)| key.name == name);
            let own = own.map(|(key, _)| (joined(path, name), &key.place));
            let mut inner = table.iter();
            own.or_else(|| {
                inner.find_map(|(key, node)| with_key(node, &joined(path, &key.name), name))
            })
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| with_key(item, &format!("{path}[{index}]"), name))
        }
        _ => None,
    }
}

fn joined(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}

impl fmt::Debug for Origins {
    /// Without the text, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origins(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::config::load::Sources;
    use clap::Parser;

    const TEXT: &str = "log_file = \"a.pem\"\n[tls]\ncert_file = \"b.pem\"\nupstream.extra_ca_files = [\"c.pem\", \"d.pem\"]\n\
                        [[plugins]]\nlibrary = \"libx.so\"\n[plugins.config]\nhosts = [\"b.pem\"]\nrules = [{ url = 1 }]\n\
                        [[plugins]]\nlibrary = \"e.pem\"\n";

    fn config(flags: &[&str]) -> crate::config::Config {
        let flags = Flags::try_parse_from([&["proxy"], flags].concat()).unwrap();
        let file = Some((Path::new("p.toml"), TEXT.to_owned()));
        let variables = [("PROXY_PID_FILE".into(), "v.pid".into())];
        Sources::merge(&flags, variables, file)
            .config(&flags)
            .unwrap()
    }

    #[test]
    fn a_problem_with_a_file_is_shown_where_the_file_is_named() {
        let config = config(&["--key-file", "k.pem"]);
        for (file, shown) in [
            ("b.pem", "p.toml:3:13: tls.cert_file: wrong"),
            (
                "d.pem",
                "p.toml:4:37: tls.upstream.extra_ca_files[1]: wrong",
            ),
            ("k.pem", "--key-file: wrong"),
            ("v.pid", "PROXY_PID_FILE: wrong"),
            ("e.pem", "wrong"),
            ("nowhere", "wrong"),
        ] {
            let problem = config.origins.of_file(Path::new(file), "wrong".to_owned());
            assert_eq!(problem.to_string(), shown, "{file}");
        }
    }

    #[test]
    fn a_problem_with_a_plugin_is_shown_in_its_entry() {
        let config = config(&["--key-file", "k.pem"]);
        for (entry, part, shown) in [
            (
                0,
                PluginPart::Library,
                "p.toml:6:11: plugins[0].library: wrong",
            ),
            (
                0,
                PluginPart::Config("hosts"),
                "p.toml:8:1: plugins[0].config.hosts: wrong",
            ),
            (
                0,
                PluginPart::Config("url"),
                "p.toml:9:12: plugins[0].config.rules[0].url: wrong",
            ),
            (
                0,
                PluginPart::Config("other"),
                "p.toml:7:1: plugins[0].config: wrong",
            ),
            (1, PluginPart::Name, "p.toml:10:1: plugins[1].name: wrong"),
        ] {
            let problem = config.origins.of_plugin(entry, part, "wrong".to_owned());
            assert_eq!(problem.to_string(), shown);
        }
    }
}
