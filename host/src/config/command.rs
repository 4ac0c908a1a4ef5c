//! `proxy config`: what the settings are, where each comes from, and which there are.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::document::{Files, Node, Place, Value};
use super::error::{ConfigErrors, is_secret};
use super::load::Sources;
use super::schema::{PluginSchema, schema, without_secrets};
use super::settings::Settings;
use super::{Config, Flags, PluginEntry, plugins, settings_reader};

/// The settings that hold where nothing else is said, with the value of each.
pub(super) const DEFAULTS: &str = include_str!("../../../proxy.toml");

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
    #[allow(missing_docs, reason = "as above")]
    Schema(SchemaArgs),
}

/// Prints all settings as they would be used: those of flags, environment and files, and the defaults
#[derive(Args)]
#[command(
    long_about = "Prints all settings as they would be used: those of flags, environment and files, and the defaults.\n\n\
                  Flags before `config` count as if the proxy were started with them. Settings without a value are \
                  omitted. The output is valid as a configuration file, except that secrets are masked: the credential, \
                  what plugins mark as secret in their schemas, and all strings of plugins without a schema. The \
                  libraries of plugins are loaded for their schemas, but no plugin is configured; `proxy check` does \
                  that as well.\n\n\
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

/// Prints a JSON Schema of the configuration file, for editors
#[derive(Args)]
#[command(
    long_about = "Prints a JSON Schema (draft 2020-12) of the configuration file, for editors and other tools that complete \
                  and check it: all keys with their descriptions, types, ranges and defaults.\n\n\
                  The schema includes those of the plugins that FILE and the flags before `config` name. Their \
                  libraries are loaded for it, but no plugin is configured.\n\n\
                  Exit status: 0, 2 the command line is invalid, 78 the file cannot be read, or a library cannot be \
                  loaded."
)]
pub struct SchemaArgs {
    /// Configuration file whose plugins to include. Default: the file in --config or PROXY_CONFIG, or none.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// The plugins that a configuration names.
pub struct NamedPlugins {
    /// As written, such as `path/lib.so:Name`.
    pub specs: Vec<String>,
    /// The directories searched for libraries.
    pub dirs: Vec<PathBuf>,
}

/// Prints what the configuration is. `schemas` gives the schemas of plugins, for each spec those of its plugins; none if
/// its library cannot be loaded.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn show(
    args: &ShowArgs,
    flags: &Flags,
    schemas: impl Fn(&NamedPlugins) -> Vec<Vec<PluginSchema>>,
    out: &mut impl Write,
) -> Result<(), ConfigErrors> {
    let sources = Sources::read(flags, env::vars_os())?;
    let config = sources.config(flags)?;
    let schemas = schemas(&NamedPlugins::of(
        &config.plugins,
        config.plugin_dirs.clone(),
    ));
    let text = text(&sources, &config, &schemas, args.origin);
    // A reader that has gone, such as `head`, has what it wanted.
    let _: io::Result<()> = out.write_all(text.as_bytes());
    Ok(())
}

/// Which plugins the configuration names, even if other settings are wrong: the schema helps to correct them.
///
/// # Errors
/// The file cannot be read.
pub fn named_plugins(flags: &Flags) -> Result<NamedPlugins, ConfigErrors> {
    let sources = Sources::read(flags, env::vars_os())?;
    let (settings, _): (Settings, _) = settings_reader::read(&sources.origins.document);
    let entries = plugins::entries(flags, &settings.plugins, |_| String::new());
    let dirs = [settings.plugin_dirs, Config::default().plugin_dirs].concat();
    Ok(NamedPlugins::of(&entries.unwrap_or_default(), dirs))
}

/// Prints the schema of the file, with those of these plugins.
pub fn print_schema(plugins: &[PluginSchema], out: &mut impl Write) {
    let _: io::Result<()> = writeln!(out, "{:#}", schema(plugins));
}

impl NamedPlugins {
    fn of(entries: &[PluginEntry], dirs: Vec<PathBuf>) -> Self {
        NamedPlugins {
            specs: entries.iter().map(|entry| entry.spec.clone()).collect(),
            dirs,
        }
    }
}

fn text(
    sources: &Sources,
    config: &Config,
    schemas: &[Vec<PluginSchema>],
    has_origins: bool,
) -> String {
    let mut document = defaults();
    document.merge(sources.origins.document.clone());
    document.remove("plugins");
    document.remove("include");
    // The older name of `timeouts.idle`, which is shown instead.
    if sources.origins.document.find("timeouts.idle").is_some() {
        document.remove("timeout");
    }
    let mut printer = Printer {
        sources: has_origins.then_some(sources),
        out: String::new(),
    };
    printer.table("", &document);
    for (index, plugin) in config.plugins.iter().enumerate() {
        printer.plugin(plugin, schemas.get(index).map_or(&[], Vec::as_slice));
    }
    printer.out
}

pub(super) fn defaults() -> Node {
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

    fn plugin(&mut self, plugin: &PluginEntry, schemas: &[PluginSchema]) {
        let origin = match self.sources {
            Some(_) => format!("  # {}", plugin.origin),
            None => String::new(),
        };
        let spec = toml::Value::from(plugin.spec.as_str());
        let _ = write!(self.out, "\n[[plugins]]\nlibrary = {spec}{origin}\n");
        if let Some(timeout) = plugin.timeout {
            let _ = writeln!(self.out, "timeout = {}", timeout.as_secs_f64());
        }
        let config = without_secrets(plugin.config.parse().unwrap_or_default(), schemas, MASK);
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
        let config = sources.config(&flags);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        super::text(&sources, &config, &[], has_origins)
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
