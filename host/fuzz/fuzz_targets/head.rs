//! Heads: no input panics, every split parses to the same result, and accepted heads are forwarded as parsed.
//!
//! Each input is parsed both as a request and as a response. Fields that forwarding adds or removes on purpose
//! (connection fields, Via, Host) are covered by the unit tests of `http1::forward`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_http1::{
    BodyFraming, ConnectionAnnouncement, FieldId, Fields, HeadBounds, HeadError, HeadKind,
    HeadLimits, HeadScanner, OutFraming, RequestForm, RequestForward, RequestHead, ResponseForward,
    ResponseHead, TargetForm, forward_request, forward_response, request_framing, response_framing,
};

fuzz_target!(|input: &[u8]| {
    for kind in [
        HeadKind::Request,
        HeadKind::Response,
        HeadKind::RelaxedResponse,
    ] {
        let whole = scan_in_pieces(input, kind, input.len());
        for piece in [1, 2, 3, 7] {
            assert_eq!(
                scan_in_pieces(input, kind, piece),
                whole,
                "{kind:?} in pieces of {piece}"
            );
        }
        let Ok(Some(HeadBounds { start, end })) = whole else {
            continue;
        };
        match kind {
            HeadKind::Request => forwards_the_request(&input[..end], start),
            HeadKind::Response => forwards_the_response(parse_response(&input[..end], start)),
            HeadKind::RelaxedResponse => forwards_the_response(parse_relaxed(&input[..end], start)),
        }
    }
});

fn scan_in_pieces(
    input: &[u8],
    kind: HeadKind,
    piece: usize,
) -> Result<Option<HeadBounds>, HeadError> {
    let limits = HeadLimits::default();
    let mut scanner = HeadScanner::default();
    let mut arrived = 0;
    while arrived < input.len() {
        arrived = input.len().min(arrived + piece);
        if let Some(bounds) = scanner.scan(&input[..arrived], kind, &limits)? {
            return Ok(Some(bounds));
        }
    }
    Ok(None)
}

fn forwards_the_request(text: &[u8], start: usize) {
    let Some(head) = parse_request(text, start) else {
        return;
    };
    let Ok(framing) = request_framing(&head) else {
        return;
    };
    if head.target().form != TargetForm::Absolute {
        return;
    }
    let mut out = Vec::new();
    let options = RequestForward {
        via: "fuzz",
        drop_fields: &[],
        framing,
        upgrade: None,
        form: RequestForm::Origin,
    };
    forward_request(&head, &options, &mut out);

    let sent = parse_request(&out, 0).expect("a forwarded request is well-formed");
    assert_eq!(sent.method(), head.method());
    assert_eq!(sent.raw_target(), head.path());
    assert_eq!(request_framing(&sent), Ok(framing));
    assert_eq!(end_to_end(sent.fields()), end_to_end(head.fields()));
    let mut authority = Vec::new();
    head.write_authority(&mut authority);
    assert_eq!(
        sent.fields().all(FieldId::Host).collect::<Vec<_>>(),
        [authority]
    );
}

fn forwards_the_response(head: Option<ResponseHead>) {
    let Some(head) = head else {
        return;
    };
    let Ok(framing) = response_framing(&head, "GET") else {
        return;
    };
    let has_no_body = head.status() < 200 || matches!(head.status(), 204 | 304);
    let out_framing = match framing {
        _ if has_no_body => OutFraming::None,
        BodyFraming::Empty => OutFraming::Length(0),
        BodyFraming::Length(len) => OutFraming::Length(len),
        BodyFraming::Chunked => OutFraming::Chunked,
        BodyFraming::UntilClose => OutFraming::UntilClose,
    };
    let mut out = Vec::new();
    let connection = ConnectionAnnouncement::Nothing;
    let options = ResponseForward {
        via: "fuzz",
        framing: out_framing,
        connection,
        date: None,
        trailers: false,
    };
    forward_response(&head, &options, &mut out);

    let sent = parse_response(&out, 0).expect("a forwarded response is well-formed");
    assert_eq!(
        (sent.status(), sent.reason()),
        (head.status(), head.reason())
    );
    assert_eq!(response_framing(&sent, "GET"), Ok(framing));
    assert_eq!(end_to_end(sent.fields()), end_to_end(head.fields()));
}

fn parse_request(text: &[u8], start: usize) -> Option<RequestHead> {
    RequestHead::parse(text.to_vec(), start, Vec::new(), &HeadLimits::default()).ok()
}

fn parse_response(text: &[u8], start: usize) -> Option<ResponseHead> {
    ResponseHead::parse(text.to_vec(), start, Vec::new(), &HeadLimits::default()).ok()
}

fn parse_relaxed(text: &[u8], start: usize) -> Option<ResponseHead> {
    let limits = HeadLimits::default();
    ResponseHead::parse_relaxed(text.to_vec(), start, Vec::new(), &limits).ok()
}

/// The fields that forwarding must not change, in their order and spelling.
fn end_to_end(fields: Fields<'_>) -> Vec<(&[u8], &[u8])> {
    let nominated: Vec<_> = fields.members(FieldId::Connection).collect();
    let is_nominated = |name: &[u8]| {
        nominated
            .iter()
            .any(|option| option.eq_ignore_ascii_case(name))
    };
    let unknown = fields
        .lines()
        .filter(|line| line.id == FieldId::Other && !is_nominated(line.name));
    unknown.map(|line| (line.name, line.value)).collect()
}
