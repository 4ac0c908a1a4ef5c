//! Properties of all codings, and content from other programs.

use std::convert::Infallible;

use super::fixtures::*;
use super::*;

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// Content from other programs with a single end.
const FOREIGN: [(Coding, &[u8]); 8] = [
    (Coding::Gzip, GZIP_WITH_NAME),
    (Coding::Deflate, ZLIB),
    (Coding::Deflate, ZLIB_SMALL_WINDOW),
    (Coding::Deflate, DEFLATE),
    (Coding::Brotli, BROTLI),
    (Coding::Brotli, BROTLI_UNCOMPRESSED_WINDOW_24),
    (Coding::Zstd, ZSTD),
    (Coding::Zstd, ZSTD_STREAM),
];

const MAX_RATIO: u32 = 100;

/// A small generator (xorshift), so that failures are reproducible.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Words of a small vocabulary with numbers in between: partly repetitive.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(len + 32);
        while text.len() < len {
            let word = ["alpha ", "beta", "gamma=", "delta\r\n", "epsilon"][self.below(5)];
            text.extend_from_slice(word.as_bytes());
            text.extend_from_slice(&self.next().to_le_bytes()[..self.below(6)]);
        }
        text.truncate(len);
        text
    }

    /// The input in pieces of up to `max` bytes.
    fn pieces<'a>(&mut self, mut input: &'a [u8], max: usize) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !input.is_empty() {
            let (piece, rest) = input.split_at((1 + self.below(max)).min(input.len()));
            pieces.push(piece);
            input = rest;
        }
        pieces
    }
}

fn encode<'a>(coding: Coding, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut encoder = Encoder::new(coding);
    let mut coded = Vec::new();
    for piece in pieces {
        encoder.encode(piece, &mut coded).unwrap();
    }
    encoder.finish(&mut coded).unwrap();
    coded
}

/// The decoded pieces, and how they end.
fn decode<'a>(
    coding: Coding,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(coding, MAX_RATIO);
    let mut content = Vec::new();
    for piece in pieces {
        if let Err(error) = decode_piece(&mut decoder, piece, &mut content) {
            assert_eq!(decoder.finish(), Err(error));
            return (content, Err(error));
        }
    }
    (content, decoder.finish())
}

fn decode_piece(
    decoder: &mut Decoder,
    coded: &[u8],
    content: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let sink = |piece: &[u8]| {
        assert!((1..=MAX_PIECE_LEN).contains(&piece.len()));
        content.extend_from_slice(piece);
        Ok::<_, Infallible>(())
    };
    match decoder.decode(coded, sink) {
        Ok(()) => Ok(()),
        Err(DecodeFailure::Coded(error)) => Err(error),
        Err(DecodeFailure::Sink(never)) => match never {},
    }
}

fn plain() -> (Vec<u8>, Result<(), DecodeError>) {
    (PLAIN.to_vec(), Ok(()))
}

#[test]
fn reads_the_field() {
    let of = |values: &[&str]| Codings::of(values.iter().map(|value| value.as_bytes()));
    for (values, expected) in [
        (&[][..], Codings::Identity),
        (&[""], Codings::Identity),
        (&["identity"], Codings::Identity),
        (&["Identity, ,\t"], Codings::Identity),
        (&["gzip"], Codings::One(Coding::Gzip)),
        (&["X-GZip"], Codings::One(Coding::Gzip)),
        (&["deflate"], Codings::One(Coding::Deflate)),
        (&["Br"], Codings::One(Coding::Brotli)),
        (&["zstd"], Codings::One(Coding::Zstd)),
        (&[", br ,identity"], Codings::One(Coding::Brotli)),
        (&["identity", "", "gzip"], Codings::One(Coding::Gzip)),
        (&["compress"], Codings::Unknown),
        (&["gzip;q=1"], Codings::Unknown),
        (&["gzip br"], Codings::Unknown),
        (&["gzip, gzip"], Codings::Unknown),
        (&["gzip", "br"], Codings::Unknown),
        (&["dcb"], Codings::Unknown),
        (&["\u{e9}"], Codings::Unknown),
    ] {
        assert_eq!(of(values), expected, "{values:?}");
    }
}

#[test]
fn encoding_and_decoding_round_trip() {
    let mut random = Random(0x5eed);
    for len in [0, 1, 2, 500, 64 * 1024, 3 * 1024 * 1024] {
        let content = random.text(len);
        for coding in ALL {
            let max = if len > 1000 { 100_000 } else { 100 };
            let coded = encode(coding, random.pieces(&content, max));
            let (decoded, end) = decode(coding, random.pieces(&coded, max));
            assert_eq!(end, Ok(()), "{coding:?} {len}");
            assert!(decoded == content, "{coding:?} {len}");
        }
    }
}

#[test]
fn small_content_decodes_the_same_at_every_split() {
    for content in [&b""[..], b"a", PLAIN] {
        for coding in ALL {
            let coded = encode(coding, [content]);
            let expected = (content.to_vec(), Ok(()));
            for at in 0..=coded.len() {
                let (first, rest) = coded.split_at(at);
                assert_eq!(decode(coding, [first, rest]), expected, "{coding:?} {at}");
            }
            assert_eq!(decode(coding, coded.chunks(1)), expected, "{coding:?}");
        }
    }
}

#[test]
fn decodes_what_other_programs_encode_at_every_split() {
    let more = [(Coding::Gzip, GZIP_MEMBERS), (Coding::Zstd, ZSTD_FRAMES)];
    for (coding, coded) in FOREIGN.into_iter().chain(more) {
        for at in 0..=coded.len() {
            let (first, rest) = coded.split_at(at);
            assert_eq!(decode(coding, [first, rest]), plain(), "{coding:?} {at}");
        }
        assert_eq!(decode(coding, coded.chunks(1)), plain(), "{coding:?}");
    }
}

#[test]
fn empty_content_is_complete() {
    for coding in ALL {
        assert_eq!(decode(coding, []), (vec![], Ok(())));
        assert_eq!(decode(coding, [&b""[..], b""]), (vec![], Ok(())));
    }
}

#[test]
fn truncated_content_is_never_complete() {
    let own = ALL.map(|coding| (coding, encode(coding, [&Random(7).text(3000)[..]])));
    let own = own.iter().map(|(coding, coded)| (*coding, &coded[..]));
    for (coding, coded) in FOREIGN.into_iter().chain(own) {
        for len in 1..coded.len() {
            let (_, end) = decode(coding, [&coded[..len]]);
            assert_eq!(end, Err(DecodeError::CutOff), "{coding:?} {len}");
        }
    }
}

#[test]
fn several_members_or_frames_may_only_end_between_them() {
    for (coding, coded, ends) in [
        (Coding::Gzip, GZIP_MEMBERS, &[64][..]),
        (Coding::Zstd, ZSTD_FRAMES, &[11, 69]),
    ] {
        let complete = (1..coded.len()).filter(|&len| decode(coding, [&coded[..len]]).1.is_ok());
        assert_eq!(complete.collect::<Vec<_>>(), ends, "{coding:?}");
    }
}

#[test]
fn bytes_after_the_end_are_dropped() {
    for (coding, coded) in FOREIGN {
        for stray in [&b"\0"[..], b"\0\0\0\0", b"stray", b"\x1fstray", b"\n"] {
            let both = [coded, stray].concat();
            let expected = match coding {
                Coding::Zstd => continue,
                _ => plain(),
            };
            assert_eq!(decode(coding, [&both[..]]), expected, "{coding:?}");
            assert_eq!(decode(coding, both.chunks(1)), expected, "{coding:?}");
        }
    }
}

#[test]
fn further_members_must_be_valid() {
    for (coding, coded, stray, expected) in [
        (
            Coding::Gzip,
            GZIP_WITH_NAME,
            &b"\x1f"[..],
            DecodeError::CutOff,
        ),
        (
            Coding::Gzip,
            GZIP_WITH_NAME,
            b"\x1f\x8b",
            DecodeError::CutOff,
        ),
        (
            Coding::Gzip,
            GZIP_WITH_NAME,
            b"\x1f\x8bstray",
            DecodeError::Malformed,
        ),
        (Coding::Zstd, ZSTD, b"stray", DecodeError::Malformed),
        (Coding::Zstd, ZSTD, b"\x28", DecodeError::CutOff),
    ] {
        let both = [coded, stray].concat();
        assert_eq!(decode(coding, [&both[..]]).1, Err(expected), "{stray:?}");
    }
}

#[test]
fn refuses_invalid_content() {
    // A frame of one byte with a window of 16 MiB; the window of the second one is 8 MiB.
    const ZSTD_LARGE_WINDOW: &[u8] = b"\x28\xb5\x2f\xfd\0\x70\x09\0\0a";
    const ZSTD_LARGEST_WINDOW: &[u8] = b"\x28\xb5\x2f\xfd\0\x68\x09\0\0a";
    for (coding, coded) in [
        (Coding::Gzip, PLAIN),
        (Coding::Gzip, ZLIB),
        (Coding::Gzip, b"\x1f\x8c\x08"),
        (Coding::Gzip, b"\x1f\x8b\x07\0\0\0\0\0\0\x03"),
        (Coding::Deflate, GZIP_WITH_NAME),
        // A preset dictionary (RFC 1950 §2.2).
        (Coding::Deflate, b"\x78\xbb\x01\x02\x03\x04\x03\0"),
        // The header of a large window.
        (Coding::Brotli, b"\x11\x1a\x03\0\0"),
        (Coding::Zstd, PLAIN),
        (Coding::Zstd, ZSTD_LARGE_WINDOW),
    ] {
        let (content, end) = decode(coding, [coded]);
        assert_eq!(
            (content, end),
            (vec![], Err(DecodeError::Malformed)),
            "{coded:?}"
        );
    }
    let (content, end) = decode(Coding::Zstd, [ZSTD_LARGEST_WINDOW]);
    assert_eq!((&content[..], end), (&b"a"[..], Ok(())));
}

#[test]
fn a_wrong_checksum_is_malformed() {
    for (coding, coded, at) in [
        (Coding::Gzip, GZIP_WITH_NAME, GZIP_WITH_NAME.len() - 8),
        (Coding::Gzip, GZIP_WITH_NAME, GZIP_WITH_NAME.len() - 1),
        (Coding::Deflate, ZLIB, ZLIB.len() - 1),
        (Coding::Zstd, ZSTD, ZSTD.len() - 1),
    ] {
        let mut coded = coded.to_vec();
        coded[at] ^= 1;
        assert_eq!(decode(coding, [&coded[..]]).1, Err(DecodeError::Malformed));
    }
}

#[test]
fn no_flipped_byte_panics() {
    let more = [(Coding::Gzip, GZIP_MEMBERS), (Coding::Zstd, ZSTD_FRAMES)];
    for (coding, coded) in FOREIGN.into_iter().chain(more) {
        let mut coded = coded.to_vec();
        for at in 0..coded.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                coded[at] ^= flip;
                let (whole, end) = decode(coding, [&coded[..]]);
                let (split, split_end) = decode(coding, coded.chunks(1));
                assert_eq!(end.is_ok(), split_end.is_ok(), "{coding:?} {at} {flip}");
                assert!(end.is_err() || whole == split, "{coding:?} {at} {flip}");
                coded[at] ^= flip;
            }
        }
    }
}

#[test]
fn no_damage_to_long_content_panics() {
    let mut random = Random(0xbad);
    for coding in ALL {
        let coded = encode(coding, [&random.text(20_000)[..]]);
        for _ in 0..200 {
            let mut damaged = coded.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len());
                damaged[at] = random.below(256) as u8;
            }
            let pieces = random.pieces(&damaged, 4000);
            let (content, _) = decode(coding, pieces);
            assert!(content.len() as u64 <= (1 << 20) + 100 * damaged.len() as u64);
        }
    }
}

#[test]
fn expanding_too_much_is_a_bomb() {
    let zeros = vec![0; 64 * 1024];
    for coding in ALL {
        let coded = encode(coding, std::iter::repeat_n(&zeros[..], 64));
        let (content, end) = decode(coding, [&coded[..]]);
        assert_eq!(end, Err(DecodeError::Bomb), "{coding:?}");
        assert!(content.len() <= (1 << 20) + MAX_RATIO as usize * coded.len());
        let (content, end) = decode(coding, coded.chunks(1));
        assert_eq!(end, Err(DecodeError::Bomb), "{coding:?}");
        assert!(content.len() <= (1 << 20) + MAX_RATIO as usize * coded.len());
    }
}

#[test]
fn a_gibibyte_in_members_is_a_bomb_before_it_is_decoded() {
    let zeros = vec![0; 1024 * 1024];
    for coding in [Coding::Gzip, Coding::Zstd] {
        let member = encode(coding, [&zeros[..]]);
        let coded = member.repeat(1024);
        let mut decoder = Decoder::new(coding, MAX_RATIO);
        let mut decoded = 0;
        let end = decoder.decode(&coded, |piece| {
            assert!(piece.len() <= MAX_PIECE_LEN);
            decoded += piece.len();
            Ok::<_, Infallible>(())
        });
        assert_eq!(end, Err(DecodeError::Bomb.into()));
        assert!(decoded < 2 * 1024 * 1024, "{coding:?} {decoded}");
    }
}

#[test]
fn the_first_mebibyte_may_expand_without_limit() {
    let zeros = vec![0; 1024 * 1024];
    for coding in ALL {
        let coded = encode(coding, [&zeros[..]]);
        let mut decoder = Decoder::new(coding, 0);
        assert_eq!(decode_piece(&mut decoder, &coded, &mut Vec::new()), Ok(()));
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn a_failed_sink_ends_decoding() {
    for coding in ALL {
        let coded = encode(coding, [PLAIN, &[0; 200_000]]);
        let mut decoder = Decoder::new(coding, MAX_RATIO);
        let mut calls = 0;
        let end = decoder.decode(&coded, |_| {
            calls += 1;
            Err("full")
        });
        assert_eq!((calls, end), (1, Err(DecodeFailure::Sink("full"))));
        let again = decode_piece(&mut decoder, &coded, &mut Vec::new());
        assert_eq!(again, Err(DecodeError::CutOff));
        assert_eq!(decoder.finish(), Err(DecodeError::CutOff));
    }
}

#[test]
fn flushed_content_can_be_decoded() {
    let mut random = Random(0xf1);
    for coding in ALL {
        let mut encoder = Encoder::new(coding);
        let mut decoder = Decoder::new(coding, MAX_RATIO);
        let (mut expected, mut content) = (Vec::new(), Vec::new());
        for len in [1, 10, 0, 9000, 100_000, 3] {
            let text = random.text(len);
            expected.extend_from_slice(&text);
            let mut coded = Vec::new();
            encoder.encode(&text, &mut coded).unwrap();
            encoder.flush(&mut coded).unwrap();
            decode_piece(&mut decoder, &coded, &mut content).unwrap();
            assert!(content == expected, "{coding:?} {len}");
        }
        let mut coded = Vec::new();
        encoder.finish(&mut coded).unwrap();
        decode_piece(&mut decoder, &coded, &mut content).unwrap();
        assert!(content == expected, "{coding:?}");
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn content_that_repeats_becomes_shorter() {
    let text = PLAIN.repeat(100);
    for coding in ALL {
        let coded = encode(coding, text.chunks(1000));
        assert!(coded.len() < 400, "{coding:?} {}", coded.len());
    }
}

#[test]
fn encodes_deflate_with_the_wrapping_of_zlib() {
    assert_eq!(encode(Coding::Deflate, [PLAIN])[0], 0x78);
}
