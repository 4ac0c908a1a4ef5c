//! Several listeners: further ports, Unix sockets, TLS and plugins of each, and reloads that add and remove them.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::tls::{Ask, Pki, Way};
use crate::support::{Client, OK, Origin, Proxy, ProxyCommand, Scratch, get, pattern, response};

/// The exit code for a system error.
const SYSTEM: i32 = 1;
/// The exit code for an invalid configuration.
const CONFIG: i32 = 78;

/// The addresses of all `count` listeners, once all are logged. A Unix socket has none.
fn addresses(proxy: &Proxy, count: usize) -> Vec<SocketAddr> {
    let started = " - Started server on ";
    proxy.wait_for_lines(started, count);
    let lines = proxy.lines();
    let written = lines.iter().filter_map(|line| line.split_once(started));
    let address = |(_, written): (&str, &str)| {
        let (ip, port) = written.split_whitespace().next()?.rsplit_once(':')?;
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    };
    written.filter_map(address).collect()
}

/// A table for a listener on a free port of 127.0.0.1, with further keys.
fn further(keys: &str) -> String {
    format!("[[listeners]]\nhostname = \"127.0.0.1\"\nport = 0\n{keys}\n")
}

/// A table for a listener on a Unix socket.
fn unix(path: &Path, keys: &str) -> String {
    format!(
        "[[listeners]]\npath = {:?}\n{keys}\n",
        path.display().to_string()
    )
}

/// An origin that replies with the field `x-added`.
fn telling_origin() -> Origin {
    Origin::replying(|request| {
        let added = request.field("x-added").unwrap_or_default();
        response("200 OK", &added).into_bytes()
    })
}

#[test]
fn a_unix_socket_serves_requests_and_tunnels() {
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let content = pattern(1 << 20);
    let (echoed, origin) = (content.clone(), Origin::answering(OK));
    let echo = Origin::echoing();
    let proxy = Proxy::command().config(&unix(&path, "")).start();
    proxy.wait_for_line(&format!("Started server on unix:{}", path.display()));
    let mut client = Client::connect_unix(&path);
    for _ in 0..2 {
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
    proxy.wait_for_line(" - 127.0.0.1:0 - GET ");
    let mut tunnel = Client::connect_unix(&path);
    let authority = echo.authority();
    tunnel.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(tunnel.response_to("CONNECT").status(), 200);
    tunnel.send(content);
    assert!(tunnel.read_exact(echoed.len()) == echoed);
}

#[test]
fn the_file_of_a_unix_socket_has_its_permissions_and_is_removed_at_the_end() {
    let scratch = Scratch::new();
    let (open, closed) = (scratch.path("open"), scratch.path("closed"));
    let proxy = Proxy::command()
        .config(&unix(&open, "mode = \"0666\""))
        .config(&unix(&closed, ""))
        .start();
    addresses(&proxy, 3);
    let mode = |path: &PathBuf| fs::metadata(path).map(|file| file.permissions().mode() & 0o777);
    assert_eq!(mode(&open).ok(), Some(0o666));
    assert_eq!(mode(&closed).ok(), Some(0o660));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
    assert!(!open.exists() && !closed.exists());
}

#[test]
fn a_unix_socket_of_a_running_proxy_is_refused_and_that_of_a_dead_one_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let command = || Proxy::command().config(&unix(&path, ""));
    let first = command().start();
    addresses(&first, 2);
    let second = command().run();
    assert_eq!(second.code, Some(SYSTEM));
    assert_eq!(
        second.stderr,
        format!(
            "proxy: cannot listen on the Unix socket {}: another process listens there; stop it, or use another path",
            path.display()
        )
    );
    Client::connect_unix(&path);
    first.signal(Signal::KILL);
    assert!(first.wait().signal.is_some() && path.exists());
    let third = command().start();
    addresses(&third, 2);
    let origin = Origin::answering(OK);
    assert_eq!(
        Client::connect_unix(&path).ask(get(&origin, "/")).status(),
        200
    );
}

#[test]
fn without_hostname_and_port_the_proxy_listens_only_where_the_tables_say() {
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let proxy = Proxy::bare()
        .args(["--num-workers", "2"])
        .config(&further(""))
        .config(&unix(&path, ""))
        .start();
    assert_eq!(addresses(&proxy, 2).len(), 1);
    let origin = Origin::answering(OK);
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(
        Client::connect_unix(&path).ask(get(&origin, "/")).status(),
        200
    );
}

#[test]
fn each_listener_has_its_own_tls() {
    let pki = Pki::new();
    let (cert, key) = pki.listener_files();
    let origin = Origin::answering(OK);
    let files = format!("cert_file = {cert:?}\nkey_file = {key:?}");
    let proxy = pki.relaying().config(&further(&files)).start();
    let all = addresses(&proxy, 2);
    assert_eq!(Client::connect(all[0]).ask(get(&origin, "/")).status(), 200);
    for way in [Way::Tls, Way::Http2] {
        let mut session = pki.client_at(all[1]).over(way).session();
        let received = session.ask(Ask::get(&origin.authority(), "/"));
        assert_eq!(received.told(), (200, "origin-ok".into()));
    }
    let refused = Client::connect(all[1]).ask(get(&origin, "/"));
    assert!(
        refused.text().contains("this port speaks TLS"),
        "{}",
        refused.text()
    );
}

#[test]
fn each_listener_has_its_own_plugins() {
    let origin = telling_origin();
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let proxy = Proxy::command()
        .plugin("zoo", "AddField")
        .plugin_config("AddField.name=x-added")
        .plugin_config("AddField.value=yes")
        .plugin("zoo", "Upper")
        .config(&further("plugins = [\"AddField\"]"))
        .config(&further("plugins = []"))
        .config(&unix(&path, "plugins = [\"Upper\"]"))
        .start();
    let all = addresses(&proxy, 4);
    let added = |client: &mut Client| client.ask(get(&origin, "/")).text();
    assert_eq!(added(&mut Client::connect(all[1])), "yes");
    assert_eq!(added(&mut Client::connect(all[2])), "");
    assert_eq!(added(&mut Client::connect_unix(&path)), "");
    assert_eq!(added(&mut Client::connect(all[0])), "YES");
}

#[test]
fn a_plugin_that_does_not_exist_is_a_problem_of_its_listener() {
    let exit = Proxy::command()
        .plugin("zoo", "AddField")
        .plugin_config("AddField.name=x-added")
        .plugin_config("AddField.value=yes")
        .config(&further("plugins = [\"Addfield\"]"))
        .check();
    assert_eq!(exit.code, Some(CONFIG));
    let expected = "proxy.toml:4:12: listeners[0].plugins[0]: `Addfield` is not a configured plugin; configured: AddField";
    assert!(exit.stderr.contains(expected), "{}", exit.stderr);
}

#[test]
fn a_port_in_use_names_the_listener_and_nothing_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let table = format!(
        "[[listeners]]\nhostname = \"127.0.0.1\"\nport = {}",
        address.port()
    );
    let exit = Proxy::command().config(&table).run();
    assert_eq!(exit.code, Some(SYSTEM));
    let expected = format!(
        "proxy.toml:1: cannot listen on {address}: Address already in use (os error 98); another process listens there: \
         stop it, or use another port"
    );
    assert!(exit.stderr.ends_with(&expected), "{}", exit.stderr);
    assert!(!exit.stdout.contains("Started server"));
}

#[test]
fn names_that_lead_to_one_address_are_refused() {
    let port = free_port();
    let table = |hostname| format!("[[listeners]]\nhostname = {hostname:?}\nport = {port}\n");
    // An address that only the resolver recognises.
    let exit = Proxy::bare()
        .config(&table("127.0.0.1"))
        .config(&table("127.1"))
        .run();
    assert_eq!(exit.code, Some(CONFIG), "{}", exit.stderr);
    let reason = format!("127.0.0.1:{port} is already an address of another listener (");
    assert!(exit.stderr.contains(&reason), "{}", exit.stderr);
}

#[test]
fn plugins_see_that_a_client_of_a_unix_socket_has_no_address() {
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let proxy = Proxy::command()
        .plugin("zoo", "Door")
        .plugin_config("Door.does=close")
        .config(&unix(&path, ""))
        .start();
    addresses(&proxy, 2);
    Client::connect_unix(&path).read_to_end();
    proxy.wait_for_line("door client=None local=None");
    proxy.client().read_to_end();
    proxy.wait_for_line("door client=Some(127.0.0.1:");
}

#[test]
fn the_port_file_has_the_ports_in_their_order_and_is_removed_at_the_end() {
    let changing = Changing::new();
    let (path, socket) = (changing.0.path("ports"), changing.0.path("proxy.sock"));
    let port = free_port();
    changing.set(&[unix(&socket, ""), on_port(port), further("")]);
    let proxy = changing
        .command()
        .args(["--port-file".as_ref(), path.as_os_str()])
        .start();
    let ports = |addresses: &[SocketAddr]| {
        let lines = addresses
            .iter()
            .map(|address| format!("{}\n", address.port()));
        lines.collect::<String>()
    };
    let all = addresses(&proxy, 4);
    assert_eq!(all[1].port(), port);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), ports(&all));
    changing.set(&[]);
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    assert_eq!(
        fs::read_to_string(&path).expect("it is there"),
        ports(&all[..1])
    );
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
    assert!(!path.exists());
}

#[test]
fn a_port_file_that_cannot_be_written_prevents_the_start() {
    let exit = Proxy::command()
        .args(["--port-file", "/nonexistent/ports"])
        .run();
    assert_eq!(exit.code, Some(SYSTEM));
    let reason = "proxy: port file /nonexistent/ports: No such file or directory (os error 2); specify another file with \
                  --port-file";
    assert_eq!(exit.stderr, reason);
}

/// A port that nobody uses at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A configuration file that changes while its proxy runs.
struct Changing(Scratch);

impl Changing {
    fn new() -> Self {
        Self(Scratch::new())
    }

    /// From the next reload on, there are these listeners besides the first one.
    fn set(&self, tables: &[String]) {
        self.0.write("changing.toml", tables.join("\n"));
    }

    fn command(&self) -> ProxyCommand {
        Proxy::command().args([
            "--config".as_ref(),
            self.0.path("changing.toml").as_os_str(),
        ])
    }
}

/// A table for a listener on this port.
fn on_port(port: u16) -> String {
    format!("[[listeners]]\nhostname = \"127.0.0.1\"\nport = {port}\n")
}

#[test]
fn a_reload_adds_and_removes_listeners_without_closing_the_others() {
    let changing = Changing::new();
    let (one, two) = (free_port(), free_port());
    let path = changing.0.path("proxy.sock");
    changing.set(&[on_port(one)]);
    let origin = Origin::answering(OK);
    let proxy = changing.command().start();
    let mut kept = proxy.client();
    let mut removed = Client::connect(([127, 0, 0, 1], one).into());
    for client in [&mut kept, &mut removed] {
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
    changing.set(&[on_port(two), unix(&path, "")]);
    proxy.signal(Signal::HUP);
    proxy.wait_for_line(&format!("listening on 127.0.0.1:{two}"));
    proxy.wait_for_line(&format!("no longer listening on 127.0.0.1:{one}"));
    proxy.wait_for_line("generation 2 is active");
    let mut added = Client::connect(([127, 0, 0, 1], two).into());
    assert_eq!(added.ask(get(&origin, "/")).status(), 200);
    assert_eq!(
        Client::connect_unix(&path).ask(get(&origin, "/")).status(),
        200
    );
    assert_eq!(kept.ask(get(&origin, "/")).status(), 200);
    // It was idle.
    removed.read_to_end();
    assert!(TcpStream::connect(("127.0.0.1", one)).is_err());
    drop((kept, added));
    proxy.wait_for_line("generation 1 has ended");
    changing.set(&[]);
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 3 is active");
    assert!(!path.exists() && TcpStream::connect(("127.0.0.1", two)).is_err());
}

#[test]
fn an_exchange_of_a_removed_listener_finishes_and_is_the_last_of_its_connection() {
    let changing = Changing::new();
    let port = free_port();
    changing.set(&[on_port(port)]);
    let may_answer = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&may_answer);
    let origin = Origin::replying(move |_| {
        while !answers.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        OK.into()
    });
    let proxy = changing.command().start();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send(get(&origin, "/"));
    origin.wait_for(b"\r\n\r\n");
    changing.set(&[]);
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    may_answer.store(true, Ordering::SeqCst);
    let answer = client.response();
    assert_eq!(
        (answer.status(), answer.field("Connection").as_deref()),
        (200, Some("close"))
    );
    client.read_to_end();
    proxy.wait_for_line("generation 1 has ended");
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let changing = Changing::new();
    let (one, free) = (free_port(), free_port());
    changing.set(&[on_port(one)]);
    let proxy = changing.command().start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_port = taken.local_addr().expect("an address").port();
    changing.set(&[on_port(free), on_port(taken_port)]);
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    let reason = format!("cannot listen on 127.0.0.1:{taken_port}: Address already in use");
    assert!(line.contains(&reason), "{line}");
    let origin = Origin::answering(OK);
    let mut client = Client::connect(([127, 0, 0, 1], one).into());
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    assert!(TcpStream::connect(("127.0.0.1", free)).is_err());
}

#[test]
fn a_reload_replaces_an_address_by_one_that_includes_it() {
    let changing = Changing::new();
    let port = free_port();
    changing.set(&[on_port(port)]);
    let origin = Origin::answering(OK);
    let proxy = changing.command().start();
    changing.set(&[on_port(port).replace("127.0.0.1", "0.0.0.0")]);
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    let mut client = Client::connect(([127, 0, 0, 2], port).into());
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
}

/// Sets a flag when it is dropped, also by a panic.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends requests until `over`, over one connection or over one for each; returns how many, and how many were answered.
fn load(proxy: &Proxy, origin: &Origin, keeps_alive: bool, over: &AtomicBool) -> [usize; 2] {
    let mut client = proxy.client();
    let [mut sent, mut answered] = [0, 0];
    while !over.load(Ordering::SeqCst) {
        if !keeps_alive {
            client = proxy.client();
        }
        sent += 1;
        answered += usize::from(client.ask(get(origin, "/")).status() == 200);
    }
    [sent, answered]
}

#[test]
fn no_request_is_lost_while_listeners_come_and_go() {
    let changing = Changing::new();
    let port = free_port();
    changing.set(&[]);
    let origin = Origin::answering(OK);
    let proxy = changing
        .command()
        .args(["--num-workers", "2", "--log-level", "info"])
        .start();
    let over = AtomicBool::new(false);
    let counts = thread::scope(|scope| {
        let _end = SetAtEnd(&over);
        let clients = [true, true, false, false].map(|keeps_alive| {
            scope.spawn({
                let (proxy, origin, over) = (&proxy, &origin, &over);
                move || load(proxy, origin, keeps_alive, over)
            })
        });
        for reload in 0..20 {
            let is_there = reload % 2 == 0;
            changing.set(&if is_there {
                vec![on_port(port)]
            } else {
                Vec::new()
            });
            proxy.signal(Signal::HUP);
            proxy.wait_for_line(&format!("generation {} is active", reload + 2));
            assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), is_there);
        }
        over.store(true, Ordering::SeqCst);
        clients.map(|client| client.join().expect("no client fails"))
    });
    for [sent, answered] in counts {
        assert!(sent > 0 && sent == answered, "{counts:?}");
    }
}
