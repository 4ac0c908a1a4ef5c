//! How requests are grouped for counting.

use crate::config::Per;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The owner of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BucketKey {
    /// A client; none for all clients without an address.
    Client(Option<IpAddr>),
    /// An upstream host.
    Host(Box<str>),
    /// A client and an upstream host.
    ClientAndHost(Option<IpAddr>, Box<str>),
}

impl BucketKey {
    /// The key of a request.
    pub(crate) fn new(per: Per, client: Option<IpAddr>, host: &str) -> Self {
        let client = client.map(network);
        match per {
            Per::Client => Self::Client(client),
            Per::Host => Self::Host(host.into()),
            Per::ClientAndHost => Self::ClientAndHost(client, host.into()),
        }
    }
}

/// The network of one subscriber: an IPv4 address, or the first 64 bits of an IPv6 address, because whoever has one
/// address of such a network has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let first = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(first))
        }
        v4 => v4,
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => write_client(f, *client),
            Self::Host(host) => f.write_str(host),
            Self::ClientAndHost(client, host) => {
                write_client(f, *client)?;
                write!(f, " to {host}")
            }
        }
    }
}

fn write_client(f: &mut fmt::Formatter<'_>, client: Option<IpAddr>) -> fmt::Result {
    match client {
        None => f.write_str("unknown"),
        Some(IpAddr::V4(address)) => write!(f, "{address}"),
        Some(IpAddr::V6(network)) => write!(f, "{network}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::{BucketKey, Per};

    fn key(per: Per, client: &str) -> String {
        BucketKey::new(per, client.parse().ok(), "a.example").to_string()
    }

    #[test]
    fn groups_ipv6_clients_by_their_network() {
        for (client, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
            ("none", "unknown"),
        ] {
            assert_eq!(key(Per::Client, client), shown);
        }
    }

    #[test]
    fn counts_by_host_or_by_pair_if_configured() {
        assert_eq!(key(Per::Host, "192.0.2.7"), "a.example");
        assert_eq!(
            key(Per::ClientAndHost, "192.0.2.7"),
            "192.0.2.7 to a.example"
        );
    }
}
