//! The proxy rejects requests over the limit, whichever worker they reach.

use crate::support::tls::{Answer, Ask, Offer, Pki};
use crate::support::{OK, Origin, Proxy};

#[test]
fn requests_past_the_limit_never_reach_the_origin() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--num-workers", "2"])
        .plugin("rate_limit", "RateLimit")
        .plugin_config("RateLimit.requests=3")
        .plugin_config("RateLimit.window_seconds=86400")
        .start();
    for _ in 0..3 {
        assert_eq!(proxy.get(&origin, "/served").text(), "origin-ok");
    }
    let denied = proxy.get(&origin, "/denied");
    assert_eq!(denied.start, "HTTP/1.1 429 Too Many Requests");
    let seconds = denied.field("Retry-After").expect("a time to come back");
    assert!(
        seconds
            .parse::<u32>()
            .is_ok_and(|seconds| (1..=28_800).contains(&seconds))
    );
    let line = proxy.wait_for_line("/denied");
    assert!(line.ends_with(" - rate_limit=denied 127.0.0.1"), "{line}");
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a_tunnel_and_the_first_request_inside_count_once() {
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let origin = pki.origin().offering(offer).answering(Answer::ok("ok"));
        let proxy = pki
            .intercepting()
            .plugin("rate_limit", "RateLimit")
            .plugin_config("RateLimit.requests=3")
            .plugin_config("RateLimit.window_seconds=86400")
            .start();
        let authority = origin.authority();
        let client = pki.client(&proxy).offering(offer);
        let mut session = client.https(&authority);
        let mut ask = || session.ask(Ask::get(&authority, "/")).status;
        assert_eq!(
            [ask(), ask(), ask(), ask()],
            [200, 200, 200, 429],
            "{offer:?}"
        );
        let tunnel = client.connect(&authority);
        assert_eq!(tunnel.err().map(|answer| answer.status), Some(429));
    }
}
