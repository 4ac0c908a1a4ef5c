//! Which plugins are loaded, and with which settings.
//!
//! `--plugins` replaces the list of the file, but a plugin in both keeps its table from the file; then every
//! `--plugin-config` is added to the table of its plugin. The result is text again, because only the plugin can
//! interpret its table. `crate::plugins` finds and loads the libraries.

use std::time::Duration;

use toml::{Table, Value};

use super::error::ConfigError;
use super::settings::PluginSettings;
use super::{Flags, PluginEntry};

/// A plugin entry under construction.
#[derive(Clone)]
struct Draft {
    spec: String,
    table: Table,
    timeout: Option<Duration>,
    origin: String,
    entry: Option<usize>,
}

/// The entries of flags and settings; `place` says where the plugin with this index is written.
pub(super) fn entries(
    flags: &Flags,
    settings: &[PluginSettings],
    place: impl Fn(usize) -> String,
) -> Result<Vec<PluginEntry>, ConfigError> {
    let written = settings.iter().enumerate();
    let written: Vec<Draft> = written
        .map(|(index, plugin)| draft(index, plugin, place(index)))
        .collect();
    let mut drafts = if flags.plugins.is_empty() {
        written.clone()
    } else {
        let specs = flags.listed_plugins();
        let chosen = specs.map(|spec| chosen(spec, "--plugins", &written));
        chosen.collect()
    };
    if let Some(spec) = flags.auth_plugin() {
        drafts.insert(0, chosen(spec, "--auth-plugin", &written));
    }
    for setting in &flags.plugin_config {
        apply(setting, &mut drafts)?;
    }
    Ok(drafts.into_iter().map(Draft::into_entry).collect())
}

fn draft(index: usize, plugin: &PluginSettings, origin: String) -> Draft {
    let library = &plugin.library;
    Draft {
        spec: match &plugin.name {
            Some(name) => format!("{library}:{name}"),
            None => library.clone(),
        },
        table: plugin.config.clone(),
        timeout: plugin.timeout.map(|seconds| seconds.0),
        origin,
        entry: Some(index),
    }
}

/// A plugin of the command line, with its table from the file.
fn chosen(spec: &str, flag: &str, of_file: &[Draft]) -> Draft {
    let mut draft = Draft {
        spec: spec.to_owned(),
        table: Table::new(),
        timeout: None,
        origin: flag.to_owned(),
        entry: None,
    };
    if let Some(known) = of_file.iter().find(|known| known.is_same_plugin(spec)) {
        draft.table.clone_from(&known.table);
        draft.timeout = known.timeout;
        draft.entry = known.entry;
        draft.note_origin(&known.origin);
    }
    draft
}

/// Applies one `NAME.key=value` to the table of the plugin.
fn apply(setting: &str, drafts: &mut [Draft]) -> Result<(), ConfigError> {
    let refused = |reason: String| {
        let shown = setting.split('=').next().unwrap_or(setting).to_owned();
        ConfigError::of_flags(&format!("--plugin-config {shown}"), reason)
    };
    let (path, value) = setting
        .split_once('=')
        .ok_or_else(|| refused("has no `=`; write NAME.key=value".to_owned()))?;
    let (name, keys) = path
        .split_once('.')
        .ok_or_else(|| refused("has no key; write NAME.key=value".to_owned()))?;
    let specs = spec_list(drafts);
    let Some(draft) = called(name, drafts) else {
        return Err(refused(format!(
            "no configured plugin is named {name}; configured: {specs}"
        )));
    };
    put(&mut draft.table, keys, value_of(value)).map_err(refused)?;
    draft.note_origin("--plugin-config");
    Ok(())
}

/// The plugin of this name; an exact match is preferred over one that differs in case.
fn called<'a>(name: &str, drafts: &'a mut [Draft]) -> Option<&'a mut Draft> {
    let has_case = |draft: &Draft| name_in(&draft.spec) == Some(name);
    let same = drafts.iter().position(has_case);
    let position = same.or_else(|| drafts.iter().position(|draft| draft.is_called(name)))?;
    drafts.get_mut(position)
}

fn spec_list(drafts: &[Draft]) -> String {
    match drafts {
        [] => "none".to_owned(),
        _ => drafts
            .iter()
            .map(|draft| draft.spec.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Sets the value at a dotted key, creating tables as needed.
fn put(table: &mut Table, keys: &str, value: Value) -> Result<(), String> {
    let (key, rest) = match keys.split_once('.') {
        Some((key, rest)) => (key, Some(rest)),
        None => (keys, None),
    };
    if key.trim().is_empty() {
        return Err("has an empty key; write NAME.key=value".to_owned());
    }
    let key = key.trim().to_owned();
    let Some(rest) = rest else {
        table.insert(key, value);
        return Ok(());
    };
    match table
        .entry(key.clone())
        .or_insert_with(|| Table::new().into())
    {
        Value::Table(inner) => put(inner, rest, value),
        other => Err(format!(
            "{key} is not a table; its type is {}",
            other.type_str()
        )),
    }
}

/// The value as TOML, or as a string.
fn value_of(text: &str) -> Value {
    text.trim()
        .parse()
        .unwrap_or_else(|_| Value::String(text.to_owned()))
}

impl Draft {
    fn is_same_plugin(&self, spec: &str) -> bool {
        self.spec == spec
            || name_in(spec).is_some_and(|name| self.is_called(name))
            || name_in(&self.spec).is_some_and(|name| is_called(spec, name))
    }

    fn is_called(&self, name: &str) -> bool {
        is_called(&self.spec, name)
    }

    fn note_origin(&mut self, origin: &str) {
        if !self.origin.ends_with(origin) {
            self.origin.push_str(", ");
            self.origin.push_str(origin);
        }
    }

    fn into_entry(self) -> PluginEntry {
        PluginEntry {
            spec: self.spec,
            // A table of TOML can always be written.
            config: toml::to_string(&self.table).unwrap_or_default(),
            timeout: self.timeout,
            origin: self.origin,
            entry: self.entry,
        }
    }
}

/// Whether a spec may refer to the plugin of this name, judging by the text: without a name, the plugin is assumed to
/// be named like the library file.
fn is_called(spec: &str, name: &str) -> bool {
    let short = |name: &str| name.strip_suffix("Plugin").unwrap_or(name).to_owned();
    match name_in(spec) {
        Some(own) => short(own).eq_ignore_ascii_case(&short(name)),
        None => library_stem(spec) == snake_case(&short(name)),
    }
}

/// The plugin name in `path/lib.so:Name` or `path/lib.Name`.
fn name_in(spec: &str) -> Option<&str> {
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['/', '\\']);
    if let Some(name) = spec.rsplit_once(':').map(|(_, name)| name).filter(is_name) {
        return Some(name);
    }
    let is_suffix = |name: &&str| ["so", "dylib", "dll"].contains(name);
    spec.rsplit_once('.')
        .map(|(_, name)| name)
        .filter(is_name)
        .filter(|name| !is_suffix(name))
}

fn library_stem(spec: &str) -> &str {
    let file = spec.rsplit(['/', '\\']).next().unwrap_or(spec);
    let stem = file.split('.').next().unwrap_or(file);
    stem.strip_prefix("lib").unwrap_or(stem)
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Sources;
    use clap::Parser;
    use std::path::Path;

    fn load(args: &[&str], text: &str) -> Result<Vec<PluginEntry>, String> {
        let flags = Flags::try_parse_from([&["proxy"], args].concat())
            .map_err(|error| error.to_string())?;
        let file = Some((Path::new("proxy.toml"), text.to_owned()));
        Sources::merge(&flags, [], file)
            .config(&flags)
            .map(|config| config.plugins)
            .map_err(|error| error.to_string())
    }

    fn entry(spec: &str, config: &str, origin: &str, entry: Option<usize>) -> PluginEntry {
        PluginEntry {
            spec: spec.to_owned(),
            config: config.to_owned(),
            timeout: None,
            origin: origin.to_owned(),
            entry,
        }
    }

    const FILE: &str = "[[plugins]]\nlibrary = \"a.so\"\nname = \"A\"\nconfig = { hosts = [\"x\", \"y\"] }\n\
                        [[plugins]]\nlibrary = \"lib_b.so\"\n[plugins.config.inner]\nn = 1\n";

    #[test]
    fn plugins_of_the_file_keep_order_tables_and_lines() {
        assert_eq!(
            load(&[], FILE).unwrap(),
            [
                entry(
                    "a.so:A",
                    "hosts = [\"x\", \"y\"]\n",
                    "proxy.toml:2",
                    Some(0)
                ),
                entry("lib_b.so", "[inner]\nn = 1\n", "proxy.toml:6", Some(1)),
            ]
        );
    }

    #[test]
    fn the_flag_replaces_the_list_but_not_the_tables() {
        assert_eq!(
            load(
                &["--plugins", "c.so:C, other/a.so:A", "--plugins", ""],
                FILE
            )
            .unwrap(),
            [
                entry("c.so:C", "", "--plugins", None),
                entry(
                    "other/a.so:A",
                    "hosts = [\"x\", \"y\"]\n",
                    "--plugins, proxy.toml:2",
                    Some(0)
                ),
            ]
        );
        assert_eq!(load(&["--plugins", ""], FILE).unwrap(), []);
    }

    #[test]
    fn a_plugin_that_checks_credentials_comes_first_and_built_in_classes_are_no_plugins() {
        let specs = |args: &[&str]| {
            let entries = load(args, FILE).unwrap();
            let specs: Vec<String> = entries.into_iter().map(|entry| entry.spec).collect();
            specs
        };
        let auth = ["--auth-plugin", "auth.so:Auth"];
        assert_eq!(specs(&auth), ["auth.so:Auth", "a.so:A", "lib_b.so"]);
        let list = ["--plugins", "proxy.http.proxy.HttpProxyPlugin,c.so:C"];
        assert_eq!(specs(&[auth, list].concat()), ["auth.so:Auth", "c.so:C"]);
        let built_in = ["--auth-plugin", "proxy.http.proxy.auth.AuthPlugin"];
        assert_eq!(specs(&[built_in, list].concat()), ["c.so:C"]);
    }

    #[test]
    fn a_plugin_keeps_its_own_timeout() {
        let text = "[[plugins]]\nlibrary = \"a.so\"\nname = \"A\"\ntimeout = 0.5\n\
                    [[plugins]]\nlibrary = \"b.so\"\n";
        let timeouts = |args: &[&str]| {
            let entries = load(args, text).unwrap();
            let timeouts = entries.into_iter().map(|entry| entry.timeout);
            timeouts.collect::<Vec<_>>()
        };
        let half = Some(Duration::from_millis(500));
        assert_eq!(timeouts(&[]), [half, None]);
        assert_eq!(timeouts(&["--plugins", "b.so,x/a.so:A"]), [None, half]);
        let refused = load(&[], "[[plugins]]\nlibrary = \"a.so\"\ntimeout = 0").unwrap_err();
        assert!(refused.contains("plugins[0].timeout: must be greater than 0 seconds"));
    }

    #[test]
    fn settings_go_to_the_plugin_they_name() {
        let settings = [
            "--plugins",
            "x.so:A,plugin_examples/shortlink.ShortLinkPlugin,libredirect_all.so",
        ];
        let entries = load(
            &[
                &settings[..],
                &[
                    "--plugin-config",
                    "A.deep.port=8899",
                    "--plugin-config",
                    "A.deep.server=localhost:8899",
                ],
                &[
                    "--plugin-config",
                    "ShortLink.on=true",
                    "--plugin-config",
                    "RedirectAll.note=a=b \"q\"",
                ],
            ]
            .concat(),
            "",
        )
        .unwrap();
        let configs: Vec<_> = entries.iter().map(|entry| entry.config.as_str()).collect();
        assert_eq!(
            configs,
            [
                "[deep]\nport = 8899\nserver = \"localhost:8899\"\n",
                "on = true\n",
                "note = 'a=b \"q\"'\n",
            ]
        );
        assert_eq!(entries[0].origin, "--plugins, --plugin-config");
    }

    #[test]
    fn a_setting_finds_its_plugin_in_another_case_unless_one_has_its_own() {
        let list = "x.so:Ab,x.so:AB,proxy.plugin.FilterByURLRegexPlugin";
        let settings = ["AB.n=1", "aB.n=2", "FilterByUrlRegex.n=3"];
        let settings = settings.iter().flat_map(|each| ["--plugin-config", each]);
        let args: Vec<_> = ["--plugins", list].into_iter().chain(settings).collect();
        let entries = load(&args, "").unwrap();
        let configs: Vec<_> = entries.iter().map(|entry| entry.config.as_str()).collect();
        assert_eq!(configs, ["n = 2\n", "n = 1\n", "n = 3\n"]);
    }

    #[test]
    fn a_setting_that_cannot_be_applied_is_refused() {
        for (setting, error) in [
            (
                "A.x",
                "--plugin-config A.x: has no `=`; write NAME.key=value",
            ),
            ("A=1", "--plugin-config A: has no key; write NAME.key=value"),
            (
                "A.=1",
                "--plugin-config A.: has an empty key; write NAME.key=value",
            ),
            (
                "A.hosts.x=1",
                "--plugin-config A.hosts.x: hosts is not a table; its type is array",
            ),
            (
                "Z.x=1",
                "--plugin-config Z.x: no configured plugin is named Z; configured: a.so:A, lib_b.so",
            ),
        ] {
            assert_eq!(
                load(&["--plugin-config", setting], FILE).err().as_deref(),
                Some(error)
            );
        }
    }

    #[test]
    fn written_tables_parse_as_the_same_table() {
        let text = "a = 1.0\nb = 1e300\nc = inf\nd = -inf\ne = 1979-05-27T07:32:00Z\nf = [[], {x = \"\"}]\n\
                    \"g h\" = \"tab\\t quote\\\" slash\\\\ nul\\u0000 ü\"\ni = false\nj = -5\n[k]\n";
        let table: Table = toml::from_str(text).unwrap();
        let draft = Draft {
            spec: String::new(),
            table: table.clone(),
            timeout: None,
            origin: String::new(),
            entry: None,
        };
        assert_eq!(
            toml::from_str::<Table>(&draft.into_entry().config).unwrap(),
            table
        );
    }

    #[test]
    fn plugin_names_are_parsed_from_specs() {
        for (spec, name) in [
            ("path/lib.so:Name", Some("Name")),
            ("path/lib.so", None),
            ("path.d/lib", None),
            ("path/lib.Name", Some("Name")),
            ("C:\\x.dll", None),
            ("C:\\x.dll:Name", Some("Name")),
        ] {
            assert_eq!(name_in(spec), name, "{spec}");
        }
    }
}
