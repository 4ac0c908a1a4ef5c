//! Tells `proxy --version` how the executable is built.
//!
//! The commit and its date are those of git, in release builds only, so that a commit does not rebuild what is being
//! developed. `PROXY_BUILD_COMMIT` and `SOURCE_DATE_EPOCH` (seconds) override them, for builds outside of a clone.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PROXY_BUILD_COMMIT");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let profile = env::var("PROFILE").unwrap_or_default();
    let is_release = profile == "release";
    if is_release {
        follow_commits();
    }
    let commit = set("PROXY_BUILD_COMMIT")
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_release));
    let date = set("SOURCE_DATE_EPOCH")
        .and_then(|seconds| date(seconds.trim().parse().ok()?))
        .or_else(|| git(&["show", "-s", "--format=%cs", "HEAD"]).filter(|_| is_release));
    let rustc = env::var_os("RUSTC").and_then(|rustc| {
        let version = output(Command::new(rustc).arg("--version"))?;
        // `rustc 1.88.0 (6b00bc388 2025-06-23)`
        Some(version.split(" (").next().unwrap_or(&version).to_owned())
    });
    for (name, value) in [
        ("COMMIT", commit),
        ("DATE", date),
        ("RUSTC", rustc),
        ("TARGET", set("TARGET")),
        ("PROFILE", Some(profile)),
    ] {
        if let Some(value) = value {
            println!("cargo::rustc-env=PROXY_BUILD_{name}={value}");
        }
    }
}

/// Runs this again after the next commit.
fn follow_commits() {
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn git(args: &[&str]) -> Option<String> {
    output(Command::new("git").args(args))
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|run| run.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The day of a time in seconds since 1970, as 2026-11-29. Howard Hinnant's `civil_from_days`.
fn date(seconds: u32) -> Option<String> {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months begin with March.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u32::from(month <= 2);
    Some(format!("{year}-{month:02}-{day:02}"))
}
