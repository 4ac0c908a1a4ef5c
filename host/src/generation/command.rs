//! `proxy check`: checks whether the proxy would start, without starting it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::{Problems, build, preconditions};
use crate::config::command::NamedPlugins;
use crate::config::schema::PluginSchema;
use crate::config::{AccessLogFile, Config};
use crate::plugins::call::Visible;
use crate::plugins::host_table::HOST_TABLE;
use crate::plugins::load::{LoadError, schemas};
use crate::plugins::marks::Role;
use crate::plugins::spec::PluginSpec;

/// How long plugins may take to end after the check.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Checks the configuration, the plugins and all files that they name, without starting the proxy
#[derive(Args)]
#[command(
    long_about = "Checks the configuration, the plugins and all files that they name, without starting the proxy.\n\n\
                  Plugins are loaded and configured as at startup, but the proxy does not listen and writes no file, so \
                  it can be checked while it runs. Every problem is reported with its place. Flags before `check` are \
                  checked as well. `proxy -t` does the same.\n\n\
                  Exit status: 0 the proxy would start, 1 a system error, 2 the command line is invalid, 78 the \
                  configuration or a plugin cannot be used."
)]
pub struct CheckArgs {
    /// Configuration file. Default: the file in --config or PROXY_CONFIG, or none.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Builds a generation and drops it; writes a summary to `out`.
///
/// # Errors
/// Everything that would prevent a start.
pub fn check(config: Config, out: &mut impl Write) -> Result<(), Problems> {
    let unmet = preconditions::unmet(&config);
    // The file of the access log is checked without being opened.
    let mut config = config;
    config.access_log.file = AccessLogFile::Off;
    let generation = match build(config, None) {
        Ok(generation) if unmet.is_empty() => generation,
        built => return Err(Problems::with_unmet(built.err(), unmet)),
    };
    let mut report = String::new();
    for name in generation.plugin_names() {
        report.push_str(&format!("plugin {name}\n"));
    }
    report.push_str("configuration is valid\n");
    let (ended, is_over) = mpsc::channel();
    let end = move || {
        let _visible = Visible::new(Role::Background);
        generation.end();
        let _ = ended.send(());
    };
    // Runs code of plugins, which may not return.
    if thread::Builder::new().spawn(end).is_ok() {
        let _ = is_over.recv_timeout(END_LIMIT);
    }
    // If standard output is closed, the exit status remains.
    let _: io::Result<()> = out.write_all(report.as_bytes());
    Ok(())
}

/// For each spec, the schemas of its plugins. Loads the libraries.
///
/// # Errors
/// In each place: why that library cannot be loaded, or its schema read.
pub fn plugin_schemas(plugins: &NamedPlugins) -> Vec<Result<Vec<PluginSchema>, LoadError>> {
    let of_spec = |spec: &String| schemas(&PluginSpec::parse(spec)?, &plugins.dirs, HOST_TABLE);
    plugins.specs.iter().map(of_spec).collect()
}
