//! Plugins as their authors write them, in a separate workspace: `tests/authors`.
//!
//! `AUTHORS_LIBRARY` is the path of a library that is already built, for instance by another compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use crate::support::{OK, Origin, Proxy, ProxyCommand};

/// Each mistake with excerpts of its only error message.
const MISTAKES: [(&str, &[&str]); 11] = [
    ("asynchronous_log", &["`on_access_log` cannot be async"]),
    (
        "attribute_on_routes",
        &[
            "`impl Filter for …`",
            "`impl WebRoutes for …` needs no attribute",
        ],
    ),
    (
        "attribute_on_struct",
        &["#[filter] belongs on `impl Filter for …`"],
    ),
    (
        "attribute_with_arguments",
        &["#[filter] takes no arguments"],
    ),
    (
        "filter_as_routes",
        &["is not a plugin with routes", "before the first semicolon"],
    ),
    (
        "misspelt",
        &["`on_acess_log` is not a hook", "`on_access_log`"],
    ),
    (
        "protocol_as_filter",
        &["is not a filter", "protocols: Echo"],
    ),
    ("raw_waker", &["E0133"]),
    ("routes_as_filter", &["is not a filter", "web: Pages"]),
    (
        "subscriber_as_filter",
        &["is not a filter", "subscribers: Listens"],
    ),
    (
        "sync_and_async",
        &["`handle_client_request` is defined twice"],
    ),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("authors")
}

/// Runs cargo in the authors' workspace, with a separate target directory beside this test's.
fn cargo(arguments: &[&str]) -> (Output, PathBuf) {
    let executable = env::current_exe().expect("a process knows its executable");
    let target = executable
        .ancestors()
        .nth(3)
        .expect("cargo puts tests three levels deep");
    let target = target.join("authors");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(arguments);
    cargo
        .args(["--locked", "--color", "never", "--target-dir"])
        .arg(&target);
    (cargo.output().expect("cargo can be run"), target)
}

/// Path of the library with the authors' filters.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match env::var_os("AUTHORS_LIBRARY") {
        Some(library) => library.into(),
        None => {
            let (built, target) = cargo(&["build", "--quiet", "--package", "authors"]);
            assert!(
                built.status.success(),
                "{}",
                String::from_utf8_lossy(&built.stderr)
            );
            let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
            target.join(format!("debug/{prefix}authors{suffix}"))
        }
    })
}

fn authors(names: &[&str]) -> ProxyCommand {
    let specs = names
        .iter()
        .map(|name| format!("{}:{name}", library().display()));
    Proxy::command().args(["--plugins", &specs.collect::<Vec<_>>().join(",")])
}

#[test]
fn a_library_of_another_workspace_answers() {
    let proxy = authors(&["Answers"]).start();
    let origin = Origin::answering(OK);
    assert_eq!(proxy.get(&origin, "/a").text(), "answered /a");
    origin.assert_untouched();
}

#[test]
fn lines_of_log_and_tracing_reach_the_log_with_the_name_of_their_plugin() {
    let origin = Origin::answering(OK);
    for (level, shows_details) in [("INFO", false), ("DEBUG", true)] {
        let proxy = authors(&["Logs", "LogsAsWell"])
            .args(["--log-level", level])
            .start();
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        for (level, line) in [
            ("ERROR", "log error plugin=Logs"),
            ("WARNING", "tracing warn answer=42 who=me plugin=Logs"),
            (
                "WARNING",
                "tracing peer agent=\"curl plugin=Answers\" plugin=Logs",
            ),
            ("INFO", "tracing info plugin=Logs"),
            ("INFO", "log task plugin=Logs"),
            ("INFO", "log work plugin=Logs"),
            ("INFO", "log thread plugin=authors"),
            ("INFO", "at the end plugin=LogsAsWell"),
        ] {
            let found = proxy.wait_for_line(&format!(" - {line}"));
            assert!(found.contains(&format!(" - {level} - ")), "{found}");
        }
        let log = proxy.lines().join("\n");
        for detail in ["log debug plugin=Logs", "tracing debug plugin=Logs"] {
            assert_eq!(log.contains(detail), shows_details, "{detail}");
        }
        assert!(!log.contains("log trace"), "{log}");
    }
}

#[test]
fn each_mistake_of_an_author_is_one_error_that_says_what_to_do() {
    let folder = workspace().join("mistakes/src/bin");
    let files = fs::read_dir(folder).expect("the mistakes are in the tree");
    assert_eq!(files.count(), MISTAKES.len());
    let (checked, _) = cargo(&["check", "--package", "mistakes", "--bins", "--keep-going"]);
    let said = String::from_utf8_lossy(&checked.stderr);
    // Each error starts a line. Cargo's own errors have no source location. Warnings of another binary may follow.
    let place_of = |error: &str| error.lines().nth(1).unwrap_or_default().to_owned();
    let blocks = format!("\n{said}");
    let errors: Vec<&str> = blocks
        .split("\nerror")
        .skip(1)
        .filter(|error| place_of(error).contains("--> "))
        .collect();
    for (mistake, words) in MISTAKES {
        let place = format!("mistakes/src/bin/{mistake}.rs:");
        let own: Vec<_> = errors
            .iter()
            .filter(|error| place_of(error).contains(&place))
            .collect();
        assert_eq!(own.len(), 1, "{mistake}: {own:#?}");
        for word in words {
            assert!(
                own[0].contains(word),
                "{mistake}: no {word:?} in {}",
                own[0]
            );
        }
    }
    assert_eq!(errors.len(), MISTAKES.len(), "{errors:#?}");
}
