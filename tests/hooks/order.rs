//! Which hook is called when, with which arguments and which state.

use super::{log, said, zoo};
use crate::support::tls::{Answer, Ask, Offer, Pki, Version, Way};
use crate::support::{Origin, Proxy, ProxyCommand, response};

/// One logged call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    label: String,
    hook: String,
    connection: Option<u64>,
    exchange: Option<u64>,
    calls: Option<u32>,
    connection_calls: Option<u32>,
}

impl Call {
    fn read(line: &str) -> Call {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (label, hook) = (word(), word());
        let numbers: Vec<String> =
            std::iter::from_fn(|| Some(word()).filter(|w| !w.is_empty())).collect();
        let number = |kind: char| {
            let found = numbers.iter().find_map(|each| each.strip_prefix(kind));
            found.and_then(|digits| digits.parse::<u64>().ok())
        };
        let small = |kind| number(kind).and_then(|number| u32::try_from(number).ok());
        Call {
            connection: number('c'),
            exchange: number('x'),
            calls: small('n'),
            connection_calls: small('m'),
            label,
            hook,
        }
    }
}

/// Stops the proxy and returns every logged call.
fn calls(proxy: Proxy) -> Vec<Call> {
    let log = log(proxy);
    said(&log, "seen ").into_iter().map(Call::read).collect()
}

/// The calls as `label hook`.
fn sequence(proxy: Proxy) -> Vec<String> {
    let shown = |call: Call| format!("{} {}", call.label, call.hook);
    calls(proxy).into_iter().map(shown).collect()
}

/// Each hook for `a`, then for `b`.
fn for_both(hooks: &[&str]) -> Vec<String> {
    let both = |hook: &&str| ["a", "b"].map(|label| format!("{label} {hook}"));
    hooks.iter().flat_map(both).collect()
}

fn witnesses(streams: bool) -> Proxy {
    witnessed(Proxy::command(), streams)
}

fn witnessed(command: ProxyCommand, streams: bool) -> Proxy {
    command
        .plugin("zoo", "Witness")
        .plugin("zoo", "WitnessB")
        .plugin_config("Witness.label=\"a\"")
        .plugin_config("WitnessB.label=\"b\"")
        .plugin_config(&format!("Witness.streams={streams}"))
        .plugin_config(&format!("WitnessB.streams={streams}"))
        .start()
}

/// An upload and a download, both with trailers; then a request with neither.
fn two_requests(proxy: &Proxy, origin: &Origin) {
    let host = format!("localhost:{}", origin.address().port());
    let mut client = proxy.client();
    let answer = client.ask(format!(
        "POST http://{host}/up HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nup\r\n0\r\nX-End: 1\r\n\r\n"
    ));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "down"));
    let answer = client.ask(format!(
        "GET http://{host}/empty HTTP/1.1\r\nHost: {host}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 204);
}

/// A response in one chunk, with a trailer.
const TRAILED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    4\r\ndown\r\n0\r\nX-End: 2\r\n\r\n";

fn origin() -> Origin {
    Origin::replying(|request| match request.method() {
        "POST" => TRAILED.to_vec(),
        _ => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    })
}

const BEGINNING: [&str; 3] = [
    "authenticate",
    "before_upstream_connection",
    "handle_client_request",
];
const END: [&str; 2] = ["on_access_log", "on_upstream_connection_close"];

fn end_of(what: &str) -> Vec<String> {
    for_both(&[what])
}

#[test]
fn whole_bodies_are_seen_before_dialling_and_before_answering() {
    let (origin, proxy) = (origin(), witnesses(false));
    two_requests(&proxy, &origin);
    let wanted = [
        for_both(&["on_client_connection"]),
        for_both(&BEGINNING),
        for_both(&["handle_client_body", "handle_client_trailers"]),
        for_both(&["resolve_dns", "on_upstream_connected"]),
        for_both(&["handle_upstream_response", "handle_upstream_body"]),
        for_both(&["handle_upstream_trailers"]),
        for_both(&END),
        end_of("end_of_exchange"),
        // The upstream connection is reused, but only for exchanges with the same route.
        for_both(&BEGINNING),
        for_both(&["resolve_dns", "on_upstream_connected"]),
        for_both(&["handle_upstream_response"]),
        for_both(&END),
        end_of("end_of_exchange"),
        for_both(&["on_client_connection_close"]),
        end_of("end_of_connection"),
    ];
    assert_eq!(sequence(proxy), wanted.concat());
}

#[test]
fn pieces_are_seen_as_they_pass() {
    let (origin, proxy) = (origin(), witnesses(true));
    two_requests(&proxy, &origin);
    let first: Vec<String> = sequence(proxy)
        .into_iter()
        .take_while(|call| call != "a end_of_exchange")
        .collect();
    let wanted = [
        for_both(&["on_client_connection"]),
        for_both(&BEGINNING),
        for_both(&["resolve_dns", "on_upstream_connected"]),
        for_both(&["handle_client_chunk", "handle_client_trailers"]),
        for_both(&["handle_upstream_response", "handle_upstream_chunk"]),
        for_both(&["handle_upstream_trailers"]),
        for_both(&END),
    ];
    assert_eq!(first, wanted.concat());
}

#[test]
fn tunnels_and_failed_connections_have_their_own_hooks() {
    let (origin, proxy) = (Origin::echoing(), witnesses(false));
    let mut client = proxy.client();
    let answer = client.ask("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n");
    assert_eq!(answer.status(), 502);
    let host = format!("localhost:{}", origin.address().port());
    client.send(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(client.response_to("CONNECT").status(), 200);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    client.finish();
    client.read_to_end();
    let wanted = [
        for_both(&["on_client_connection"]),
        for_both(&BEGINNING),
        for_both(&["resolve_dns", "on_upstream_failed", "on_access_log"]),
        end_of("end_of_exchange"),
        for_both(&BEGINNING),
        for_both(&["resolve_dns", "on_upstream_connected"]),
        for_both(&["handle_tunnel_chunk/Client", "handle_tunnel_chunk/Upstream"]),
        for_both(&END),
        end_of("end_of_exchange"),
        for_both(&["on_client_connection_close"]),
        end_of("end_of_connection"),
    ];
    assert_eq!(sequence(proxy), wanted.concat());
}

/// The hooks of an intercepted tunnel; its exchange ends before the first request inside.
fn looked_into() -> Vec<String> {
    [
        for_both(&BEGINNING),
        for_both(&["resolve_dns", "on_upstream_connected"]),
        for_both(&["handle_tls_hello", "do_intercept"]),
        for_both(&END),
        end_of("end_of_exchange"),
    ]
    .concat()
}

/// The hooks of a request inside the tunnel; the client is not authenticated again.
fn inside(hooks: &[&str]) -> Vec<String> {
    [
        for_both(&BEGINNING[1..]),
        for_both(hooks),
        for_both(&END),
        end_of("end_of_exchange"),
    ]
    .concat()
}

#[test]
fn a_tunnel_that_is_looked_into_comes_before_the_requests_inside() {
    for offer in [Offer::Http1, Offer::Http2] {
        eprintln!("{offer:?}");
        let pki = Pki::new();
        let origin = pki.origin().offering(offer).answering(Answer::ok("down"));
        let proxy = witnessed(pki.intercepting(), false);
        let authority = origin.authority();
        let mut session = pki.client(&proxy).offering(offer).https(&authority);
        for (number, ask) in [
            Ask::get(&authority, "/get"),
            Ask::post(&authority, "/post", "up"),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(session.ask(ask).told(), (200, "down".into()));
            // Streams may overlap, so wait for the end of this exchange before the next request.
            proxy.wait_for_lines("seen b end_of_exchange", number + 2);
        }
        drop(session);
        proxy.wait_for_line("seen b end_of_connection");
        let calls = calls(proxy);
        let response = ["handle_upstream_response", "handle_upstream_body"];
        let connected = ["resolve_dns", "on_upstream_connected"];
        let post = [&["handle_client_body"][..], &connected, &response].concat();
        let wanted = [
            for_both(&["on_client_connection"]),
            looked_into(),
            inside(&[&connected[..], &response].concat()),
            inside(&post),
            for_both(&["on_client_connection_close"]),
            end_of("end_of_connection"),
        ];
        let shown = |call: &Call| format!("{} {}", call.label, call.hook);
        let sequence: Vec<String> = calls.iter().map(shown).collect();
        assert_eq!(sequence, wanted.concat());
        // The hello belongs to the CONNECT exchange and uses its state.
        let of_a = |hook: &str| calls.iter().find(|call| call.hook == hook).cloned();
        let of = |hook: &str| of_a(hook).map(|call| (call.exchange, call.connection));
        assert_eq!(of("handle_tls_hello"), of("authenticate"));
        assert_eq!(of("do_intercept"), of("authenticate"));
        let count = of_a("do_intercept").and_then(|call| call.calls);
        assert_eq!(count, Some(7));
        let connection = of("authenticate").and_then(|(_, connection)| connection);
        assert!(
            calls.iter().all(|call| call.hook == "end_of_exchange"
                || call.hook == "end_of_connection"
                || call.connection == connection),
            "{calls:?}"
        );
    }
}

#[test]
fn a_tunnel_on_a_stream_is_looked_into_alike() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("down"));
    let proxy = witnessed(pki.intercepting().args(pki.listener()), false);
    let authority = origin.authority();
    let mut session = pki.client(&proxy).over(Way::Http2).https(&authority);
    assert_eq!(session.version(), Version::Http2);
    let received = session.ask(Ask::get(&authority, "/get"));
    assert_eq!(received.told(), (200, "down".into()));
    drop(session);
    proxy.wait_for_line("seen b end_of_connection");
    let request = [
        "resolve_dns",
        "on_upstream_connected",
        "handle_upstream_response",
        "handle_upstream_body",
    ];
    let wanted = [
        for_both(&["on_client_connection"]),
        looked_into(),
        inside(&request),
        for_both(&["on_client_connection_close"]),
        end_of("end_of_connection"),
    ];
    assert_eq!(sequence(proxy), wanted.concat());
}

#[test]
fn exchanges_share_their_connections_state_and_have_one_of_their_own() {
    let (origin, proxy) = (origin(), witnesses(false));
    two_requests(&proxy, &origin);
    two_requests(&proxy, &origin);
    // Two connections: the lines up to the end of the first, then the rest.
    let mut of_a: Vec<Call> = calls(proxy)
        .into_iter()
        .filter(|call| call.label == "a")
        .collect();
    let end = of_a
        .iter()
        .position(|call| call.hook == "end_of_connection")
        .expect("the connection has ended");
    let second = of_a.split_off(end + 1);
    let numbers = |calls: &[Call]| {
        let mut connections: Vec<u64> = calls.iter().filter_map(|call| call.connection).collect();
        connections.dedup();
        let mut exchanges: Vec<u64> = calls.iter().filter_map(|call| call.exchange).collect();
        exchanges.dedup();
        (connections, exchanges)
    };
    let ((connections, exchanges), (later_connections, later_exchanges)) =
        (numbers(&of_a), numbers(&second));
    assert_eq!((connections.len(), later_connections.len()), (1, 1));
    assert_ne!(connections, later_connections);
    assert_eq!((exchanges.len(), later_exchanges.len()), (2, 2));
    assert!(exchanges.iter().all(|id| !later_exchanges.contains(id)));
    for calls in [of_a, second] {
        for id in numbers(&calls).1 {
            let counts: Vec<u32> = calls
                .iter()
                .filter(|call| call.exchange == Some(id))
                .filter_map(|call| call.calls)
                .collect();
            let fresh: Vec<u32> = (1..=counts.len() as u32).collect();
            assert_eq!(counts, fresh, "the state of exchange {id}");
        }
        let counts: Vec<u32> = calls
            .iter()
            .filter(|call| call.exchange.is_some())
            .filter_map(|call| call.connection_calls)
            .collect();
        let shared: Vec<u32> = (1..=counts.len() as u32).collect();
        assert_eq!(counts, shared, "the state of the connection");
    }
}

#[test]
fn the_close_of_a_connection_comes_last_however_it_ends() {
    let silent = Origin::silent();
    let proxy = witnesses(false);
    let mut asking = proxy.client();
    asking.send(crate::support::get(&silent, "/"));
    silent.wait_for(b"GET");
    asking.reset();
    let mut ends: Vec<String> = sequence(proxy).into_iter().rev().take(4).collect();
    ends.reverse();
    let wanted = [
        for_both(&["on_client_connection_close"]),
        end_of("end_of_connection"),
    ];
    assert_eq!(ends, wanted.concat());
}

#[test]
fn the_close_of_a_connection_comes_after_a_tunnel_that_was_reset() {
    let silent = Origin::silent();
    let proxy = witnesses(false);
    let mut tunnel = proxy.tunnel(&silent);
    tunnel.send("bytes");
    silent.wait_for(b"bytes");
    tunnel.reset();
    let mut ends: Vec<String> = sequence(proxy).into_iter().rev().take(10).collect();
    ends.reverse();
    let wanted = [
        for_both(&END),
        end_of("end_of_exchange"),
        for_both(&["on_client_connection_close"]),
        end_of("end_of_connection"),
    ];
    assert_eq!(ends, wanted.concat());
}

#[test]
fn a_connection_without_a_request_is_seen_too() {
    let proxy = witnesses(false);
    drop(proxy.client());
    // On SIGTERM the proxy drops connections that are not accepted yet, so wait first.
    proxy.wait_for_line("seen b end_of_connection");
    let hooks = ["on_client_connection", "on_client_connection_close"];
    assert_eq!(
        sequence(proxy),
        [for_both(&hooks), end_of("end_of_connection")].concat()
    );
}

#[test]
fn a_reply_skips_later_plugins_but_not_the_access_log() {
    let origin = Origin::answering(response("200 OK", "origin"));
    let proxy = zoo("Answer")
        .plugin("zoo", "Witness")
        .plugin_config("Answer.hook=\"before_upstream_connection\"")
        .plugin_config("Answer.status=403")
        .plugin_config("Witness.label=\"a\"")
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 403);
    origin.assert_untouched();
    let hooks = [
        "on_client_connection",
        "authenticate",
        "on_access_log",
        "end_of_exchange",
        "on_client_connection_close",
        "end_of_connection",
    ];
    assert_eq!(sequence(proxy), hooks.map(|hook| format!("a {hook}")));
}
