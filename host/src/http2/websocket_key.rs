//! The handshake of a WebSocket in HTTP/1.1, which HTTP/2 does without (RFC 6455 §4.2.2, RFC 8441 §5).
//!
//! A stream towards an HTTP/1.1 peer needs a key of its own, and an answer to one. The hash is no protection here and
//! never was: it shows that the peer has understood.

use rustls::crypto::aws_lc_rs;

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A fresh `Sec-WebSocket-Key`; `None` when the system has no randomness to give.
pub(super) fn random() -> Option<[u8; 24]> {
    let mut nonce = [0; 16];
    let provider = aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut nonce).ok()?;
    Some(base64(&nonce))
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub(super) fn accept(key: &[u8]) -> [u8; 28] {
    base64(&sha1(&[key, SUFFIX].concat()))
}

/// Base64 with padding (RFC 4648 §4), of so many bytes as `N` has room for.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = [b'='; N];
    for (group, four) in bytes.chunks(3).zip(out.chunks_exact_mut(4)) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for (place, out) in four.iter_mut().enumerate().take(group.len() + 1) {
            let six = (bits >> (18 - 6 * place)) & 0x3f;
            *out = ALPHABET[six as usize];
        }
    }
    out
}

/// SHA-1 (RFC 3174), which the handshake demands.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((message.len() + 9).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in padded.chunks_exact(64) {
        sha1_block(&mut state, block);
    }
    let mut digest = [0; 20];
    for (out, word) in digest.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn sha1_block(state: &mut [u32; 5], block: &[u8]) {
    let mut words = [0_u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for at in 16..80 {
        words[at] =
            (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (at, word) in words.into_iter().enumerate() {
        let (mixed, constant) = match at {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(mixed)
            .wrapping_add(e)
            .wrapping_add(word)
            .wrapping_add(constant);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e]) {
        *word = word.wrapping_add(add);
    }
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
            assert_eq!(hexadecimal(&sha1(message.as_bytes())), digest);
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
