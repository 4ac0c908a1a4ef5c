//! What `proxy --version` prints.
//!
//! The first line is the version alone, as scripts expect that are written for proxy.py. The build script finds out the
//! rest; what it does not know is left out.

use plugin_api::abi::{API_MAJOR, API_MINOR};

/// The version of the proxy.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version, the plugin boundary, and the build, in a line each.
pub fn text() -> String {
    let mut lines = vec![
        VERSION.to_owned(),
        format!("plugin-api {API_MAJOR}.{API_MINOR}"),
    ];
    let built = [
        option_env!("PROXY_BUILD_COMMIT").map(|commit| format!("from commit {commit}")),
        option_env!("PROXY_BUILD_DATE").map(|date| format!("of {date}")),
        option_env!("PROXY_BUILD_RUSTC").map(|rustc| format!("by {rustc}")),
        option_env!("PROXY_BUILD_TARGET").map(|target| format!("for {target}")),
        option_env!("PROXY_BUILD_PROFILE").map(|profile| format!("({profile})")),
    ];
    let built: Vec<String> = built.into_iter().flatten().collect();
    if !built.is_empty() {
        lines.push(format!("built {}", built.join(" ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_bare_version() {
        let text = text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(VERSION));
        assert_eq!(
            lines.next(),
            Some(format!("plugin-api {API_MAJOR}.{API_MINOR}").as_str())
        );
        let build = lines.next().unwrap();
        assert!(
            build.contains("by rustc ") && build.contains(" for "),
            "{build}"
        );
    }
}
