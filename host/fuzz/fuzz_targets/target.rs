//! Request targets: no input panics, and an accepted target has exactly one host, port and path.
//!
//! The first byte of the input selects the method; the rest is the target. Filters decide by `host()`; if the proxy
//! could dial a different host, they would be bypassed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_http1::{HeadLimits, RequestHead, TargetForm};

fuzz_target!(|input: &[u8]| {
    let Some((choice, target)) = input.split_first() else {
        return;
    };
    let method = ["GET", "CONNECT", "OPTIONS"][usize::from(choice % 3)];
    let Some(head) = parse(method, target) else {
        return;
    };
    let normalised = match head.target().form {
        TargetForm::Absolute => absolute(&head),
        TargetForm::Authority => authority(&head).into_bytes(),
        TargetForm::Origin | TargetForm::Asterisk => return,
    };
    let again = parse(method, &normalised).expect("a normalised target is well-formed");
    assert_eq!(
        (again.host(), again.port(), again.path()),
        (head.host(), head.port(), head.path())
    );
    assert_eq!(again.host(), again.host().to_ascii_lowercase());
    assert!(!again.host().is_empty() && again.port() != 0);
});

fn parse(method: &str, target: &[u8]) -> Option<RequestHead> {
    let text = [
        method.as_bytes(),
        b" ",
        target,
        b" HTTP/1.1\r\nHost: any\r\n\r\n",
    ]
    .concat();
    RequestHead::parse(text, 0, Vec::new(), &HeadLimits::default()).ok()
}

fn authority(head: &RequestHead) -> String {
    match head.host() {
        literal if literal.contains(':') => format!("[{literal}]:{}", head.port()),
        name => format!("{name}:{}", head.port()),
    }
}

fn absolute(head: &RequestHead) -> Vec<u8> {
    let scheme = head
        .target()
        .scheme
        .expect("absolute-form has a scheme")
        .as_str();
    let path = if head.path() == b"*" {
        b""
    } else {
        head.path()
    };
    [scheme.as_bytes(), b"://", authority(head).as_bytes(), path].concat()
}
