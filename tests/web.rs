//! The proxy's own web server: what is answered to requests for the proxy itself.
//!
//! Nearly all requests are in origin-form, as browsers send them to `http://localhost:8899/`. The plugins are those of the
//! fixture `routes`, which says at each what it does.

/// Requests that break a rule, or look like another kind of request.
mod bad_input;
/// Spellings of paths that must not lead out of the directory.
mod escapes;
/// Files of a directory.
mod files;
/// The PAC file.
mod pac;
/// What plugins do with requests for their routes.
mod plugins;
/// Who answers: the web server, an origin, or nobody.
mod routing;
/// WebSockets that end at the proxy.
mod sockets;

use std::fs;
use std::path::PathBuf;

use crate::support::{Exit, Proxy, ProxyCommand, Scratch};

/// The exit code for a configuration that cannot be used.
const CONFIG: i32 = 78;

/// A request in origin-form; `fields` are whole lines, each with its CRLF.
fn ask(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: here\r\n{fields}\r\n")
}

/// A GET in origin-form.
fn get(path: &str) -> String {
    ask("GET", path, "")
}

/// A web server without anything.
fn empty() -> ProxyCommand {
    Proxy::command().args(["--enable-web-server"])
}

/// Must have failed to start, with one line that has all of `words`.
#[track_caller]
fn assert_refused(exit: &Exit, words: &[&str]) {
    assert_eq!(exit.code, Some(CONFIG), "{exit:?}");
    assert_eq!(exit.stderr.lines().count(), 1, "{exit:?}");
    for word in words {
        assert!(exit.stderr.contains(word), "no {word:?} in {}", exit.stderr);
    }
}

/// What no answer may have in it.
const SECRET: &str = "this is not to be served";

/// A directory `public` to be served, and `secret` beside it.
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

    /// Where `name` is in the directory.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path("public").join(name)
    }

    /// Writes a file, and the directories that it is in.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let directory = path.parent().expect("it is in the directory");
        fs::create_dir_all(directory).expect("a scratch directory can be written");
        fs::write(&path, content).expect("a scratch file can be written");
        path
    }

    /// The arguments that have it served.
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        vec![
            "--enable-static-server".into(),
            "--static-server-dir".into(),
            self.path("").into_os_string(),
        ]
    }

    /// A proxy that serves it.
    fn command(&self) -> ProxyCommand {
        Proxy::command().args(self.arguments())
    }

    /// The same, with more settings of the section for files.
    fn command_with(&self, settings: &str) -> ProxyCommand {
        let section = format!("[web_server.static_files]\n{settings}");
        self.command().config(&section)
    }

    fn serve(&self) -> Proxy {
        self.command().start()
    }
}
