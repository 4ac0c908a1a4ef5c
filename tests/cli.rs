//! Flags, the configuration file and exit codes of the executable.
//!
//! Exit code 0 is an orderly shutdown, 1 an error of the operating system, 2 a wrong command line, 78 an unusable
//! configuration. Each error is one line on standard error that says what to do, with the line of the file at fault.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Exit, HANG, OK, Origin, Proxy, Scratch, has_ipv6, proxy_binary};

const SYSTEM: i32 = 1;
const USAGE: i32 = 2;
const CONFIG: i32 = 78;

/// Asserts the exit code, and that one line contains all of `words`.
fn assert_refused(exit: &Exit, code: i32, words: &[&str]) {
    assert_eq!((exit.code, exit.signal), (Some(code), None), "{exit:?}");
    let line = exit
        .stderr
        .lines()
        .find(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        line.is_some(),
        "no line with {words:?} in {:?}",
        exit.stderr
    );
    if code != USAGE {
        // Quoted lines of a file are indented.
        let errors = exit.stderr.lines().filter(|line| !line.starts_with(' '));
        assert_eq!(errors.count(), 1, "{:?}", exit.stderr);
    }
}

fn run(args: &[&str]) -> Exit {
    Proxy::bare().args(["--port", "0"]).args(args).run()
}

#[test]
fn the_version_is_a_bare_number_followed_by_the_build() {
    for flag in ["--version", "-v"] {
        let exit = Proxy::bare().args([flag]).run();
        assert_eq!(exit.code, Some(0));
        let lines: Vec<_> = exit.stdout.lines().collect();
        let [version, api, build] = lines[..] else {
            panic!("{lines:?}");
        };
        let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(
            numbers.len() == 3 && numbers.iter().all(Result::is_ok),
            "{version}"
        );
        assert!(api.starts_with("plugin-api 1."), "{api}");
        assert!(build.starts_with("built "), "{build}");
    }
}

#[test]
fn help_explains_the_proxy_and_each_command() {
    let help = |args: &[&str]| {
        let exit = Proxy::bare().args(args).run();
        assert_eq!(exit.code, Some(0), "{exit:?}");
        exit.stdout
    };
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(
        help(&["help", "ca", "init"]),
        help(&["ca", "init", "--help"])
    );
    assert!(help(&["-h"]).lines().count() < help(&["--help"]).lines().count());
}

#[test]
fn help_names_every_flag() {
    let flags = [
        "--config",
        "--plugins",
        "--plugin-dir",
        "--hostname",
        "--port",
        "--num-workers",
        "--threadless",
        "--backlog",
        "--timeout",
        "--client-recvbuf-size",
        "--server-recvbuf-size",
        "--disable-headers",
        "--basic-auth",
        "--log-level",
        "--log-file",
        "--open-file-limit",
        "--pid-file",
        "--version",
        "--help",
    ];
    for argument in ["--help", "-h"] {
        let exit = Proxy::bare().args([argument]).run();
        assert_eq!(exit.code, Some(0));
        for flag in flags {
            assert!(
                exit.stdout.contains(flag),
                "{argument} does not name {flag}"
            );
        }
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_refused(&run(&["--no-such-flag"]), USAGE, &["--no-such-flag"]);
    assert_refused(&run(&["surplus"]), USAGE, &["surplus"]);
    assert_refused(
        &Proxy::bare().args(["--port", "65536"]).run(),
        USAGE,
        &["65536", "--port"],
    );
    assert_refused(
        &Proxy::bare().args(["--port", "http"]).run(),
        USAGE,
        &["http", "--port"],
    );
    assert_refused(
        &run(&["--log-level", "loud"]),
        USAGE,
        &["loud", "--log-level"],
    );
    assert_refused(&run(&["--num-workers", "-1"]), USAGE, &["-1"]);
    assert_refused(&run(&["--timeout", "0"]), USAGE, &["--timeout"]);
    assert_refused(&run(&["--timeout", "soon"]), USAGE, &["soon", "--timeout"]);
    assert_refused(
        &run(&["--client-recvbuf-size", "much"]),
        USAGE,
        &["much", "--client-recvbuf-size"],
    );
}

#[test]
fn credentials_need_a_user_and_a_colon() {
    assert_refused(
        &run(&["--basic-auth", "nobody"]),
        USAGE,
        &["--basic-auth", "user:password"],
    );
    assert_refused(&run(&["--basic-auth", ":word"]), USAGE, &["--basic-auth"]);
    let secret = run(&["--basic-auth", "sesame-without-colon"]);
    assert!(!secret.stderr.contains("sesame"), "{}", secret.stderr);
}

#[test]
fn flags_may_be_abbreviated() {
    let proxy = Proxy::bare()
        .args(["--host", "127.0.0.1", "--po", "0", "--num", "1"])
        .start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn a_flag_that_is_none_is_answered_with_what_to_do() {
    for (args, words) in [
        (&["--prt", "1"][..], &["--prt", "--port"][..]),
        (&["--ca-cert", "x"], &["--ca-cert-file", "--ca-cert-dir"]),
        (&["--proxy-pool", "x:1"], &["ProxyPool.parents"]),
        (&["--insecure-tls-interception"], &["insecure_hosts"]),
    ] {
        let exit = run(args);
        assert_refused(&exit, USAGE, words);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    }
}

#[test]
fn flags_of_the_seed_are_accepted_together() {
    let flags = [
        "--threadless",
        "--backlog",
        "50",
        "--timeout",
        "5",
        "--client-recvbuf-size",
        "128K",
        "--server-recvbuf-size",
        "1M",
        "--disable-headers",
        "a, b",
        "--log-level",
        "i",
        "--open-file-limit",
        "512",
        "--num-workers=2",
    ];
    let proxy = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", "0"])
        .args(flags)
        .start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn listens_on_ipv6_by_default() {
    if !has_ipv6() {
        return;
    }
    let proxy = Proxy::bare().args(["--port", "0"]).start();
    assert!(proxy.address().is_ipv6(), "{}", proxy.address());
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn listens_on_a_name() {
    let proxy = Proxy::bare()
        .args(["--hostname", "localhost", "--port", "0"])
        .start();
    assert!(proxy.address().ip().is_loopback());
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn a_port_in_use_is_refused_by_the_system() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = taken
        .local_addr()
        .expect("a bound socket has an address")
        .port()
        .to_string();
    let exit = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", &port])
        .run();
    assert_refused(&exit, SYSTEM, &[&port, "--port"]);
}

#[test]
fn a_second_proxy_on_the_same_port_is_refused() {
    let first = Proxy::start();
    let port = first.address().port().to_string();
    let exit = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--port", &port])
        .run();
    assert_refused(&exit, SYSTEM, &[&port]);
    assert_eq!(first.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn an_address_of_another_machine_is_refused_by_the_system() {
    assert_refused(
        &run(&["--hostname", "192.0.2.1"]),
        SYSTEM,
        &["192.0.2.1", "--hostname"],
    );
}

#[test]
fn a_name_without_address_is_refused() {
    let exit = run(&["--hostname", "no-such-host.invalid"]);
    assert!(matches!(exit.code, Some(SYSTEM | CONFIG)), "{exit:?}");
    assert!(
        exit.stderr.contains("no-such-host.invalid"),
        "{}",
        exit.stderr
    );
}

/// A proxy that logs to a file; the caller must end it.
fn logging_to(file: &Path) -> Child {
    let child = Command::new(proxy_binary())
        .args(["--hostname", "127.0.0.1", "--port", "0"])
        .args(["--num-workers", "1", "--log-file"])
        .arg(file)
        .stdout(Stdio::null())
        .spawn()
        .expect("the proxy can be run");
    wait_for_text(file, " - Started server on 127.0.0.1:");
    child
}

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

fn end(mut child: Child) {
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
}

#[test]
fn the_log_goes_to_a_file_and_is_appended() {
    let scratch = Scratch::new();
    let file = scratch.write("proxy.log", "earlier line\n");
    end(logging_to(&file));
    let log = fs::read_to_string(&file).expect("the log can be read");
    assert!(log.starts_with("earlier line\n"), "{log}");
}

#[test]
fn a_rotated_log_file_is_reopened_on_sigusr1() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.log");
    let mut child = logging_to(&file);
    let rotated = scratch.path("proxy.log.1");
    fs::rename(&file, &rotated).expect("it is there");
    kill_process(Pid::from_child(&child), Signal::USR1).expect("it is ours");
    wait_for_text(&file, "the log file has been reopened");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it is ours");
    let exit = child.wait().expect("it ends");
    assert_eq!(exit.code(), Some(0));
    let old = fs::read_to_string(&rotated).expect("it is there");
    assert!(!old.contains("reopened"), "{old}");
}

#[test]
fn no_signal_that_operators_send_ends_the_proxy_by_surprise() {
    let proxy = Proxy::command().start();
    proxy.signal(Signal::USR2);
    proxy.wait_for_line("SIGUSR2 is ignored");
    proxy.signal(Signal::USR1);
    proxy.wait_for_line("the log is not reopened: it does not go to a file");
    proxy.signal(Signal::QUIT);
    proxy.wait_for_line("Shutting down 1 workers (SIGQUIT)");
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn a_log_file_that_cannot_be_written_is_named() {
    assert_refused(
        &run(&["--log-file", "/no/such/directory/proxy.log"]),
        SYSTEM,
        &["/no/such/directory/proxy.log"],
    );
}

#[test]
fn the_pid_file_lives_as_long_as_the_process() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.pid");
    let proxy = Proxy::command()
        .args(["--pid-file".as_ref(), file.as_os_str()])
        .start();
    assert_eq!(
        fs::read_to_string(&file).expect("it is there").trim(),
        proxy.id().to_string()
    );
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!(!file.exists());
}

#[test]
fn the_pid_file_of_a_running_proxy_stays() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.pid");
    let flag = ["--pid-file".as_ref(), file.as_os_str()];
    let first = Proxy::command().args(flag).start();
    let second = Proxy::command().args(flag).run();
    let reason = format!("belongs to the running process {}", first.id());
    assert_refused(&second, SYSTEM, &["proxy.pid", &reason, "--pid-file"]);
    let pid = fs::read_to_string(&file).expect("it is there");
    assert_eq!(pid, first.id().to_string());
}

#[test]
fn a_pid_file_that_cannot_be_written_is_named() {
    assert_refused(
        &run(&["--pid-file", "/no/such/directory/proxy.pid"]),
        SYSTEM,
        &["/no/such/directory/proxy.pid"],
    );
}

#[test]
fn a_pid_file_that_is_a_symbolic_link_is_not_followed() {
    let scratch = Scratch::new();
    let victim = scratch.write("victim", "original");
    let link = scratch.path("proxy.pid");
    std::os::unix::fs::symlink(&victim, &link).expect("a scratch directory is ours");
    let exit = run(&["--pid-file", &link.display().to_string()]);
    assert_refused(
        &exit,
        SYSTEM,
        &["proxy.pid: is a symbolic link; remove it, or specify another file with --pid-file"],
    );
    assert_eq!(
        fs::read_to_string(&victim).expect("it is there"),
        "original"
    );
}

#[test]
fn more_open_files_than_the_system_allows_is_a_warning() {
    let proxy = Proxy::command()
        .args(["--open-file-limit", "1000000000"])
        .start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    proxy.wait_for_line(" - WARNING - ");
}

#[test]
fn the_open_file_limit_is_raised() {
    let proxy = Proxy::command().args(["--open-file-limit", "1100"]).start();
    let limits =
        fs::read_to_string(format!("/proc/{}/limits", proxy.id())).expect("the kernel tells");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("the kernel tells");
    let soft: u64 = line
        .split_whitespace()
        .nth(3)
        .and_then(|word| word.parse().ok())
        .expect("a number");
    assert!(soft >= 1100, "{line}");
}

#[test]
fn settings_come_from_a_file_and_flags_win() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("hostname = \"192.0.2.1\"\nport = 1\nvia = \"named\"\ndisable_headers = [\"x-a\"]")
        .start();
    let fields = "X-A: 1\r\nX-B: 2\r\n";
    assert_eq!(
        proxy
            .ask(crate::support::request("GET", &origin, "/", fields))
            .status(),
        200
    );
    let request = origin.only_request();
    assert_eq!(request.field("Via").as_deref(), Some("1.1 named"));
    assert_eq!(
        (request.field("X-A"), request.field("X-B").as_deref()),
        (None, Some("2"))
    );
}

#[test]
fn the_environment_names_the_file() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "some.toml",
        "hostname = \"127.0.0.1\"\nport = 0\nnum_workers = 1\n",
    );
    let proxy = Proxy::bare().env("PROXY_CONFIG", file).start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn the_default_file_of_the_project_can_be_used() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy.toml");
    let proxy = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn mistakes_in_the_file_are_named_with_their_place() {
    let mistakes = [
        ("\nprot = 1\n", ":2:1:", "prot"),
        ("port = \"many\"\n", ":1:8:", "port"),
        ("port = 65536\n", ":1:8:", "port"),
        ("port = \n", ":1:", "proxy.toml"),
        ("[timeouts]\nconnect = -1\n", ":2:11:", "connect"),
        ("[timeouts]\nconnekt = 1\n", ":2:1:", "connekt"),
        ("[limits]\nmax_fields = true\n", ":2:14:", "max_fields"),
        ("log_level = \"loud\"\n", ":1:13:", "log_level"),
        ("[[plugins]]\nname = \"X\"\n", ":1:", "library"),
        (
            "[[plugins]]\nlibrary = \"x.so\"\nconfg = {}\n",
            ":3:1:",
            "confg",
        ),
    ];
    for (text, place, word) in mistakes {
        let exit = Proxy::command().config(text).run();
        assert_refused(&exit, CONFIG, &["proxy.toml", place, word]);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert_refused(
        &run(&["--config", "/no/such/proxy.toml"]),
        CONFIG,
        &["/no/such/proxy.toml"],
    );
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.write("binary.toml", [0xff, 0xfe, 0x00, 0x80]);
    let exit = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .run();
    assert_refused(&exit, CONFIG, &["binary.toml"]);
}

#[test]
fn workers_are_counted() {
    let proxy = Proxy::bare()
        .args([
            "--hostname",
            "127.0.0.1",
            "--port",
            "0",
            "--num-workers",
            "3",
        ])
        .start();
    proxy.wait_for_line("Started 3 workers");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let proxy = Proxy::bare()
        .args([
            "--hostname",
            "127.0.0.1",
            "--port",
            "0",
            "--num-workers",
            "0",
        ])
        .start();
    proxy.wait_for_line(&format!("Started {cores} workers"));
}
