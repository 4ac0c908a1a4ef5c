//! Parses the kernel's tables of TCP sockets, `/proc/net/tcp` and `/proc/net/tcp6` (proc_pid_net(5)).
//!
//! Text in, values out. Lines in other formats are skipped.

use std::net::{IpAddr, SocketAddr};

/// A connected socket of this machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// The local address; IPv4 even if it is mapped into IPv6.
    pub(crate) local: SocketAddr,
    /// The inode, by which the descriptors of a process refer to it.
    pub(crate) inode: u64,
}

/// The connected sockets of a table that a process still has.
pub(crate) fn sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(socket)
}

/// The state of a listening socket.
const LISTEN: &str = "0A";

fn socket(line: &str) -> Option<Socket> {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
    let mut words = line.split_ascii_whitespace();
    let local = address(words.nth(1)?)?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    (state != LISTEN && inode != 0).then_some(Socket { local, inode })
}

/// Parses `0100007F:1F90`: words of the address as numbers of this machine, each in its byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::from(word(ip, 0)?),
        32 => {
            let mut octets = [0; 16];
            for (at, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(ip, at * 8)?);
            }
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn word(text: &str, at: usize) -> Option<[u8; 4]> {
    let number = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
    Some(number.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::sockets;

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn found(lines: &str) -> Vec<(String, u64)> {
        let table = format!("{HEADING}{lines}");
        sockets(&table)
            .map(|socket| (socket.local.to_string(), socket.inode))
            .collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_addresses_of_both_families() {
        let lines = "\
   1: 0100007F:B0E6 0100007F:22C3 01 00000000:00000000 00:00000000 00000000  1000        0 87654 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000001000000:B0E8 00000000000000000000000001000000:22C3 01 00000000:00000000 00:00000000 00000000  1000        0 87655 1
   3: 0000000000000000FFFF00000100007F:B0EA 0000000000000000FFFF00000100007F:22C3 08 00000000:00000000 00:00000000 00000000     0        0 87656 1
";
        let expected = [
            ("127.0.0.1:45286".to_owned(), 87654),
            ("[::1]:45288".to_owned(), 87655),
            ("127.0.0.1:45290".to_owned(), 87656),
        ];
        assert_eq!(found(lines), expected);
    }

    #[test]
    fn skips_listeners_and_unowned_sockets() {
        let lines = "\
   0: 0100007F:22C3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 87650 1
   1: 0100007F:B0E6 0100007F:22C3 06 00000000:00000000 03:000016F8 00000000     0        0 0 3
";
        assert_eq!(found(lines), []);
    }

    #[test]
    fn skips_malformed_lines() {
        for line in [
            "",
            "0: 0100007F:22C3",
            "0: 0100007F 0 01 0 0 0 0 0 5",
            "0: 0100007:22C3 0 01 0 0 0 0 0 5",
            "0: xx00007F:22C3 0 01 0 0 0 0 0 5",
            "0: 0100007F:22C3 0 01 0 0 0 0 0 many",
            "0: \u{e4}00007F:22C3 0 01 0 0 0 0 0 5",
        ] {
            assert_eq!(found(line), [], "{line}");
        }
        assert!(sockets("").next().is_none());
    }
}
