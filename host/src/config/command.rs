//! `proxy config`: what the settings are, and where each comes from.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::document::{Files, Node, Place, Value};
use super::error::{ConfigErrors, is_secret};
use super::load::Sources;
use super::{Flags, PluginEntry};

/// The settings that hold where nothing else is said, with the value of each.
const DEFAULTS: &str = include_str!("../../../proxy.toml");

/// What is printed in place of a secret.
const MASK: &str = "********";

/// Shows the configuration
#[derive(Args)]
#[command(disable_help_subcommand = true)]
pub struct ConfigArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with the configuration.
#[derive(Subcommand)]
pub enum ConfigCommand {
    // The help text is that of the argument struct.
    #[allow(
        missing_docs,
        reason = "a doc comment here would replace that of ShowArgs"
    )]
    Show(ShowArgs),
}

/// Prints all settings as they would be used: those of flags, environment and files, and the defaults
#[derive(Args)]
#[command(
    long_about = "Prints all settings as they would be used: those of flags, environment and files, and the defaults.\n\n\
                  Flags before `config` count as if the proxy were started with them. Settings without a value are \
                  omitted. The output is valid as a configuration file, except that the credential and all strings of \
                  plugins are masked. Plugins are not loaded; `proxy check` checks them as well.\n\n\
                  Exit status: 0, 2 the command line is invalid, 78 the configuration is invalid."
)]
pub struct ShowArgs {
    /// Configuration file. Default: the file in --config or PROXY_CONFIG, or none.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Add to each setting where its value comes from: file and line, environment variable, flag or default.
    #[arg(long)]
    pub origin: bool,
}

/// Prints what the configuration is.
///
/// # Errors
/// Everything that is wrong with it.
pub fn show(args: &ShowArgs, flags: &Flags, out: &mut impl Write) -> Result<(), ConfigErrors> {
    let sources = Sources::read(flags, env::vars_os())?;
    let text = text(&sources, flags, args.origin)?;
    // A reader that has gone, such as `head`, has what it wanted.
    let _: io::Result<()> = out.write_all(text.as_bytes());
    Ok(())
}

fn text(sources: &Sources, flags: &Flags, has_origins: bool) -> Result<String, ConfigErrors> {
    let config = sources.config(flags)?;
    let mut document = defaults();
    document.merge(sources.document.clone());
    document.remove("plugins");
    document.remove("include");
    // The older name of `timeouts.idle`, which is shown instead.
    if sources.document.find("timeouts.idle").is_some() {
        document.remove("timeout");
    }
    let mut printer = Printer {
        sources: has_origins.then_some(sources),
        out: String::new(),
    };
    printer.table("", &document);
    for plugin in &config.plugins {
        printer.plugin(plugin);
    }
    Ok(printer.out)
}

fn defaults() -> Node {
    let parsed = Files::default().parse(PathBuf::new(), DEFAULTS.to_owned());
    // A test reads it.
    let mut document = parsed.unwrap_or_else(|_| Node::empty_table(Place::Default));
    document.set_place(&Place::Default);
    document
}

struct Printer<'s> {
    /// Set if origins are wanted.
    sources: Option<&'s Sources>,
    out: String,
}

impl Printer<'_> {
    /// The values of a table, then its tables.
    fn table(&mut self, path: &str, node: &Node) {
        let Value::Table(entries) = &node.value else {
            return;
        };
        let key_path = |name: &str| match path.is_empty() {
            true => name.to_owned(),
            false => format!("{path}.{name}"),
        };
        let is_table =
            |node: &Node| matches!(node.value, Value::Table(_)) || node.is_list_of_tables();
        let (tables, values): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(_, node)| is_table(node));
        if !path.is_empty() && !values.is_empty() {
            let _ = writeln!(self.out, "\n[{path}]");
        }
        for (key, node) in values {
            let path = key_path(&key.name);
            let value = match is_secret(&path) {
                true => toml::Value::from(MASK),
                false => node.to_toml(),
            };
            self.line(&key.name, &value, &node.place);
        }
        for (key, node) in tables {
            let path = key_path(&key.name);
            match &node.value {
                Value::Array(items) => items.iter().for_each(|item| self.item(&path, item)),
                _ => self.table(&path, node),
            }
        }
    }

    /// One of a list of tables.
    fn item(&mut self, path: &str, node: &Node) {
        let _ = writeln!(self.out, "\n[[{path}]]");
        if let Value::Table(entries) = &node.value {
            for (key, node) in entries {
                self.line(&key.name, &node.to_toml(), &node.place);
            }
        }
    }

    fn plugin(&mut self, plugin: &PluginEntry) {
        let origin = match self.sources {
            Some(_) => format!("  # {}", plugin.origin),
            None => String::new(),
        };
        let spec = toml::Value::from(plugin.spec.as_str());
        let _ = write!(self.out, "\n[[plugins]]\nlibrary = {spec}{origin}\n");
        if let Some(timeout) = plugin.timeout {
            let _ = writeln!(self.out, "timeout = {}", timeout.as_secs_f64());
        }
        let config = masked_table(plugin.config.parse().unwrap_or_default());
        if !config.is_empty() {
            let _ = writeln!(self.out, "config = {}", toml::Value::Table(config));
        }
    }

    fn line(&mut self, key: &str, value: &toml::Value, place: &Place) {
        let _ = write!(self.out, "{key} = {value}");
        if let Some(sources) = self.sources {
            let _ = write!(self.out, "  # {}", sources.place(place));
        }
        self.out.push('\n');
    }
}

/// Any string of a plugin may be a secret.
fn masked(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::String(_) => toml::Value::from(MASK),
        toml::Value::Array(items) => items.into_iter().map(masked).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => toml::Value::Table(masked_table(table)),
        other => other,
    }
}

fn masked_table(table: toml::Table) -> toml::Table {
    let entries = table.into_iter();
    entries.map(|(key, value)| (key, masked(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    fn shown(args: &[&str], variables: &[(&str, &str)], text: &str, has_origins: bool) -> String {
        let flags = Flags::try_parse_from([&["proxy"], args].concat())
            .unwrap_or_else(|error| panic!("{error}"));
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let file = Some((Path::new("proxy.toml"), text.to_owned()));
        let sources = Sources::merge(&flags, variables, file);
        super::text(&sources, &flags, has_origins).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn defaults_are_shown_and_can_be_read_again() {
        let text = shown(&[], &[], "", false);
        assert!(text.contains("port = 8899\n"), "{text}");
        assert!(text.contains("\n[timeouts]\n"), "{text}");
        assert_eq!(shown(&[], &[], &text, false), text);
    }

    #[test]
    fn every_value_has_an_origin() {
        let text = shown(
            &["--port", "1", "--plugins", "b.so:B", "--plugin-dir", "x"],
            &[("PROXY_LOG_LEVEL", "d")],
            "via = \"edge\"\nplugin_dirs = [\"y\"]\n[timeouts]\nidle = \"5m\"\n[[timeouts.hosts]]\nhosts = [\"*\"]\nstall = 1",
            true,
        );
        for line in [
            "port = 1  # --port",
            "log_level = \"d\"  # PROXY_LOG_LEVEL",
            "via = \"edge\"  # proxy.toml:1",
            "plugin_dirs = [\"x\", \"y\"]  # --plugin-dir",
            "idle = \"5m\"  # proxy.toml:4",
            "stall = 60  # default",
            "[[timeouts.hosts]]",
            "stall = 1  # proxy.toml:7",
            "library = \"b.so:B\"  # --plugins",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(!text.contains("\ntimeout ="), "{text}");
        for line in text.lines().filter(|line| line.contains(" = ")) {
            assert!(line.contains("  # "), "{line}");
        }
    }

    #[test]
    fn secrets_are_masked() {
        let text = shown(
            &["--plugin-config", "A.token=secret3"],
            &[],
            "basic_auth = \"u:secret1\"\n[[plugins]]\nlibrary = \"a.so\"\nname = \"A\"\n\
             config = { list = [\"secret2\"], inner = { key = \"secret4\" }, number = 5 }",
            false,
        );
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("basic_auth = \"********\""), "{text}");
        assert!(text.contains("number = 5"), "{text}");
    }
}
