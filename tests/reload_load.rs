//! Reloads under load: every request is answered, and what is open lives on.
//!
//! `PROXY_TEST_RELOADS=1000,500,100,20` sets how many reloads change nothing, change the configuration of a plugin, are
//! given a broken file, and change the library; the test prints what it has counted with `--nocapture`.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{
    Client, HANG, Origin, Proxy, Scratch, get, plugin_library, request, response,
};

/// Reloads before memory and descriptors are compared.
const WARM_UP: u32 = 10;

/// How much more memory may be resident at the end, in KiB: statistics of ended instances, and fragmentation.
const MAX_GROWTH_KIB: u64 = 8 * 1024;

/// How many reloads of each kind.
struct Counts {
    unchanged: u32,
    changed: u32,
    broken: u32,
    libraries: u32,
}

impl Counts {
    fn wanted() -> Self {
        let wanted = env::var("PROXY_TEST_RELOADS").unwrap_or_else(|_| "50,25,10,2".to_owned());
        let numbers: Vec<u32> = wanted
            .split(',')
            .map(|number| number.parse().expect("PROXY_TEST_RELOADS has numbers"))
            .collect();
        let [unchanged, changed, broken, libraries] = numbers[..] else {
            panic!("PROXY_TEST_RELOADS has four numbers, not {wanted}");
        };
        Self {
            unchanged,
            changed,
            broken,
            libraries,
        }
    }
}

/// Clients that request all the time.
struct Load {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Half of the clients keep their connection; the others connect for each request.
    fn start(proxy: &Proxy, origin: &Origin) -> Self {
        let mut load = Self {
            is_over: Arc::default(),
            sent: Arc::default(),
            answered: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..4 {
            let (address, message) = (proxy.address(), get(origin, "/"));
            let is_over = Arc::clone(&load.is_over);
            let (sent, answered) = (Arc::clone(&load.sent), Arc::clone(&load.answered));
            load.clients.push(thread::spawn(move || {
                let mut client = Client::connect(address);
                while !is_over.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        client = Client::connect(address);
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    let answer = client.ask(&message);
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    assert!(answer.text().starts_with('v'), "{}", answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until further requests have been answered.
    fn wait_for_answers(&self) {
        let (before, deadline) = (self.answered.load(Ordering::Relaxed), Instant::now() + HANG);
        while self.answered.load(Ordering::Relaxed) < before + 2 {
            assert!(Instant::now() < deadline, "hang: no answers");
            thread::yield_now();
        }
    }

    /// The numbers of requests that were sent and answered.
    fn end(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client
                .join()
                .expect("every request of a client is answered");
        }
        (
            self.sent.load(Ordering::Relaxed),
            self.answered.load(Ordering::Relaxed),
        )
    }
}

/// A client of the control socket that reloads again and again.
struct Control(BufReader<UnixStream>);

impl Control {
    fn connect(proxy: &Proxy) -> Self {
        let stream = UnixStream::connect(proxy.control_socket()).expect("there is a socket");
        let limit = Some(6 * HANG);
        stream.set_read_timeout(limit).expect("a limit is set");
        Self(BufReader::new(stream))
    }

    /// The last line of the answer.
    fn order(&mut self, command: &str) -> String {
        let line = format!("{{\"version\":1,\"command\":\"{command}\"}}\n");
        let stream = self.0.get_mut();
        stream.write_all(line.as_bytes()).expect("the proxy reads");
        loop {
            let mut answer = String::new();
            self.0.read_line(&mut answer).expect("the proxy answers");
            if !answer.contains("\"progress\"") {
                return answer;
            }
        }
    }

    #[track_caller]
    fn reload(&mut self) {
        let answer = self.order("reload");
        assert!(answer.contains("\"done\":\"generation "), "{answer}");
    }

    #[track_caller]
    fn fail_to_reload(&mut self) {
        let answer = self.order("reload");
        assert!(answer.contains("remains active"), "{answer}");
    }
}

/// The files that reloads read.
struct Files {
    scratch: Scratch,
    library: PathBuf,
}

impl Files {
    fn new() -> Self {
        let scratch = Scratch::new();
        let library = scratch.path("libzoo.so");
        fs::copy(plugin_library("zoo"), &library).expect("a scratch file is ours");
        let files = Self { scratch, library };
        files.configure(0);
        files
    }

    fn configure(&self, number: u32) {
        let library = self.library.display().to_string();
        self.scratch.write(
            "load.toml",
            format!(
                "[[plugins]]\nlibrary = {library:?}\nname = \"AddField\"\nconfig = {{ name = \"x-added\", value = \"v{number}\" }}\n"
            ),
        );
    }

    fn break_configuration(&self) {
        self.scratch
            .write("load.toml", "[[plugins]]\nlibrary = \"libz");
    }

    /// Bytes behind the end of a library change nothing but its digest.
    fn change_library(&self) {
        let mut library = OpenOptions::new()
            .append(true)
            .open(&self.library)
            .expect("a scratch file is ours");
        library.write_all(b"x").expect("a scratch file is ours");
    }

    fn start(&self) -> Proxy {
        let file = self.scratch.path("load.toml");
        // Resident is what is in use: glibc returns what is freed, rather than keep it for each thread.
        Proxy::command()
            .env("MALLOC_ARENA_MAX", "1")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            .args(["--num-workers", "2"])
            .args(["--config".as_ref(), file.as_os_str()])
            .start()
    }
}

/// A WebSocket to an origin that sends back every byte after its handshake.
fn websocket(proxy: &Proxy, origin: &Origin) -> Client {
    let mut client = proxy.client();
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(request("GET", origin, "/", fields));
    assert_eq!(client.response_to("GET").status(), 101);
    client
}

fn echoing_websocket() -> Origin {
    Origin::serve(|peer| {
        let accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        if peer.head().is_some() && peer.send(accepted) {
            while peer.take(1).is_some_and(|byte| peer.send(byte)) {}
        }
    })
}

fn ping(client: &mut Client, number: u32) {
    let text = format!("<{number}>");
    client.send(&text);
    client.read_until(text.as_bytes());
}

#[test]
fn reloads_under_load_lose_nothing() {
    let counts = Counts::wanted();
    let files = Files::new();
    let origin = Origin::replying(|request| {
        let added = request.field("x-added").unwrap_or_default();
        response("200 OK", &added).into_bytes()
    });
    let (echo, sockets) = (Origin::echoing(), echoing_websocket());
    let proxy = files.start();
    let (mut tunnel, mut socket) = (proxy.tunnel(&echo), websocket(&proxy, &sockets));
    let mut control = Control::connect(&proxy);
    let load = Load::start(&proxy, &origin);
    for _ in 0..WARM_UP {
        load.wait_for_answers();
        control.reload();
    }
    let before = (proxy.resident_kib(), proxy.open_files());
    let began_at = Instant::now();
    for number in 0..counts.unchanged {
        load.wait_for_answers();
        control.reload();
        ping(&mut tunnel, number);
        ping(&mut socket, number);
    }
    for number in 0..counts.changed {
        files.configure(number + 1);
        load.wait_for_answers();
        control.reload();
        ping(&mut tunnel, number);
        ping(&mut socket, number);
    }
    files.break_configuration();
    for number in 0..counts.broken {
        load.wait_for_answers();
        control.fail_to_reload();
        ping(&mut tunnel, number);
        ping(&mut socket, number);
    }
    let after = (proxy.resident_kib(), proxy.open_files());
    for number in 0..counts.libraries {
        files.change_library();
        files.configure(number);
        load.wait_for_answers();
        control.reload();
        ping(&mut tunnel, number);
    }
    let with_libraries = (proxy.resident_kib(), proxy.open_files());
    let elapsed = began_at.elapsed();
    let (sent, answered) = load.end();
    println!(
        "{} + {} reloads, {} refused, {} libraries in {elapsed:.1?}: {sent} sent, {answered} answered; \
         KiB and descriptors: {before:?}, then {after:?}, with libraries {with_libraries:?}",
        counts.unchanged, counts.changed, counts.broken, counts.libraries
    );
    assert_eq!(sent, answered);
    assert!(after.0 < before.0 + MAX_GROWTH_KIB, "{before:?}, {after:?}");
    // The tunnel and the WebSocket use the first generation; the others end.
    let deadline = Instant::now() + HANG;
    while !control.order("status").contains("\"replaced\":[1],") {
        assert!(Instant::now() < deadline, "{}", control.order("status"));
        thread::sleep(Duration::from_millis(50));
    }
    ping(&mut tunnel, 0);
    ping(&mut socket, 0);
    drop((tunnel, socket));
    while !control.order("status").contains("\"replaced\":[],") {
        assert!(Instant::now() < deadline, "{}", control.order("status"));
        thread::sleep(Duration::from_millis(50));
    }
    // Each library that was loaded keeps one.
    let most = before.1 + 4 + counts.libraries as usize;
    assert!(proxy.wait_for_open_files(most) <= most, "{before:?}");
}
