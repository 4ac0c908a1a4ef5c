//! HTTP/1.1 without sockets or clocks: bytes in, values out (RFC 9112, and RFC 9110 §7 for the changes of a proxy).
//!
//! In the order in which a message meets them: `parse` finds and parses a head, `repair` rewrites a malformed one where
//! that is allowed; `head` and `fields` have its contents, `target` determines where a request goes (9112 §3.2),
//! `framing` where its body ends (9112 §6); `body` and `chunked` read and write the body (9112 §7). `connection` says
//! whether a connection persists and whether it belongs to one client; `method`, `trace`, `via` and `content` have
//! further rules; `upgrade` says which protocol switches are allowed (9110 §7.8). `forward` writes the head for the
//! next hop (9110 §7.6), using `encode`. `glimpse` and `foreign` describe refused requests.
//!
//! Guarantees: violations of the grammar are refused with an error that names the fault; nothing is repaired except
//! what `repair` lists, and nothing is guessed; no input panics; the steady state does not allocate, because buffers
//! come from the caller and are returned to it. Out of scope: timeouts, replies to peers that violate rules, caching,
//! HTTP/2.

mod body;
mod chunked;
mod connection;
mod content;
mod encode;
mod fields;
mod foreign;
mod forward;
mod framing;
mod glimpse;
mod head;
mod method;
mod parse;
mod repair;
mod target;
mod trace;
mod upgrade;
mod via;

pub use body::{BodyDecoder, BodyEncoder, BodyError, DecodedPiece};
pub use chunked::Trailers;
pub use connection::{
    ConnectionChallenge, connection_challenge, is_connection_bound, is_persistent,
};
pub use content::{forget_digests, is_event_stream};
pub use encode::{
    is_usual_reason, push_decimal, push_hexadecimal, reason_phrase, write_decimal, write_field,
    write_status_line,
};
pub use fields::{
    ConnectionOptions, FieldId, FieldLine, FieldRefused, FieldView, Fields, FieldsMut, Span,
    check_field,
};
pub use foreign::Foreign;
pub use forward::{
    ConnectionAnnouncement, OutFraming, RequestForm, RequestForward, ResponseForward,
    forward_request, forward_response,
};
pub use framing::{BodyFraming, FramingError, request_framing, response_framing};
pub use glimpse::Glimpse;
pub use head::{Refused, RequestHead, ResponseHead, Version};
pub use method::is_idempotent;
pub use parse::{HeadBounds, HeadError, HeadKind, HeadLimits, HeadScanner};
pub use target::{Scheme, Target, TargetError, TargetForm};
pub use trace::{max_forwards, trace_content};
pub use upgrade::{
    RequestedUpgrade, requested_upgrade, requests_websocket, switches_to_websocket,
    upgrade_accepted,
};
pub use via::{is_named_in_via, via_value};

#[cfg(test)]
mod tests {
    //! Properties of all messages, tested on valid ones with random faults.

    use super::*;

    const REQUESTS: &[&str] = &[
        "GET http://Example.com:8080/a?b HTTP/1.1\r\nHost: example.com:8080\r\nConnection: x-a, te\r\nTE: trailers\r\nX-A: b\r\n\r\n",
        "\r\nPOST http://[::1]?q HTTP/1.1\r\nhost:\r\nContent-Length: 5, 5\r\nVia: 1.1 x\r\n\r\n",
        "PUT http://1.2.3.4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a:1\r\nMax-Forwards: 7\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ];
    const RESPONSES: &[&str] = &[
        "HTTP/1.1 200 OK\r\nServer : x\r\nContent-Length: 5\r\nConnection: x\r\n\r\n",
        "HTTP/1.0 404 \r\nTransfer-Encoding: chunked\r\nVia: 1.0 a\r\n\r\n",
        "HTTP/1.1 426\r\nUpgrade: a\r\nConnection: Upgrade, close\r\nDate: x\r\n\r\n",
    ];
    const BODY: &str = "5;a=b\r\nhello\r\n0a \r\n0123456789\r\n0\r\nX: y\r\nHost: z\r\n\r\n";

    /// A small generator (xorshift), so that failures are reproducible.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }

        /// The text with up to three bytes replaced, removed, inserted or duplicated.
        fn mutated(&mut self, text: &str) -> Vec<u8> {
            const BYTES: &[u8] = b"\r\n\0\t :,;/?#@[].0129afx\x7f\x80\xff";
            let mut text = text.as_bytes().to_vec();
            for _ in 0..self.below(4) {
                let at = self.below(text.len());
                let byte = BYTES[self.below(BYTES.len())];
                match self.below(4) {
                    0 => text[at] = byte,
                    1 => drop(text.remove(at)),
                    2 => text.insert(at, byte),
                    _ => text.insert(at, text[at]),
                }
            }
            text
        }
    }

    fn bounds(text: &[u8], kind: HeadKind) -> Option<HeadBounds> {
        let limits = HeadLimits::default();
        let whole = HeadScanner::default().scan(text, kind, &limits);
        let mut scanner = HeadScanner::default();
        let mut bytewise = (0..=text.len()).map(|len| scanner.scan(&text[..len], kind, &limits));
        let first = bytewise.find(|step| *step != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(whole, first, "{}", text.escape_ascii());
        whole.ok().flatten()
    }

    fn request(text: &[u8]) -> Option<RequestHead> {
        let HeadBounds { start, end } = bounds(text, HeadKind::Request)?;
        RequestHead::parse(
            text[..end].to_vec(),
            start,
            Vec::new(),
            &HeadLimits::default(),
        )
        .ok()
    }

    fn response(text: &[u8]) -> Option<ResponseHead> {
        let HeadBounds { start, end } = bounds(text, HeadKind::Response)?;
        ResponseHead::parse(
            text[..end].to_vec(),
            start,
            Vec::new(),
            &HeadLimits::default(),
        )
        .ok()
    }

    #[test]
    fn a_forwarded_request_equals_what_was_parsed() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for round in 0..40_000 {
            let text = random.mutated(REQUESTS[round % REQUESTS.len()]);
            let Some(head) = request(&text) else { continue };
            let Ok(framing) = request_framing(&head) else {
                continue;
            };
            let options = RequestForward {
                via: "p",
                drop_fields: &[],
                framing,
                upgrade: requested_upgrade(&head),
                form: RequestForm::Origin,
            };
            let mut out = Vec::new();
            forward_request(&head, &options, &mut out);
            let again = request(&out).expect("a forwarded head is a good one");
            let shown = text.escape_ascii();
            assert_eq!(again.method(), head.method(), "{shown}");
            assert_eq!(again.host(), head.host(), "{shown}");
            assert_eq!(again.path(), head.path(), "{shown}");
            // Methods that expect content announce its absence.
            let content = |framing| match framing {
                Ok(BodyFraming::Empty) => Ok(BodyFraming::Length(0)),
                framing => framing,
            };
            let (sent, framing) = (content(request_framing(&again)), content(Ok(framing)));
            assert_eq!(sent, framing, "{shown}");
        }
    }

    #[test]
    fn a_forwarded_response_equals_what_was_parsed() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..40_000 {
            let text = random.mutated(RESPONSES[round % RESPONSES.len()]);
            let Some(head) = response(&text) else {
                continue;
            };
            let Ok(framing) = response_framing(&head, "GET") else {
                continue;
            };
            let framing_out = match framing {
                BodyFraming::Empty => OutFraming::None,
                BodyFraming::Length(length) => OutFraming::Length(length),
                BodyFraming::Chunked => OutFraming::Chunked,
                BodyFraming::UntilClose => OutFraming::UntilClose,
            };
            let options = ResponseForward {
                via: "p",
                framing: framing_out,
                connection: ConnectionAnnouncement::Nothing,
                date: Some("now"),
                trailers: true,
            };
            let mut out = Vec::new();
            forward_response(&head, &options, &mut out);
            let again = response(&out).expect("a forwarded head is a good one");
            let shown = text.escape_ascii();
            assert_eq!(again.status(), head.status(), "{shown}");
            assert_eq!(again.reason(), head.reason(), "{shown}");
            assert_eq!(response_framing(&again, "GET"), Ok(framing), "{shown}");
        }
    }

    /// The content of a chunked body in pieces of at most `piece` bytes, and its length once it is complete.
    fn content(input: &[u8], piece: usize) -> (Vec<u8>, Result<Option<usize>, BodyError>) {
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
        let (mut content, mut at) = (Vec::new(), 0);
        while at < input.len() && !decoder.is_complete() {
            let window = &input[at..input.len().min(at + piece)];
            let step = match decoder.decode(window) {
                Ok(step) => step,
                Err(error) => return (content, Err(error)),
            };
            content.extend_from_slice(&window[step.content]);
            at += step.consumed;
        }
        (content, Ok(decoder.is_complete().then_some(at)))
    }

    #[test]
    fn a_chunked_body_is_the_same_in_any_split() {
        let mut random = Random(0x1234_5678_9abc_def1);
        for _ in 0..40_000 {
            let body = random.mutated(BODY);
            let whole = content(&body, usize::MAX - body.len());
            for piece in [1, 1 + random.below(body.len())] {
                assert_eq!(content(&body, piece), whole, "{}", body.escape_ascii());
            }
        }
    }
}
