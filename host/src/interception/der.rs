//! DER, as much of it as a certificate needs (ITU-T X.690 §8, §10).
//!
//! Elements are put together from the inside out, each from the bytes of those within. The issuer's name goes into a
//! certificate as it stands in the authority's own, byte by byte: a library that takes names apart and writes them
//! anew loses repeated attributes, and verifiers compare the bytes. Reading is left to x509-parser.

use jiff::Timestamp;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `[number]` around an element, or instead of a constructed one's tag.
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// `[number]` instead of a primitive element's tag.
pub(super) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// One element whose content is these parts in a row.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(len + 4);
    bytes.push(tag);
    push_len(&mut bytes, len);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

fn push_len(bytes: &mut Vec<u8>, len: usize) {
    let digits = len.to_be_bytes();
    let significant = &digits[len.leading_zeros() as usize / 8..];
    match significant {
        [] => bytes.push(0),
        [short] if *short < 0x80 => bytes.push(*short),
        long => {
            // At most eight of them, which is what a usize has.
            bytes.push(0x80 | long.len() as u8);
            bytes.extend_from_slice(long);
        }
    }
}

/// One extension of a certificate (RFC 5280 §4.1); `id` is the content of its object identifier.
pub(super) fn extension(id: &[u8], criticality: Criticality, value: &[u8]) -> Vec<u8> {
    let id = element(OBJECT_IDENTIFIER, &[id]);
    let value = element(OCTET_STRING, &[value]);
    let critical = match criticality {
        Criticality::Critical => element(BOOLEAN, &[&[0xff]]),
        // The default is left out in DER.
        Criticality::MayBeIgnored => Vec::new(),
    };
    element(SEQUENCE, &[&id, &critical, &value])
}

/// Whether somebody who does not know an extension may accept the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Criticality {
    Critical,
    MayBeIgnored,
}

/// A time in the form that RFC 5280 §4.1.2.5 wants for its year.
pub(super) fn time(time: Timestamp) -> Vec<u8> {
    let utc_time_ends = Timestamp::constant(2_524_608_000, 0);
    let (tag, format) = if time < utc_time_ends {
        (UTC_TIME, "%y%m%d%H%M%SZ")
    } else {
        (GENERALIZED_TIME, "%Y%m%d%H%M%SZ")
    };
    element(tag, &[time.strftime(format).to_string().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_shortest_form() {
        for (len, head) in [
            (0, &[OCTET_STRING, 0][..]),
            (127, &[OCTET_STRING, 127]),
            (128, &[OCTET_STRING, 0x81, 128]),
            (255, &[OCTET_STRING, 0x81, 255]),
            (256, &[OCTET_STRING, 0x82, 1, 0]),
            (65_535, &[OCTET_STRING, 0x82, 255, 255]),
            (65_536, &[OCTET_STRING, 0x83, 1, 0, 0]),
        ] {
            let content = vec![7; len];
            let bytes = element(OCTET_STRING, &[&content]);
            assert_eq!(&bytes[..head.len()], head);
            assert_eq!(&bytes[head.len()..], content);
        }
    }

    #[test]
    fn years_have_two_digits_until_2049() {
        for (text, expected) in [
            ("2026-11-23T05:40:49Z", &b"\x17\x0d261123054049Z"[..]),
            ("2049-12-31T23:59:59Z", b"\x17\x0d491231235959Z"),
            ("2050-01-01T00:00:00Z", b"\x18\x0f20500101000000Z"),
        ] {
            assert_eq!(time(text.parse().unwrap()), expected);
        }
    }

    #[test]
    fn what_is_not_critical_does_not_say_so() {
        let ignored = extension(&[0x55, 0x1d, 0x0e], Criticality::MayBeIgnored, b"v");
        assert_eq!(ignored, b"\x30\x08\x06\x03\x55\x1d\x0e\x04\x01v");
        let critical = extension(&[0x55, 0x1d, 0x0e], Criticality::Critical, b"v");
        assert_eq!(
            critical,
            b"\x30\x0b\x06\x03\x55\x1d\x0e\x01\x01\xff\x04\x01v"
        );
    }
}
