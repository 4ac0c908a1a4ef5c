//! The log and the access log as files: where they go, how lines are laid out, rotation, and disks that are full.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{HANG, Log, OK, Origin, Proxy, Scratch, get, proxy_binary, request};

/// Waits until the file contains `text`; returns its content.
fn wait_for_text(file: &Path, text: &str) -> String {
    let deadline = Instant::now() + HANG;
    loop {
        let content = fs::read_to_string(file).unwrap_or_default();
        if content.contains(text) {
            return content;
        }
        assert!(Instant::now() < deadline, "no {text:?} in {content:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A proxy with a configuration file that the test changes.
struct Configured {
    scratch: Scratch,
    file: PathBuf,
}

impl Configured {
    fn new(toml: &str) -> Self {
        let scratch = Scratch::new();
        let file = scratch.write("changed.toml", toml);
        Self { scratch, file }
    }

    fn start(&self) -> Proxy {
        Proxy::command()
            .args(["--config".as_ref(), self.file.as_os_str()])
            .start()
    }

    /// The path of a file as it is written in TOML.
    fn path(&self, name: &str) -> (PathBuf, String) {
        let path = self.scratch.path(name);
        let text = format!("{:?}", path.display().to_string());
        (path, text)
    }

    fn reload(&self, proxy: &Proxy, toml: &str) {
        self.scratch.write("changed.toml", toml);
        proxy.signal(Signal::HUP);
    }
}

// ---- layout ----------------------------------------------------------------------------------------------------

#[test]
fn a_dash_is_standard_output() {
    let proxy = Proxy::command().args(["--log-file", "-"]).start();
    let origin = Origin::answering(OK);
    proxy.get(&origin, "/dash");
    proxy.wait_for_line("/dash - 200 OK");
}

#[test]
fn all_lines_have_the_layout_of_pythons_logging() {
    let format =
        "%(asctime)s - pid:%(process)d [%(levelname)-.1s] %(funcName)s:%(lineno)d - %(message)s";
    let proxy = Proxy::command().args(["--log-format", format]).start();
    let origin = Origin::answering(OK);
    proxy.get(&origin, "/laid-out");
    proxy.wait_for_line("/laid-out");
    let pid = proxy.id();
    for line in proxy.lines() {
        // The tests may run as root, which is a warning.
        let level = if line.contains("running as root") {
            'W'
        } else {
            'I'
        };
        let rest = line.get(23..).unwrap_or_default();
        assert!(
            rest.starts_with(&format!(" - pid:{pid} [{level}] ")),
            "{line}"
        );
    }
}

#[test]
fn all_lines_are_json_objects_if_so_configured() {
    let proxy = Proxy::command()
        .args(["--log-format", "json", "--log-level", "d"])
        .start();
    let origin =
        Origin::answering(b"HTTP/1.1 200 \"x\x1b\r\nContent-Length: 1\r\n\r\nx".as_slice());
    proxy.ask(format!(
        "GET http://{}/\u{202e}\"path HTTP/1.1\r\nHost: a\r\n\r\n",
        origin.authority()
    ));
    proxy.ask("GET http://127.0.0.1:1/closed HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_line("/closed");
    for line in proxy.lines() {
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let keys: &[&str] = match object["module"] == "access_log" {
            true => &["time", "level", "method", "status", "duration_ms"],
            false => &["time", "level", "process", "module", "line", "message"],
        };
        for key in keys {
            assert!(!object[*key].is_null(), "no {key}: {line}");
        }
    }
}

#[test]
fn a_layout_with_a_misspelt_field_is_refused() {
    let exit = Proxy::command()
        .args(["--log-format", "%(levlname)s %(message)s"])
        .run();
    assert_eq!(exit.code, Some(2));
    assert!(
        exit.stderr.contains("did you mean %(levelname)s?"),
        "{}",
        exit.stderr
    );
    let exit = Proxy::command().config("log_format = \"jsn\"").run();
    assert_eq!(exit.code, Some(78));
    assert!(
        exit.stderr.contains("write `default`, `json`, or a text"),
        "{}",
        exit.stderr
    );
}

// ---- reload ----------------------------------------------------------------------------------------------------

#[test]
fn a_reload_changes_level_layout_and_file() {
    let configured = Configured::new("");
    let origin = Origin::answering(OK);
    let proxy = configured.start();
    let (log, log_text) = configured.path("proxy.log");
    configured.reload(
        &proxy,
        &format!("log_file = {log_text}\nlog_format = \"[%(levelname)s] %(message)s\"\n"),
    );
    wait_for_text(&log, "generation 2 is active");
    proxy.get(&origin, "/in-the-file");
    wait_for_text(&log, "/in-the-file");
    configured.reload(
        &proxy,
        &format!("log_file = {log_text}\nlog_level = \"DEBUG\"\n"),
    );
    wait_for_text(&log, "generation 3 is active");
    proxy.ask("BAD\r\n\r\n");
    let text = wait_for_text(&log, " - DEBUG - ");
    assert!(
        text.contains("[INFO] reload: generation 2 is active"),
        "{text}"
    );
    configured.reload(&proxy, "log_level = \"WARNING\"\n");
    let deadline = Instant::now() + HANG;
    while !proxy
        .lines()
        .iter()
        .any(|line| line.contains(" - WARNING - "))
    {
        assert!(Instant::now() < deadline, "no line on standard output");
        proxy.ask("GET http://127.0.0.1:1/closed HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}

#[test]
fn a_reload_whose_log_cannot_be_opened_changes_nothing() {
    let configured = Configured::new("");
    let origin = Origin::answering(OK);
    let proxy = configured.start();
    configured.reload(&proxy, "log_file = \"/no/such/directory/proxy.log\"\n");
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    assert!(
        line.contains("log file /no/such/directory/proxy.log: "),
        "{line}"
    );
    configured.reload(
        &proxy,
        "[access_log]\nfile = \"/no/such/directory/access.log\"\n",
    );
    proxy.wait_for_line("access log file /no/such/directory/access.log: ");
    proxy.get(&origin, "/still");
    proxy.wait_for_line("/still - 200 OK");
}

// ---- the access log ---------------------------------------------------------------------------------------------

#[test]
fn the_access_log_may_be_off_and_may_be_elsewhere() {
    let configured = Configured::new("[access_log]\nfile = \"off\"\n");
    let origin = Origin::answering(OK);
    let proxy = configured.start();
    proxy.get(&origin, "/off");
    let (file, text) = configured.path("access.log");
    configured.reload(
        &proxy,
        &format!("log_level = \"ERROR\"\n[access_log]\nfile = {text}\n"),
    );
    // With its own file, the level of the log does not matter.
    let deadline = Instant::now() + HANG;
    while !fs::read_to_string(&file).is_ok_and(|text| text.contains("/elsewhere - 200 OK")) {
        assert!(Instant::now() < deadline, "no line");
        proxy.get(&origin, "/elsewhere");
    }
    configured.reload(&proxy, "[access_log]\nfile = \"-\"\n");
    proxy.wait_for_line("generation 3 is active");
    proxy.get(&origin, "/on-standard-output");
    proxy.wait_for_line("/on-standard-output - 200 OK");
    let lines = proxy.lines();
    let is_elsewhere = |line: &String| line.contains("/off") || line.contains("/elsewhere");
    assert!(!lines.iter().any(is_elsewhere), "{lines:#?}");
}

/// The line of the access log that contains `text`, behind its time.
fn line_of(proxy: &Proxy, text: &str) -> String {
    let line = proxy.wait_for_line(text);
    line.split_once("] ")
        .map_or(line.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn presets_show_what_their_readers_expect() {
    let origin = Origin::answering(OK);
    let authority = origin.authority();
    let proxy = Proxy::command()
        .config("[access_log]\nformat = \"combined\"")
        .start();
    proxy.ask(format!(
        "GET http://{authority}/a HTTP/1.1\r\nHost: a\r\nUser-Agent: x \"y\"\r\nReferer: http://r/\r\n\r\n"
    ));
    let line = line_of(&proxy, "/a HTTP/1.1");
    let (request, rest) = line
        .split_once("\" 200 ")
        .unwrap_or_else(|| panic!("{line}"));
    assert_eq!(request, format!("\"GET http://{authority}/a HTTP/1.1"));
    assert!(rest.ends_with(" \"http://r/\" \"x \\x22y\\x22\""), "{line}");

    let proxy = Proxy::command()
        .config("[access_log]\nformat = \"squid\"")
        .start();
    proxy.get(&origin, "/b");
    let line = proxy.wait_for_line("/b");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..4], ["127.0.0.1", "TCP_MISS/200"], "{line}");
    let url = format!("http://{authority}/b");
    assert_eq!(
        words[5..],
        [
            "GET",
            url.as_str(),
            "-",
            "HIER_DIRECT/127.0.0.1",
            "text/plain"
        ],
        "{line}"
    );
    let mut tunnel = proxy.tunnel(&Origin::echoing());
    tunnel.finish();
    tunnel.read_to_end();
    proxy.wait_for_line(" TCP_TUNNEL/200 ");
}

#[test]
fn json_has_all_that_is_known_of_an_exchange() {
    let origin = Origin::answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nok".as_slice(),
    );
    let proxy = Proxy::command()
        .args(["--basic-auth", "marianne:geheim"])
        .config("[access_log]\nformat = \"json\"")
        .start();
    let fields = "Proxy-Authorization: Basic bWFyaWFubmU6Z2VoZWlt\r\n";
    let mut client = proxy.client();
    client.ask(request("GET", &origin, "/j", fields));
    client.ask(request("GET", &origin, "/k", fields));
    let objects = ["/j\"", "/k\""].map(|path| {
        let line = proxy.wait_for_line(path);
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{line}"))
    });
    let [first, second] = &objects;
    for (key, value) in [
        ("user", "marianne"),
        ("method", "GET"),
        ("version", "HTTP/1.1"),
        ("content_type", "text/x"),
        ("answered_by", "upstream"),
        ("client_ip", "127.0.0.1"),
    ] {
        assert_eq!(first[key], value, "{first}");
    }
    assert_eq!(first["url"], format!("http://{}/j", origin.authority()));
    assert_eq!(first["upstream_address"], origin.authority());
    assert_eq!(
        (&first["status"], &first["upstream_reused"]),
        (&200.into(), &false.into())
    );
    assert_eq!(second["upstream_reused"], true);
    for key in [
        "duration_ms",
        "head_ms",
        "connect_ms",
        "wait_ms",
        "first_byte_ms",
        "bytes_sent",
    ] {
        assert!(first[key].is_number(), "{key}: {first}");
    }
    for key in [
        "error",
        "tls_version",
        "intercepted",
        "verdicts",
        "cache",
        "tls_ms",
    ] {
        assert!(first[key].is_null(), "{key}: {first}");
    }
    assert!(second["connect_ms"].is_null(), "{second}");
    assert_eq!(first["connection_id"], second["connection_id"]);
    let id = |object: &Value| object["request_id"].as_str().unwrap_or_default().to_owned();
    let (first, second) = (id(first), id(second));
    assert!(
        first != second && first[..17] == second[..17],
        "{first} {second}"
    );
}

#[test]
fn a_template_shows_the_outcome_of_each_exchange() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .config("[access_log]\nformat = \"{path}|{http_x_a}|{status}|{answered_by}|{verdicts}|{error}|{intercepted}\"")
        .start();
    proxy.ask("GET http://google.com/refused HTTP/1.1\r\nHost: google.com\r\nX-A: a|b\r\n\r\n");
    let line = proxy.wait_for_line("/refused");
    assert_eq!(
        line,
        "/refused|a\\x7Cb|418|plugin|FilterByUpstreamHost:answered|-|-"
    );
    proxy.ask("GET http://127.0.0.1:1/closed HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = proxy.wait_for_line("/closed");
    assert_eq!(line, "/closed|-|502|proxy|-|connection_refused|-");
    proxy.get(&origin, "/fine");
    assert_eq!(proxy.wait_for_line("/fine"), "/fine|-|200|upstream|-|-|-");
    let mut tunnel = proxy.tunnel(&Origin::echoing());
    tunnel.finish();
    tunnel.read_to_end();
    proxy.wait_for_line_where("the tunnel", |line| line == "-|-|200|proxy|-|-|no");
    proxy.ask("BAD\r\n\r\n");
    proxy.wait_for_line_where("the malformed request", |line| {
        line == "-|-|400|proxy|-|http_request_error|-"
    });
}

#[test]
fn only_what_is_asked_for_has_a_line() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--basic-auth", "marianne:geheim"])
        .config("[access_log]\nwhen = [\"errors\", \"refused\"]\nsample = 0.000000001")
        .start();
    let fields = "Proxy-Authorization: Basic bWFyaWFubmU6Z2VoZWlt\r\n";
    proxy.ask(request("GET", &origin, "/fine", fields));
    proxy.ask(request("GET", &origin, "/not-sampled", ""));
    proxy.ask(format!(
        "GET http://127.0.0.1:1/failed HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
    ));
    proxy.wait_for_line("/failed");
    let lines = proxy.lines();
    let is_wrong = |line: &String| line.contains("/fine") || line.contains("/not-sampled");
    assert!(!lines.iter().any(is_wrong), "{lines:#?}");
}

#[test]
fn a_format_with_a_misspelt_field_or_a_secret_is_refused() {
    for (format, reason) in [
        (
            "{statsu}",
            "`{statsu}` is not a field; did you mean {status}?",
        ),
        ("{http_cookie}", "`{http_cookie}` is never logged"),
        ("combind", "is not a format; write combined?"),
    ] {
        let exit = Proxy::command()
            .config(&format!("[access_log]\nformat = \"{format}\""))
            .run();
        assert_eq!(exit.code, Some(78));
        assert!(exit.stderr.contains(reason), "{}", exit.stderr);
    }
}

/// How often each path stands in the files.
fn paths_in(files: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut paths = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a log file can be read");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "a line is cut in {file:?}"
        );
        for line in text.lines().filter(|line| line.contains(" - GET ")) {
            let path = line
                .split('/')
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            *paths
                .entry(path.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
    }
    paths
}

/// Sends requests from several clients while both files are renamed and reopened; returns the files with the lines of the
/// requests, and how many requests there were.
fn rotate_under_load(access_file: Option<&str>) -> (Scratch, Vec<PathBuf>, usize) {
    const CLIENTS: usize = 4;
    const ROTATIONS: usize = 10;
    let configured = Configured::new("");
    let origin = Origin::answering(OK);
    let proxy = configured.start();
    let (log, log_text) = configured.path("proxy.log");
    let mut toml = format!("num_workers = 1\nlog_file = {log_text}\n");
    let logs = match access_file {
        Some(name) => {
            let (path, text) = configured.path(name);
            toml += &format!("[access_log]\nfile = {text}\n");
            vec![log.clone(), path]
        }
        None => vec![log.clone()],
    };
    configured.reload(&proxy, &toml);
    wait_for_text(&log, "generation 2 is active");
    let mut files = Vec::new();
    let (sent, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (proxy, origin, sent, is_over) = (&proxy, &origin, &sent, &is_over);
            scope.spawn(move || {
                let mut client = proxy.client();
                let mut is_last = false;
                while !is_last {
                    // The last one is in the last file.
                    is_last = is_over.load(Ordering::Relaxed);
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    client.ask(get(origin, &format!("/{number}")));
                }
            });
        }
        wait_for_text(logs.last().expect("there is one"), " - GET ");
        for rotation in 0..ROTATIONS {
            for file in &logs {
                let rotated = file.with_extension(format!("{rotation}"));
                fs::rename(file, &rotated).expect("it is there");
                files.push(rotated);
            }
            proxy.signal(Signal::USR1);
            wait_for_text(&log, "the log file has been reopened");
            for file in &logs {
                while !file.exists() {
                    thread::yield_now();
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    proxy.signal(Signal::TERM);
    proxy.wait();
    files.extend(logs);
    (configured.scratch, files, sent.into_inner())
}

#[test]
fn rotation_under_load_loses_no_line() {
    for access_file in [None, Some("access.log")] {
        let (_scratch, files, requests) = rotate_under_load(access_file);
        let paths = paths_in(&files);
        assert_eq!(paths.len(), requests, "lost lines");
        assert!(
            paths.values().all(|count| *count == 1),
            "lines that stand there twice"
        );
        // All of it is not in one file.
        let access = files
            .iter()
            .filter(|file| !paths_in(&[(*file).clone()]).is_empty());
        assert!(access.count() > 1, "nothing was rotated");
    }
}

// ---- terminals ---------------------------------------------------------------------------------------------------

/// A proxy on a terminal, which `script` provides.
struct OnTerminal {
    script: Child,
    lines: Log,
}

impl OnTerminal {
    /// `None` on machines without `script`.
    fn start(environment: &[(&str, &str)], args: &str) -> Option<Self> {
        let command = format!("{} {args}", proxy_binary().display());
        let script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut script = script.ok()?;
        let lines = Log::of(script.stdout.take().expect("it is piped"));
        Some(Self { script, lines })
    }

    fn wait_for(&self, text: &str) -> String {
        let line = self.lines.wait_for(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.lines.lines()))
    }

    /// Ends the proxy; its output.
    fn end(mut self) -> String {
        let line = self.wait_for("pid:");
        let (_, rest) = line.split_once("pid:").expect("just found");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let pid = digits.parse().ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("it is ours");
        self.script.wait().expect("it ends");
        self.lines.wait_for_end()
    }
}

#[test]
fn a_terminal_shows_how_to_use_the_proxy_in_colour() {
    let args = "--hostname 0.0.0.0 --port 0 --num-workers 1 --enable-web-server";
    let Some(proxy) = OnTerminal::start(&[], args) else {
        return;
    };
    let line = proxy.wait_for("curl -x http://127.0.0.1:");
    assert!(line.contains(" http://example.com/"), "{line}");
    proxy.wait_for(
        "warning\x1b[0m: open to the network without authentication: whoever reaches 0.0.0.0:",
    );
    let shown = proxy.end();
    assert!(shown.contains(" - \x1b[32mINFO\x1b[0m - "), "{shown}");
    assert!(shown.contains("web server    http://127.0.0.1:"), "{shown}");
    assert!(
        shown.contains("export http_proxy=http://127.0.0.1:"),
        "{shown}"
    );
    assert!(
        !shown.contains("WARNING"),
        "the warning is there twice: {shown}"
    );
}

#[test]
fn a_terminal_without_colours_has_none() {
    let args = "--hostname 127.0.0.1 --port 0 --num-workers 1";
    let Some(proxy) = OnTerminal::start(&[("NO_COLOR", "1")], args) else {
        return;
    };
    proxy.wait_for("curl -x http://127.0.0.1:");
    let shown = proxy.end();
    assert!(
        !shown.contains('\x1b') && !shown.contains("open to the network"),
        "{shown}"
    );
}

#[test]
fn elsewhere_the_log_has_the_warning_and_there_is_no_banner() {
    let proxy = Proxy::bare()
        .args(["--hostname", "0.0.0.0", "--port", "0", "--num-workers", "1"])
        .start();
    let line = proxy.wait_for_line("open to the network without authentication");
    assert!(line.contains(" - WARNING - "), "{line}");
    let lines = proxy.lines();
    assert!(
        !lines.iter().any(|line| line.contains("curl")),
        "{lines:#?}"
    );
    let guarded = Proxy::bare()
        .args(["--hostname", "0.0.0.0", "--port", "0", "--num-workers", "1"])
        .args(["--basic-auth", "marianne:geheim"])
        .start();
    guarded.signal(Signal::HUP);
    guarded.wait_for_line("generation 2 is active");
    let lines = guarded.lines();
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("open to the network")),
        "{lines:#?}"
    );
}

// ---- full disks --------------------------------------------------------------------------------------------------

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_is_reported_once() {
    let scratch = Scratch::new();
    let file = scratch.path("access.log");
    std::os::unix::fs::symlink("/dev/full", &file).expect("a scratch directory is ours");
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config(&format!(
            "[access_log]\nfile = {:?}",
            file.display().to_string()
        ))
        .start();
    for number in 0..20 {
        assert_eq!(proxy.get(&origin, &format!("/{number}")).status(), 200);
    }
    proxy.wait_for_error("access log: No space left on device");
    let status = proxy.order(&["status"]).stdout;
    assert!(status.contains(" lines dropped"), "{status}");
    fs::remove_file(&file).expect("it is there");
    proxy.signal(Signal::USR1);
    proxy.wait_for_line("the access log file has been reopened");
    proxy.get(&origin, "/again");
    wait_for_text(&file, "/again - 200 OK");
    let line = proxy.wait_for_line("the access log could not be written, lines dropped count=");
    assert!(line.contains(" - WARNING - "), "{line}");
    proxy.signal(Signal::TERM);
    let exit = proxy.wait();
    let reports = exit
        .stderr
        .matches("access log: No space left on device")
        .count();
    assert_eq!((exit.code, reports), (Some(0), 1), "{}", exit.stderr);
}
