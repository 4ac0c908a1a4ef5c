//! Every flag in the help text of proxy.py 2.0: accepted, its default, its effect.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use super::{shown, status_of_itself};
use crate::support::tls::{Answer, Ask, Pki, Way};
use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch, has_ipv6, request};

struct Row {
    flag: &'static str,
    /// A value that is not the default; none for a switch.
    value: &'static str,
    /// Flags without which this one is refused.
    with: &'static [&'static str],
    /// The setting of `proxy.toml`.
    setting: &'static str,
    /// As `config show` prints it.
    given: &'static str,
    default: &'static str,
    /// The default of proxy.py, in the same form.
    documented: &'static str,
    /// Why it is another here.
    reason: &'static str,
    effect: fn(),
}

const NOTHING: Row = Row {
    flag: "",
    value: "",
    with: &[],
    setting: "",
    given: "",
    default: "",
    documented: "",
    reason: "",
    effect: || {},
};

/// As the lines in the documentation are.
const LOG_FORMAT: &str =
    "\"%(asctime)s - %(levelname)s - pid:%(process)d - %(funcName)s:%(lineno)d - %(message)s\"";

/// Flags with a setting.
fn settings() -> Vec<Row> {
    vec![
        Row {
            flag: "--backlog",
            value: "77",
            setting: "backlog",
            given: "77",
            default: "4096",
            documented: "100",
            reason: "100 refuse connections in a burst; the kernel lowers it where it has to",
            effect: backlog,
            ..NOTHING
        },
        Row {
            flag: "--basic-auth",
            value: "user:password",
            setting: "basic_auth",
            given: "\"********\"",
            effect: basic_auth,
            ..NOTHING
        },
        Row {
            flag: "--ca-cert-file",
            value: "c.pem",
            with: &["--ca-key-file", "k", "--ca-signing-key-file", "s"],
            setting: "interception.ca_cert_file",
            given: "\"c.pem\"",
            effect: interception,
            ..NOTHING
        },
        Row {
            flag: "--ca-key-file",
            value: "k.pem",
            with: &["--ca-cert-file", "c", "--ca-signing-key-file", "s"],
            setting: "interception.ca_key_file",
            given: "\"k.pem\"",
            ..NOTHING
        },
        Row {
            flag: "--ca-signing-key-file",
            value: "s.pem",
            with: &["--ca-cert-file", "c", "--ca-key-file", "k"],
            setting: "interception.ca_signing_key_file",
            given: "\"s.pem\"",
            ..NOTHING
        },
        Row {
            flag: "--ca-cert-dir",
            value: "dir",
            setting: "interception.ca_cert_dir",
            given: "\"dir\"",
            documented: "~/.proxy.py",
            reason: "not printed: ~/.proxy, as another program must not write into that of proxy.py",
            ..NOTHING
        },
        Row {
            flag: "--cert-file",
            value: "c.pem",
            with: &["--key-file", "k"],
            setting: "tls.cert_file",
            given: "\"c.pem\"",
            effect: tls_to_the_proxy,
            ..NOTHING
        },
        Row {
            flag: "--key-file",
            value: "k.pem",
            with: &["--cert-file", "c"],
            setting: "tls.key_file",
            given: "\"k.pem\"",
            ..NOTHING
        },
        Row {
            flag: "--client-recvbuf-size",
            value: "4096",
            setting: "client_recvbuf_size",
            given: "4096",
            default: "\"1M\"",
            documented: "\"1M\"",
            effect: client_recvbuf_size,
            ..NOTHING
        },
        Row {
            flag: "--server-recvbuf-size",
            value: "4K",
            setting: "server_recvbuf_size",
            given: "\"4K\"",
            default: "\"1M\"",
            documented: "\"1M\"",
            effect: server_recvbuf_size,
            ..NOTHING
        },
        Row {
            flag: "--disable-headers",
            value: "x-a,x-b",
            setting: "disable_headers",
            given: "\"x-a,x-b\"",
            default: "[]",
            documented: "[]",
            effect: disable_headers,
            ..NOTHING
        },
        Row {
            flag: "--disable-http-proxy",
            setting: "disable_http_proxy",
            given: "true",
            default: "false",
            documented: "false",
            effect: disable_http_proxy,
            ..NOTHING
        },
        Row {
            flag: "--enable-static-server",
            setting: "web_server.static_files.enable",
            given: "true",
            default: "false",
            documented: "false",
            effect: static_server,
            ..NOTHING
        },
        Row {
            flag: "--static-server-dir",
            value: "www",
            setting: "web_server.static_files.dir",
            given: "\"www\"",
            // Not printed: `public` beside the executable.
            ..NOTHING
        },
        Row {
            flag: "--enable-web-server",
            setting: "web_server.enable",
            given: "true",
            default: "false",
            documented: "false",
            effect: web_server,
            ..NOTHING
        },
        Row {
            flag: "--hostname",
            value: "127.0.0.1",
            setting: "hostname",
            given: "\"127.0.0.1\"",
            default: "\"::1\"",
            documented: "\"::1\"",
            effect: hostname,
            ..NOTHING
        },
        Row {
            flag: "--log-level",
            value: "d",
            setting: "log_level",
            given: "\"d\"",
            default: "\"INFO\"",
            documented: "\"INFO\"",
            effect: log_level,
            ..NOTHING
        },
        Row {
            flag: "--log-file",
            value: "proxy.log",
            setting: "log_file",
            given: "\"proxy.log\"",
            effect: log_file,
            ..NOTHING
        },
        Row {
            flag: "--log-format",
            value: "%(levelname)s: %(message)s",
            setting: "log_format",
            given: "\"%(levelname)s: %(message)s\"",
            default: LOG_FORMAT,
            documented: LOG_FORMAT,
            effect: log_format,
            ..NOTHING
        },
        Row {
            flag: "--num-workers",
            value: "3",
            setting: "num_workers",
            given: "3",
            default: "0",
            documented: "0",
            effect: num_workers,
            ..NOTHING
        },
        Row {
            flag: "--open-file-limit",
            value: "512",
            setting: "open_file_limit",
            given: "512",
            documented: "1024",
            reason: "not printed: the hard limit, because every connection needs a descriptor",
            effect: open_file_limit,
            ..NOTHING
        },
        Row {
            flag: "--pac-file",
            value: "proxy.pac",
            setting: "web_server.pac.file",
            given: "\"proxy.pac\"",
            effect: pac_file,
            ..NOTHING
        },
        Row {
            flag: "--pac-file-url-path",
            value: "/p",
            setting: "web_server.pac.url_path",
            given: "\"/p\"",
            default: "\"/\"",
            documented: "\"/\"",
            ..NOTHING
        },
        Row {
            flag: "--pid-file",
            value: "proxy.pid",
            setting: "pid_file",
            given: "\"proxy.pid\"",
            effect: pid_file,
            ..NOTHING
        },
        Row {
            flag: "--port",
            value: "1",
            setting: "port",
            given: "1",
            default: "8899",
            documented: "8899",
            effect: port,
            ..NOTHING
        },
        Row {
            flag: "--timeout",
            value: "1",
            setting: "timeouts.idle",
            given: "1",
            effect: timeout,
            ..NOTHING
        },
    ]
}

/// Flags that set nothing which `config show` could print.
fn others() -> Vec<Row> {
    vec![
        Row {
            flag: "--devtools-ws-path",
            value: "/devtools",
            ..NOTHING
        },
        Row {
            flag: "--enable-devtools",
            effect: devtools,
            ..NOTHING
        },
        Row {
            flag: "--enable-events",
            effect: events,
            ..NOTHING
        },
        Row {
            flag: "--plugins",
            value: "proxy.plugin.FilterByUpstreamHostPlugin",
            effect: plugins,
            ..NOTHING
        },
        Row {
            flag: "--threadless",
            ..NOTHING
        },
        Row {
            flag: "--version",
            ..NOTHING
        },
        Row {
            flag: "--help",
            ..NOTHING
        },
    ]
}

impl Row {
    fn args(&self) -> Vec<&str> {
        let value = (!self.value.is_empty()).then_some(self.value);
        let own = [self.flag].into_iter().chain(value);
        self.with.iter().copied().chain(own).collect()
    }
}

#[test]
fn every_flag_is_there() {
    let rows = [settings(), others()].concat_rows();
    let mut flags: Vec<_> = rows.iter().map(|row| row.flag).collect();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), rows.len());
    let help = Proxy::bare().args(["-h"]).run().stdout;
    for flag in flags {
        let is_it = |word: &str| word.trim_end_matches(',') == flag;
        assert!(help.split_whitespace().any(is_it), "{flag}");
    }
}

/// The tables in one.
trait ConcatRows {
    fn concat_rows(self) -> Vec<Row>;
}

impl ConcatRows for [Vec<Row>; 2] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn every_flag_sets_its_setting_and_has_the_documented_default_or_a_reason() {
    for row in settings() {
        let flag = row.flag;
        assert_eq!(shown(&row.args(), row.setting), row.given, "{flag}");
        assert_eq!(shown(&[], row.setting), row.default, "{flag}");
        let is_same = row.default == row.documented;
        assert_eq!(is_same, row.reason.is_empty(), "{flag}");
    }
}

#[test]
fn the_idle_limit_has_the_documented_default_under_its_older_name() {
    assert_eq!(shown(&[], "timeout"), "10");
}

#[test]
fn every_flag_has_its_effect() {
    for row in [settings(), others()].concat_rows() {
        (row.effect)();
    }
}

#[test]
fn flags_without_an_effect_are_accepted() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--threadless", "--devtools-ws-path", "/x"])
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(proxy.warnings(), [""; 0]);
}

#[test]
fn a_log_level_is_a_word_or_its_first_letter_in_any_case() {
    for level in ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] {
        let lower = level.to_lowercase();
        for written in [level, &lower, &level[..1], &lower[..1]] {
            let args = ["--log-level", written];
            assert_eq!(shown(&args, "log_level"), format!("\"{written}\""));
        }
    }
    let exit = Proxy::bare().args(["--log-level", "x"]).run();
    assert_eq!(exit.code, Some(2), "{exit:?}");
}

fn with(args: &[&str]) -> Proxy {
    Proxy::command().args(args).start()
}

fn backlog() {
    let proxy = with(&["--backlog", "77"]);
    let port = format!("sport = :{}", proxy.address().port());
    // The second number of a listening socket is its limit.
    if let Ok(listed) = Command::new("ss").args(["-Hltn", &port]).output() {
        let listed = String::from_utf8_lossy(&listed.stdout);
        assert!(listed.split_whitespace().nth(2) == Some("77"), "{listed}");
    }
}

fn basic_auth() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--basic-auth", "user:password"]);
    assert_eq!(proxy.get(&origin, "/").status(), 407);
    let fields = "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n";
    let answer = proxy.ask(request("GET", &origin, "/", fields));
    assert_eq!(answer.status(), 200);
}

fn interception() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("seen"));
    let proxy = pki.intercepting().start();
    let received = pki.client(&proxy).get(&origin.authority(), "/");
    assert_eq!(received.told(), (200, "seen".into()));
    proxy.wait_for_line("GET ");
    let stored = fs::read_dir(pki.certificate_directory()).expect("the directory is made");
    assert!(stored.count() > 0);
}

fn tls_to_the_proxy() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = pki.relaying().args(pki.listener()).start();
    let mut session = pki.client(&proxy).over(Way::Tls).session();
    assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 200);
}

/// Logs the longest piece of content that it was given.
fn pieces(way: &str) -> ProxyCommand {
    Proxy::command()
        .plugin("odd", "Pieces")
        .plugin_config(&format!("Pieces.way={way}"))
}

/// The number at the end of the line of `pieces`.
fn longest(proxy: &Proxy) -> usize {
    let line = proxy.wait_for_line(", longest ");
    let number = line.rsplit(' ').next().and_then(|text| text.parse().ok());
    number.expect("the fixture ends its line with a number")
}

fn client_recvbuf_size() {
    let origin = Origin::answering(OK);
    let content = "x".repeat(50_000);
    let fields = format!("Content-Length: {}\r\n", content.len());
    let upload = request("POST", &origin, "/", &fields) + &content;
    let proxy = pieces("client")
        .args(["--client-recvbuf-size", "4096"])
        .start();
    assert_eq!(proxy.ask(upload).status(), 200);
    assert!((1..=4096).contains(&longest(&proxy)));
}

fn server_recvbuf_size() {
    let content = "x".repeat(50_000);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    let origin = Origin::answering(head + &content);
    let proxy = pieces("upstream")
        .args(["--server-recvbuf-size", "4K"])
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert!((1..=4096).contains(&longest(&proxy)));
}

fn disable_headers() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--disable-headers", "x-a, X-B"]);
    let fields = "X-A: 1\r\nX-B: 2\r\nX-C: 3\r\n";
    proxy.ask(request("GET", &origin, "/", fields));
    let request = origin.only_request();
    let fields = ["X-A", "X-B", "X-C"].map(|name| request.field(name));
    assert_eq!(fields, [None, None, Some("3".to_owned())]);
}

fn disable_http_proxy() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--disable-http-proxy", "--enable-web-server"]);
    assert!(proxy.get(&origin, "/").status() >= 400);
    origin.assert_untouched();
}

fn static_server() {
    let scratch = Scratch::new();
    scratch.write("a.txt", "from a file");
    let dir = scratch.path("").display().to_string();
    let proxy = with(&["--enable-static-server", "--static-server-dir", &dir]);
    let answer = proxy.ask("GET /a.txt HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "from a file")
    );
}

fn web_server() {
    assert_eq!(status_of_itself(&with(&["--enable-web-server"])), 404);
    assert_ne!(status_of_itself(&Proxy::start()), 404);
}

fn hostname() {
    let proxy = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", "0"])
        .start();
    assert_eq!(proxy.address().ip().to_string(), "127.0.0.1");
    if has_ipv6() {
        let proxy = Proxy::bare().args(["--port", "0"]).start();
        assert_eq!(proxy.address().ip().to_string(), "::1");
    }
}

fn log_level() {
    // Why it is refused is said at DEBUG.
    let ask = |proxy: &Proxy| proxy.ask("GET /.hidden HTTP/1.1\r\nHost: here\r\n\r\n");
    let scratch = Scratch::new();
    let dir = scratch.path("").display().to_string();
    let serving = ["--enable-static-server", "--static-server-dir", &dir];
    let proxy = with(&[&serving[..], &["--log-level", "d"]].concat());
    assert_eq!(ask(&proxy).status(), 404);
    proxy.wait_for_line(" - DEBUG - ");
    let proxy = with(&serving);
    assert_eq!(ask(&proxy).status(), 404);
    proxy.wait_for_line("GET /.hidden");
    let mut lines = proxy.lines().into_iter();
    assert_eq!(lines.find(|line| line.contains(" - DEBUG - ")), None);
}

fn log_file() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.log").display().to_string();
    // Nothing can be bound there: the log says what was loaded until then.
    let exit = Proxy::bare()
        .args(["--hostname", "192.0.2.1", "--log-file", &file])
        .args(["--log-level", "d"])
        .run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{exit:?}");
    let log = fs::read_to_string(&file).expect("the log is written");
    assert!(log.contains(" - "), "{log}");
}

fn log_format() {
    let proxy = with(&["--log-format", "%(levelname)s: %(message)s"]);
    let line = proxy.wait_for_line("Started server on 127.0.0.1:");
    assert!(line.starts_with("INFO: Started server on "), "{line}");
}

fn num_workers() {
    with(&["--num-workers", "3"]).wait_for_line("Started 3 workers");
}

fn open_file_limit() {
    let soft = |proxy: &Proxy| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.id()));
        let limits = limits.expect("the kernel tells");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let words = line.map(|line| line.split_whitespace().skip(3).take(2));
        let words: Vec<u64> = words
            .into_iter()
            .flatten()
            .map(|word| word.parse().unwrap_or(u64::MAX))
            .collect();
        (words[0], words[1])
    };
    let (default, hard) = soft(&Proxy::start());
    assert_eq!(default, hard.min(1_048_576).max(default));
    let wanted = (default + 1).to_string();
    let (raised, _) = soft(&with(&["--open-file-limit", &wanted]));
    assert!(raised >= default);
}

fn pac_file() {
    let text = "function FindProxyForURL(url, host) { return \"DIRECT\"; }";
    let scratch = Scratch::new();
    let file = scratch.write("proxy.pac", text).display().to_string();
    for (value, path) in [(file.as_str(), "/"), (text, "/"), (text, "/p")] {
        let proxy = with(&["--pac-file", value, "--pac-file-url-path", path]);
        let answer = proxy.ask(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
        assert_eq!((answer.status(), answer.text().as_str()), (200, text));
    }
}

fn pid_file() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.pid");
    let proxy = with(&["--pid-file", &file.display().to_string()]);
    let id = fs::read_to_string(&file).expect("it is written");
    assert_eq!(id, proxy.id().to_string());
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!(!file.exists());
}

fn port() {
    let free = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        socket.local_addr().expect("it is bound").port()
    };
    let proxy = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", &free.to_string()])
        .start();
    assert_eq!(proxy.address().port(), free);
}

fn timeout() {
    let proxy = with(&["--timeout", "0.2"]);
    // The proxy closes it; if it did not, reading would fail after a while.
    proxy.client().read_to_end();
}

fn devtools() {
    let proxy = with(&["--enable-devtools", "--devtools-ws-path", "/devtools"]);
    proxy.wait_for_line("--enable-devtools only enables the web server");
    assert_eq!(status_of_itself(&proxy), 404);
}

fn events() {
    let proxy = Proxy::command()
        .plugin("kinds", "EventLog")
        .args(["--enable-events"])
        .start();
    proxy.get(&Origin::answering(OK), "/");
    proxy.wait_for_line("event RequestStarted");
}

fn plugins() {
    let denied = "GET http://google.com/ HTTP/1.1\r\nHost: google.com\r\n\r\n";
    let lists: [&[&str]; 3] = [
        &["proxy.plugin.ShortLinkPlugin,proxy.plugin.FilterByUpstreamHostPlugin"],
        &[
            "proxy.plugin.ShortLinkPlugin",
            "proxy.plugin.FilterByUpstreamHostPlugin",
        ],
        &[
            "proxy.plugin.ShortLinkPlugin",
            "--plugin",
            "libfilter_by_upstream_host.so",
        ],
    ];
    for list in lists {
        let proxy = Proxy::command()
            .args([
                "--plugin-dir".as_ref(),
                crate::support::plugin_directory().as_os_str(),
            ])
            .args(["--plugins"])
            .args(list)
            .start();
        assert_eq!(proxy.ask(denied).status(), 418, "{list:?}");
        proxy.wait_for_line("Loaded plugin ");
    }
}
