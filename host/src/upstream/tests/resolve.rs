//! Names: what the hosts file knows, and what name servers are asked.

use tokio::net::UdpSocket;

use super::*;
use crate::upstream::resolve::{Family, ResolveError};

const HOSTS: &str = "\
127.0.0.1   localhost
192.0.2.1   four.test Alias.Test # a comment
192.0.2.2   both.test
2001:db8::2 both.test
2001:db8::3 six.test
";

/// A name server on the loopback that knows every name at 192.0.2.99, and the names that it was asked for.
struct NameServer {
    address: SocketAddr,
    asked: Rc<RefCell<Vec<String>>>,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Rc::new(RefCell::default());
        tokio::task::spawn_local(answer(socket, Rc::clone(&asked)));
        Self { address, asked }
    }

    /// A resolver that has this hosts file, and asks here.
    fn resolver(&self) -> Resolver {
        let mut hosts = hickory_resolver::Hosts::default();
        hosts.read_hosts_conf(HOSTS.as_bytes()).unwrap();
        let dns = DnsConfig {
            servers: vec![self.address],
            ..DnsConfig::default()
        };
        Resolver::with_hosts(&dns, hosts).unwrap()
    }
}

async fn answer(socket: UdpSocket, asked: Rc<RefCell<Vec<String>>>) {
    let mut buffer = [0; 512];
    while let Ok((_, client)) = socket.recv_from(&mut buffer).await {
        let (name, end) = question(&buffer);
        let wants_v4 = buffer[end - 4..end - 2] == [0, 1];
        asked.borrow_mut().push(name);
        let mut message = buffer[..end].to_vec();
        // A response without error: one question, and an answer if there is one (RFC 1035 §4.1.1).
        message[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, wants_v4.into(), 0, 0, 0, 0]);
        if wants_v4 {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
        }
        socket.send_to(&message, client).await.unwrap();
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

/// The addresses of both families.
async fn look_up(resolver: &Resolver, name: &str) -> [Vec<String>; 2] {
    let mut found = [vec![], vec![]];
    for (found, family) in found.iter_mut().zip([Family::V4, Family::V6]) {
        *found = match resolver.lookup(name, family).await {
            Ok(addresses) => addresses.iter().map(IpAddr::to_string).collect(),
            Err(ResolveError::NotFound) => vec![],
            Err(error) => panic!("{name}: {error}"),
        };
    }
    found
}

#[test]
fn name_servers_are_not_asked_for_what_the_hosts_file_knows_in_any_family() {
    on_worker(async {
        let server = NameServer::start().await;
        let resolver = server.resolver();
        for (name, v4, v6) in [
            ("four.test", "192.0.2.1", ""),
            ("four.test.", "192.0.2.1", ""),
            ("alias.test", "192.0.2.1", ""),
            ("six.test", "", "2001:db8::3"),
            ("both.test", "192.0.2.2", "2001:db8::2"),
            ("localhost", "127.0.0.1", ""),
        ] {
            let found = look_up(&resolver, name).await;
            assert_eq!(found.map(|each| each.join(" ")), [v4, v6], "{name}");
        }
        assert_eq!(*server.asked.borrow(), [""; 0]);
    });
}

#[test]
fn name_servers_are_asked_for_both_families_of_other_names() {
    on_worker(async {
        let server = NameServer::start().await;
        let resolver = server.resolver();
        for _ in 0..2 {
            let found = look_up(&resolver, "www.four.test").await;
            assert_eq!(found, [vec!["192.0.2.99".to_owned()], vec![]]);
        }
        server.asked.borrow_mut().dedup();
        assert_eq!(*server.asked.borrow(), ["www.four.test."]);
    });
}

#[test]
fn names_below_localhost_are_this_machine_and_nobody_is_asked() {
    on_worker(async {
        let server = NameServer::start().await;
        let found = look_up(&server.resolver(), "app.localhost").await;
        assert_eq!(found.map(|each| each.join(" ")), ["127.0.0.1", "::1"]);
        assert_eq!(*server.asked.borrow(), [""; 0]);
    });
}
