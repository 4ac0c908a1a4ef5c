//! The chunked decoder: no input panics, every split gives the same content and the same end, and decoded content
//! survives encoding and decoding again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_http1::{BodyDecoder, BodyEncoder, BodyError, BodyFraming};

fuzz_target!(|input: &[u8]| {
    let whole = decode_in_pieces(input, input.len().max(1));
    for piece in [1, 2, 3, 7] {
        let split = decode_in_pieces(input, piece);
        assert_eq!(split.content, whole.content, "in pieces of {piece}");
        assert_eq!(split.end, whole.end, "in pieces of {piece}");
    }
    if let End::Complete { .. } = whole.end {
        let again = decode_in_pieces(&whole.encoded, whole.encoded.len());
        assert_eq!(again.content, whole.content);
        assert_eq!(
            again.end,
            End::Complete {
                consumed: whole.encoded.len()
            }
        );
        assert_eq!(again.encoded, whole.encoded);
    }
});

#[derive(Debug, PartialEq)]
enum End {
    Complete { consumed: usize },
    Unfinished,
    Refused(BodyError),
}

struct Decoded {
    content: Vec<u8>,
    end: End,
    /// Content and trailer section, re-encoded; empty unless the body is complete.
    encoded: Vec<u8>,
}

fn decode_in_pieces(input: &[u8], piece: usize) -> Decoded {
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
    let mut content = Vec::new();
    let mut consumed = 0;
    let mut arrived = 0;
    loop {
        let window = &input[consumed..arrived];
        let step = match decoder.decode(window) {
            Ok(step) => step,
            Err(error) => {
                return Decoded {
                    content,
                    end: End::Refused(error),
                    encoded: Vec::new(),
                };
            }
        };
        content.extend_from_slice(&window[step.content]);
        consumed += step.consumed;
        if step.end {
            assert!(decoder.is_complete());
            let encoded = encode(&content, &decoder);
            return Decoded {
                content,
                end: End::Complete { consumed },
                encoded,
            };
        }
        if step.consumed == 0 {
            if arrived == input.len() {
                assert!(
                    decoder.end_of_input().is_err(),
                    "a body that is not complete may not end"
                );
                return Decoded {
                    content,
                    end: End::Unfinished,
                    encoded: Vec::new(),
                };
            }
            arrived = input.len().min(arrived + piece);
        }
    }
}

fn encode(content: &[u8], decoder: &BodyDecoder) -> Vec<u8> {
    let encoder = BodyEncoder::Chunked;
    let mut out = Vec::new();
    if !content.is_empty() {
        encoder.begin_chunk(&mut out, content.len());
        out.extend_from_slice(content);
        encoder.end_chunk(&mut out);
    }
    encoder.finish(&mut out, decoder.trailers());
    out
}
