//! Requests past the limit are answered by the proxy, on whichever worker they come.

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
