//! While the proxy runs, the machine changes networks and its `/etc` files are edited, damaged or deleted.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::get;
use crate::support::namespace::has_own_machine;
use crate::support::{HANG, Manner, Message, NameServer, Origin, Proxy};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Name servers at 127.0.0.2 and 127.0.0.3, an origin, and a proxy with two workers.
struct Laptop {
    home: NameServer,
    office: NameServer,
    origin: Origin,
    proxy: Proxy,
    asked: usize,
}

impl Laptop {
    /// Starts with the `home` name server.
    fn new() -> Laptop {
        let home = NameServer::at("127.0.0.2:53", Manner::Knows);
        let office = NameServer::at("127.0.0.3:53", Manner::Silent);
        fs::write(HOSTS, "127.0.0.1 localhost\n").expect("an own /etc");
        fs::write(RESOLV_CONF, settings(2)).expect("an own /etc");
        Laptop {
            home,
            office,
            // A reused connection would not resolve the name.
            origin: Origin::answering(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            ),
            proxy: Proxy::command().args(["--num-workers", "2"]).start(),
            asked: 0,
        }
    }

    /// Sends a request for a name that has not been queried before.
    fn ask(&mut self) -> (String, Message) {
        self.asked += 1;
        let name = format!("name-{}.test", self.asked);
        let answer = self.ask_for(&name);
        (name, answer)
    }

    fn ask_for(&self, name: &str) -> Message {
        self.proxy.ask(get(name, self.origin.address().port()))
    }

    fn works(&mut self) {
        let (name, answer) = self.ask();
        assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
    }

    /// Retries with new names until one resolves, as a user would.
    fn works_soon(&mut self) {
        let deadline = Instant::now() + HANG;
        while self.ask().1.status() != 200 {
            assert!(Instant::now() < deadline, "names are not found any more");
        }
    }
}

/// A resolv.conf for the name server at 127.0.0.`last`.
fn settings(last: u8) -> String {
    format!("nameserver 127.0.0.{last}\noptions timeout:1 attempts:1\n")
}

#[test]
fn a_change_of_network_needs_no_restart() {
    if !has_own_machine("names::machines::a_change_of_network_needs_no_restart") {
        return;
    }
    let mut laptop = Laptop::new();
    laptop.works();
    // The network is down, and resolv.conf has not changed yet.
    laptop.home.treat(Manner::Silent);
    let (name, answer) = laptop.ask();
    assert_eq!(answer.status(), 504, "{name}");
    let failure = "name server 127.0.0.2:53 did not answer within 1 s";
    assert!(answer.text().contains(failure), "{}", answer.text());
    // The office has another name server; the file is replaced by a rename, as most programs do it.
    laptop.office.treat(Manner::Knows);
    fs::write("/etc/new", settings(3)).expect("an own /etc");
    fs::rename("/etc/new", RESOLV_CONF).expect("an own /etc");
    laptop.works_soon();
    // The failed name is queried again.
    assert_eq!(laptop.ask_for(&name).status(), 200);
    assert!(laptop.office.was_asked(&name));
    // Back home; the file is written in place.
    laptop.office.treat(Manner::Silent);
    laptop.home.treat(Manner::Knows);
    fs::write(RESOLV_CONF, settings(2)).expect("an own /etc");
    laptop.works_soon();
    // A symlink to a file elsewhere, as with systemd-resolved.
    laptop.home.treat(Manner::Silent);
    laptop.office.treat(Manner::Knows);
    fs::create_dir("/etc/run").expect("an own /etc");
    fs::write("/etc/run/stub.conf", settings(3)).expect("an own /etc");
    fs::remove_file(RESOLV_CONF).expect("an own /etc");
    symlink("run/stub.conf", RESOLV_CONF).expect("an own /etc");
    laptop.works_soon();
    let told = "name server configuration reloaded";
    laptop.proxy.wait_for_lines(told, 3);
}

#[test]
fn a_resolv_conf_that_cannot_be_used_changes_nothing() {
    if !has_own_machine("names::machines::a_resolv_conf_that_cannot_be_used_changes_nothing") {
        return;
    }
    let mut laptop = Laptop::new();
    let complaint = |reason: &str| format!("file=/etc/resolv.conf reason=\"{reason}");
    let bad: [(&str, &dyn Fn()); 5] = [
        ("it contains no name server", &|| {
            fs::write(RESOLV_CONF, "").expect("an own /etc");
        }),
        ("it is not a text file", &|| {
            let binary: Vec<u8> = (0..4096_u32).map(|at| (at * 7) as u8).collect();
            fs::write(RESOLV_CONF, binary).expect("an own /etc");
        }),
        ("it is longer than", &|| {
            let long = fs::File::create(RESOLV_CONF).expect("an own /etc");
            long.set_len(100 * 1024 * 1024).expect("an own /etc");
        }),
        ("No such file", &|| {
            fs::remove_file(RESOLV_CONF).expect("an own /etc");
        }),
        ("it is not a regular file", &|| {
            fs::create_dir(RESOLV_CONF).expect("an own /etc");
        }),
    ];
    for (reason, make) in bad {
        make();
        let deadline = Instant::now() + HANG;
        let is_told = |lines: &[String]| {
            let told = complaint(reason);
            lines.iter().filter(|line| line.contains(&told)).count()
        };
        while is_told(&laptop.proxy.lines()) == 0 {
            assert!(Instant::now() < deadline, "no word about {reason}");
            laptop.works();
        }
        laptop.works();
        assert_eq!(is_told(&laptop.proxy.lines()), 1, "{reason}");
    }
    fs::remove_dir(RESOLV_CONF).expect("an own /etc");
    // The file is rewritten continuously while the proxy reads it: two valid versions and an empty one.
    let is_over = AtomicBool::new(false);
    laptop.office.treat(Manner::Knows);
    thread::scope(|scope| {
        scope.spawn(|| {
            let contents = [settings(2), settings(3), String::new()];
            for content in contents.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(RESOLV_CONF, content).expect("an own /etc");
                fs::write("/etc/new", content).expect("an own /etc");
                fs::rename("/etc/new", RESOLV_CONF).expect("an own /etc");
            }
        });
        let told = |laptop: &Laptop| {
            let has_changed = |line: &&String| line.contains("name server configuration reloaded");
            laptop.proxy.lines().iter().filter(has_changed).count()
        };
        let deadline = Instant::now() + HANG;
        while told(&laptop) < 2 && Instant::now() < deadline {
            laptop.works();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    laptop.home.treat(Manner::Silent);
    fs::write(RESOLV_CONF, settings(3)).expect("an own /etc");
    laptop.works_soon();
}

#[test]
fn a_hosts_file_is_read_again_by_every_worker() {
    if !has_own_machine("names::machines::a_hosts_file_is_read_again_by_every_worker") {
        return;
    }
    let laptop = Laptop::new();
    laptop.home.treat(Manner::Code(super::NXDOMAIN));
    assert_eq!(laptop.ask_for("my_service").status(), 502);
    fs::write(HOSTS, "127.0.0.1\tlocalhost My_Service.\n").expect("an own /etc");
    let deadline = Instant::now() + HANG;
    // The kernel spreads connections over the workers; 20 successes in a row cover every worker.
    let mut found = 0;
    while found < 20 {
        assert!(Instant::now() < deadline, "the name is not found");
        found = match laptop.ask_for("my_service").status() {
            200 => found + 1,
            _ => 0,
        };
    }
    fs::write(HOSTS, "127.0.0.1 localhost\n").expect("an own /etc");
    while laptop.ask_for("my_service").status() == 200 {
        assert!(Instant::now() < deadline, "the name is still found");
    }
}

#[test]
fn a_final_dot_leaves_the_search_domains_out() {
    if !has_own_machine("names::machines::a_final_dot_leaves_the_search_domains_out") {
        return;
    }
    let laptop = Laptop::new();
    let search = format!("search corp.test\n{}", settings(2));
    fs::write(RESOLV_CONF, search).expect("an own /etc");
    let deadline = Instant::now() + HANG;
    while !laptop
        .proxy
        .lines()
        .iter()
        .any(|line| line.contains("name server configuration reloaded"))
    {
        assert!(Instant::now() < deadline, "the change is not seen");
        laptop.ask_for("a.test");
    }
    for (host, asked) in [
        ("whole.", "whole"),
        ("part", "part.corp.test"),
        ("part.", "part"),
    ] {
        assert_eq!(laptop.ask_for(host).status(), 200, "{host}");
        assert!(laptop.home.was_asked(asked), "{asked}");
    }
    assert!(!laptop.home.was_asked("whole.corp.test"));
}
