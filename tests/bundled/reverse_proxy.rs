//! Requests to the proxy itself are forwarded to upstreams: routes, fields about the client, failover.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::support::tls::{Answer, Ask, Form, Pki, Way};
use crate::support::{
    Client, HANG, OK, Origin, Proxy, ProxyCommand, plugin_directory, plugin_library, position,
    response,
};

/// A proxy with one route; `route` is the content of its table.
fn routing(route: &str) -> ProxyCommand {
    with(Proxy::command(), route)
}

fn with(command: ProxyCommand, route: &str) -> ProxyCommand {
    command
        .plugin("reverse_proxy", "ReverseProxyPlugin")
        .plugin_config(&format!("ReverseProxyPlugin.routes=[{{ {route} }}]"))
}

/// A proxy that routes all paths to these upstreams; `more` holds further keys.
fn all_to(upstreams: &[String], more: &str) -> Proxy {
    routing(&format!(
        "path = '/{{*all}}', upstreams = {upstreams:?} {more}"
    ))
    .start()
}

fn url(origin: &Origin) -> String {
    format!("http://{}", origin.authority())
}

fn get(path: &str) -> String {
    ask("GET", path, "")
}

/// A request to the proxy itself, in origin-form; `fields` are whole lines, each with its CRLF.
fn ask(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: site.example\r\n{fields}\r\n")
}

/// An upstream that refuses connections until it listens; its port stays reserved.
struct Dead(Socket);

impl Dead {
    fn new() -> Dead {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("loopback has a free port");
        Dead(socket)
    }

    fn url(&self) -> String {
        let address = self.0.local_addr().expect("a bound socket has an address");
        let address = address.as_socket().expect("it is an IP address");
        format!("http://{address}")
    }

    /// Starts listening.
    fn wake(self) -> TcpListener {
        self.0.listen(8).expect("a bound socket can listen");
        self.0.into()
    }
}

/// An origin that replies with its name; on `/hold` it waits until the connection closes.
fn named(name: &'static str) -> Origin {
    Origin::serve(move |peer| {
        while let Some(request) = peer.request() {
            match request.target() {
                "/hold" => peer.park(),
                _ => drop(peer.send(response("200 OK", name))),
            }
        }
    })
}

#[test]
fn what_the_path_captures_goes_into_the_url_and_the_query_stays() {
    let origin = Origin::answering(OK);
    let base = url(&origin);
    let library = plugin_library("reverse_proxy");
    // Configured as in the plugin's manual.
    let proxy = Proxy::command()
        .config(&format!(
            r#"
            disable_http_proxy = true

            [[plugins]]
            library = {library:?}
            name = "ReverseProxyPlugin"

            [[plugins.config.routes]]
            path = "/api/{{*rest}}"
            upstreams = ["{base}/base/{{rest}}"]

            [[plugins.config.routes]]
            path = "/file/{{name}}"
            methods = "GET, PUT"
            upstreams = ["{base}/f/{{name}}"]

            [[plugins.config.routes]]
            regex = '/get/(\d+)'
            upstreams = ["{base}/get?id={{1}}"]

            [[plugins.config.routes]]
            path = "/kept/{{*rest}}"
            upstreams = ["{base}"]
            "#
        ))
        .start();
    let mut client = proxy.client();
    let paths = [
        ("/api/v1/things?sort=name", "/base/v1/things?sort=name"),
        ("/api/queues/%2F/name", "/base/queues/%2F/name"),
        ("/api/@scope%2fpkg", "/base/@scope%2fpkg"),
        ("/api/%E9t%e9+%61?q=%2F+%zz", "/base/%E9t%e9+%61?q=%2F+%zz"),
        ("/%61pi/%252e%252e/x", "/base/%252e%252e/x"),
        ("/api/", "/base/"),
        ("/api/?q", "/base/?q"),
        ("/file/a%2Fb%20c%3F", "/f/a%2Fb%20c%3F"),
        ("/get/12?x=1", "/get?id=12&x=1"),
        ("/kept/a%20b/?q=%41", "/kept/a%20b/?q=%41"),
    ];
    for (path, _) in paths {
        assert_eq!(client.ask(get(path)).text(), "origin-ok", "{path}");
    }
    for (request, status) in [
        (get("/api/../secret"), 400),
        (get("/api/..%2f..%2Fsecret"), 400),
        (get("/kept/%2e%2E/secret"), 400),
        (get("/api/%2e%2e/secret"), 400),
        (get("/api/x/..;a/secret"), 400),
        (get("/api/%zz"), 400),
        (get("/api"), 404),
        (get("/file/..%5csecret"), 400),
        (get("/get/x"), 404),
        (ask("DELETE", "/file/a", ""), 405),
    ] {
        assert_eq!(client.ask(&request).status(), status, "{request}");
    }
    let requests = origin.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target()).collect();
    assert_eq!(targets, paths.map(|(_, target)| target));
}

#[test]
fn upstreams_are_told_of_the_client_and_strangers_are_not_believed() {
    let origin = Origin::answering(OK);
    let sent = "X-Forwarded-For: 192.0.2.1\r\nx-forwarded-host: evil.example\r\n\
                X-Forwarded-Proto: https\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-For: a\r\n\
                X-Real-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1\r\nx_real_ip: 192.0.2.1\r\n";
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Real-IP",
        "True-Client-IP",
        "X_Real_IP",
    ];
    for (more, expected) in [
        (
            "",
            ["127.0.0.1", "site.example", "http", "", "127.0.0.1", "", ""],
        ),
        (
            ", trust_forwarded = true",
            [
                "192.0.2.1, a, 127.0.0.1",
                "evil.example",
                "https",
                "for=192.0.2.1",
                "192.0.2.1",
                "192.0.2.1",
                "192.0.2.1",
            ],
        ),
        (", forwarded = false", [""; 7]),
    ] {
        let proxy = all_to(&[url(&origin)], more);
        assert_eq!(proxy.ask(ask("GET", "/x", sent)).status(), 200);
        let requests = origin.requests();
        let request = requests.last().expect("it was forwarded");
        assert_eq!(
            names.map(|name| request.all(name).join("|")),
            expected,
            "{more}"
        );
    }
}

#[test]
fn a_client_over_tls_is_told_of_in_either_version() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let upstream = format!("path = '/{{*all}}', upstreams = ['{}']", url(&origin));
    let proxy = with(pki.relaying().args(pki.listener()), &upstream).start();
    for way in [Way::Tls, Way::Http2] {
        let pipe = pki.client(&proxy).over(way).pipe();
        let mut session = pipe.session(Form::Origin("https"));
        let answer = session.ask(Ask::post("site.example", "/x?y", "content"));
        assert_eq!(answer.told(), (200, "origin-ok".to_owned()), "{way:?}");
        let requests = origin.requests();
        let request = requests.last().expect("it was forwarded");
        assert_eq!(
            (request.target(), request.text().as_str()),
            ("/x?y", "content")
        );
        assert_eq!(request.all("X-Forwarded-Proto"), ["https"]);
        assert_eq!(request.all("X-Forwarded-Host"), ["site.example"]);
    }
}

#[test]
fn the_upstream_gets_its_own_host_or_the_clients() {
    let origin = Origin::answering(OK);
    let own = origin.authority();
    for (host, expected) in [("rewrite", own.as_str()), ("keep", "site.example")] {
        let proxy = all_to(&[url(&origin)], &format!(", host = '{host}'"));
        assert_eq!(proxy.ask(get("/x")).status(), 200);
        let requests = origin.requests();
        let request = requests.last().expect("it was forwarded");
        assert_eq!(request.all("Host"), [expected]);
        assert_eq!(request.target(), "/x");
    }
}

#[test]
fn an_upstream_over_tls_is_verified() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("over TLS"));
    let upstream = format!(
        "path = '/a', upstreams = ['https://{}']",
        origin.authority()
    );
    let proxy = with(pki.relaying(), &upstream).start();
    let answer = proxy.ask(get("/a"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "over TLS"));
    // This proxy does not trust the test CA.
    assert_eq!(routing(&upstream).start().ask(get("/a")).status(), 502);
}

#[test]
fn an_upstream_that_is_dead_is_passed_over_unnoticed() {
    let dead = Dead::new();
    let origin = Origin::answering(OK);
    let proxy = all_to(&[dead.url(), url(&origin)], "");
    let mut client = proxy.client();
    for number in 0..10 {
        let answer = client.ask(get("/x"));
        assert_eq!(answer.text(), "origin-ok", "{number}");
        let content = "Content-Length: 4\r\n";
        let answer = client.ask(ask("POST", "/x", content) + "body");
        assert_eq!(answer.text(), "origin-ok", "{number}");
    }
    proxy.wait_for_line("is down for 10 s");
    let requests = origin.requests();
    assert_eq!(requests.len(), 20);
    let posts = requests.iter().filter(|request| request.method() == "POST");
    assert!(posts.clone().all(|request| request.text() == "body"));
}

#[test]
fn where_all_are_dead_the_answer_is_502_until_one_comes_back() {
    let dead = [Dead::new(), Dead::new()];
    let urls = dead.each_ref().map(Dead::url);
    let proxy = all_to(&urls, ", max_fails = 1");
    for _ in 0..3 {
        assert_eq!(proxy.ask(get("/x")).status(), 502);
    }
    let [_still_dead, woken] = dead;
    let listener = woken.wake();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("the proxy connects");
        read_head(&mut socket);
        socket.write_all(OK.as_bytes()).expect("it is taken");
    });
    assert_eq!(proxy.ask(get("/x")).text(), "origin-ok");
    server.join().expect("the server is well");
    proxy.wait_for_line("is up again");
}

#[test]
fn what_may_have_arrived_is_not_sent_twice() {
    let silent = Origin::serve(|peer| drop(peer.request()));
    let origin = Origin::answering(OK);
    let proxy = all_to(&[url(&silent), url(&origin)], ", max_fails = 0");
    let length = "Content-Length: 0\r\n";
    // In turn: a POST to `silent`, a POST to `origin`, then a GET to `silent`, which is retried at `origin`.
    assert_eq!(proxy.ask(ask("POST", "/x", length)).status(), 502);
    origin.assert_untouched();
    assert_eq!(proxy.ask(ask("POST", "/x", length)).status(), 200);
    assert_eq!(proxy.ask(get("/x")).status(), 200);
    let methods: Vec<_> = silent
        .requests()
        .iter()
        .map(|request| request.method().to_owned())
        .collect();
    assert_eq!(methods, ["POST", "GET"]);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn whoever_has_less_to_do_gets_the_request() {
    let origins = [named("one"), named("two")];
    let urls = origins.each_ref().map(url);
    let proxy = all_to(&urls, ", balance = 'least_connections'");
    let mut held = proxy.client();
    held.send(get("/hold"));
    origins[0].wait_for(b"GET /hold");
    for _ in 0..4 {
        assert_eq!(proxy.ask(get("/x")).text(), "two");
    }
    held.reset();
    origins[0].wait_for_open(0);
    let answers: Vec<String> = (0..4).map(|_| proxy.ask(get("/x")).text()).collect();
    assert!(answers.contains(&"one".to_owned()), "{answers:?}");
}

#[test]
fn a_hundred_requests_share_a_connection() {
    let origin = Origin::answering(OK);
    let proxy = all_to(&[url(&origin)], "");
    let mut client = proxy.client();
    for number in 0..100 {
        let answer = client.ask(get(&format!("/{number}")));
        assert_eq!(answer.text(), "origin-ok");
    }
    assert_eq!(origin.requests().len(), 100);
    assert_eq!(
        origin.connections().len(),
        1,
        "the upstream's is kept as well"
    );
}

const LEN: usize = 50 << 20;
const PIECE: usize = 1 << 18;

/// The allowed memory growth, in KiB.
const GROWTH: u64 = 8 * 1024;

#[test]
fn a_long_response_streams() {
    let origin = Origin::serve(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/small" {
                peer.send(OK);
                continue;
            }
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
            let piece = vec![b'x'; PIECE];
            for _ in 0..LEN / PIECE {
                peer.send(&piece);
            }
        }
    });
    let proxy = all_to(&[url(&origin)], "");
    assert_eq!(proxy.ask(get("/small")).status(), 200);
    let before = proxy.resident_kib();
    let client = proxy.client();
    let mut socket = client.socket();
    socket
        .write_all(get("/long").as_bytes())
        .expect("the proxy takes a request");
    socket
        .set_read_timeout(Some(HANG))
        .expect("a TCP socket has this option");
    let mut buffer = vec![0; PIECE];
    let (mut received, mut grown, mut head) = (0, 0, Vec::new());
    while received < LEN {
        let len = socket.read(&mut buffer).expect("the response comes");
        assert!(len > 0, "it ends after {received} bytes");
        let mut content = &buffer[..len];
        if !head.ends_with(b"\r\n\r\n") {
            let end = position(content, b"\r\n\r\n").expect("the head comes at once") + 4;
            head = content[..end].to_vec();
            content = &content[end..];
        }
        assert!(
            content.iter().all(|&byte| byte == b'x'),
            "wrong at {received}"
        );
        received += content.len();
        grown = grown.max(proxy.resident_kib().saturating_sub(before));
    }
    assert_eq!(received, LEN);
    assert!(grown < GROWTH, "{grown} KiB for a body that streams");
}

#[test]
fn a_long_request_streams() {
    let origin = Origin::serve(|peer| {
        while let Some(request) = peer.head() {
            let len = request.field("Content-Length");
            let mut left: usize = len.and_then(|len| len.parse().ok()).expect("a length");
            let mut buffer = vec![0; PIECE];
            while left > 0 {
                match peer.read_unrecorded(&mut buffer[..PIECE.min(left)]) {
                    0 => return,
                    len => left -= len,
                }
            }
            peer.send(OK);
        }
    });
    let proxy = all_to(&[url(&origin)], "");
    proxy.ask(ask("POST", "/x", "Content-Length: 5\r\n") + "small");
    let before = proxy.resident_kib();
    let mut client = proxy.client();
    client.send(ask("POST", "/x", &format!("Content-Length: {LEN}\r\n")));
    let piece = vec![b'x'; PIECE];
    let mut grown = 0;
    for _ in 0..LEN / PIECE {
        client.send(&piece);
        grown = grown.max(proxy.resident_kib().saturating_sub(before));
    }
    assert_eq!(client.response_to("POST").text(), "origin-ok");
    assert!(grown < GROWTH, "{grown} KiB for a body that streams");
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn read_head(socket: &mut TcpStream) -> String {
    socket
        .set_read_timeout(Some(HANG))
        .expect("TCP has this option");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a head comes");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// A client whose WebSocket is open.
fn web_socket(client: &Client) -> WebSocket<TcpStream> {
    let socket = client.socket().try_clone().expect("a socket can be cloned");
    socket
        .set_read_timeout(Some(HANG))
        .expect("TCP has this option");
    WebSocket::from_partially_read(socket, client.rest().to_vec(), Role::Client, None)
}

#[test]
fn a_web_socket_passes_and_counts_for_its_upstream_while_it_is_open() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("the proxy connects");
        let head = read_head(&mut socket);
        socket.write_all(SWITCH.as_bytes()).expect("it is taken");
        let mut socket = WebSocket::from_raw_socket(socket, Role::Server, None);
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).expect("it is taken");
            }
        }
        drop(socket);
        // The next request, after the WebSocket has closed.
        let (mut socket, _) = listener.accept().expect("the proxy connects");
        read_head(&mut socket);
        socket
            .write_all(response("200 OK", "one").as_bytes())
            .expect("it is taken");
        head
    });
    let other = named("two");
    let urls = [format!("http://{address}"), url(&other)];
    let proxy = all_to(&urls, ", balance = 'least_connections'");
    let mut client = proxy.client();
    client.send(ask("GET", "/socket?a=b", UPGRADE));
    assert_eq!(client.response().status(), 101);
    let mut socket = web_socket(&client);
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        socket.send(message.clone()).expect("it is taken");
        assert!(socket.read().expect("an answer") == message);
        for _ in 0..2 {
            assert_eq!(proxy.ask(get("/x")).text(), "two");
        }
    }
    socket.close(None).expect("it is taken");
    while let Ok(message) = socket.read() {
        assert!(message.is_close(), "{message}");
    }
    drop((socket, client));
    proxy.wait_for_line("/socket");
    let answers: Vec<String> = (0..2).map(|_| proxy.ask(get("/x")).text()).collect();
    assert!(answers.contains(&"one".to_owned()), "{answers:?}");
    let head = server.join().expect("the server is well");
    assert!(head.starts_with("GET /socket?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{head}");
}

#[test]
fn a_web_socket_is_refused_where_it_is_not_wanted() {
    let origin = Origin::answering(OK);
    let proxy = all_to(&[url(&origin)], ", websocket = false");
    assert_eq!(proxy.ask(ask("GET", "/x", UPGRADE)).status(), 403);
    origin.assert_untouched();
    assert_eq!(proxy.ask(get("/x")).status(), 200);
}

#[test]
fn without_a_configuration_it_has_the_routes_of_proxy_py_under_its_names() {
    for name in [
        "plugin_examples/reverse_proxy.ReverseProxyPlugin",
        "proxy.plugin.ReverseProxyPlugin",
    ] {
        let directory = plugin_directory().as_os_str();
        let proxy = Proxy::command()
            .args(["--plugin-dir".as_ref(), directory])
            .args(["--plugins", name])
            .start();
        for path in ["/get/x", "/get/", "/gets"] {
            assert_eq!(proxy.ask(get(path)).status(), 404, "{path}");
        }
    }
}

#[test]
fn a_table_that_cannot_be_meant_keeps_the_proxy_from_starting() {
    for (route, words) in [
        (
            "path = '/a', upstreams = ['http://{a}/']",
            "upstreams: number 1 takes its host from the request",
        ),
        (
            "path = '/a', upstreams = ['http://a'], tries = 0",
            "tries: 0 is not from 1 to 100",
        ),
        (
            "path = '/a', upstream = 'http://a'",
            "unknown field `upstream`",
        ),
        (
            "path = '/{a', upstreams = ['http://a']",
            "path: `/{a` has a lone `{`",
        ),
        ("path = '/{a}{b}', upstreams = ['http://a']", "/{a}{b}"),
        (
            "path = '/a', upstreams = ['http://a'], methods = 'G T'",
            "`G T` is not a method",
        ),
    ] {
        let exit = routing(route).run();
        assert_eq!(exit.code, Some(78), "{exit:?}");
        assert!(
            exit.stderr.contains(words),
            "no {words:?} in {}",
            exit.stderr
        );
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    }
}
