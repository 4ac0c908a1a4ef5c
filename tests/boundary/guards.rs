//! The functions that are called across the boundary. A panic that unwinds out of one aborts the process.

use std::fs;
use std::path::{Path, PathBuf};

/// Where these functions are defined.
const SOURCES: [&str; 3] = ["plugin-api/src", "plugin-api/macros/src", "host/src"];

/// Calls that contain panics: the text of the call, the file in which it counts ("" for all), and the function it
/// refers to, which must itself be guarded.
const GUARDS: [(&str, &str, &str); 18] = [
    ("catch_unwind(", "", ""),
    (
        "guarded(",
        "plugin-api/src/",
        "plugin-api/src/guard.rs: guarded",
    ),
    (
        "guarded(",
        "host/src/",
        "host/src/plugins/guard.rs: guarded",
    ),
    (
        "called::<",
        "plugin-api/src/",
        "plugin-api/src/adapter.rs: called",
    ),
    (
        "created(",
        "plugin-api/src/",
        "plugin-api/src/adapter.rs: created",
    ),
    (
        ".run(",
        "plugin-api/src/adapter.rs",
        "plugin-api/src/adapter.rs: run",
    ),
    (
        "run_plain!(",
        "plugin-api/src/adapter.rs",
        "plugin-api/src/adapter.rs: run",
    ),
    (
        "run_with_data!(",
        "plugin-api/src/adapter.rs",
        "plugin-api/src/adapter.rs: run",
    ),
    (
        "plain::<F>(",
        "plugin-api/src/adapter.rs",
        "plugin-api/src/adapter.rs: plain",
    ),
    (
        "with_data::<F>(",
        "plugin-api/src/adapter.rs",
        "plugin-api/src/adapter.rs: with_data",
    ),
    (
        "private::root(",
        "plugin-api/src/export.rs",
        "plugin-api/src/export.rs: root",
    ),
    (
        "change(",
        "plugin-api/src/testing/fake/callbacks.rs",
        "plugin-api/src/testing/fake/callbacks.rs: change",
    ),
    (
        "resolve(",
        "plugin-api/src/testing/fake/callbacks.rs",
        "plugin-api/src/testing/fake/callbacks.rs: resolve",
    ),
    (
        "answered(",
        "plugin-api/src/testing/web.rs",
        "plugin-api/src/testing/web.rs: answered",
    ),
    (
        "edit(",
        "plugin-api/src/testing/web.rs",
        "plugin-api/src/testing/web.rs: edit",
    ),
    (
        "with_exchange(",
        "host/src/plugins/callbacks.rs",
        "host/src/plugins/callbacks.rs: with_exchange",
    ),
    (
        "with_connection(",
        "host/src/plugins/protocol.rs",
        "host/src/plugins/protocol.rs: with_connection",
    ),
    (
        "with_task(",
        "host/src/plugins/web/callbacks.rs",
        "host/src/plugins/web/callbacks.rs: with_task",
    ),
];

/// Functions that lead to [`GUARDS`] and count as guards in the file of the route callbacks.
const STEPS: [&str; 3] = ["edit(", "step(", "wait("];

/// Functions that need no guard, each with the reason.
const REVIEWED: [(&str, &str); 2] = [
    (
        "plugin-api/src/export.rs: plugins",
        "gives the address of a static list",
    ),
    ("plugin-api/src/testing/web.rs: flush", "gives a number"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Path from the root and text of every source file.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are in the tree") {
            let path = entry.expect("a directory can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("a source can be read");
                let name = path.strip_prefix(root()).expect("it is in the tree");
                found.push((name.display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// Name and body of each function that follows `start`, in order; types and declarations are skipped.
fn functions<'t>(text: &'t str, start: &str) -> Vec<(&'t str, &'t str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(start) {
        let behind = &text[at + start.len()..];
        let len = behind
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(behind.len());
        let (name, behind) = behind.split_at(len);
        let Some(open) = behind.find(['{', ';']) else {
            continue;
        };
        if name.is_empty() || behind[open..].starts_with(';') {
            continue;
        }
        found.push((name, block(&behind[open..])));
    }
    found
}

/// The block that `text` begins with.
fn block(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return &text[..=at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn is_guarded(file: &str, body: &str) -> bool {
    let fits = |word: &str, place: &str| file.starts_with(place) && body.contains(word);
    GUARDS.iter().any(|(word, place, _)| fits(word, place))
        || STEPS
            .iter()
            .any(|step| fits(step, "host/src/plugins/web/callbacks.rs"))
}

/// `file: name` of all functions that are called across the boundary, and of the unguarded ones.
fn listed(sources: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let (mut all, mut unguarded) = (Vec::new(), Vec::new());
    for (file, text) in sources {
        for abi in ["C", "C-unwind", "system", "system-unwind"] {
            for (name, body) in functions(text, &format!("extern \"{abi}\" fn ")) {
                let place = format!("{file}: {name}");
                let is_reviewed = REVIEWED.iter().any(|(reviewed, _)| *reviewed == place);
                if !is_guarded(file, body) && !is_reviewed {
                    unguarded.push(place.clone());
                }
                all.push(place);
            }
        }
    }
    (all, unguarded)
}

#[test]
fn every_function_that_crosses_the_boundary_is_guarded() {
    let (all, unguarded) = listed(&sources());
    assert!(unguarded.is_empty(), "unguarded: {unguarded:#?}");
    assert!(all.len() > 80, "too few: {all:#?}");
    for (reviewed, why) in REVIEWED {
        assert!(
            all.iter().any(|place| place == reviewed),
            "{reviewed}: {why}"
        );
    }
}

#[test]
fn what_guards_is_guarded_itself() {
    let sources = sources();
    let body_of = |place: &str| {
        let (file, name) = place.split_once(": ").expect("a file and a name");
        let (_, text) = sources.iter().find(|(path, _)| path == file).expect(file);
        let found = functions(text, "fn ").into_iter().find(|one| one.0 == name);
        found.expect(place).1
    };
    for (word, _, behind) in GUARDS.iter().filter(|guard| !guard.2.is_empty()) {
        let (file, name) = behind.split_once(": ").expect("a file and a name");
        // Its own name does not count as a guard.
        let body = body_of(behind).replace(&format!(" {name}("), "");
        assert!(is_guarded(file, &body), "{word} of {behind}");
    }
    let file = "host/src/plugins/web/callbacks.rs";
    for step in STEPS {
        let body = body_of(&format!("{file}: {}", step.trim_end_matches('(')));
        let leads_on = ["with_task(", "wait("]
            .iter()
            .any(|word| body.contains(word));
        assert!(leads_on, "{step}");
    }
}

#[test]
fn an_unguarded_function_is_seen() {
    for (text, unguarded) in [
        ("unsafe extern \"C\" fn a(x: u32) -> u32 {\n    x + 1\n}", 1),
        (
            "pub(super) unsafe extern \"C\" fn a() {\n    guarded((), || work());\n}",
            0,
        ),
        (
            "extern \"C-unwind\" fn a<F: Filter>(_: *mut c_void) { f() }",
            1,
        ),
        (
            "pub struct Table {\n    pub a: unsafe extern \"C\" fn(u32) -> u32,\n}",
            0,
        ),
        ("type A = extern \"C\" fn(u32);", 0),
        ("unsafe extern \"C\" {\n    fn abort();\n}", 0),
    ] {
        let sources = [("host/src/new.rs".to_owned(), text.to_owned())];
        let (_, found) = listed(&sources);
        assert_eq!(found.len(), unguarded, "{text}: {found:?}");
    }
}
