//! Selects the content coding for a client (RFC 9110 §12.5.3).
//!
//! Pure: parses Accept-Encoding and returns the codings to try, best first. A client without Accept-Encoding gets
//! content without coding. `zstd` and `deflate` are not offered: clients that accept them accept one of the others.
//! `files.rs` decides which codings of a file exist and are useful.

use crate::content_coding::Coding;
use crate::http1::Fields;

/// The weight of each coding in thousandths; 0: not acceptable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AcceptEncoding {
    gzip: u16,
    brotli: u16,
    identity: u16,
}

impl AcceptEncoding {
    /// Parses Accept-Encoding.
    pub(super) fn of(fields: Fields<'_>) -> Self {
        let (mut gzip, mut brotli, mut any) = (None, None, None);
        let mut identity = 0;
        let values = fields.named("accept-encoding");
        for member in values.flat_map(|value| value.split(|&byte| byte == b',')) {
            let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = parts.next().map_or(Some(1000), weight).unwrap_or(0);
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            if is(b"gzip") || is(b"x-gzip") {
                gzip = Some(weight);
            } else if is(b"br") {
                brotli = Some(weight);
            } else if is(b"identity") {
                identity = weight;
            } else if is(b"*") {
                any = Some(weight);
            }
        }
        let or_any = |named: Option<u16>| named.or(any).unwrap_or(0);
        Self {
            gzip: or_any(gzip),
            brotli: or_any(brotli),
            identity,
        }
    }

    /// The codings that the client accepts and does not rank below uncompressed content, best first. `preferred` comes
    /// first among equals.
    pub(super) fn best_first(self, preferred: Coding) -> impl Iterator<Item = Coding> {
        let gzip = (self.gzip, Coding::Gzip);
        let brotli = (self.brotli, Coding::Brotli);
        let is_gzip_first =
            self.gzip > self.brotli || self.gzip == self.brotli && preferred == Coding::Gzip;
        let order = match is_gzip_first {
            true => [gzip, brotli],
            false => [brotli, gzip],
        };
        order
            .into_iter()
            .filter(move |&(weight, _)| weight > 0 && weight >= self.identity)
            .map(|(_, coding)| coding)
    }
}

/// The name of a coding in field values, file names and entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodingNames {
    pub(super) field: &'static str,
    pub(super) file: &'static str,
    pub(super) tag: &'static str,
}

/// The names of a coding that [`AcceptEncoding::best_first`] returns.
pub(super) fn names(coding: Coding) -> CodingNames {
    let (field, file, tag) = match coding {
        Coding::Brotli => ("br", ".br", "-br"),
        Coding::Gzip => ("gzip", ".gz", "-gz"),
        Coding::Deflate => ("deflate", ".zz", "-zz"),
        Coding::Zstd => ("zstd", ".zst", "-zst"),
    };
    CodingNames { field, file, tag }
}

/// A weight in thousandths (RFC 9110 §12.4.2).
fn weight(text: &[u8]) -> Option<u16> {
    let text = text
        .strip_prefix(b"q=")
        .or_else(|| text.strip_prefix(b"Q="))?;
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0');
    for at in 0..3 {
        let digit = *decimals.get(at).unwrap_or(&b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u16::from(digit - b'0');
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::request;
    use super::*;

    fn best_first(accept: &str, preferred: Coding) -> Vec<Coding> {
        let head = request(format!("GET /a HTTP/1.1\r\nHost: a\r\n{accept}\r\n"));
        AcceptEncoding::of(head.fields())
            .best_first(preferred)
            .collect()
    }

    #[test]
    fn a_client_gets_its_preferred_coding() {
        use Coding::{Brotli, Gzip};
        let table: [(&str, &[Coding]); 20] = [
            ("", &[]),
            ("Accept-Encoding:\r\n", &[]),
            ("Accept-Encoding: gzip\r\n", &[Gzip]),
            ("Accept-Encoding: X-GZIP\r\n", &[Gzip]),
            (
                "Accept-Encoding: gzip, deflate, br, zstd\r\n",
                &[Brotli, Gzip],
            ),
            (
                "Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n",
                &[Brotli, Gzip],
            ),
            ("Accept-Encoding: br;q=0.9, gzip;q=1.0\r\n", &[Gzip, Brotli]),
            ("Accept-Encoding: br ; q=0.001, gzip;q=0\r\n", &[Brotli]),
            ("Accept-Encoding: *\r\n", &[Brotli, Gzip]),
            ("Accept-Encoding: *;q=0\r\n", &[]),
            ("Accept-Encoding: br;q=0, *\r\n", &[Gzip]),
            ("Accept-Encoding: *;q=0.5, gzip\r\n", &[Gzip, Brotli]),
            ("Accept-Encoding: identity\r\n", &[]),
            ("Accept-Encoding: identity, gzip;q=0.5\r\n", &[]),
            ("Accept-Encoding: identity;q=0.5, gzip\r\n", &[Gzip]),
            ("Accept-Encoding: identity;q=0, br\r\n", &[Brotli]),
            ("Accept-Encoding: gzip;q=2\r\n", &[]),
            ("Accept-Encoding: gzip;q=0.1234\r\n", &[]),
            ("Accept-Encoding: gzip;q=1.001, br;q=1.\r\n", &[Brotli]),
            ("Accept-Encoding: gzipped, brotli\r\n", &[]),
        ];
        for (accept, expected) in table {
            assert_eq!(best_first(accept, Brotli), expected, "{accept}");
        }
    }

    #[test]
    fn without_a_preference_of_the_client_ours_decides() {
        let accept = "Accept-Encoding: br, gzip\r\n";
        assert_eq!(
            best_first(accept, Coding::Gzip),
            [Coding::Gzip, Coding::Brotli]
        );
    }
}
