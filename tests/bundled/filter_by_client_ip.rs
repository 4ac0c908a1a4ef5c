//! Clients are served or denied by their address.

use crate::support::{OK, Origin, Proxy};

#[test]
fn a_denied_client_gets_a_tea_pot_and_the_origin_sees_nothing() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("filter_by_client_ip", "FilterByClientIp")
        .plugin_config("FilterByClientIp.deny=[\"127.0.0.0/8\"]")
        .start();
    let answer = proxy.get(&origin, "/");
    assert_eq!(answer.start, "HTTP/1.1 418 I'm a tea pot");
    let authority = origin.authority();
    let tunnel = proxy.ask(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(tunnel.status(), 418);
    origin.assert_untouched();
}

#[test]
fn an_allowed_client_is_served() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("filter_by_client_ip", "FilterByClientIp")
        .plugin_config("FilterByClientIp.allow=[\"127.0.0.1\", \"::1\"]")
        .start();
    assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
}
