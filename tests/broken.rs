//! Invalid configurations, and what `proxy check` reports for each.
//!
//! `broken/NAME.toml` is a configuration, `broken/NAME.stderr` the complete report. A mistake that no schema can find is
//! listed in `schema.rs`. After changing messages, run with
//! the environment variable `BLESS` set to rewrite the reports, then review the diff.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{plugin_directory, proxy_binary};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("broken")
}

fn configurations() -> Vec<PathBuf> {
    let entries = fs::read_dir(dir()).expect("the directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    paths
}

/// Exit code and standard error of `proxy check`, run in the configuration's directory. That directory is shown as
/// `HERE`, that of the plugins as `PLUGINS`.
fn check(configuration: &Path) -> (Option<i32>, String) {
    let output = Command::new(proxy_binary())
        .env_remove("PROXY_CONFIG")
        .env_remove("PROXY_BASIC_AUTH")
        .current_dir(dir())
        .arg("--plugin-dir")
        .arg(plugin_directory())
        .arg("check")
        .arg(configuration.file_name().expect("a name"))
        .output()
        .expect("the proxy runs");
    let text = String::from_utf8(output.stderr).expect("text");
    let shown = |dir: &Path| dir.display().to_string();
    let text = text
        .replace(&shown(&dir()), "HERE")
        .replace(&shown(plugin_directory()), "PLUGINS");
    (output.status.code(), text)
}

#[test]
fn every_mistake_is_reported_with_its_place_and_a_remedy() {
    let mut wrong = Vec::new();
    let configurations = configurations();
    assert!(configurations.len() >= 40, "{configurations:?}");
    for configuration in configurations {
        let (code, reported) = check(&configuration);
        let snapshot = configuration.with_extension("stderr");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&snapshot, &reported).expect("the report is written");
        }
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        if code != Some(78) && code != Some(2) || reported != expected {
            wrong.push(format!(
                "{}: {code:?}\n{reported}\nexpected\n{expected}",
                configuration.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_report_shows_a_credential() {
    for configuration in configurations() {
        let (_, reported) = check(&configuration);
        assert!(!reported.contains("hunter2"), "{reported}");
    }
}
