//! `use` between the host's modules points down, in the order drawn in ARCHITECTURE.md.
//!
//! The test scans the sources: every `crate::module` outside tests is an arrow from the module that contains it. An
//! arrow may only lead to a lower line of the drawing, and modules on one line must not use each other. The same holds
//! inside a module that has its own drawing: there, every path to another part is an arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The line before the drawing.
const HEADING: &str = "## Layers";
/// The lines before drawings of single modules start with this.
const INNER_HEADING: &str = "### Inside `";

/// One `crate::` path in the sources.
#[derive(Debug)]
struct Arrow {
    from: String,
    to: String,
    /// `file:line`
    place: String,
}

#[test]
fn no_module_uses_one_that_is_not_below_it() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(&architecture(), HEADING);
    let arrows = arrows(&host.join("src"));
    // Guards against a scan that finds nothing; the count was about this high when the test was written.
    assert!(arrows.len() > 300, "only {} arrows found", arrows.len());
    assert_down(&arrows, &layers);
    println!("{} arrows, all of them down", arrows.len());
}

#[test]
fn no_part_of_a_module_uses_one_that_is_not_below_it() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let architecture = architecture();
    let mut drawn = 0;
    for heading in architecture.lines() {
        let Some(name) = heading.strip_prefix(INNER_HEADING) else {
            continue;
        };
        let module = name.trim_end_matches('`');
        let layers = layers(&architecture, heading);
        let parts: BTreeSet<String> = layers.keys().cloned().collect();
        assert_eq!(parts, parts_of(&sources, module), "the parts of {module}");
        let arrows = inner_arrows(&sources, module);
        assert!(arrows.len() > 10, "{} arrows in {module}", arrows.len());
        assert_down(&arrows, &layers);
        println!("{module}: {} arrows, all of them down", arrows.len());
        drawn += 1;
    }
    assert!(drawn > 0, "no module has a drawing of its own");
}

/// Fails for arrows that do not lead to a lower layer, or lead to something not drawn.
fn assert_down(arrows: &[Arrow], layers: &BTreeMap<String, usize>) {
    let mut wrong: Vec<String> = arrows
        .iter()
        .filter(|arrow| {
            let (Some(from), Some(to)) = (layers.get(&arrow.from), layers.get(&arrow.to)) else {
                return true;
            };
            from >= to
        })
        .map(|arrow| format!("{}: {} uses {}", arrow.place, arrow.from, arrow.to))
        .collect();
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "these do not point to a lower layer of ARCHITECTURE.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_module_has_its_layer() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let drawn: BTreeSet<String> = layers(&architecture(), HEADING).into_keys().collect();
    let sources = fs::read_to_string(host.join("src/lib.rs")).expect("lib.rs");
    let declared = sources.lines().filter_map(|line| {
        let (_, name) = line.strip_suffix(';')?.split_once("mod ")?;
        Some(name.to_owned())
    });
    // Separate crates, below everything.
    let aliases = sources.lines().filter_map(|line| {
        let (_, alias) = line.strip_suffix(';')?.split_once(" as ")?;
        Some(alias.to_owned())
    });
    let modules: BTreeSet<String> = declared.chain(aliases).collect();
    assert_eq!(drawn, modules);
}

fn architecture() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    fs::read_to_string(path).expect("ARCHITECTURE.md")
}

/// The line number of each module in the drawing below `heading`; higher numbers are lower layers.
fn layers(architecture: &str, heading: &str) -> BTreeMap<String, usize> {
    let (_, section) = architecture.split_once(heading).expect("the heading");
    let drawing = section.split("```").nth(1).expect("a drawing");
    let lines = drawing.lines().skip(1).enumerate();
    lines
        .flat_map(|(number, line)| {
            let names = line.split_whitespace();
            names.map(move |name| (name.to_owned(), number))
        })
        .collect()
}

fn arrows(sources: &Path) -> Vec<Arrow> {
    let mut files = Vec::new();
    collect_files(sources, &mut files);
    let mut arrows = Vec::new();
    for file in files {
        let path = file.strip_prefix(sources).expect("below the sources");
        let shown = path.display().to_string();
        let is_root = path.components().count() == 1;
        let from = shown.split(['/', '.']).next().unwrap_or_default();
        if ["lib", "main"].contains(&from) {
            continue;
        }
        let text = without_tests(&fs::read_to_string(&file).expect("a source file"));
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(
                !(is_root && code.starts_with("use super::")),
                "{shown}:{}: write crate:: instead of super::",
                number + 1
            );
            for to in names_after("crate::", code, &text, number) {
                if to != from {
                    arrows.push(Arrow {
                        from: from.to_owned(),
                        to,
                        place: format!("{shown}:{}", number + 1),
                    });
                }
            }
        }
    }
    arrows
}

/// The parts of a module: the files and directories in its directory, without those for tests.
fn parts_of(sources: &Path, module: &str) -> BTreeSet<String> {
    let mut files = Vec::new();
    let directory = sources.join(module);
    collect_files(&directory, &mut files);
    files
        .iter()
        .map(|file| part_of(file.strip_prefix(&directory).expect("below the module")))
        .collect()
}

fn part_of(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The arrows between the parts of a module. Items in the module's own file are above all parts.
fn inner_arrows(sources: &Path, module: &str) -> Vec<Arrow> {
    let directory = sources.join(module);
    let mut files = Vec::new();
    collect_files(&directory, &mut files);
    let mut arrows = Vec::new();
    for file in files {
        let path = file.strip_prefix(&directory).expect("below the module");
        let from = part_of(path);
        let up = "super::".repeat(path.components().count());
        let text = without_tests(&fs::read_to_string(&file).expect("a source file"));
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let by_path = names_after(&format!("crate::{module}::"), code, &text, number);
            for to in names_after(&up, code, &text, number)
                .into_iter()
                .chain(by_path)
            {
                if to != from && to != "super" {
                    arrows.push(Arrow {
                        from: from.clone(),
                        to,
                        place: format!("{module}/{}:{}", path.display(), number + 1),
                    });
                }
            }
        }
    }
    arrows
}

/// The modules named right after `prefix` on a line; for `use crate::{a, b::c};`, all of them.
fn names_after(prefix: &str, code: &str, text: &str, number: usize) -> Vec<String> {
    let mut names = Vec::new();
    let group = format!("{prefix}{{");
    for (at, _) in code.match_indices(prefix) {
        let is_other_word =
            code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
        if is_other_word {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if !rest.starts_with('{') {
            names.extend(identifier(rest));
            continue;
        }
        let rest_of_text: Vec<&str> = text.lines().skip(number).collect();
        let rest_of_text = rest_of_text.join("\n");
        let Some(begin) = rest_of_text.find(&group) else {
            continue;
        };
        let mut depth = 0;
        let mut is_first = true;
        for (position, character) in rest_of_text[begin..].char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    is_first = true;
                    continue;
                }
                ';' => break,
                _ if depth == 1 && is_first && character.is_alphabetic() => {
                    names.extend(identifier(&rest_of_text[begin + position..]));
                    is_first = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let end = text
        .find(|character: char| !character.is_alphanumeric() && character != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The text with the lines of its test modules blanked.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut is_test = false;
    let mut was_attribute = false;
    for line in text.lines() {
        if was_attribute && line.contains("mod ") && line.ends_with('{') {
            is_test = true;
        }
        was_attribute = is_test_attribute(line);
        if !is_test {
            kept.push_str(line);
        }
        kept.push('\n');
        if line == "}" {
            is_test = false;
        }
    }
    kept
}

/// `#[cfg(test)]`, `#[cfg(all(test, unix))]`
fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test")
}

/// Every source file except test modules.
fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("a directory of sources");
    for entry in entries.map(|entry| entry.expect("an entry").path()) {
        let name = entry
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_for_tests(directory, &name) {
            continue;
        }
        if entry.is_dir() {
            collect_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// Whether the module with this name is declared for tests only.
fn is_for_tests(directory: &Path, name: &str) -> bool {
    let parent = match directory.file_name() {
        Some(stem) if stem != "src" => directory.with_file_name(format!("{}.rs", stem.display())),
        _ => directory.join("lib.rs"),
    };
    let text = fs::read_to_string(parent).unwrap_or_default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let declares = |next: &&str| next.ends_with(&format!("mod {name};"));
        if is_test_attribute(line) && lines.peek().is_some_and(declares) {
            return true;
        }
    }
    false
}
