//! The messages of a client: its greeting, its login, its request. And the proxy's answers to them.
//!
//! ```text
//! client                                   proxy
//! greeting: the methods that it can use →
//!                                        ← the method
//! login: user name and password         →                 only with the method PASSWORD
//!                                        ← accepted, or refused and closed
//! request: CONNECT to an address        →
//!                                        ← reply; then a tunnel, or closed
//! ```
//!
//! A name in a request is checked as the host of an HTTP request is, and a request is only for TCP connections: BIND and
//! UDP ASSOCIATE are refused.

use std::net::IpAddr;

use plugin_contract::host::is_host;

use super::{
    Address, CONNECT, NO_AUTHENTICATION, NONE_ACCEPTABLE, PASSWORD, PASSWORD_VERSION, VERSION,
    decode_address,
};

/// The version of a SOCKS4 client.
const VERSION_4: u8 = 4;
/// The answer that such a client understands.
const SOCKS4_REJECTED: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];

/// The methods that a client offers, of those that the proxy knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) no_authentication: bool,
    pub(crate) password: bool,
}

/// How a client is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    NoAuthentication,
    Password,
}

/// A user name and a password as they were sent: any bytes, at most 255 each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
}

/// A request for a connection to `host`, which has been checked; an IPv6 address is in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a client cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocksFault {
    #[error("SOCKS4: configure the client for SOCKS5")]
    Socks4,
    #[error("a message of another version than 5")]
    VersionInvalid,
    #[error("an authentication of another version than 1")]
    LoginVersionInvalid,
    #[error("only authentication methods that this proxy does not accept")]
    NoMethod,
    #[error("BIND, which is not supported")]
    Bind,
    #[error("UDP ASSOCIATE, which is not supported")]
    UdpAssociate,
    #[error("an unknown command")]
    CommandInvalid,
    #[error("an address of an unknown type")]
    AddressTypeInvalid,
    #[error("a host that is neither a name nor an address")]
    HostInvalid,
    #[error("port 0")]
    PortInvalid,
}

/// The reply to a request (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SocksReply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    /// What clients take for a timeout.
    TtlExpired = 6,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

/// A value and its length in bytes; `None` while bytes are missing.
type Decoded<T> = Result<Option<(T, usize)>, SocksFault>;

/// Decodes the client's first message.
pub(crate) fn decode_greeting(received: &[u8]) -> Decoded<Offered> {
    check_version(received)?;
    let [_, count, rest @ ..] = received else {
        return Ok(None);
    };
    let Some(methods) = rest.get(..usize::from(*count)) else {
        return Ok(None);
    };
    let offered = Offered {
        no_authentication: methods.contains(&NO_AUTHENTICATION),
        password: methods.contains(&PASSWORD),
    };
    Ok(Some((offered, 2 + methods.len())))
}

/// Decodes user name and password.
pub(crate) fn decode_login(received: &[u8]) -> Decoded<Login<'_>> {
    if received
        .first()
        .is_some_and(|version| *version != PASSWORD_VERSION)
    {
        return Err(SocksFault::LoginVersionInvalid);
    }
    let user = received.get(1..).and_then(short);
    let password = user.and_then(|(_, rest)| short(rest));
    let (Some((user, _)), Some((password, rest))) = (user, password) else {
        return Ok(None);
    };
    Ok(Some((
        Login { user, password },
        received.len() - rest.len(),
    )))
}

/// Decodes the request.
pub(crate) fn decode_request(received: &[u8]) -> Decoded<Destination> {
    check_version(received)?;
    let command = match received.get(1) {
        None | Some(&CONNECT) => Ok(()),
        Some(2) => Err(SocksFault::Bind),
        Some(3) => Err(SocksFault::UdpAssociate),
        Some(_) => Err(SocksFault::CommandInvalid),
    };
    command?;
    // The third byte is reserved, and ignored.
    let Some(rest) = received.get(3..) else {
        return Ok(None);
    };
    let decoded = decode_address(rest).map_err(|_| SocksFault::AddressTypeInvalid)?;
    let Some((address, port, len)) = decoded else {
        return Ok(None);
    };
    let host = host_of(address).ok_or(SocksFault::HostInvalid)?;
    if port == 0 {
        return Err(SocksFault::PortInvalid);
    }
    Ok(Some((Destination { host, port }, 3 + len)))
}

/// The answer to a greeting; `None`: no offered method is acceptable.
pub(crate) fn encode_method(method: Option<Method>) -> [u8; 2] {
    let method = match method {
        Some(Method::NoAuthentication) => NO_AUTHENTICATION,
        Some(Method::Password) => PASSWORD,
        None => NONE_ACCEPTABLE,
    };
    [VERSION, method]
}

/// The answer to a login.
pub(crate) fn encode_login_answer(is_accepted: bool) -> [u8; 2] {
    [PASSWORD_VERSION, u8::from(!is_accepted)]
}

impl SocksReply {
    /// What a parent proxy has replied, as far as it is about the destination.
    pub(crate) fn of_parent(code: u8) -> Self {
        match code {
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            _ => Self::Failed,
        }
    }

    /// The answer to a request. The address in it is unspecified, as clients need none for CONNECT.
    pub(crate) fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, super::IPV4, 0, 0, 0, 0, 0, 0]
    }
}

impl SocksFault {
    /// The answer that a client can understand; empty if there is none.
    pub(crate) fn answer(self) -> Vec<u8> {
        let reply = match self {
            Self::Socks4 => return SOCKS4_REJECTED.to_vec(),
            Self::VersionInvalid => return Vec::new(),
            Self::NoMethod => return encode_method(None).to_vec(),
            Self::LoginVersionInvalid => return encode_login_answer(false).to_vec(),
            Self::Bind | Self::UdpAssociate | Self::CommandInvalid => {
                SocksReply::CommandNotSupported
            }
            Self::AddressTypeInvalid => SocksReply::AddressTypeNotSupported,
            Self::HostInvalid | Self::PortInvalid => SocksReply::Failed,
        };
        reply.encode().to_vec()
    }
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

fn check_version(received: &[u8]) -> Result<(), SocksFault> {
    match received.first() {
        None | Some(&VERSION) => Ok(()),
        Some(&VERSION_4) => Err(SocksFault::Socks4),
        Some(_) => Err(SocksFault::VersionInvalid),
    }
}

/// Bytes behind a length of one byte, and what follows them.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

/// As the host is written in the target of an HTTP request.
fn host_of(address: Address<'_>) -> Option<String> {
    let bracketed = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    match address {
        Address::Ip(ip) => Some(bracketed(ip)),
        Address::Name(name) => {
            let name = str::from_utf8(name).ok().filter(|name| is_host(name))?;
            // Some clients send addresses as names.
            Some(name.parse().map_or_else(|_| name.to_owned(), bracketed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every true prefix is "not yet", the whole is decoded, and bytes behind it are left.
    fn assert_decodes<'a, T: PartialEq + std::fmt::Debug>(
        decode: impl Fn(&'a [u8]) -> Decoded<T>,
        sent: &'a [u8],
        value: T,
    ) {
        for end in 0..sent.len() {
            assert_eq!(decode(&sent[..end]), Ok(None), "{:?}", &sent[..end]);
        }
        assert_eq!(decode(sent), Ok(Some((value, sent.len()))));
    }

    fn destination(host: &str, port: u16) -> Destination {
        Destination {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn messages_are_decoded_in_any_pieces() {
        let offered = |no_authentication, password| Offered {
            no_authentication,
            password,
        };
        assert_decodes(decode_greeting, &[5, 1, 0], offered(true, false));
        assert_decodes(decode_greeting, &[5, 3, 1, 2, 0], offered(true, true));
        assert_decodes(decode_greeting, &[5, 1, 2], offered(false, true));
        let login = |user, password| Login { user, password };
        assert_decodes(decode_login, b"\x01\x01u\x02pw", login(b"u", b"pw"));
        assert_decodes(decode_login, b"\x01\0\0", login(b"", b""));
        let v4 = [5, 1, 0, 1, 127, 0, 0, 1, 0, 80];
        assert_decodes(decode_request, &v4, destination("127.0.0.1", 80));
        let name = b"\x05\x01\0\x03\x03a.b\x01\xbb";
        assert_decodes(decode_request, name, destination("a.b", 443));
        let v6 = b"\x05\x01\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50";
        assert_decodes(decode_request, v6, destination("[::1]", 80));
        let v6_name = b"\x05\x01\0\x03\x03::1\0\x50";
        assert_decodes(decode_request, v6_name, destination("[::1]", 80));
    }

    #[test]
    fn bytes_behind_a_message_are_left() {
        assert_eq!(decode_greeting(&[5, 1, 0, 5]).unwrap().unwrap().1, 3);
        let (login, len) = decode_login(b"\x01\x01u\x01p\x05").unwrap().unwrap();
        assert_eq!((login.password, len), (&b"p"[..], 5));
        let request = decode_request(b"\x05\x01\0\x03\x01a\0\x50GET").unwrap();
        assert_eq!(request, Some((destination("a", 80), 8)));
    }

    #[test]
    fn a_greeting_without_methods_offers_none() {
        assert_decodes(decode_greeting, &[5, 0], Offered::default());
        assert_eq!(SocksFault::NoMethod.answer(), [5, 0xff]);
    }

    #[test]
    fn the_longest_messages_are_decoded() {
        let greeting = [&[5, 255][..], &[9; 255]].concat();
        assert_decodes(decode_greeting, &greeting, Offered::default());
        let text = [b'a'; 255];
        let login = [&[1, 255][..], &text, &[255], &text].concat();
        let both = Login {
            user: &text,
            password: &text,
        };
        assert_decodes(decode_login, &login, both);
        let request = [&[5, 1, 0, 3, 255][..], &text, &[0, 80]].concat();
        let name = str::from_utf8(&text).unwrap();
        assert_decodes(decode_request, &request, destination(name, 80));
    }

    #[test]
    fn other_versions_are_refused_at_the_first_byte() {
        assert_eq!(decode_greeting(&[4]), Err(SocksFault::Socks4));
        assert_eq!(decode_greeting(b"G"), Err(SocksFault::VersionInvalid));
        assert_eq!(decode_login(&[5]), Err(SocksFault::LoginVersionInvalid));
        assert_eq!(decode_request(&[4]), Err(SocksFault::Socks4));
        assert_eq!(decode_request(&[0]), Err(SocksFault::VersionInvalid));
    }

    #[test]
    fn only_connect_is_served() {
        for (command, fault) in [
            (0, SocksFault::CommandInvalid),
            (2, SocksFault::Bind),
            (3, SocksFault::UdpAssociate),
            (0xf0, SocksFault::CommandInvalid),
        ] {
            assert_eq!(decode_request(&[5, command]), Err(fault));
            assert_eq!(fault.answer()[..2], [5, 7]);
        }
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for name in [
            &b""[..],
            b"a b",
            b"a\r\nX: y",
            b"a:80",
            b"a/b",
            b"user@a",
            b"127.1",
            b"a..b",
            b"\xff",
            "b\u{fc}cher.example".as_bytes(),
        ] {
            let len = u8::try_from(name.len()).unwrap();
            let request = [&[5, 1, 0, 3, len][..], name, &[0, 80]].concat();
            assert_eq!(decode_request(&request), Err(SocksFault::HostInvalid));
        }
        assert_eq!(SocksFault::HostInvalid.answer()[..2], [5, 1]);
        let port_zero = b"\x05\x01\0\x03\x01a\0\0";
        assert_eq!(decode_request(port_zero), Err(SocksFault::PortInvalid));
        let unknown = [5, 1, 0, 2];
        assert_eq!(
            decode_request(&unknown),
            Err(SocksFault::AddressTypeInvalid)
        );
        assert_eq!(SocksFault::AddressTypeInvalid.answer()[..2], [5, 8]);
    }

    #[test]
    fn answers_have_the_bytes_of_the_rfcs() {
        assert_eq!(encode_method(Some(Method::NoAuthentication)), [5, 0]);
        assert_eq!(encode_method(Some(Method::Password)), [5, 2]);
        assert_eq!(encode_login_answer(true), [1, 0]);
        assert_ne!(encode_login_answer(false)[1], 0);
        let reply = SocksReply::ConnectionRefused.encode();
        assert_eq!(reply, [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn no_input_panics_or_consumes_more_than_there_is() {
        let mut state = 7_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..20_000 {
            let len = usize::from(byte() % 40);
            let mut bytes: Vec<u8> = std::iter::repeat_with(&mut byte).take(len).collect();
            for (at, value) in [(0, 5), (1, 1), (3, byte() % 5), (4, byte() % 8)] {
                if let Some(place) = bytes.get_mut(at).filter(|_| byte() % 2 == 0) {
                    *place = value;
                }
            }
            let consumed = [
                decode_greeting(&bytes).ok().flatten().map(|(_, len)| len),
                decode_login(&bytes).ok().flatten().map(|(_, len)| len),
                decode_request(&bytes).ok().flatten().map(|(_, len)| len),
            ];
            assert!(consumed.into_iter().flatten().all(|len| len <= bytes.len()));
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let login = Login {
            user: b"u",
            password: b"secret",
        };
        assert_eq!(format!("{login:?}"), "Login(..)");
    }
}
