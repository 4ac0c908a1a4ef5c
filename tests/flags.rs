//! Flags as proxy.py has them, through the real executable: what they set, and what is different then.
//!
//! A row of a table has a flag's value, what `proxy config show` prints for it and without it, and a function that sees
//! the effect. A default that is not that of proxy.py has its reason beside it.

/// The flags in the documentation of proxy.py 2.0.
mod document;
/// The flags that came later, up to 2.4.
mod later;
/// What scripts for proxy.py do: its integration tests and its Makefile.
mod scripts;

use crate::support::Proxy;

/// What `proxy config show` prints for a setting, such as `timeouts.idle`; empty if it prints nothing.
fn shown(args: &[&str], setting: &str) -> String {
    let exit = Proxy::bare().args(args).args(["config", "show"]).run();
    assert_eq!(exit.code, Some(0), "{args:?}: {exit:?}");
    let mut table = String::new();
    for line in exit.stdout.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, value)) = line.split_once(" = ")
            && format!("{table}{key}") == setting
        {
            return value.to_owned();
        }
    }
    String::new()
}

/// The status of a request to the proxy itself.
fn status_of_itself(proxy: &Proxy) -> u16 {
    proxy
        .ask("GET /devtools HTTP/1.1\r\nHost: here\r\n\r\n")
        .status()
}
