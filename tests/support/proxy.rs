//! The proxy as a process.
//!
//! It is started on a free port of 127.0.0.1, ready once it logs that, and killed when dropped. A proxy that ends by
//! itself fails its test, unless the test waited for that. The log is printed when the test fails.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, prlimit};

use super::log::Log;
use super::{Client, HANG, Message, Origin, Scratch, binaries};

/// A command line under construction.
pub(crate) struct ProxyCommand {
    command: Command,
    scratch: Scratch,
    plugins: Vec<OsString>,
    config: String,
}

impl ProxyCommand {
    /// One worker on a free port of 127.0.0.1.
    pub(crate) fn local(self) -> Self {
        self.args([
            "--hostname",
            "127.0.0.1",
            "--port",
            "0",
            "--num-workers",
            "1",
        ])
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(
        mut self,
        args: impl IntoIterator<Item = A>,
    ) -> ProxyCommand {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> ProxyCommand {
        self.command.env(name, value);
        self
    }

    /// Adds text to the configuration file of the proxy.
    pub(crate) fn config(mut self, toml: &str) -> ProxyCommand {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Loads a plugin of a library: `("zoo", "Upper")`. Repeated calls keep their order.
    pub(crate) fn plugin(mut self, package: &str, name: &str) -> ProxyCommand {
        let mut spec = binaries::plugin_library(package).into_os_string();
        spec.push(":");
        spec.push(name);
        self.plugins.push(spec);
        self
    }

    /// Sets a key of a plugin: `"AddField.name=x-a"`.
    pub(crate) fn plugin_config(self, setting: &str) -> ProxyCommand {
        self.args(["--plugin-config", setting])
    }

    /// Starts the proxy and waits until it listens.
    pub(crate) fn start(mut self) -> Proxy {
        self.complete();
        Proxy::launch(self.command, self.scratch)
    }

    /// Checks the configuration: `proxy ... check`.
    pub(crate) fn check(mut self) -> Exit {
        self.complete();
        self.command.arg("check");
        self.end()
    }

    /// Runs a proxy that must end by itself.
    pub(crate) fn run(mut self) -> Exit {
        self.complete();
        self.end()
    }

    fn end(mut self) -> Exit {
        let mut child = self.command.spawn().expect("the proxy can be run");
        let (stdout, stderr) = logs_of(&mut child);
        let status = wait(&mut child).unwrap_or_else(|| {
            drop(child.kill());
            drop(child.wait());
            panic!(
                "the proxy runs although it must not:\n{}",
                stdout.lines().join("\n")
            )
        });
        Exit::new(status, &stdout, &stderr)
    }

    fn complete(&mut self) {
        if !self.plugins.is_empty() {
            self.command
                .arg("--plugins")
                .arg(self.plugins.join(OsStr::new(",")));
        }
        if !self.config.is_empty() {
            self.command
                .arg("--config")
                .arg(self.scratch.write("proxy.toml", &self.config));
        }
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// The exit code, if it ended by itself.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    fn new(status: ExitStatus, stdout: &Log, stderr: &Log) -> Exit {
        let (stdout, stderr) = (stdout.wait_for_end(), stderr.wait_for_end());
        Exit {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
        }
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    stdout: Log,
    stderr: Log,
    has_ended: bool,
    /// Keeps the configuration file and the control socket while the process runs.
    scratch: Scratch,
}

impl Proxy {
    /// The bare executable, without default arguments.
    pub(crate) fn bare() -> ProxyCommand {
        Proxy::at(binaries::proxy_binary())
    }

    /// The same, as a copy of the executable in another directory.
    pub(crate) fn at(executable: &Path) -> ProxyCommand {
        let mut command = Command::new(executable);
        command
            .env_remove("PROXY_CONFIG")
            .env_remove("PROXY_BASIC_AUTH");
        let scratch = Scratch::new();
        // Where its control socket is.
        command.env("XDG_RUNTIME_DIR", scratch.path(""));
        ProxyCommand {
            command,
            scratch,
            plugins: Vec::new(),
            config: String::new(),
        }
    }

    /// One worker on a free port of 127.0.0.1, plus the arguments of the test.
    pub(crate) fn command() -> ProxyCommand {
        Proxy::bare().local()
    }

    /// A proxy with default settings.
    pub(crate) fn start() -> Proxy {
        Proxy::command().start()
    }

    fn launch(mut command: Command, scratch: Scratch) -> Proxy {
        let mut child = command.spawn().expect("the proxy can be run");
        let (stdout, stderr) = logs_of(&mut child);
        // A Unix socket has no such address.
        let line = stdout.wait_for(|line| address_in(line).is_some());
        let address = line.as_deref().and_then(address_in);
        let Some(address) = address else {
            drop(child.kill());
            drop(child.wait());
            panic!(
                "the proxy did not start:\n{}\n{}",
                stdout.wait_for_end(),
                stderr.wait_for_end()
            );
        };
        Proxy {
            child,
            address,
            stdout,
            stderr,
            has_ended: false,
            scratch,
        }
    }

    /// The listening address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses of all `count` listeners, in the order of the configuration.
    pub(crate) fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        self.wait_for_lines("Started server on ", count);
        self.lines()
            .iter()
            .filter_map(|line| address_in(line))
            .collect()
    }

    /// A new connection to it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A request on its own connection, and its final response.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        self.client().ask(request)
    }

    /// A GET for `path` at `origin`, on its own connection.
    pub(crate) fn get(&self, origin: &Origin, path: &str) -> Message {
        self.ask(super::get(origin, path))
    }

    /// An open tunnel to `origin`.
    pub(crate) fn tunnel(&self, origin: &Origin) -> Client {
        let mut client = self.client();
        let authority = origin.authority();
        client.send(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
        ));
        let answer = client.response_to("CONNECT");
        assert_eq!(answer.status(), 200, "no tunnel: {}", answer.start);
        client
    }

    /// The default control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        let name = format!("proxy/{}.sock", self.address.port());
        self.scratch.path(&name)
    }

    /// Runs a command such as `status` for this proxy.
    pub(crate) fn order(&self, args: &[&str]) -> Exit {
        let socket = self.control_socket();
        let socket = socket.to_str().expect("scratch paths are text");
        Proxy::bare()
            .args(["--control-socket", socket])
            .args(args)
            .run()
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line of the log that contains `text`.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        self.stdout
            .wait_for(|line| has_text(line, text))
            .unwrap_or_else(|| panic!("no line with {text:?} in the log"))
    }

    /// Waits for the first line on standard error that contains `text`.
    pub(crate) fn wait_for_error(&self, text: &str) -> String {
        self.stderr
            .wait_for(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no line with {text:?} on standard error"))
    }

    /// Waits for the first line of the log that `holds` accepts.
    pub(crate) fn wait_for_line_where(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let line = self.stdout.wait_for(holds);
        line.unwrap_or_else(|| panic!("no line with {what} in the log"))
    }

    /// Waits until the log has `count` lines that contain `text`.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) {
        let seen = Cell::new(0);
        let last = self.stdout.wait_for(|line| {
            seen.set(seen.get() + usize::from(has_text(line, text)));
            seen.get() == count
        });
        assert!(
            last.is_some(),
            "{} lines with {text:?}, not {count}",
            seen.get()
        );
    }

    /// The log so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// The warnings so far, except for the one that every proxy of root logs.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let is_meant =
            |line: &String| line.contains(" - WARNING - ") && !line.contains("running as root");
        self.lines().into_iter().filter(is_meant).collect()
    }

    /// How many file descriptors the process has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// From now on, the process gets no further descriptors.
    #[cfg(target_os = "linux")]
    pub(crate) fn forbid_new_files(&self) {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, none)
            .expect("the proxy is ours to limit");
    }

    /// Waits until at most `count` descriptors are open; returns their number.
    pub(crate) fn wait_for_open_files(&self, count: usize) -> usize {
        let deadline = Instant::now() + HANG;
        while self.open_files() > count && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        self.open_files()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or("");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("the kernel states the resident size")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the proxy is ours to signal");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(mut self) -> Exit {
        let status = wait(&mut self.child).expect("the proxy ends in time");
        self.has_ended = true;
        Exit::new(status, &self.stdout, &self.stderr)
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended_by_itself = !self.has_ended && !self.is_running();
        drop(self.child.kill());
        let status = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "--- log of the proxy\n{}\n{}---",
                self.stdout.wait_for_end(),
                self.stderr.wait_for_end()
            );
        } else {
            assert!(
                !ended_by_itself,
                "the proxy ended by itself: {status:?}\n{}",
                self.stderr.wait_for_end()
            );
        }
    }
}

fn logs_of(child: &mut Child) -> (Log, Log) {
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    (Log::of(stdout), Log::of(stderr))
}

/// Whether a line contains `text`. A requested path may also be part of the path of a library, which does not count.
fn has_text(line: &str, text: &str) -> bool {
    let is_path = text.starts_with('/');
    line.contains(text) && !(is_path && line.contains(" - Loaded plugin "))
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, written) = line.split_once("Started server on ")?;
    let written = written.split_whitespace().next()?;
    let written = written.trim_end_matches(['"', '}']);
    let (host, port) = written.rsplit_once(':')?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    Some(SocketAddr::new(host, port.parse().ok()?))
}

/// The exit of `child`, if it happens in time.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + HANG;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
