//! The hosts file (hosts(5)).
//!
//! Parsed as getaddrinfo does: a line consists of an address, its names and a comment; other lines are skipped. Names
//! may contain any characters, such as `my_service` of Docker Compose. They are compared without regard to case and a
//! final dot.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::answer::{Family, MAX_ADDRESSES, ResolveError};

/// Addresses by name.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Hosts {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut names: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == b'#').next().unwrap_or(line);
            // Only comments may be in another encoding.
            let Ok(line) = str::from_utf8(line) else {
                continue;
            };
            let mut words = line.split_ascii_whitespace();
            // Addresses with a zone (`fe80::1%lo0`) are skipped, because they are useless without it.
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            let address = address.to_canonical();
            for name in words {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                add(names.entry(name.into()).or_default(), address);
            }
        }
        Self { names }
    }

    /// The addresses of `host`, which is in lower case; `None` if the file does not contain it in either family.
    pub(super) fn addresses(
        &self,
        host: &str,
        family: Family,
    ) -> Option<Result<Vec<IpAddr>, ResolveError>> {
        let addresses = self.names.get(host)?.iter().copied();
        let addresses: Vec<IpAddr> = addresses.filter(|ip| family.has(*ip)).collect();
        Some(match addresses.is_empty() {
            true => Err(ResolveError::NoAddress),
            false => Ok(addresses),
        })
    }
}

/// Adds an address, unless it is there already, or there are [`MAX_ADDRESSES`] of its family.
fn add(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    let of_family = |known: &&IpAddr| known.is_ipv6() == address.is_ipv6();
    let has_room = addresses.iter().filter(of_family).count() < MAX_ADDRESSES;
    if has_room && !addresses.contains(&address) {
        addresses.push(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hosts: &Hosts, name: &str) -> Option<[String; 2]> {
        let shown = |family| match hosts.addresses(name, family)? {
            Ok(found) => Some(found.iter().map(|ip| format!("{ip} ")).collect()),
            Err(_) => Some(String::new()),
        };
        Some([shown(Family::V4)?, shown(Family::V6)?])
    }

    #[test]
    fn reads_what_getaddrinfo_reads() {
        let hosts = Hosts::parse(
            b"\xef\xbb\xbf192.0.2.1\tFour.Test. alias # 192.0.2.9 not-this\r\n\
              192.0.2.2 both\n2001:db8::2   both\n192.0.2.3 both\n192.0.2.2 both\n\
              # caf\xe9\n192.0.2.4 latin # \xe9\n192.0.2.5 behind\n\
              ::ffff:192.0.2.6 mapped\nfe80::1%lo0 zoned\nnonsense here\n192.0.2.7\n  192.0.2.8  my_service _x -app app- \
              xn--0 a--b\n192.0.2.10 last",
        );
        let v4 = |text: &str| Some([format!("{text} "), String::new()]);
        for (name, expected) in [
            ("four.test", v4("192.0.2.1")),
            ("alias", v4("192.0.2.1")),
            ("not-this", None),
            (
                "both",
                Some(["192.0.2.2 192.0.2.3 ".to_owned(), "2001:db8::2 ".to_owned()]),
            ),
            ("behind", v4("192.0.2.5")),
            ("mapped", v4("192.0.2.6")),
            ("zoned", None),
            ("here", None),
            ("my_service", v4("192.0.2.8")),
            ("_x", v4("192.0.2.8")),
            ("-app", v4("192.0.2.8")),
            ("app-", v4("192.0.2.8")),
            ("xn--0", v4("192.0.2.8")),
            ("a--b", v4("192.0.2.8")),
            ("last", v4("192.0.2.10")),
            ("", None),
        ] {
            assert_eq!(of(&hosts, name), expected, "{name}");
        }
    }

    /// What grew with the square of their number would not end here.
    #[test]
    fn the_addresses_of_a_name_are_limited() {
        let mut text = String::new();
        for number in 0..1_000_000_u32 {
            text += &format!("{} many\n", std::net::Ipv4Addr::from(number));
        }
        text += "2001:db8::1 many\n";
        let hosts = Hosts::parse(text.as_bytes());
        let count = |family| hosts.addresses("many", family).unwrap().unwrap().len();
        assert_eq!((count(Family::V4), count(Family::V6)), (MAX_ADDRESSES, 1));
    }
}
