//! Fixed bugs in the web server, each as the claim that failed.
//!
//! The routes come from the fixture `web_edges`; each one covers an unusual use of the API.

use crate::support::{Client, OK, Origin, Proxy, ProxyCommand};

fn edges() -> Proxy {
    Proxy::command().plugin("web_edges", "WebEdges").start()
}

/// A request for the route `edge`, which may forward to `origin`.
fn ask(edge: &str, origin: &Origin) -> String {
    let to = origin.authority();
    format!("GET /{edge} HTTP/1.1\r\nHost: site.example\r\nX-To: http://{to}/\r\n\r\n")
}

/// Asserts that the connection stays usable: the next request gets its own response and nothing follows it.
fn goes_on(client: &mut Client) {
    let answer = client.ask("GET /nothing HTTP/1.1\r\nHost: site.example\r\n\r\n");
    assert_eq!(answer.status(), 404);
    assert!(client.rest().is_empty());
}

fn reverse_proxy(command: ProxyCommand, route: &str) -> Proxy {
    command
        .plugin("reverse_proxy", "ReverseProxyPlugin")
        .plugin_config(&format!(
            "ReverseProxyPlugin.routes=[{{ path = '/{{*all}}', {route} }}]"
        ))
        .start()
}

// ---- one answer for one request ----------------------------------------------------------------------------------

#[test]
fn a_forward_that_nobody_looks_at_is_the_only_answer() {
    let origin = Origin::answering(OK);
    for edge in ["looks-away-then-starts", "looks-away-then-forwards"] {
        let proxy = edges();
        let mut client = proxy.client();
        assert_eq!(client.ask(ask(edge, &origin)).text(), "origin-ok", "{edge}");
        goes_on(&mut client);
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_forward_that_is_given_up_before_it_begins_does_not_begin() {
    let origin = Origin::answering(OK);
    let proxy = edges();
    let mut client = proxy.client();
    let answer = client.ask(ask("gives-up-then-starts", &origin));
    assert_eq!(answer.text(), "own content");
    goes_on(&mut client);
    let request = ask("gives-up-then-reads", &origin)
        .replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.ask(request).text(), "hello");
    goes_on(&mut client);
    origin.assert_untouched();
}

#[test]
fn content_that_was_forwarded_is_not_read_again_from_what_follows() {
    let origin = Origin::answering(OK);
    let proxy = edges();
    let mut client = proxy.client();
    let posted = ask("forwards-then-reads", &origin).replacen(
        "\r\n\r\n",
        "\r\nContent-Length: 5\r\n\r\nhello",
        1,
    );
    let posted = posted.replacen("GET", "POST", 1);
    client.send(format!(
        "{posted}GET /nothing HTTP/1.1\r\nHost: site.example\r\n\r\n"
    ));
    assert_eq!(client.response().text(), "origin-ok");
    assert_eq!(client.response().status(), 404);
    assert!(client.rest().is_empty());
    assert_eq!(origin.only_request().body, b"hello");
}

#[test]
fn content_that_a_forward_has_left_alone_can_still_be_read() {
    let proxy = edges();
    let mut client = proxy.client();
    client.send(
        "POST /forwards-then-reads HTTP/1.1\r\nHost: site.example\r\nX-To: http://127.0.0.1:1/\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    assert_eq!(client.response().text(), "hello");
    goes_on(&mut client);
}

// ---- waiting -----------------------------------------------------------------------------------------------------

#[test]
fn a_send_goes_on_below_an_executor_of_the_plugins_own() {
    let proxy = edges();
    let mut client = proxy.client();
    client.receive_little();
    client.send("GET /sends-if-woken HTTP/1.1\r\nHost: site.example\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.body.len(), 32 << 20);
    assert!(answer.is_sound(), "{:?}", answer.fault);
}

#[test]
fn a_client_that_leaves_takes_a_task_with_it_whatever_was_read() {
    let proxy = edges();
    for (edge, begun, left) in [
        ("waits-unread", "waits unread", "left unread"),
        (
            "waits-behind-content",
            "waits behind 5 bytes",
            "left behind content",
        ),
    ] {
        let mut client = proxy.client();
        client.send(format!(
            "POST /{edge} HTTP/1.1\r\nHost: site.example\r\nContent-Length: 5\r\n\r\nhello"
        ));
        proxy.wait_for_line(begun);
        client.reset();
        proxy.wait_for_line(left);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_has_gone_without_a_reset_is_asked_for_by_the_system() {
    let proxy = edges();
    let mut client = proxy.client();
    client.send("GET /waits-unread HTTP/1.1\r\nHost: site.example\r\n\r\n");
    proxy.wait_for_line("waits unread");
    let port = |address: std::io::Result<std::net::SocketAddr>| {
        format!(":{:04X}", address.expect("it is connected").port())
    };
    let (theirs, ours) = (
        port(client.socket().peer_addr()),
        port(client.socket().local_addr()),
    );
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
    let fields: Vec<&str> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields[1].ends_with(&theirs) && fields[2].ends_with(&ours))
        .expect("the proxy's end is there");
    // The active timer is the keepalive timer (proc(5)).
    assert!(fields[5].starts_with("02:"), "{fields:?}");
}

#[test]
fn content_that_nobody_gets_is_not_sent_for_ever() {
    let proxy = edges();
    let mut client = proxy.client();
    for known_length in ["", "X-To: x\r\n"] {
        client.send(format!(
            "HEAD /sends-without-end HTTP/1.1\r\nHost: site.example\r\n{known_length}\r\n"
        ));
        let head = client.response_to("HEAD");
        assert_eq!((head.status(), head.body.len()), (200, 0));
        goes_on(&mut client);
    }
    let line = proxy.wait_for_line("HEAD /sends-without-end");
    assert!(line.contains("sends=without-end"), "{line}");
}

#[test]
fn what_a_client_got_before_it_left_is_logged() {
    let proxy = edges();
    let mut client = proxy.client();
    client.send("GET /streams-a-little HTTP/1.1\r\nHost: site.example\r\n\r\n");
    client.read_until(b"a little");
    proxy.wait_for_line("streams");
    client.reset();
    let line = proxy.wait_for_line("GET /streams-a-little");
    assert!(line.contains("200 OK"), "{line}");
}

// ---- memory ------------------------------------------------------------------------------------------------------

#[test]
fn a_task_that_is_dropped_while_its_request_is_forwarded_sees_no_request() {
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: derp\r\n\r\n",
            );
            peer.finish();
            peer.park();
        }
    });
    let proxy = edges();
    let mut client = proxy.client();
    client.send(ask("holds-a-guard", &origin).replace(
        "\r\n\r\n",
        "\r\nConnection: Upgrade\r\nUpgrade: derp\r\n\r\n",
    ));
    assert_eq!(client.message("GET").status(), 101);
    drop(client);
    proxy.wait_for_line("dropped [] with 0 fields");
}

// ---- what upstreams and filters see ------------------------------------------------------------------------------

#[test]
fn a_client_cannot_name_what_a_plugin_adds_as_its_own_hops() {
    let origin = Origin::answering(OK);
    let proxy = reverse_proxy(
        Proxy::command(),
        &format!("upstreams = ['http://{}']", origin.authority()),
    );
    let answer = proxy.ask(
        "GET / HTTP/1.1\r\nHost: site.example\r\nConnection: X-Forwarded-For, X-Own\r\n\
         X-Own: 1\r\n\r\n"
            .replace("GET / ", "GET /a "),
    );
    assert_eq!(answer.status(), 200);
    let request = origin.only_request();
    assert_eq!(
        request.field("X-Forwarded-For").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(request.field("X-Own"), None);
}

#[test]
fn a_host_that_is_kept_does_not_say_where_the_upstream_is() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let command = Proxy::command()
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config(
            "CustomDnsResolver.hosts={ 'up.example' = ['127.0.0.1'], 'evil.example' = ['127.0.0.9'] }",
        )
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin_config("FilterByUpstreamHost.hosts=['forbidden.example']");
    let route = format!(
        "upstreams = ['http://up.example:{port}', 'http://forbidden.example:{port}'], host = 'keep', tries = 1"
    );
    let proxy = reverse_proxy(command, &route);
    let mut client = proxy.client();
    let request = "GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(client.ask(request).text(), "origin-ok");
    assert_eq!(
        origin.only_request().field("Host").as_deref(),
        Some("evil.example")
    );
    // The next upstream is `forbidden.example`: filters must see that host, not the client's Host.
    let refused = client.ask(request).status();
    assert!(refused >= 400 && refused != 502, "{refused}");
}

// ---- the reverse proxy -------------------------------------------------------------------------------------------

#[test]
fn an_upgrade_does_not_hide_behind_another_line() {
    let origin = Origin::answering(OK);
    let route = format!(
        "upstreams = ['http://{}'], websocket = false",
        origin.authority()
    );
    let proxy = reverse_proxy(Proxy::command(), &route);
    for upgrade in [
        "Upgrade: h2c\r\nUpgrade: websocket",
        "Upgrade: \u{e9}, websocket",
    ] {
        let answer = proxy.ask(format!(
            "GET /a HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade\r\n{upgrade}\r\n\r\n"
        ));
        assert_eq!(answer.status(), 403, "{upgrade}");
    }
    origin.assert_untouched();
}

#[test]
fn a_request_whose_content_is_known_to_be_empty_may_be_repeated() {
    let silent = Origin::serve(|peer| {
        peer.request();
    });
    let origin = Origin::answering(OK);
    let route = format!(
        "upstreams = ['http://{}', 'http://{}']",
        silent.authority(),
        origin.authority()
    );
    let proxy = reverse_proxy(Proxy::command(), &route);
    let answer = proxy.ask("PUT /a HTTP/1.1\r\nHost: site.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.text(), "origin-ok");
}
