//! The content decoders: no input causes a panic, every split gives the same content and the same end (except for one
//! leniency of zstd, documented in its file), the ratio bounds memory, and encoding then decoding restores the content.
//!
//! The first byte selects the coding. The rest is used twice: as coded content to decode and as content to encode.

#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use proxy_content_coding::{
    Coding, DecodeError, DecodeFailure, Decoder, Encoder, MAX_PIECE_LEN,
};

const MAX_RATIO: u32 = 100;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let coding = match choice % 4 {
        0 => Coding::Gzip,
        1 => Coding::Deflate,
        2 => Coding::Brotli,
        _ => Coding::Zstd,
    };
    let (whole, end) = decode_in_pieces(coding, input, input.len().max(1));
    for piece in [1, 2, 3, 7] {
        let (split, split_end) = decode_in_pieces(coding, input, piece);
        if end.is_ok() {
            assert_eq!(split_end, end, "in pieces of {piece}");
            assert_eq!(split, whole, "in pieces of {piece}");
        } else if coding != Coding::Zstd {
            assert!(split_end.is_err(), "in pieces of {piece}");
        }
    }
    let coded = encode_in_pieces(coding, input, 1 + usize::from(*choice));
    assert_eq!(
        decode_in_pieces(coding, &coded, 5),
        (input.to_vec(), Ok(()))
    );
});

fn decode_in_pieces(
    coding: Coding,
    input: &[u8],
    piece: usize,
) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(coding, MAX_RATIO);
    let mut content = Vec::new();
    for piece in input.chunks(piece) {
        let result = decoder.decode(piece, |piece| {
            assert!((1..=MAX_PIECE_LEN).contains(&piece.len()));
            content.extend_from_slice(piece);
            Ok::<_, Infallible>(())
        });
        assert!(content.len() <= (1 << 20) + MAX_RATIO as usize * input.len());
        if let Err(DecodeFailure::Coded(error)) = result {
            assert_eq!(decoder.finish(), Err(error));
            return (content, Err(error));
        }
    }
    (content, decoder.finish())
}

fn encode_in_pieces(coding: Coding, content: &[u8], piece: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(coding);
    let mut coded = Vec::new();
    for piece in content.chunks(piece) {
        encoder
            .encode(piece, &mut coded)
            .expect("there is memory left");
        encoder.flush(&mut coded).expect("there is memory left");
    }
    encoder.finish(&mut coded).expect("there is memory left");
    coded
}
