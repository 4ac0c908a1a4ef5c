//! `--takeover`: a new process serves in place of a running one, and no connection is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::Signal;

use crate::support::{Client, HANG, OK, Origin, Proxy, ProxyCommand, Scratch, get};

/// Proxies that follow one another at the same addresses.
struct Succession {
    scratch: Scratch,
    socket: PathBuf,
}

impl Succession {
    fn new() -> Self {
        let scratch = Scratch::new();
        let name = scratch.path("").file_name().map(PathBuf::from);
        // The path of a socket has at most 107 bytes.
        let socket = std::env::temp_dir().join(name.unwrap_or_default().with_extension("sock"));
        Self { scratch, socket }
    }

    /// The next one.
    fn command(&self) -> ProxyCommand {
        Proxy::command()
            .args([
                "--takeover".as_ref(),
                "--control-socket".as_ref(),
                self.socket.as_os_str(),
            ])
            .args(["--pid-file".as_ref(), self.pid_file().as_os_str()])
    }

    fn pid_file(&self) -> PathBuf {
        self.scratch.path("proxy.pid")
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.pid_file()).unwrap_or_default()
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.socket));
    }
}

/// A table for a listener on a Unix socket.
fn unix(path: &Path, mode: &str) -> String {
    format!(
        "[[listeners]]\npath = {:?}\nmode = \"{mode}\"\n",
        path.display().to_string()
    )
}

/// What became of requests.
#[derive(Default)]
struct Counts {
    sent: usize,
    answered: usize,
    /// Why others were not answered.
    lost: Vec<String>,
}

/// Clients that send one request after the other until they are told to stop.
struct Load {
    has_ended: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Counts>>,
}

impl Load {
    /// `fresh` clients with a connection for each request, and `kept` ones that reuse theirs.
    fn start(proxy: SocketAddr, origin: &Origin, fresh: usize, kept: usize) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let clients = (0..fresh + kept).map(|number| {
            let (has_ended, request) = (Arc::clone(&has_ended), get(origin, "/"));
            thread::spawn(move || {
                let mut counts = Counts::default();
                let mut connection = None;
                while !has_ended.load(Ordering::Relaxed) {
                    counts.sent += 1;
                    match ask(proxy, &mut connection, &request) {
                        Ok(()) => counts.answered += 1,
                        Err(error) => counts.lost.push(error.to_string()),
                    }
                    if number < fresh {
                        connection = None;
                    }
                }
                counts
            })
        });
        Self {
            clients: clients.collect(),
            has_ended,
        }
    }

    /// The counts of all clients.
    fn end(self) -> Counts {
        self.has_ended.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for client in self.clients {
            let mut counts = client.join().expect("a client does not panic");
            all.sent += counts.sent;
            all.answered += counts.answered;
            all.lost.append(&mut counts.lost);
        }
        all
    }
}

/// Sends a request and reads its answer, which the origin's length ends.
fn ask(
    proxy: SocketAddr,
    connection: &mut Option<TcpStream>,
    request: &str,
) -> std::io::Result<()> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(proxy)?,
    };
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    while !received.ends_with(b"origin-ok") {
        let mut part = [0; 1024];
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => received.extend_from_slice(&part[..len]),
        }
    }
    let text = String::from_utf8_lossy(&received);
    if !text.to_ascii_lowercase().contains("connection: close") {
        *connection = Some(stream);
    }
    Ok(())
}

#[test]
fn ten_takeovers_under_load_lose_no_request() {
    let origin = Origin::answering(OK);
    let succession = Succession::new();
    let mut proxy = succession.command().args(["--num-workers", "2"]).start();
    let address = proxy.address();
    proxy.wait_for_line("takeover: no proxy uses ");
    let load = Load::start(address, &origin, 3, 3);
    let mut old = Vec::new();
    for workers in ["1", "2", "3", "1", "4", "2", "2", "1", "3", "2"] {
        let next = succession
            .command()
            .args(["--num-workers", workers])
            .start();
        assert_eq!(next.address(), address);
        assert_eq!(succession.pid(), next.id().to_string());
        old.push(std::mem::replace(&mut proxy, next));
    }
    let Counts {
        sent,
        answered,
        lost,
    } = load.end();
    assert!(
        lost.is_empty(),
        "{} of {sent} requests: {lost:?}",
        lost.len()
    );
    assert_eq!(sent, answered);
    println!("{sent} requests were sent and answered");
    for old in old {
        old.wait_for_line("takeover: process ");
        let exit = old.wait();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", exit.stderr);
    }
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(succession.pid(), proxy.id().to_string());
    assert!(
        succession.socket.exists(),
        "the control socket is that of the last one"
    );
}

#[test]
fn what_is_open_lives_on_in_the_old_process() {
    let (echo, origin) = (Origin::echoing(), Origin::answering(OK));
    let succession = Succession::new();
    let old = succession.command().args(["--drain-timeout", "1m"]).start();
    let mut tunnel = old.tunnel(&echo);
    let mut kept = old.client();
    assert_eq!(kept.ask(get(&origin, "/")).status(), 200);
    let new = succession.command().start();
    old.wait_for_line("Still open: tunnel from ");
    tunnel.send("twelve bytes");
    assert_eq!(tunnel.read_exact(12), b"twelve bytes");
    // An idle connection may still send a request: it might have been on its way.
    let answer = kept.ask(get(&origin, "/"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    drop((tunnel, kept));
    let exit = old.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(new.get(&origin, "/").status(), 200);
}

#[test]
fn a_process_that_cannot_start_changes_nothing() {
    let origin = Origin::answering(OK);
    let succession = Succession::new();
    let proxy = succession.command().start();
    let exit = succession
        .command()
        .args(["--plugins", "/nonexistent.so"])
        .run();
    assert_eq!(exit.code, Some(78), "{}", exit.stderr);
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(succession.pid(), proxy.id().to_string());
}

#[test]
fn a_process_that_cannot_bind_a_further_listener_removes_no_file() {
    let origin = Origin::answering(OK);
    let succession = Succession::new();
    let (path, ports) = (
        succession.scratch.path("l.sock"),
        succession.scratch.path("ports"),
    );
    let command = || {
        let port_file = ["--port-file".as_ref(), ports.as_os_str()];
        succession
            .command()
            .args(port_file)
            .config(&unix(&path, "0600"))
    };
    let proxy = command().start();
    let written = fs::read_to_string(&ports).expect("the proxy writes its ports");
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = busy.local_addr().expect("it is bound").port();
    let further = format!("[[listeners]]\nhostname = \"127.0.0.1\"\nport = {port}\n");
    let exit = command().config(&further).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    assert_eq!(fs::read_to_string(&ports).ok(), Some(written.clone()));
    let next = command().start();
    drop(client);
    assert_eq!(proxy.wait().code, Some(0));
    assert_eq!(fs::read_to_string(&ports).ok(), Some(written));
    next.signal(Signal::TERM);
    assert_eq!(next.wait().code, Some(0));
    assert!(!path.exists() && !ports.exists() && !succession.socket.exists());
}

#[test]
fn a_unix_socket_gets_the_mode_of_the_new_configuration() {
    let succession = Succession::new();
    let path = succession.scratch.path("l.sock");
    let mode = || fs::metadata(&path).map(|file| file.permissions().mode() & 0o777);
    let command = |mode| succession.command().config(&unix(&path, mode));
    let old = command("0666").start();
    assert_eq!(mode().ok(), Some(0o666));
    let _new = command("0600").start();
    assert_eq!(mode().ok(), Some(0o600));
    assert_eq!(old.wait().code, Some(0));
}

#[test]
fn a_second_process_is_refused_while_one_takes_over() {
    let origin = Origin::answering(OK);
    let succession = Succession::new();
    let proxy = succession.command().start();
    let mut first = UnixStream::connect(&succession.socket).expect("the proxy accepts");
    first
        .write_all(b"{\"version\":1,\"command\":\"take_over\"}\n")
        .expect("it reads");
    first.read_exact(&mut [0; 10]).expect("it answers");
    let exit = succession.command().run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(
        exit.stderr.contains("another process is taking over now"),
        "{}",
        exit.stderr
    );
    drop(first);
    proxy.wait_for_line("did not begin to serve: this process goes on");
    let next = succession.command().start();
    assert_eq!(proxy.wait().code, Some(0));
    assert_eq!(next.get(&origin, "/").status(), 200);
}

#[cfg(target_os = "linux")]
#[test]
fn clients_of_the_control_socket_see_the_process_that_serves() {
    let succession = Succession::new();
    let served_by = || {
        let client = UnixStream::connect(&succession.socket).expect("the proxy accepts");
        let peer = rustix::net::sockopt::socket_peercred(&client).expect("it is a Unix socket");
        peer.pid.as_raw_nonzero().get().cast_unsigned()
    };
    let old = succession.command().start();
    assert_eq!(served_by(), old.id());
    let new = succession.command().start();
    assert_eq!(served_by(), new.id());
    assert_eq!(old.wait().code, Some(0));
}

#[test]
fn the_first_signal_to_a_replaced_process_closes_only_idle_connections() {
    let (echo, origin) = (Origin::echoing(), Origin::answering(OK));
    let succession = Succession::new();
    let old = succession.command().start();
    let mut tunnel = old.tunnel(&echo);
    let mut idle = old.client();
    assert_eq!(idle.ask(get(&origin, "/")).status(), 200);
    let _new = succession.command().start();
    old.wait_for_line("Still open: tunnel from ");
    old.signal(Signal::TERM);
    old.wait_for_line("SIGTERM: closing idle connections");
    idle.read_to_end();
    tunnel.send("twelve bytes");
    assert_eq!(tunnel.read_exact(12), b"twelve bytes");
    old.signal(Signal::TERM);
    old.wait_for_line("second SIGTERM: aborting open exchanges");
    assert_eq!(old.wait().code, Some(0));
}

#[test]
fn a_process_that_ends_before_it_serves_changes_nothing() {
    let origin = Origin::answering(OK);
    let succession = Succession::new();
    let proxy = succession.command().start();
    let mut new = UnixStream::connect(&succession.socket).expect("the proxy accepts");
    new.write_all(b"{\"version\":1,\"command\":\"take_over\"}\n")
        .expect("it reads");
    let mut begun = [0; 10];
    new.read_exact(&mut begun).expect("it answers");
    drop(new);
    let line = proxy.wait_for_line("did not begin to serve: this process goes on");
    assert!(
        line.contains(" - WARNING - takeover: process ") || line.contains("takeover: process "),
        "{line}"
    );
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    let next = succession.command().start();
    assert_eq!(proxy.wait().code, Some(0));
    assert_eq!(next.get(&origin, "/").status(), 200);
}

#[test]
fn messages_of_another_version_or_order_are_refused() {
    let succession = Succession::new();
    let _proxy = succession.command().start();
    for (request, reason) in [
        (
            "{\"version\":2,\"command\":\"take_over\"}",
            "speaks version 1",
        ),
        (
            "{\"version\":1,\"command\":\"taken_over\"}",
            "the sockets have not been requested",
        ),
    ] {
        let mut client = UnixStream::connect(&succession.socket).expect("the proxy accepts");
        client
            .write_all(format!("{request}\n").as_bytes())
            .expect("it reads");
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it answers");
        assert!(
            answer.contains("failed") && answer.contains(reason),
            "{answer}"
        );
    }
}

#[test]
fn a_proxy_that_is_shutting_down_is_not_replaced() {
    let origin = Origin::silent();
    let succession = Succession::new();
    let proxy = succession.command().start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    proxy.signal(Signal::TERM);
    proxy.wait_for_line("Draining for at most ");
    let exit = succession.command().run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(
        exit.stderr.contains("it is shutting down"),
        "{}",
        exit.stderr
    );
    proxy.signal(Signal::TERM);
    proxy.wait();
}
