//! The proxy's own web server: responses to requests addressed to the proxy itself.
//!
//! Nearly all requests are in origin-form, as browsers send them to `http://localhost:8899/`. The plugins come from the
//! fixture `routes`, which documents each of them.

/// Malformed requests, and requests that resemble another kind.
mod bad_input;
/// Paths that must not escape the directory.
mod escapes;
/// Static files.
mod files;
/// The PAC file.
mod pac;
/// Plugin routes.
mod plugins;
/// Which requests the web server answers, which go to an origin, and which are refused.
mod routing;
/// WebSockets that end at the proxy.
mod sockets;

use std::fs;
use std::path::PathBuf;

use crate::support::{Exit, Proxy, ProxyCommand, Scratch};

/// The exit code for an invalid configuration.
const CONFIG: i32 = 78;

/// A request in origin-form; `fields` are whole lines, each with its CRLF.
fn ask(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: here\r\n{fields}\r\n")
}

/// A GET in origin-form.
fn get(path: &str) -> String {
    ask("GET", path, "")
}

/// A web server without files, PAC file or plugins.
fn empty() -> ProxyCommand {
    Proxy::command().args(["--enable-web-server"])
}

/// Asserts that the proxy failed to start and printed one line that contains all of `words`.
#[track_caller]
fn assert_refused(exit: &Exit, words: &[&str]) {
    assert_eq!(exit.code, Some(CONFIG), "{exit:?}");
    assert_eq!(exit.stderr.lines().count(), 1, "{exit:?}");
    for word in words {
        assert!(exit.stderr.contains(word), "no {word:?} in {}", exit.stderr);
    }
}

/// Content that no response may contain.
const SECRET: &str = "this is not to be served";

/// A directory `public` that is served, next to a file `secret` that is not.
struct Site {
    scratch: Scratch,
}

impl Site {
    fn new() -> Site {
        let site = Site {
            scratch: Scratch::new(),
        };
        fs::create_dir(site.path("")).expect("a scratch directory can be written");
        site.scratch.write("secret", SECRET);
        site
    }

    /// The path of `name` in the served directory.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path("public").join(name)
    }

    /// Writes a file and creates its parent directories.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let directory = path.parent().expect("it is in the directory");
        fs::create_dir_all(directory).expect("a scratch directory can be written");
        fs::write(&path, content).expect("a scratch file can be written");
        path
    }

    /// The arguments to serve this directory.
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        vec![
            "--enable-static-server".into(),
            "--static-server-dir".into(),
            self.path("").into_os_string(),
        ]
    }

    /// A proxy that serves this directory.
    fn command(&self) -> ProxyCommand {
        Proxy::command().args(self.arguments())
    }

    /// The same, with further settings for `[web_server.static_files]`.
    fn command_with(&self, settings: &str) -> ProxyCommand {
        let section = format!("[web_server.static_files]\n{settings}");
        self.command().config(&section)
    }

    fn serve(&self) -> Proxy {
        self.command().start()
    }
}
