//! Names: fixed addresses, the hosts file, queries to name servers, and their failures.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::interception::fixtures::Dir;
use crate::upstream::tests::on_worker;

const HOSTS: &str = "\
127.0.0.9   localhost
192.0.2.1   four.test Alias.Test # a comment
192.0.2.2   both.test my_service
2001:db8::2 both.test
2001:db8::3 six.test
";

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// How a name server treats a question.
#[derive(Clone, Copy)]
enum Manner {
    /// 192.0.2.99, and no IPv6 address.
    Known,
    /// Neither family.
    Empty,
    /// This response code.
    Code(u8),
    Silent,
    /// 200 addresses, which are too long for UDP.
    TooLong,
}

/// A name server on the loopback, and the names that it was asked for, each once.
struct NameServer {
    address: SocketAddr,
    asked: Rc<RefCell<Vec<String>>>,
    manner: Rc<Cell<Manner>>,
    /// By name, where that is not `manner`.
    manners: Rc<RefCell<Vec<(&'static str, Manner)>>>,
}

impl NameServer {
    async fn start(manner: Manner) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            asked: Rc::default(),
            manner: Rc::new(Cell::new(manner)),
            manners: Rc::default(),
        };
        let this = server.share();
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 512];
            while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
                if let Some(message) = this.answer(&buffer[..len], Manner::TooLong) {
                    socket.send_to(&message, client).await.unwrap();
                }
            }
        });
        server
    }

    /// Answers over TCP as well.
    async fn and_tcp(self) -> Self {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let this = self.share();
        tokio::task::spawn_local(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                while let Ok(len) = socket.read_u16().await {
                    let mut message = vec![0; len.into()];
                    socket.read_exact(&mut message).await.unwrap();
                    let message = this.answer(&message, Manner::Known).unwrap();
                    socket.write_u16(message.len() as u16).await.unwrap();
                    socket.write_all(&message).await.unwrap();
                }
            }
        });
        self
    }

    fn share(&self) -> Self {
        Self {
            address: self.address,
            asked: Rc::clone(&self.asked),
            manner: Rc::clone(&self.manner),
            manners: Rc::clone(&self.manners),
        }
    }

    fn treats(&self, name: &'static str, manner: Manner) {
        self.manners.borrow_mut().push((name, manner));
    }

    fn answer(&self, query: &[u8], too_long: Manner) -> Option<Vec<u8>> {
        let (name, end) = question(query);
        let manners = self.manners.borrow();
        let own = manners.iter().find(|(own, _)| *own == name);
        let manner = own.map_or(self.manner.get(), |(_, manner)| *manner);
        if !self.asked.borrow().contains(&name) {
            self.asked.borrow_mut().push(name);
        }
        let is_cut = matches!((manner, too_long), (Manner::TooLong, Manner::TooLong));
        let wants_v4 = query[end - 4..end - 2] == [0, 1];
        let (count, code) = match manner {
            Manner::Silent => return None,
            Manner::Known => (u8::from(wants_v4), 0),
            Manner::TooLong if wants_v4 && !is_cut => (200, 0),
            Manner::Empty | Manner::TooLong => (0, 0),
            Manner::Code(code) => (0, code),
        };
        let mut message = query[..end].to_vec();
        // A response to one question, and an answer if there is one (RFC 1035 §4.1.1).
        let cut = u8::from(is_cut) * 2;
        message[2..12].copy_from_slice(&[0x81 | cut, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        for number in 0..count {
            let last = 99_u8.wrapping_add(number);
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        }
        Some(message)
    }

    fn settings(&self) -> Settings {
        Settings::of_servers(&[self.address])
    }
}

/// The name that is asked for, and where the question ends.
fn question(message: &[u8]) -> (String, usize) {
    let (mut name, mut at) = (String::new(), 12);
    while message[at] > 0 {
        let end = at + 1 + usize::from(message[at]);
        name += &String::from_utf8_lossy(&message[at + 1..end]);
        name.push('.');
        at = end;
    }
    (name, at + 5)
}

/// A directory with files, and what reads them.
struct Machine {
    dir: Dir,
    files: Arc<NameFiles>,
    config: DnsConfig,
}

impl Machine {
    /// Its files are looked at before each look-up.
    fn new(config: DnsConfig, hosts: &str, resolv_conf: &str) -> Self {
        let dir = Dir::new("names");
        dir.file("hosts", hosts);
        dir.file("resolv.conf", resolv_conf);
        let path = |name| dir.path().join(name);
        let files = NameFiles::at(&config, path("hosts"), path("resolv.conf"), Duration::ZERO);
        Self {
            files: Arc::new(files),
            dir,
            config,
        }
    }

    fn asking(servers: &[&NameServer]) -> Self {
        let config = DnsConfig {
            servers: servers.iter().map(|server| server.address).collect(),
            ..DnsConfig::default()
        };
        Self::new(config, HOSTS, "")
    }

    fn resolver(&self) -> Resolver {
        self.hasty(Duration::from_secs(9))
    }

    /// With such a limit for a whole connection.
    fn hasty(&self, connect_limit: Duration) -> Resolver {
        Resolver::new(&self.config, connect_limit, &self.files).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The name servers after another look at the files.
    async fn servers(&self) -> Vec<String> {
        self.files.refresh().await;
        let settings = self.files.known().settings.unwrap();
        settings
            .servers
            .iter()
            .map(|at| at.ip().to_string())
            .collect()
    }
}

/// The addresses of both families.
async fn look_up(resolver: &Resolver, name: &str) -> [String; 2] {
    resolver.refresh().await;
    let mut found = [String::new(), String::new()];
    for (found, family) in found.iter_mut().zip([Family::V4, Family::V6]) {
        *found = match resolver.lookup(name, false, family).await {
            Ok(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                addresses.join(" ")
            }
            Err(ResolveError::NoAddress) => String::new(),
            Err(error) => panic!("{name}: {error}"),
        };
    }
    found
}

async fn failure(resolver: &Resolver, name: &str) -> ResolveError {
    resolver.lookup(name, false, Family::V4).await.unwrap_err()
}

// ---- answered without a query ------------------------------------------------------------------------------------

#[test]
fn names_in_the_hosts_file_are_not_queried_in_either_family() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let resolver = Machine::asking(&[&server]).resolver();
        for (name, v4, v6) in [
            ("four.test", "192.0.2.1", ""),
            ("four.test.", "192.0.2.1", ""),
            ("alias.test", "192.0.2.1", ""),
            ("six.test", "", "2001:db8::3"),
            ("both.test", "192.0.2.2", "2001:db8::2"),
            ("my_service", "192.0.2.2", ""),
        ] {
            assert_eq!(look_up(&resolver, name).await, [v4, v6], "{name}");
        }
        assert_eq!(*server.asked.borrow(), [""; 0]);
    });
}

#[test]
fn localhost_is_always_both_loopbacks() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let machine = Machine::asking(&[&server]);
        let resolver = machine.resolver();
        for name in ["localhost", "localhost.", "app.localhost", "a.b.localhost"] {
            let found = look_up(&resolver, name).await;
            assert_eq!(found, ["127.0.0.1", "::1"], "{name}");
        }
        assert_eq!(*server.asked.borrow(), [""; 0]);
        assert_eq!(look_up(&resolver, "notlocalhost").await[0], "192.0.2.99");
        let system = DnsConfig {
            resolver: ResolverKind::System,
            ..DnsConfig::default()
        };
        let system = Machine::new(system, "", "").resolver();
        assert_eq!(look_up(&system, "x.localhost").await, ["127.0.0.1", "::1"]);
    });
}

// ---- queries ------------------------------------------------------------------------------------------------------

#[test]
fn other_names_are_queried_in_both_families() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let resolver = Machine::asking(&[&server]).resolver();
        for _ in 0..2 {
            let found = look_up(&resolver, "www.four.test").await;
            assert_eq!(found, ["192.0.2.99", ""]);
        }
        assert_eq!(*server.asked.borrow(), ["www.four.test."]);
    });
}

#[test]
fn any_valid_dns_name_is_queried_unchanged() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let resolver = Machine::asking(&[&server]).resolver();
        let long_label = "l".repeat(63);
        let long_name = format!("{0}.{0}.{0}.{1}", long_label, "n".repeat(61));
        assert_eq!(long_name.len(), 253);
        for name in [
            "a_b.test",
            "_x",
            "x_.test",
            "-app.test",
            "app-.test",
            "a--b.test",
            "xn--0.test",
            "xn--zzzzzzzz.test",
            "xn--.test",
            "host.docker.internal",
            "1a.test",
            &format!("{long_label}.test"),
            &long_name,
        ] {
            server.asked.borrow_mut().clear();
            assert_eq!(look_up(&resolver, name).await, ["192.0.2.99", ""], "{name}");
            assert_eq!(*server.asked.borrow(), [format!("{name}.")]);
        }
        server.asked.borrow_mut().clear();
        for (name, error) in [
            (format!("{long_label}l.test"), ResolveError::LabelTooLong),
            (format!("{long_name}n"), ResolveError::NameTooLong),
            ("a..b".to_owned(), ResolveError::NameInvalid),
        ] {
            assert_eq!(failure(&resolver, &name).await, error, "{name}");
        }
        assert_eq!(*server.asked.borrow(), [""; 0]);
    });
}

#[test]
fn search_domains_are_tried_by_the_number_of_dots() {
    on_worker(async {
        for (ndots, name, known, is_found, asked) in [
            (1, "x", "", false, &["x.a.test.", "x.b_c.test.", "x."][..]),
            (1, "x", "x.a.test.", true, &["x.a.test."]),
            (
                1,
                "x.y",
                "",
                false,
                &["x.y.", "x.y.a.test.", "x.y.b_c.test."],
            ),
            (
                5,
                "x.y",
                "x.y.b_c.test.",
                true,
                &["x.y.a.test.", "x.y.b_c.test."],
            ),
            (5, "x.y.", "x.y.", true, &["x.y."]),
            (0, "x", "x.", true, &["x."]),
        ] {
            let server = NameServer::start(Manner::Code(NXDOMAIN)).await;
            server.treats(known, Manner::Known);
            let servers = NameServers::new(Settings {
                search: vec!["a.test".to_owned(), "b_c.test.".to_owned()],
                ndots,
                ..server.settings()
            })
            .unwrap();
            let (host, is_absolute) = match name.strip_suffix('.') {
                Some(host) => (host, true),
                None => (name, false),
            };
            let (found, _) = servers.look_up(host, is_absolute, Family::V4, LIMIT).await;
            assert_eq!(found.is_ok(), is_found, "{name} {ndots}: {found:?}");
            assert_eq!(*server.asked.borrow(), asked, "{name} {ndots}");
        }
    });
}

#[test]
fn a_name_with_another_family_ends_the_search() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        server.treats("x.a.test.", Manner::Empty);
        let search = |domains: &[&str]| {
            NameServers::new(Settings {
                search: domains.iter().map(|domain| (*domain).to_owned()).collect(),
                ..server.settings()
            })
            .unwrap()
        };
        let servers = search(&["b.test", "c.test"]);
        let (found, _) = servers.look_up("x", false, Family::V6, LIMIT).await;
        assert_eq!(found, Err(ResolveError::NoAddress));
        assert_eq!(*server.asked.borrow(), ["x.b.test."]);
        // Without an address of either family the next domain counts.
        let servers = search(&["a.test", "b.test"]);
        assert!(
            servers
                .look_up("x", false, Family::V4, LIMIT)
                .await
                .0
                .is_ok()
        );
    });
}

#[test]
fn an_answer_that_is_too_long_for_udp_is_queried_over_tcp() {
    on_worker(async {
        let server = NameServer::start(Manner::TooLong).await.and_tcp().await;
        let resolver = Machine::asking(&[&server]).resolver();
        let [v4, v6] = look_up(&resolver, "a.test").await;
        assert!(v4.starts_with("192.0.2.99 192.0.2.100 "), "{v4}");
        assert_eq!(
            v4.split(' ').count(),
            MAX_ADDRESSES,
            "the others are left out"
        );
        assert_eq!(v6, "");
    });
}

// ---- how it fails ------------------------------------------------------------------------------------------------

#[test]
fn a_missing_name_differs_from_one_without_addresses() {
    on_worker(async {
        let server = NameServer::start(Manner::Code(NXDOMAIN)).await;
        server.treats("empty.test.", Manner::Empty);
        let resolver = Machine::asking(&[&server]).resolver();
        assert_eq!(
            failure(&resolver, "no.test").await,
            ResolveError::NoSuchHost
        );
        assert_eq!(
            failure(&resolver, "empty.test").await,
            ResolveError::NoAddress
        );
    });
}

#[test]
fn a_failure_names_each_server_and_its_error() {
    on_worker(async {
        let silent = NameServer::start(Manner::Silent).await;
        let failing = NameServer::start(Manner::Code(SERVFAIL)).await;
        let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gone = closed.local_addr().unwrap();
        drop(closed);
        let mut machine = Machine::asking(&[&failing, &silent]);
        machine.config.servers.push(gone);
        let resolver = machine.hasty(Duration::from_secs(2));
        let error = failure(&resolver, "a.test").await;
        assert!(error.is_late());
        let text = error.to_string();
        for part in [
            "DNS failed: ".to_owned(),
            format!("name server {} answered SERVFAIL", failing.address),
            format!("name server {} did not answer within 1.8 s", silent.address),
            format!("name server {gone} cannot be reached: "),
        ] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        machine.config.servers = vec![gone];
        let resolver = machine.resolver();
        assert!(!failure(&resolver, "a.test").await.is_late());
    });
}

#[test]
fn another_server_answers_if_one_is_silent_or_fails() {
    on_worker(async {
        for manner in [Manner::Silent, Manner::Code(SERVFAIL), Manner::Code(5)] {
            let (bad, good) = (
                NameServer::start(manner).await,
                NameServer::start(Manner::Known).await,
            );
            let resolver = Machine::asking(&[&bad, &good]).resolver();
            for name in ["a.test", "b.test"] {
                assert_eq!(look_up(&resolver, name).await[0], "192.0.2.99");
            }
            // Once is enough to know whom to begin with.
            assert_eq!(*bad.asked.borrow(), ["a.test."]);
        }
    });
}

#[test]
fn a_negative_answer_waits_for_earlier_servers() {
    on_worker(async {
        let slow = NameServer::start(Manner::Silent).await;
        let other = NameServer::start(Manner::Code(NXDOMAIN)).await;
        let resolver = Machine::asking(&[&slow, &other]).resolver();
        let changed = async {
            while other.asked.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            slow.manner.set(Manner::Known);
        };
        let (found, ()) = tokio::join!(resolver.lookup("a.test", false, Family::V4), changed);
        assert!(found.is_ok(), "{found:?}");
    });
}

#[test]
fn failures_of_servers_are_not_cached_for_long() {
    on_worker(async {
        let server = NameServer::start(Manner::Silent).await;
        let mut machine = Machine::asking(&[&server]);
        machine.config.negative_ttl = Duration::from_secs(3600);
        let resolver = machine.hasty(Duration::from_millis(200));
        assert!(failure(&resolver, "a.test").await.is_late());
        server.manner.set(Manner::Known);
        // It is, for a second: what has failed for everybody fails at once for those who come meanwhile.
        while resolver.lookup("a.test", false, Family::V4).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn one_reason_is_selected_from_both_families() {
    use ResolveError::*;
    let late = SystemTimedOut(Duration::ZERO);
    for (v4, v6, both) in [
        (NoSuchHost, NoSuchHost, NoSuchHost),
        (NoSuchHost, late.clone(), NoSuchHost),
        (NoAddress, NoSuchHost, NoAddress),
        (NoAddress, NoAddress, NoAddress),
        (NoAddress, late.clone(), late.clone()),
        (late.clone(), NoSuchHost, late.clone()),
        (late.clone(), NoAddress, late.clone()),
    ] {
        assert_eq!(ResolveError::of_both(v4, v6), both);
    }
}

#[test]
fn errors_of_getaddrinfo_are_distinguished() {
    let said = |text: &str| system_error(&format!("failed to lookup address information: {text}"));
    assert_eq!(said("Name or service not known"), ResolveError::NoSuchHost);
    assert_eq!(said("Name does not resolve"), ResolveError::NoSuchHost);
    assert_eq!(
        said("No address associated with hostname"),
        ResolveError::NoAddress
    );
    assert_eq!(
        said("Temporary failure in name resolution").to_string(),
        "the system resolver failed: Temporary failure in name resolution"
    );
}

// ---- files that change -------------------------------------------------------------------------------------------

const RESOLV_CONF: &str = "nameserver 192.0.2.53\n";

fn laptop() -> Machine {
    Machine::new(DnsConfig::default(), HOSTS, RESOLV_CONF)
}

#[test]
fn a_changed_hosts_file_applies_to_the_next_look_up() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let machine = Machine::asking(&[&server]);
        let (one, two) = (machine.resolver(), machine.resolver());
        assert_eq!(look_up(&one, "four.test").await[0], "192.0.2.1");
        assert_eq!(look_up(&one, "new.test").await[0], "192.0.2.99");
        // In place, of the same length, and at once.
        let hosts = machine.path("hosts");
        fs::write(&hosts, HOSTS.replace("192.0.2.1 ", "192.0.2.7 ")).unwrap();
        assert_eq!(look_up(&one, "four.test").await[0], "192.0.2.7");
        // Earlier answers of name servers are discarded as well.
        let other = machine.path("other");
        fs::write(&other, "192.0.2.8 new.test\n").unwrap();
        fs::rename(&other, &hosts).unwrap();
        for resolver in [&one, &two] {
            assert_eq!(look_up(resolver, "new.test").await[0], "192.0.2.8");
            assert_eq!(look_up(resolver, "four.test").await[0], "192.0.2.99");
        }
    });
}

#[test]
fn a_long_hosts_file_is_read() {
    on_worker(async {
        let server = NameServer::start(Manner::Known).await;
        let machine = Machine::asking(&[&server]);
        let resolver = machine.resolver();
        let line = |number| format!("192.0.2.7 name-{number}.test\n");
        let long: String = (0..10_000).map(line).collect();
        assert!(long.len() as u64 > 64 * 1024);
        fs::write(machine.path("hosts"), long).unwrap();
        assert_eq!(look_up(&resolver, "name-9999.test").await[0], "192.0.2.7");
    });
}

#[test]
fn a_long_resolv_conf_is_read() {
    on_worker(async {
        let machine = laptop();
        let resolver = machine.resolver();
        let mut long = "# Who writes this has a lot to say.\n".repeat(4000);
        assert!(long.len() as u64 > 64 * 1024);
        long += "nameserver 192.0.2.53\n";
        fs::write(machine.path("resolv.conf"), long).unwrap();
        resolver.refresh().await;
        let settings = resolver.settings.borrow();
        let servers = settings.as_ref().map(|settings| settings.servers.clone());
        assert_eq!(servers, Some(vec![([192, 0, 2, 53], 53).into()]));
    });
}

#[test]
fn a_changed_resolv_conf_applies_however_it_is_changed() {
    on_worker(async {
        let machine = laptop();
        let file = machine.path("resolv.conf");
        assert_eq!(machine.servers().await, ["192.0.2.53"]);
        fs::write(&file, "nameserver 192.0.2.54\n").unwrap();
        assert_eq!(machine.servers().await, ["192.0.2.54"]);
        let other = machine.path("other");
        fs::write(&other, "nameserver 192.0.2.55\n").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(machine.servers().await, ["192.0.2.55"]);
        for last in [56, 57] {
            let target = machine.path(&format!("target-{last}"));
            fs::write(&target, format!("nameserver 192.0.2.{last}\n")).unwrap();
            fs::remove_file(&file).unwrap();
            symlink(&target, &file).unwrap();
            assert_eq!(machine.servers().await, [format!("192.0.2.{last}")]);
        }
    });
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    on_worker(async {
        let machine = laptop();
        let file = machine.path("resolv.conf");
        let hosts = machine.path("hosts");
        let resolver = machine.resolver();
        let ours = |content: &[u8]| {
            for file in [&file, &hosts] {
                drop(fs::remove_file(file));
                fs::write(file, content).unwrap();
            }
        };
        let bad: [&dyn Fn(); 6] = [
            &|| fs::write(&file, "").unwrap(),
            &|| ours(b"\x7fELF\0\x01nameserver 192.0.2.1\n\xff"),
            &|| {
                for file in [&file, &hosts] {
                    // As long as the file says; there is nothing in it.
                    let long = fs::File::create(file).unwrap();
                    long.set_len(100 * 1024 * 1024).unwrap();
                }
            },
            &|| {
                for file in [&file, &hosts] {
                    fs::remove_file(file).unwrap();
                    fs::create_dir(file).unwrap();
                }
            },
            &|| {
                for file in [&file, &hosts] {
                    fs::remove_dir(file).unwrap();
                    symlink("nowhere", file).unwrap();
                }
            },
            &|| {
                for file in [&file, &hosts] {
                    fs::remove_file(file).unwrap();
                    let mode = rustix::fs::Mode::RWXU;
                    let kind = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, file, kind, mode, 0).unwrap();
                }
            },
        ];
        for (number, make) in bad.iter().enumerate() {
            make();
            for _ in 0..2 {
                assert_eq!(machine.servers().await, ["192.0.2.53"], "{number}");
                assert_eq!(look_up(&resolver, "six.test").await[1], "2001:db8::3");
            }
        }
        ours(b"nameserver 192.0.2.60\n192.0.2.61 good.test\n");
        assert_eq!(machine.servers().await, ["192.0.2.60"]);
        assert_eq!(look_up(&resolver, "good.test").await[0], "192.0.2.61");
    });
}

#[test]
fn a_machine_without_name_servers_gets_them_later() {
    on_worker(async {
        let machine = Machine::new(DnsConfig::default(), "", "");
        let resolver = machine.resolver();
        assert!(resolver.servers.borrow().is_none());
        fs::write(machine.path("resolv.conf"), RESOLV_CONF).unwrap();
        resolver.refresh().await;
        assert!(resolver.servers.borrow().is_some());
    });
}

#[test]
fn answers_of_old_servers_are_discarded() {
    on_worker(async {
        for kind in [ResolverKind::Dns, ResolverKind::System] {
            let config = DnsConfig {
                resolver: kind,
                ..DnsConfig::default()
            };
            let machine = Machine::new(config, "", RESOLV_CONF);
            let resolver = machine.resolver();
            let minute = Duration::from_secs(60);
            let key = CacheKeyRef {
                host: "a.test",
                is_absolute: false,
                family: Family::V4,
            };
            for answer in [
                Err(ResolveError::NoSuchHost),
                Ok(vec![Family::V4.loopback()]),
            ] {
                resolver.remember(key, answer.clone(), minute);
                resolver.refresh().await;
                assert_eq!(resolver.cached(key), Some(answer.clone()));
                let again = format!("# {answer:?}\nnameserver 192.0.2.54\n");
                fs::write(machine.path("resolv.conf"), again).unwrap();
                resolver.refresh().await;
                assert_eq!(resolver.cached(key), None);
            }
        }
    });
}
