//! The control socket, and the commands that use it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{End, Exit, HANG, OK, Origin, Proxy, Scratch, get, proxy_binary};

/// Fails unless the command ended with this code.
#[track_caller]
fn assert_code(exit: &Exit, code: i32) {
    assert_eq!(exit.code, Some(code), "{}\n{}", exit.stdout, exit.stderr);
}

/// A client of the control socket that sends raw bytes.
fn raw(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the control socket accepts");
    let limit = Some(HANG);
    stream.set_read_timeout(limit).expect("a limit is set");
    stream
}

/// Everything that the proxy sends until it closes.
fn read_to_end(mut stream: UnixStream) -> String {
    let mut text = String::new();
    // A reset follows bytes that were not read.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn status_shows_what_is_running() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("zoo", "AddField")
        .plugin_config("AddField.name=x-a")
        .plugin_config("AddField.value=one")
        .start();
    let mut kept = proxy.client();
    assert_eq!(kept.ask(get(&origin, "/")).status(), 200);
    let exit = proxy.order(&["status"]);
    assert_code(&exit, 0);
    let shown = &exit.stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = shown.lines().map(words).collect();
    let pid = format!("pid {}, up ", proxy.id());
    assert!(lines[0].contains(&pid), "{shown}");
    assert!(lines[0].ends_with(": serving"), "{shown}");
    for line in [
        format!("listeners {}", proxy.address()),
        "generation 1".to_owned(),
        "open 1 connections, 0 exchanges, 0 event streams, 0 tunnels, 0 WebSockets".to_owned(),
        format!("control socket {}", proxy.control_socket().display()),
        "log standard output, level INFO".to_owned(),
        "0 running 1 0 0 0 0".to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line:?} in\n{shown}");
    }
    let plugin = lines
        .iter()
        .find(|line| line.starts_with("libzoo.so:AddField "));
    let calls = plugin.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    assert!(calls.is_some_and(|calls| calls > 0), "{shown}");
    let json = proxy.order(&["status", "--json"]);
    assert_code(&json, 0);
    for part in [
        "\"connections\": 1",
        "\"stage\": \"serving\"",
        "\"active\": 1",
    ] {
        assert!(json.stdout.contains(part), "{}", json.stdout);
    }
}

#[test]
fn only_its_user_may_use_the_socket_and_it_ends_with_the_proxy() {
    let proxy = Proxy::start();
    let socket = proxy.control_socket();
    let mode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("it exists");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().expect("it has a directory")), 0o700);
    assert_code(&proxy.order(&["stop"]), 0);
    assert_eq!(proxy.wait().code, Some(0));
    assert!(!socket.exists());
}

#[test]
fn reload_waits_until_the_workers_use_the_new_configuration() {
    let scratch = Scratch::new();
    let file = scratch.write("reloaded.toml", "via = \"one\"\n");
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .args(["--num-workers", "3"])
        .start();
    scratch.write("reloaded.toml", "via = \"two\"\n");
    let exit = proxy.order(&["reload"]);
    assert_code(&exit, 0);
    assert_eq!(
        exit.stdout,
        "generation 2 is active; workers: 3; plugins: 0"
    );
    for _ in 0..6 {
        proxy.get(&origin, "/");
    }
    for request in origin.requests() {
        assert_eq!(request.field("via").as_deref(), Some("1.1 two"));
    }
}

#[test]
fn reload_reports_all_problems_and_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.write("reloaded.toml", "via = \"one\"\n");
    let config = ["--config".as_ref(), file.as_os_str()];
    let origin = Origin::answering(OK);
    let proxy = Proxy::command().args(config).start();
    scratch.write("reloaded.toml", "prot = 1\n[limits]\nmax_fields = 0\n");
    let exit = proxy.order(&["reload"]);
    assert_code(&exit, 78);
    for problem in ["unknown key `prot`", "max_fields"] {
        let is_shown = |text: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.contains("generation 1 remains active") && line.contains(problem))
        };
        assert!(is_shown(&exit.stderr), "{}", exit.stderr);
        assert!(is_shown(&proxy.lines().join("\n")), "{:?}", proxy.lines());
    }
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    fs::remove_file(&file).expect("a scratch file is ours");
    let exit = proxy.order(&["reload"]);
    assert_code(&exit, 78);
    assert!(exit.stderr.contains("reloaded.toml"), "{}", exit.stderr);
}

#[test]
fn a_proxy_is_found_although_its_file_is_broken_now() {
    let scratch = Scratch::new();
    let file = scratch.write("reloaded.toml", "");
    let config = ["--config".as_ref(), file.as_os_str()];
    let dir = scratch.path("");
    let proxy = Proxy::command()
        .env("XDG_RUNTIME_DIR", &dir)
        .args(config)
        .start();
    let command = |name| {
        let command = Proxy::bare().env("XDG_RUNTIME_DIR", &dir).args(config);
        command.args([name]).run()
    };
    scratch.write("reloaded.toml", "prot = 1\n");
    let exit = command("reload");
    assert_code(&exit, 78);
    assert!(
        exit.stderr.contains("generation 1 remains"),
        "{}",
        exit.stderr
    );
    // What is stopped is not guessed.
    assert_code(&command("stop"), 78);
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

/// A proxy that logs to a file and has this control socket; the caller must stop it.
fn logging_to(log: &Path, socket: &Path) -> Child {
    let child = Command::new(proxy_binary())
        .args(["--hostname", "127.0.0.1", "--port", "0", "--log-file"])
        .arg(log)
        .arg("--control-socket")
        .arg(socket)
        .spawn();
    wait_for_text(log, "Started server on ");
    child.expect("the proxy can be run")
}

/// Waits until the file contains `text`.
fn wait_for_text(file: &Path, text: &str) {
    let deadline = Instant::now() + HANG;
    while !fs::read_to_string(file).is_ok_and(|content| content.contains(text)) {
        assert!(Instant::now() < deadline, "no {text:?} in {file:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn reopen_continues_in_a_new_file() {
    let scratch = Scratch::new();
    let (log, socket) = (scratch.path("log"), scratch.path("x.sock"));
    let mut child = logging_to(&log, &socket);
    fs::rename(&log, scratch.path("log.1")).expect("a scratch file is ours");
    let command = |name: &str| {
        let command = Proxy::bare().args(["--control-socket".as_ref(), socket.as_os_str()]);
        command.args([name]).run()
    };
    assert_code(&command("reopen"), 0);
    wait_for_text(&log, "the log file has been reopened");
    assert_code(&command("stop"), 0);
    let exit = child.wait().expect("it has ended");
    assert!(exit.success());
}

#[test]
fn reopen_says_where_there_is_no_file() {
    let proxy = Proxy::start();
    let exit = proxy.order(&["reopen"]);
    assert_code(&exit, 0);
    assert!(exit.stdout.contains("standard output"), "{}", exit.stdout);
}

#[test]
fn stop_lets_open_exchanges_finish_and_waits_for_the_end() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        peer.pause(1500);
        peer.send("world");
    });
    let mut proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    client.read_until(b"hello");
    let exit = proxy.order(&["stop"]);
    assert_code(&exit, 0);
    assert!(!proxy.is_running());
    assert!(
        exit.stderr.contains("draining: 1 connections, 1 exchanges"),
        "{}",
        exit.stderr
    );
    assert_eq!(client.response().text(), "helloworld");
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn a_drain_is_shown_refuses_reloads_and_is_cut_short_by_a_second_stop() {
    let origin = Origin::silent();
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    let mut first = raw(&proxy.control_socket());
    first
        .write_all(b"{\"version\":1,\"command\":\"stop\"}\n")
        .expect("the proxy reads");
    proxy.wait_for_line("Shutting down 1 workers (proxy stop)");
    let status = proxy.order(&["status"]);
    assert!(status.stdout.contains(": draining"), "{}", status.stdout);
    let reload = proxy.order(&["reload"]);
    assert_code(&reload, 1);
    assert!(reload.stderr.contains("shutting down"), "{}", reload.stderr);
    assert_code(&proxy.order(&["reopen"]), 1);
    assert_code(&proxy.order(&["stop"]), 0);
    let answer = read_to_end(first);
    assert!(
        answer.contains("draining: 1 connections, 1 exchanges"),
        "{answer}"
    );
    let exit = proxy.wait();
    assert_eq!(exit.code, Some(0));
    assert!(exit.stdout.contains("second proxy stop"), "{}", exit.stdout);
    client.read_to_end();
}

#[test]
fn clients_that_send_nonsense_get_the_reason_and_disturb_nobody() {
    let proxy = Proxy::start();
    let socket = proxy.control_socket();
    let long = vec![b'x'; 1 << 20];
    let nonsense: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", "not a JSON object"),
        (b"\xff\x00\n", "not a JSON object"),
        (
            b"{\"version\":9,\"command\":\"stop\"}\n",
            "speaks version 1",
        ),
        (b"{\"version\":1,\"command\":\"explode\"}\n", "unknown"),
        (&long, "longer than 4096 bytes"),
    ];
    for (sent, reason) in nonsense {
        let mut client = raw(&socket);
        // The proxy closes before it has read everything.
        let _ = client.write_all(sent);
        let answer = read_to_end(client);
        assert!(answer.contains("\"failed\""), "{answer}");
        assert!(answer.contains(reason), "{answer}");
    }
    let mut half = raw(&socket);
    half.write_all(b"{\"version\":1,").expect("the proxy reads");
    half.shutdown(Shutdown::Write).expect("it is open");
    assert!(read_to_end(half).contains("no line end"));
    drop(raw(&socket));
    assert_code(&proxy.order(&["status"]), 0);
}

#[test]
fn clients_that_never_read_or_write_keep_nobody_waiting() {
    let proxy = Proxy::start();
    let socket = proxy.control_socket();
    let status = b"{\"version\":1,\"command\":\"status\"}\n";
    let mut greedy = raw(&socket);
    greedy.set_nonblocking(true).expect("it is open");
    // Requests without end, and no answer is read.
    while greedy.write_all(status).is_ok() {}
    let _silent: Vec<_> = (0..5).map(|_| raw(&socket)).collect();
    assert_code(&proxy.order(&["status"]), 0);
    assert_code(&proxy.order(&["stop"]), 0);
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn too_many_clients_are_refused_until_others_leave() {
    let proxy = Proxy::start();
    let socket = proxy.control_socket();
    let status = b"{\"version\":1,\"command\":\"status\"}\n";
    let mut others: Vec<_> = (0..16).map(|_| raw(&socket)).collect();
    for other in &mut others {
        other.write_all(status).expect("the proxy reads");
        let mut byte = [0];
        other.read_exact(&mut byte).expect("the proxy answers");
    }
    let exit = proxy.order(&["status"]);
    assert_code(&exit, 1);
    assert!(exit.stderr.contains("16 clients"), "{}", exit.stderr);
    drop(others);
    let deadline = Instant::now() + HANG;
    while proxy.order(&["status"]).code != Some(0) {
        assert!(Instant::now() < deadline, "no client is served");
    }
}

#[test]
fn several_requests_of_one_client_are_answered_in_order() {
    let proxy = Proxy::start();
    let mut client = raw(&proxy.control_socket());
    client
        .write_all(
            b"{\"version\":1,\"command\":\"reopen\"}\n{\"version\":1,\"command\":\"status\"}\n",
        )
        .expect("the proxy reads");
    client.shutdown(Shutdown::Write).expect("it is open");
    let answers = read_to_end(client);
    let kinds: Vec<_> = answers
        .lines()
        .filter_map(|line| line.split('"').nth(3))
        .collect();
    assert_eq!(kinds, ["done", "status"], "{answers}");
}

#[test]
fn a_socket_that_a_process_left_behind_is_replaced() {
    let scratch = Scratch::new();
    let socket = scratch.path("x.sock");
    drop(UnixListener::bind(&socket).expect("a scratch file is ours"));
    let args = ["--control-socket".as_ref(), socket.as_os_str()];
    let proxy = Proxy::command().args(args).start();
    assert_code(&Proxy::bare().args(args).args(["status"]).run(), 0);
    drop(proxy);
    // That one was killed.
    assert!(socket.exists());
    let exit = Proxy::bare().args(args).args(["status"]).run();
    assert_code(&exit, 1);
    assert!(
        exit.stderr.contains("it has ended and left"),
        "{}",
        exit.stderr
    );
    let _proxy = Proxy::command().args(args).start();
}

#[test]
fn a_socket_in_use_or_another_file_prevents_the_start() {
    let scratch = Scratch::new();
    let socket = scratch.path("x.sock");
    let args = ["--control-socket".as_ref(), socket.as_os_str()];
    let running = Proxy::command().args(args).start();
    let second = || Proxy::command().args(args).run();
    let exit = second();
    assert_code(&exit, 1);
    let reason = format!("the running process {}", running.id());
    assert!(exit.stderr.contains(&reason), "{}", exit.stderr);
    assert_code(&Proxy::bare().args(args).args(["stop"]).run(), 0);
    assert_eq!(running.wait().code, Some(0));
    scratch.write("x.sock", "content");
    let exit = second();
    assert_code(&exit, 1);
    assert!(exit.stderr.contains("not a socket"), "{}", exit.stderr);
    let content = fs::read_to_string(&socket).expect("it is left alone");
    assert_eq!(content, "content");
}

#[test]
fn a_default_socket_that_cannot_be_made_is_a_warning() {
    let scratch = Scratch::new();
    scratch.write("proxy", "no directory");
    let proxy = Proxy::command()
        .env("XDG_RUNTIME_DIR", scratch.path(""))
        .start();
    proxy.wait_for_line("no control socket: ");
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
}

#[test]
fn an_empty_path_turns_the_socket_off() {
    let proxy = Proxy::command().args(["--control-socket", ""]).start();
    assert!(!proxy.control_socket().exists());
    let scratch = Scratch::new();
    let file = scratch.write("off.toml", "[server]\ncontrol_socket = \"\"\n");
    let config = ["--config".as_ref(), file.as_os_str()];
    let exit = Proxy::bare().args(config).args(["status"]).run();
    assert_code(&exit, 1);
    assert!(exit.stderr.contains("turned off"), "{}", exit.stderr);
}

#[test]
fn without_a_flag_the_only_proxy_is_meant_and_several_are_named() {
    let scratch = Scratch::new();
    let dir = scratch.path("");
    let command = |args: &[&str]| {
        let command = Proxy::bare().env("XDG_RUNTIME_DIR", &dir);
        command.env("HOME", &dir).args(args).run()
    };
    let exit = command(&["status"]);
    assert_code(&exit, 1);
    assert!(
        exit.stderr.contains("no proxy is running"),
        "{}",
        exit.stderr
    );
    let start = || Proxy::command().env("XDG_RUNTIME_DIR", &dir).start();
    let first = start();
    assert_code(&command(&["status"]), 0);
    let second = start();
    let (one, two) = (first.address().port(), second.address().port());
    let exit = command(&["reload"]);
    assert_code(&exit, 1);
    for port in [one, two] {
        let name = format!("{port}.sock");
        assert!(exit.stderr.contains(&name), "{}", exit.stderr);
    }
    for port in [one, two] {
        let exit = command(&["--port", &port.to_string(), "status"]);
        assert_code(&exit, 0);
        assert!(exit.stdout.contains(&port.to_string()), "{}", exit.stdout);
        assert_code(&command(&["status", "--port", &port.to_string()]), 0);
    }
    let exit = command(&["status", "--port", "1"]);
    assert_code(&exit, 1);
    assert!(
        exit.stderr.contains("no proxy is running on port 1"),
        "{}",
        exit.stderr
    );
    // A socket that was left behind does not count.
    drop(second);
    assert_code(&command(&["status"]), 0);
}
