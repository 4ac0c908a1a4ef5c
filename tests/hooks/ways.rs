//! Routes to an upstream: names, schemes, parents, failures.

use super::{free_port, log, nowhere, said, zoo};
use crate::support::{Ca, End, OK, Origin, Peer, Proxy, ProxyCommand, get, request, response};
use std::net::IpAddr;
use std::time::{Duration, Instant};

fn at(host: &str, port: u16, path: &str) -> String {
    format!("GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
}

mod names {
    use super::*;

    fn knows(plugin: &str, host: &str, setting: &str) -> [String; 2] {
        [
            format!("{plugin}.host=\"{host}\""),
            format!("{plugin}.{setting}"),
        ]
    }

    fn with(command: ProxyCommand, settings: [String; 2]) -> ProxyCommand {
        settings
            .iter()
            .fold(command, |command, setting| command.plugin_config(setting))
    }

    #[test]
    fn the_first_plugin_that_knows_a_name_decides() {
        let origin = Origin::serve_at(IpAddr::from([127, 0, 0, 3]), |peer| {
            while peer.request().is_some() {
                peer.send(OK);
            }
        });
        let command = zoo("Names").plugin("zoo", "NamesB");
        let command = with(
            command,
            knows("Names", "a.invalid", "addresses=[\"127.0.0.3\"]"),
        );
        let proxy = with(
            command,
            knows("NamesB", "b.invalid", "addresses=[\"127.0.0.3\"]"),
        )
        .start();
        let port = origin.address().port();
        for host in ["a.invalid", "b.invalid"] {
            assert_eq!(proxy.ask(at(host, port, "/")).text(), "origin-ok", "{host}");
        }
        let asked = [
            "a.invalid asked for a.invalid",
            "a.invalid asked for b.invalid",
            "b.invalid asked for b.invalid",
        ];
        assert_eq!(said(&log(proxy), "names of "), asked);
        assert_eq!(
            origin.requests()[0].field("Host"),
            Some(format!("a.invalid:{port}"))
        );
    }

    #[test]
    fn without_an_answer_the_proxy_resolves_itself() {
        let origin = Origin::answering(OK);
        let proxy = with(
            zoo("Names"),
            knows("Names", "other.invalid", "addresses=[]"),
        )
        .start();
        let port = origin.address().port();
        assert_eq!(proxy.ask(at("localhost", port, "/")).text(), "origin-ok");
        assert_eq!(
            said(&log(proxy), "names of "),
            ["other.invalid asked for localhost"]
        );
    }

    #[test]
    fn a_plugin_may_answer_or_fail_instead() {
        for (does, status) in [("reply", 403), ("fail", 500)] {
            let proxy = with(
                zoo("Names"),
                knows("Names", "nowhere.invalid", &format!("does=\"{does}\"")),
            )
            .start();
            let mut client = proxy.client();
            for _ in 0..2 {
                assert_eq!(client.ask(nowhere("/")).status(), status);
            }
            let tunnel = client
                .ask("CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: nowhere.invalid:443\r\n\r\n");
            assert_eq!(tunnel.status(), status);
        }
    }

    #[test]
    fn addresses_are_no_names() {
        let origin = Origin::answering(OK);
        let proxy = with(zoo("Names"), knows("Names", "127.0.0.1", "does=\"fail\"")).start();
        assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
        drop(proxy.tunnel(&origin));
        assert_eq!(said(&log(proxy), "names of "), [""; 0]);
    }

    #[test]
    fn a_parent_resolves_by_itself() {
        let parent = Origin::answering(OK);
        let proxy = with(
            zoo("Names"),
            knows("Names", "nowhere.invalid", "does=\"fail\""),
        )
        .plugin("zoo", "Detour")
        .plugin_config(&format!("Detour.parent=\"http://{}\"", parent.authority()))
        .start();
        assert_eq!(proxy.ask(nowhere("/")).text(), "origin-ok");
        assert_eq!(said(&log(proxy), "names of "), [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_source_address_is_where_the_connection_comes_from() {
        let origin = Origin::serve(|peer| {
            let from = peer.remote_ip().map(|ip| ip.to_string());
            let answer = response("200 OK", &from.unwrap_or_default());
            while peer.request().is_some() {
                peer.send(&answer);
            }
        });
        let port = origin.address().port();
        let proxy = with(
            zoo("Names"),
            knows("Names", "a.invalid", "addresses=[\"127.0.0.1\"]"),
        )
        .plugin_config("Names.source=\"127.0.0.2\"")
        .start();
        assert_eq!(proxy.ask(at("a.invalid", port, "/")).text(), "127.0.0.2");
        // Set for one connection only; the next one does not use it.
        assert_eq!(proxy.ask(at("localhost", port, "/")).text(), "127.0.0.1");
    }

    #[test]
    fn addresses_that_do_not_answer_are_passed_over() {
        let origin = Origin::answering(OK);
        let addresses = "addresses=[\"::1\", \"127.0.0.9\", \"127.0.0.1\"]";
        let proxy = with(zoo("Names"), knows("Names", "a.invalid", addresses)).start();
        let port = origin.address().port();
        assert_eq!(proxy.ask(at("a.invalid", port, "/")).text(), "origin-ok");
    }
}

mod schemes {
    use super::*;

    fn toward(port: u16) -> ProxyCommand {
        zoo("Detour")
            .plugin_config("Detour.host=\"localhost\"")
            .plugin_config(&format!("Detour.port={port}"))
            .plugin_config("Detour.scheme=\"https\"")
    }

    #[test]
    fn https_reaches_an_origin_whose_ca_is_trusted() {
        let ca = Ca::named("known");
        let origin = ca.origin(&["localhost"], OK);
        let proxy = toward(origin.port())
            .args(["--ca-file".as_ref(), ca.file().as_os_str()])
            .start();
        let mut client = proxy.client();
        for path in ["/one", "/two"] {
            assert_eq!(client.ask(nowhere(path)).text(), "origin-ok");
        }
        let asked = origin.requests();
        let targets: Vec<&str> = asked.iter().map(|request| request.target()).collect();
        assert_eq!(targets, ["/one", "/two"]);
        assert_eq!(asked[0].field("Host").as_deref(), Some("nowhere.invalid"));
    }

    #[test]
    fn an_unknown_authority_is_no_upstream() {
        let ca = Ca::named("known");
        let origin = ca.origin(&["localhost"], OK);
        let stranger = Ca::named("stranger");
        let proxy = toward(origin.port())
            .args(["--ca-file".as_ref(), stranger.file().as_os_str()])
            .start();
        let answer = proxy.ask(nowhere("/"));
        assert_eq!(answer.status(), 502);
        let status = answer.field("Proxy-Status").unwrap_or_default();
        assert!(status.contains("error=tls_certificate_error"), "{status}");
        assert!(status.contains("unknown CA"), "{status}");
        assert!(origin.requests().is_empty());
    }

    #[test]
    fn a_certificate_for_another_name_is_refused() {
        let ca = Ca::named("known");
        let origin = ca.origin(&["other.example"], OK);
        let proxy = toward(origin.port())
            .args(["--ca-file".as_ref(), ca.file().as_os_str()])
            .start();
        let answer = proxy.ask(nowhere("/"));
        assert_eq!(answer.status(), 502);
        assert!(
            answer.text().contains("a different name"),
            "{}",
            answer.text()
        );
        assert!(origin.requests().is_empty());
    }

    #[test]
    fn an_origin_that_speaks_no_tls_is_refused() {
        let origin = Origin::serve(|peer| {
            peer.read_more();
            peer.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        });
        let proxy = toward(origin.address().port()).start();
        let answer = proxy.ask(nowhere("/"));
        assert_eq!(answer.status(), 502);
        assert!(
            answer
                .field("Proxy-Status")
                .is_some_and(|status| status.contains("error=tls_"))
        );
        assert!(origin.requests().is_empty());
    }
}

mod parents {
    use super::*;

    fn through(url: &str) -> ProxyCommand {
        zoo("Detour").plugin_config(&format!("Detour.parent=\"{url}\""))
    }

    const CREDENTIALS: &str = "Basic dXNlcjpzZWNyZXQ=";

    #[test]
    fn an_http_parent_gets_absolute_targets_and_our_credentials_alone() {
        let parent = Origin::answering(OK);
        let proxy = through(&format!("http://user:secret@{}", parent.authority())).start();
        let mut client = proxy.client();
        for path in ["/one?x", "/two"] {
            let answer = client.ask(format!(
                "GET http://nowhere.invalid:81{path} HTTP/1.1\r\nHost: nowhere.invalid:81\r\n\
                 Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==\r\n\r\n"
            ));
            assert_eq!(answer.text(), "origin-ok");
        }
        for (asked, path) in parent.requests().iter().zip(["/one?x", "/two"]) {
            assert_eq!(asked.target(), format!("http://nowhere.invalid:81{path}"));
            assert_eq!(asked.all("Proxy-Authorization"), [CREDENTIALS]);
            assert_eq!(asked.all("Host"), ["nowhere.invalid:81"]);
        }
        assert_eq!(parent.connections().len(), 1, "the connection is kept");
    }

    #[test]
    fn an_http_parent_without_credentials_gets_none_of_the_client() {
        let parent = Origin::answering(OK);
        let proxy = through(&format!("http://{}", parent.authority())).start();
        let fields = "Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==\r\n";
        let origin = Origin::answering(OK);
        assert_eq!(
            proxy.ask(request("GET", &origin, "/", fields)).text(),
            "origin-ok"
        );
        assert_eq!(parent.only_request().field("Proxy-Authorization"), None);
        origin.assert_untouched();
    }

    fn connecting_parent() -> Origin {
        Origin::serve(|peer| {
            peer.head();
            peer.send("HTTP/1.1 200 Connected\r\nX-Parent: 1\r\n\r\n");
            let mut sent = peer.received().len();
            while peer.read_more() {
                let received = peer.received();
                peer.send(&received[sent..]);
                sent = received.len();
            }
        })
    }

    #[test]
    fn tunnels_go_through_an_http_parent_by_connect() {
        let parent = connecting_parent();
        let proxy = through(&format!("http://user:secret@{}", parent.authority())).start();
        let mut client = proxy.client();
        client.send(
            "CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: nowhere.invalid:443\r\n\
             Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==\r\n\r\n",
        );
        let answer = client.response_to("CONNECT");
        assert_eq!((answer.status(), answer.field("X-Parent")), (200, None));
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
        let asked = parent.messages().remove(0);
        assert_eq!(
            (asked.method(), asked.target()),
            ("CONNECT", "nowhere.invalid:443")
        );
        assert_eq!(asked.all("Proxy-Authorization"), [CREDENTIALS]);
    }

    #[test]
    fn a_parent_that_refuses_is_a_bad_gateway_without_its_credentials_shown() {
        let parent = Origin::answering("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
        let proxy = through(&format!("http://user:secret@{}", parent.authority())).start();
        let answer =
            proxy.ask("CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: nowhere.invalid:443\r\n\r\n");
        assert_eq!(answer.status(), 502);
        assert!(answer.text().contains("407"), "{}", answer.text());
        let line = proxy.wait_for_line("407");
        for shown in [answer.text(), line] {
            assert!(
                !shown.contains("secret") && !shown.contains("dXNlcjpzZWNyZXQ"),
                "{shown}"
            );
        }
    }

    /// The server side of SOCKS5 with user and password (RFC 1928, RFC 1929). Returns the credentials and the request.
    fn socks(peer: &mut Peer) -> Option<(Vec<u8>, Vec<u8>)> {
        let greeting = peer.take(2)?;
        let offered = peer.take(usize::from(greeting[1]))?;
        if greeting[0] != 5 || !offered.contains(&2) {
            return None;
        }
        peer.send([5, 2]);
        let credentials = peer.take(b"\x01\x04user\x06secret".len())?;
        peer.send([1, 0]);
        let mut asked = peer.take(5)?;
        // The last byte read is the length of the name; name and port follow.
        asked.extend(peer.take(usize::from(asked[4]) + 2)?);
        peer.send([5, 0, 0, 1, 127, 0, 0, 1, 0, 80]);
        Some((credentials, asked))
    }

    #[test]
    fn a_socks_parent_is_told_name_port_and_credentials() {
        let expected = b"\x05\x01\x00\x03\x0fnowhere.invalid\x00\x50";
        let parent = Origin::serve(move |peer| {
            let Some((credentials, asked)) = socks(peer) else {
                return;
            };
            assert_eq!(credentials, b"\x01\x04user\x06secret");
            assert_eq!(asked, expected);
            while let Some(request) = peer.request() {
                peer.send(response("200 OK", request.target()));
            }
        });
        let proxy = through(&format!("socks5://user:secret@{}", parent.authority())).start();
        let mut client = proxy.client();
        for path in ["/one", "/two"] {
            assert_eq!(client.ask(nowhere(path)).text(), path);
        }
        assert_eq!(parent.connections().len(), 1, "the connection is kept");
    }

    #[test]
    fn an_https_parent_is_verified() {
        let ca = Ca::named("known");
        let parent = ca.origin(&["localhost"], OK);
        let url = format!("https://localhost:{}", parent.port());
        let proxy = through(&url)
            .args(["--ca-file".as_ref(), ca.file().as_os_str()])
            .start();
        assert_eq!(proxy.ask(nowhere("/")).text(), "origin-ok");
        assert_eq!(parent.requests()[0].target(), "http://nowhere.invalid/");
        let trustless = through(&url).start();
        assert_eq!(trustless.ask(nowhere("/")).status(), 502);
    }

    #[test]
    fn a_url_that_is_no_parent_is_refused() {
        let origin = Origin::answering(OK);
        let proxy = through("gopher://a").start();
        assert_eq!(proxy.get(&origin, "/").status(), 500);
        let line = proxy.wait_for_line("not a valid value");
        assert!(line.contains("Detour"), "{line}");
        origin.assert_untouched();
    }

    #[test]
    fn a_parent_that_is_this_proxy_is_a_loop() {
        let port = free_port();
        let listens = |host: &str| {
            Proxy::bare().args([
                "--hostname",
                host,
                "--port",
                &port.to_string(),
                "--num-workers",
                "1",
            ])
        };
        for (host, parent) in [
            ("127.0.0.1", "http://127.0.0.1"),
            ("127.0.0.1", "http://localhost"),
            ("127.0.0.1", "socks5://127.0.0.1"),
            ("0.0.0.0", "http://127.0.0.7"),
        ] {
            let proxy = listens(host)
                .plugin("zoo", "Detour")
                .plugin_config(&format!("Detour.parent=\"{parent}:{port}\""))
                .start();
            for message in [
                nowhere("/"),
                "CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: nowhere.invalid:443\r\n\r\n"
                    .to_owned(),
            ] {
                let answer = proxy.ask(message);
                assert_eq!(answer.status(), 508, "{parent}");
                let status = answer.field("Proxy-Status").unwrap_or_default();
                assert!(status.contains("error=proxy_loop_detected"), "{status}");
            }
            let line = proxy.wait_for_line("this proxy itself");
            assert!(line.contains("ERROR") && line.contains("Detour"), "{line}");
        }
    }

    #[test]
    fn an_upstream_that_is_this_proxy_is_not_dialled() {
        let port = free_port();
        let proxy = Proxy::bare()
            .args(["--hostname", "127.0.0.1", "--port", &port.to_string()])
            .plugin("zoo", "Detour")
            .plugin_config("Detour.host=\"127.0.0.1\"")
            .plugin_config(&format!("Detour.port={port}"))
            .start();
        let answer = proxy.ask(nowhere("/"));
        assert_eq!(answer.status(), 508, "{}", answer.text());
    }
}

mod connections {
    use super::*;

    fn rescued(does: &str) -> ProxyCommand {
        zoo("Rescue").plugin_config(&format!("Rescue.does=\"{does}\""))
    }

    #[test]
    fn are_told_once_for_each_exchange() {
        let origin = Origin::answering(OK);
        let proxy = rescued("").start();
        let mut client = proxy.client();
        for path in ["/one", "/two", "/three"] {
            assert_eq!(client.ask(get(&origin, path)).status(), 200);
        }
        assert_eq!(origin.connections().len(), 1);
        assert_eq!(
            said(&log(proxy), "rescue connected "),
            ["/one", "/two", "/three"]
        );
    }

    #[test]
    fn that_fail_are_told_with_their_reason() {
        let proxy = rescued("").start();
        assert_eq!(proxy.ask(at("127.0.0.1", free_port(), "/")).status(), 502);
        let log = log(proxy);
        let reasons = said(&log, "rescue failed: ");
        assert!(
            reasons.len() == 1 && reasons[0].contains("refused"),
            "{reasons:?}"
        );
        assert_eq!(said(&log, "rescue connected "), [""; 0]);
    }

    #[test]
    fn that_fail_may_be_answered_by_a_plugin() {
        let port = free_port();
        let proxy = rescued("reply").start();
        let mut client = proxy.client();
        for _ in 0..2 {
            let answer = client.ask(at("127.0.0.1", port, "/"));
            assert_eq!(answer.start, "HTTP/1.1 503 Gone fishing");
        }
        let tunnel = client.ask(format!(
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        ));
        assert_eq!(tunnel.status(), 503);
        let failing = rescued("fail").start();
        assert_eq!(failing.ask(at("127.0.0.1", port, "/")).status(), 500);
        assert!(failing.wait_for_line("no rescue").contains("Rescue"));
    }

    #[test]
    fn that_fail_may_close_the_client() {
        let proxy = rescued("close").start();
        let mut client = proxy.client();
        client.send(at("127.0.0.1", free_port(), "/"));
        assert_eq!(client.read_to_end(), End::Closed);
        assert_eq!(client.received(), b"");
    }

    #[test]
    fn that_fail_may_be_made_elsewhere() {
        let origin = Origin::answering(OK);
        let proxy = rescued("elsewhere")
            .plugin_config(&format!("Rescue.port={}", origin.address().port()))
            .start();
        let port = free_port();
        assert_eq!(proxy.ask(at("127.0.0.1", port, "/")).text(), "origin-ok");
        assert_eq!(
            origin.only_request().field("Host"),
            Some(format!("127.0.0.1:{port}"))
        );
        // An upload's content is still available for the retry.
        let answer = proxy.ask(format!(
            "POST http://127.0.0.1:{port}/up HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 4\r\n\r\nfour"
        ));
        assert_eq!(answer.text(), "origin-ok");
        assert_eq!(origin.requests()[1].text(), "four");
        let log = log(proxy);
        assert_eq!(said(&log, "rescue failed: ").len(), 2, "one for each");
        let echo = Origin::echoing();
        let proxy = rescued("elsewhere")
            .plugin_config(&format!("Rescue.port={}", echo.address().port()))
            .start();
        let mut client = proxy.client();
        client.send(format!(
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        ));
        assert_eq!(client.response_to("CONNECT").status(), 200);
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
    }

    #[test]
    fn that_fail_are_tried_again_four_times_and_no_more() {
        let proxy = rescued("retry").start();
        let begun = Instant::now();
        let mut client = proxy.client();
        assert_eq!(client.ask(at("127.0.0.1", free_port(), "/")).status(), 502);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(
            said(&log(proxy), "rescue failed: ").len(),
            5,
            "one try, and four more"
        );
    }

    #[test]
    fn are_tried_again_from_the_hook_for_that_alone() {
        let origin = Origin::answering(OK);
        let names = format!("localhost:{}", origin.address().port());
        for hook in [
            "authenticate",
            "before_upstream_connection",
            "handle_client_request",
            "resolve_dns",
            "handle_upstream_response",
            "handle_upstream_body",
        ] {
            let proxy = zoo("RetryIn")
                .plugin_config(&format!("RetryIn.hook=\"{hook}\""))
                .start();
            let answer = proxy.ask(format!(
                "GET http://{names}/ HTTP/1.1\r\nHost: {names}\r\n\r\n"
            ));
            assert_eq!(answer.status(), 500, "{hook}");
            let line = proxy.wait_for_line("only on_upstream_failed");
            assert!(line.contains("RetryIn") && line.contains(hook), "{line}");
        }
    }
}
