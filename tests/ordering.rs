//! Plugins are called in the order of the command line.
//!
//! Two bundled plugins show it: one drops requests for a host, the other redirects every plain request to its server.
//! The result depends on which comes first.

use crate::support::{Origin, Proxy, ProxyCommand, response};

const GOOGLE: &str = "GET http://google.com/ HTTP/1.1\r\nHost: google.com\r\n\r\n";
const OTHER: &str = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n";

fn redirected_to(origin: &Origin, command: ProxyCommand) -> ProxyCommand {
    command.plugin_config(&format!(
        "RedirectToCustomServer.server=\"{}\"",
        origin.authority()
    ))
}

#[test]
fn filter_before_redirect_drops_the_filtered_host() {
    let origin = Origin::answering(response("200 OK", "custom"));
    let command = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin("redirect_to_custom_server", "RedirectToCustomServer");
    let proxy = redirected_to(&origin, command).start();
    let answer = proxy.ask(GOOGLE);
    assert_eq!(answer.start, "HTTP/1.1 418 I'm a tea pot");
    origin.assert_untouched();
    assert_eq!(proxy.ask(OTHER).text(), "custom");
}

#[test]
fn redirect_before_filter_redirects_the_filtered_host_too() {
    let origin = Origin::answering(response("200 OK", "custom"));
    let command = Proxy::command()
        .plugin("redirect_to_custom_server", "RedirectToCustomServer")
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost");
    let proxy = redirected_to(&origin, command).start();
    assert_eq!(proxy.ask(GOOGLE).text(), "custom");
    assert_eq!(proxy.ask(OTHER).text(), "custom");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn redirect_leaves_tunnels_alone() {
    let custom = Origin::answering(response("200 OK", "custom"));
    let named = Origin::echoing();
    let proxy = redirected_to(
        &custom,
        Proxy::command().plugin("redirect_to_custom_server", "RedirectToCustomServer"),
    )
    .start();
    let mut client = proxy.tunnel(&named);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    custom.assert_untouched();
}

#[test]
fn the_filter_sees_every_request_of_a_connection_and_tunnels_too() {
    let origin = Origin::answering(response("200 OK", "open"));
    let proxy = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin_config("FilterByUpstreamHost.hosts=[\"blocked.example\"]")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.ask(crate::support::get(&origin, "/")).text(), "open");
    let blocked = client.ask("GET http://Blocked.Example./ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(blocked.status(), 418);
    let tunnel =
        proxy.ask("CONNECT blocked.example:443 HTTP/1.1\r\nHost: blocked.example:443\r\n\r\n");
    assert_eq!(tunnel.status(), 418);
}

#[test]
fn short_links_answer_without_an_upstream() {
    let proxy = Proxy::command().plugin("shortlink", "ShortLink").start();
    let answer = proxy.ask("GET http://t/jack?x=1 HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(answer.status(), 303);
    assert_eq!(
        answer.field("Location").as_deref(),
        Some("http://twitter.com/jack?x=1")
    );
}
