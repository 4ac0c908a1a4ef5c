//! SOCKS version 5 (RFC 1928), with user name and password (RFC 1929): what both sides of it share.
//!
//! `server` has the messages of clients of this proxy; `upstream::socks5` those of a parent proxy. Both decode what has
//! been received so far: `None` means that bytes are missing. No message is longer than 515 bytes, so nothing has to be
//! limited.

pub(crate) mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first byte of every message except those of the authentication.
pub(crate) const VERSION: u8 = 5;
/// The version of the authentication by user name and password (RFC 1929).
pub(crate) const PASSWORD_VERSION: u8 = 1;

/// Methods of authentication.
pub(crate) const NO_AUTHENTICATION: u8 = 0;
pub(crate) const PASSWORD: u8 = 2;
pub(crate) const NONE_ACCEPTABLE: u8 = 0xff;

/// The command that opens a tunnel.
pub(crate) const CONNECT: u8 = 1;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The address in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    Ip(IpAddr),
    /// A name as it was sent: any bytes, at most 255.
    Name(&'a [u8]),
}

/// The type of an address is none of the three of RFC 1928 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address of an unknown type")]
pub(crate) struct AddressTypeInvalid;

/// The name has more than 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is too long for SOCKS5")]
pub(crate) struct NameTooLong;

/// Decodes a type, an address and a port: these, and their length in bytes.
pub(crate) fn decode_address(
    received: &[u8],
) -> Result<Option<(Address<'_>, u16, usize)>, AddressTypeInvalid> {
    let Some((kind, rest)) = received.split_first() else {
        return Ok(None);
    };
    let (len_size, len) = match (*kind, rest) {
        (IPV4, _) => (0, 4),
        (IPV6, _) => (0, 16),
        (NAME, [len, ..]) => (1, usize::from(*len)),
        (NAME, []) => return Ok(None),
        _ => return Err(AddressTypeInvalid),
    };
    let Some((address, [high, low, ..])) = rest[len_size..].split_at_checked(len) else {
        return Ok(None);
    };
    let address =
        match *kind {
            IPV4 => <[u8; 4]>::try_from(address)
                .map(|octets| Address::Ip(Ipv4Addr::from(octets).into())),
            IPV6 => <[u8; 16]>::try_from(address)
                .map(|octets| Address::Ip(Ipv6Addr::from(octets).into())),
            _ => Ok(Address::Name(address)),
        };
    let port = u16::from_be_bytes([*high, *low]);
    let len = 1 + len_size + len + 2;
    Ok(address.ok().map(|address| (address, port, len)))
}

/// Appends type, address and port; a `host` that is no address is sent as a name.
///
/// # Errors
/// The name is too long.
pub(crate) fn push_address(out: &mut Vec<u8>, host: &str, port: u16) -> Result<(), NameTooLong> {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            out.push(IPV4);
            out.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            out.push(IPV6);
            out.extend(ip.octets());
        }
        Err(_) => {
            let len = u8::try_from(host.len()).map_err(|_| NameTooLong)?;
            out.extend([NAME, len]);
            out.extend_from_slice(host.as_bytes());
        }
    }
    out.extend(port.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(host: &str, port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        push_address(&mut out, host, port).unwrap();
        out
    }

    #[test]
    fn addresses_are_decoded_as_they_were_encoded_in_any_pieces() {
        for (host, port) in [
            ("127.0.0.1", 80),
            ("::1", 443),
            ("a.example", 65535),
            ("", 0),
        ] {
            let sent = encoded(host, port);
            for end in 0..sent.len() {
                assert_eq!(decode_address(&sent[..end]), Ok(None), "{host} {end}");
            }
            let address = match host.parse() {
                Ok(ip) => Address::Ip(ip),
                Err(_) => Address::Name(host.as_bytes()),
            };
            let followed = [&sent, &b"more"[..]].concat();
            assert_eq!(
                decode_address(&followed),
                Ok(Some((address, port, sent.len())))
            );
        }
    }

    #[test]
    fn a_name_has_at_most_255_bytes() {
        let longest = "a".repeat(255);
        assert_eq!(encoded(&longest, 1).len(), 2 + 255 + 2);
        let refused = push_address(&mut Vec::new(), &"a".repeat(256), 1);
        assert_eq!(refused, Err(NameTooLong));
    }

    #[test]
    fn other_types_of_addresses_are_refused() {
        for kind in [0, 2, 5, 0xff] {
            assert_eq!(decode_address(&[kind]), Err(AddressTypeInvalid), "{kind}");
        }
    }
}
