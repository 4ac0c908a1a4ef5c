//! The key of a WebSocket handshake, which HTTP/1.1 requires and HTTP/2 does not have (RFC 6455 §4.2.2, RFC 8441 §5).
//!
//! The hash protects nothing: it only shows that the peer supports the protocol.

use aws_lc_rs::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A fresh `Sec-WebSocket-Key`; `None` if the system has no random numbers.
pub(super) fn random() -> Option<[u8; 24]> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).ok()?;
    Some(base64(&nonce))
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub(crate) fn accept(key: &[u8]) -> [u8; 28] {
    base64(sha1(&[key, SUFFIX].concat()).as_ref())
}

/// Base64 with padding (RFC 4648 §4), of exactly as many bytes as fill `N`.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [b'='; N];
    let written = STANDARD.encode_slice(bytes, &mut out);
    debug_assert_eq!(written, Ok(N));
    out
}

/// SHA-1, as the handshake requires.
fn sha1(message: &[u8]) -> Digest {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hashes_the_vectors_of_rfc_3174() {
        for (message, digest) in [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
            (
                &"0123456701234567012345670123456701234567012345670123456701234567".repeat(10),
                "dea356a2cddd90c7a7ecedc5ebb563934f460452",
            ),
        ] {
            assert_eq!(hexadecimal(sha1(message.as_bytes()).as_ref()), digest);
        }
    }

    #[test]
    fn accepts_the_key_of_rfc_6455() {
        assert_eq!(
            &accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn keys_are_sixteen_random_bytes() {
        let (first, second) = (random().unwrap(), random().unwrap());
        assert!(first.ends_with(b"==") && !first[..22].contains(&b'='));
        assert_ne!(first, second);
    }
}
