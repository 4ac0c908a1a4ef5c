//! SOCKS version 5 as its client (RFC 1928), with user name and password (RFC 1929).
//!
//! Names are sent as names, so the proxy resolves them. Replies are decoded from what has been received so far: `None`
//! means that bytes are missing. Bytes after the last reply come from the destination and stay buffered.

use std::time::Duration;

use super::failure::{ParentFailure, SocksError};
use super::parent::Credentials;
use super::route::Route;
use crate::socks5::{
    AddressTypeInvalid, CONNECT, NO_AUTHENTICATION, NONE_ACCEPTABLE, NameTooLong, PASSWORD,
    PASSWORD_VERSION, VERSION, decode_address, push_address,
};
use crate::stream::{MessageStream, Reader};

/// Requests a connection to the destination of `route`. The caller limits the total time; `stall` limits single writes.
pub(super) async fn handshake(
    stream: &mut MessageStream,
    route: &Route<'_>,
    credentials: Option<&Credentials>,
    stall: Duration,
) -> Result<(), ParentFailure> {
    let (mut reader, mut writer) = stream.split();
    let mut send = async |bytes: Vec<u8>| {
        let sent = writer.write_all(&bytes, stall).await;
        sent.map_err(ParentFailure::Io)
    };
    let request = request(route.connect_host(), route.port)?;
    send(greeting(credentials)).await?;
    match (receive(&mut reader, decode_method).await?, credentials) {
        (NO_AUTHENTICATION, _) => {}
        (PASSWORD, Some(credentials)) => {
            send(login(credentials)).await?;
            receive(&mut reader, decode_login).await?;
        }
        _ => return Err(SocksError::NoMethod.into()),
    }
    send(request).await?;
    receive(&mut reader, decode_reply).await
}

/// Reads until `decode` returns a value, and consumes only the bytes of that value.
async fn receive<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&[u8]) -> Decoded<T>,
) -> Result<T, ParentFailure> {
    loop {
        if let Some((value, len)) = decode(reader.buffered())? {
            reader.consume(len);
            return Ok(value);
        }
        if reader.fill().await.map_err(ParentFailure::Io)? == 0 {
            return Err(ParentFailure::Closed);
        }
    }
}

/// A value and its length in bytes; `None` while bytes are missing.
type Decoded<T> = Result<Option<(T, usize)>, SocksError>;

fn greeting(credentials: Option<&Credentials>) -> Vec<u8> {
    match credentials {
        None => vec![VERSION, 1, NO_AUTHENTICATION],
        Some(_) => vec![VERSION, 2, NO_AUTHENTICATION, PASSWORD],
    }
}

fn login(credentials: &Credentials) -> Vec<u8> {
    let mut login = vec![PASSWORD_VERSION];
    for text in [&credentials.user, &credentials.password] {
        push_short(&mut login, text.as_bytes());
    }
    login
}

fn request(host: &str, port: u16) -> Result<Vec<u8>, SocksError> {
    let mut request = vec![VERSION, CONNECT, 0];
    push_address(&mut request, host, port).map_err(|NameTooLong| SocksError::NameTooLong)?;
    Ok(request)
}

/// Writes the length and the bytes. The callers have refused more than 255.
fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

fn decode_method(received: &[u8]) -> Decoded<u8> {
    match *received {
        [VERSION, NONE_ACCEPTABLE, ..] => Err(SocksError::NoMethod),
        [VERSION, method, ..] => Ok(Some((method, 2))),
        [] | [VERSION] => Ok(None),
        _ => Err(SocksError::VersionInvalid),
    }
}

fn decode_login(received: &[u8]) -> Decoded<()> {
    match *received {
        [PASSWORD_VERSION, 0, ..] => Ok(Some(((), 2))),
        [PASSWORD_VERSION, _, ..] => Err(SocksError::Unauthorized),
        [] | [PASSWORD_VERSION] => Ok(None),
        _ => Err(SocksError::VersionInvalid),
    }
}

/// Skips the address in the reply, which is not needed.
fn decode_reply(received: &[u8]) -> Decoded<()> {
    match *received {
        [] | [VERSION] => return Ok(None),
        [VERSION, 0, ..] => {}
        [VERSION, refused, ..] => return Err(SocksError::Refused(refused)),
        _ => return Err(SocksError::VersionInvalid),
    }
    // Reserved.
    let Some(bound) = received.get(3..) else {
        return Ok(None);
    };
    let decoded = decode_address(bound);
    let decoded = decoded.map_err(|AddressTypeInvalid| SocksError::AddressTypeInvalid)?;
    Ok(decoded.map(|(_, _, len)| ((), 3 + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every true prefix is "not yet", the whole is decoded, and bytes behind it are left.
    fn assert_decodes<T: PartialEq + std::fmt::Debug>(
        decode: impl Fn(&[u8]) -> Decoded<T>,
        answer: &[u8],
        value: T,
    ) {
        for end in 0..answer.len() {
            assert_eq!(decode(&answer[..end]), Ok(None), "{:?}", &answer[..end]);
        }
        let followed = [answer, b"banner"].concat();
        assert_eq!(decode(&followed), Ok(Some((value, answer.len()))));
    }

    #[test]
    fn replies_are_decoded_in_any_pieces() {
        assert_decodes(decode_method, &[5, 0], 0);
        assert_decodes(decode_method, &[5, 2], 2);
        assert_decodes(decode_login, &[1, 0], ());
        assert_decodes(decode_reply, &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80], ());
        assert_decodes(decode_reply, b"\x05\0\0\x03\x02ab\0\x50", ());
        assert_decodes(decode_reply, b"\x05\0\0\x03\0\0\x50", ());
        let v6 = [&[5, 0, 0, 4][..], &[0; 18]].concat();
        assert_decodes(decode_reply, &v6, ());
    }

    #[test]
    fn refusals_and_invalid_replies_are_distinguished() {
        assert_eq!(decode_method(&[5, 0xff]), Err(SocksError::NoMethod));
        assert_eq!(decode_method(b"HT"), Err(SocksError::VersionInvalid));
        assert_eq!(decode_method(&[4]), Err(SocksError::VersionInvalid));
        assert_eq!(decode_login(&[1, 1]), Err(SocksError::Unauthorized));
        assert_eq!(decode_login(&[5, 0]), Err(SocksError::VersionInvalid));
        assert_eq!(decode_reply(&[5, 5]), Err(SocksError::Refused(5)));
        assert_eq!(decode_reply(&[0, 0]), Err(SocksError::VersionInvalid));
        let unknown = [5, 0, 0, 2];
        assert_eq!(decode_reply(&unknown), Err(SocksError::AddressTypeInvalid));
    }

    #[test]
    fn names_are_sent_as_names_and_addresses_as_addresses() {
        assert_eq!(
            request("a.b", 443).unwrap(),
            b"\x05\x01\0\x03\x03a.b\x01\xbb"
        );
        assert_eq!(
            request("127.0.0.1", 80).unwrap(),
            [5, 1, 0, 1, 127, 0, 0, 1, 0, 80]
        );
        let v6 = request("::1", 80).unwrap();
        assert_eq!((v6[3], v6[19], v6.len()), (4, 1, 22));
        assert_eq!(request(&"a".repeat(255), 1).unwrap().len(), 5 + 255 + 2);
        assert_eq!(request(&"a".repeat(256), 1), Err(SocksError::NameTooLong));
    }

    #[test]
    fn credentials_are_offered_and_sent_only_if_there_are_any() {
        let credentials = Credentials {
            user: "u".to_owned(),
            password: String::new(),
        };
        assert_eq!(greeting(None), [5, 1, 0]);
        assert_eq!(greeting(Some(&credentials)), [5, 2, 0, 2]);
        assert_eq!(login(&credentials), [1, 1, b'u', 0]);
    }
}
