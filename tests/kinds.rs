//! Plugins other than filters: protocol handlers and event subscribers.

use rustix::process::Signal;

use crate::support::{OK, Origin, Proxy, ProxyCommand, get};

fn kinds(name: &str) -> ProxyCommand {
    Proxy::command().plugin("kinds", name)
}

mod protocol {
    use super::*;

    #[test]
    fn serves_the_connections_it_claims_and_leaves_the_others_to_http() {
        let origin = Origin::answering(OK);
        let proxy = kinds("Echo").start();
        let mut client = proxy.client();
        client.send("ECHO\nabc\n");
        client.read_until(b"hello\nECHO\nabc\n");
        client.finish();
        client.read_until(b"bye\n");
        client.read_to_end();
        assert_eq!(client.received(), b"hello\nECHO\nabc\nbye\n");
        assert_eq!(proxy.get(&origin, "/").status(), 200);
    }

    #[test]
    fn is_asked_again_while_the_first_bytes_are_too_few() {
        let origin = Origin::answering(OK);
        let proxy = kinds("Echo").start();
        let mut client = proxy.client();
        client.dribble("ECHO\nx");
        client.read_until(b"ECHO\n");
        // The first bytes match the protocol, but the request is HTTP.
        let mut client = proxy.client();
        client.dribble(get(&origin, "/").replacen("GET", "ECH", 1));
        assert_eq!(client.response().status(), 200);
        assert!(origin.received().starts_with(b"ECH / HTTP/1.1"));
    }

    #[test]
    fn fails_for_one_connection_only() {
        let origin = Origin::answering(OK);
        let proxy = kinds("Echo").start();
        for (word, line) in [
            ("panic", "a protocol handler panicked: as it was told"),
            ("fail", "serving a connection failed: as it was told"),
        ] {
            let mut client = proxy.client();
            client.send("ECHO\n");
            client.read_until(b"ECHO\n");
            client.send(format!("{word}\n"));
            client.read_to_end();
            proxy.wait_for_line(line);
        }
        assert_eq!(proxy.get(&origin, "/").status(), 200);
    }

    #[test]
    fn moves_more_than_any_buffer_holds() {
        let proxy = kinds("Echo").start();
        let mut client = proxy.client();
        client.send("ECHO\n");
        assert_eq!(client.read_exact(11), b"hello\nECHO\n");
        let content = crate::support::pattern(3_000_000);
        for piece in content.chunks(500_000) {
            client.send(piece);
            assert!(client.read_exact(piece.len()) == piece);
        }
    }

    #[test]
    fn takes_a_configuration_of_its_own() {
        let proxy = kinds("Echo").plugin_config("Echo.greeting=hi").start();
        let mut client = proxy.client();
        client.send("ECHO\n");
        client.read_until(b"hiECHO\n");
        let refused = kinds("Echo")
            .plugin_config("Echo.refuses_to_start=true")
            .run();
        assert_eq!(refused.code, Some(78));
        assert!(
            refused.stderr.contains("refuses_to_start"),
            "{}",
            refused.stderr
        );
    }
}

mod subscriber {
    use super::*;

    #[test]
    fn is_told_of_connections_and_exchanges_in_order() {
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog").start();
        let mut client = proxy.client();
        client.ask(get(&origin, "/a"));
        drop(client);
        proxy.wait_for_line("event ConnectionClosed");
        let port = origin.address().port();
        let told: Vec<String> = proxy
            .lines()
            .into_iter()
            .filter_map(|line| Some(line.split_once(" - event ")?.1.to_owned()))
            .map(|line| {
                line.split(" connection=")
                    .next()
                    .unwrap_or_default()
                    .to_owned()
                    + if line.contains(&format!("GET 127.0.0.1:{port}/a")) {
                        " /a"
                    } else {
                        ""
                    }
                    + if line.contains("status=Some(200)") {
                        " 200"
                    } else {
                        ""
                    }
            })
            .collect();
        assert_eq!(
            told,
            [
                "ConnectionOpened",
                "RequestStarted /a",
                "ResponseStarted /a 200",
                "ExchangeEnded /a 200",
                "ConnectionClosed",
            ]
        );
    }

    #[test]
    fn hears_what_the_client_was_given() {
        let proxy = kinds("EventLog").plugin("kinds", "Beside").start();
        let answer = proxy.ask("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(answer.status(), 418);
        let line = proxy.wait_for_line("event ExchangeEnded");
        assert!(line.contains(" status=Some(418) bytes=0 "), "{line}");
        assert!(
            line.contains(" end=\"418 Plugin(\\\"Beside\\\") "),
            "{line}"
        );
        assert!(
            line.ends_with(" local=true upstream=false tls=false"),
            "{line}"
        );
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog").start();
        proxy.get(&origin, "/");
        let line = proxy.wait_for_line("event ExchangeEnded");
        assert!(line.contains(" end=\"200 Upstream "), "{line}");
        assert!(
            line.ends_with(" local=true upstream=true tls=false"),
            "{line}"
        );
    }

    #[test]
    fn hears_when_an_exchange_did_what() {
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog").start();
        let mut client = proxy.client();
        let target = format!("http://localhost:{}/", origin.address().port());
        let asks = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for expected in [
            "head decided dial resolved connected sent answer",
            "head decided sent answer reused",
        ] {
            assert_eq!(client.ask(&asks).status(), 200);
            proxy.wait_for_line(&format!(" moments={expected:?} "));
        }
        // Events before the end carry no moments.
        let line = proxy.wait_for_line("event ResponseStarted");
        assert!(line.contains(" moments=\"none\" "), "{line}");
    }

    #[test]
    fn numbers_count_connections_and_exchanges_of_all_workers() {
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog").args(["--num-workers", "2"]).start();
        for _ in 0..4 {
            let mut client = proxy.client();
            client.ask(get(&origin, "/a"));
            client.ask(get(&origin, "/b"));
        }
        proxy.wait_for_lines("event ExchangeEnded", 8);
        let mut numbers: Vec<(u64, u64)> = proxy
            .lines()
            .iter()
            .filter(|line| line.contains("event ExchangeEnded"))
            .filter_map(|line| {
                let (connection, rest) = line.split_once("connection=")?.1.split_once(' ')?;
                let exchange = rest.strip_prefix("exchange=Some(")?.split_once(')')?.0;
                Some((connection.parse().ok()?, exchange.parse().ok()?))
            })
            .collect();
        // A client gets its response before the exchange ends, so the next client's exchange may end first.
        numbers.sort_unstable();
        let expected: Vec<(u64, u64)> = (1..=8_u64)
            .map(|exchange| (exchange.div_ceil(2), exchange))
            .collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn hears_who_answered_in_the_upstreams_place() {
        let proxy = kinds("EventLog").plugin("kinds", "Beside").start();
        let answer = proxy.ask("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(answer.status(), 418);
        let line = proxy.wait_for_line("event ExchangeEnded");
        assert!(line.contains("answered 418 by Beside"), "{line}");
    }

    #[test]
    fn hears_the_last_event_before_the_process_ends() {
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog").start();
        let mut client = proxy.client();
        client.ask(get(&origin, "/last"));
        proxy.signal(Signal::TERM);
        let exit = proxy.wait();
        assert_eq!(exit.code, Some(0));
        assert!(
            exit.stdout.contains("event ConnectionClosed"),
            "{}",
            exit.stdout
        );
    }

    #[test]
    fn that_panics_harms_nobody() {
        let origin = Origin::answering(OK);
        let proxy = kinds("EventLog")
            .plugin_config("EventLog.panics=true")
            .start();
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        proxy.wait_for_line("panicked while handling events: as it was told");
        assert_eq!(proxy.get(&origin, "/").status(), 200);
    }
}

#[test]
fn a_library_lists_all_its_kinds() {
    let library = crate::support::plugin_library("kinds");
    let spec = library.display().to_string();
    let proxy = Proxy::command().args(["--plugins", &spec]).start();
    for name in ["Beside", "EventLog", "Echo"] {
        proxy.wait_for_line(&format!("Loaded plugin libkinds.so:{name} "));
    }
}

mod summary {
    use super::*;
    use crate::support::request;

    /// The value of a log field added by `SeesEnd`.
    fn field(line: &str, name: &str) -> String {
        let rest = line
            .split_once(&format!(" - {name}="))
            .map_or("", |(_, rest)| rest);
        let value = rest.split(" - ").next().unwrap_or_default();
        value.trim_matches('"').replace("\\\"", "\"")
    }

    #[test]
    fn says_who_answered_and_what() {
        let origin = Origin::answering(OK);
        let proxy = kinds("SeesEnd").start();
        let authority = origin.authority();
        for (target, response, end) in [
            (format!("http://{authority}/ok"), "200", "200 Upstream "),
            (
                format!("http://{authority}/denied"),
                "403",
                "403 Plugin(\"SeesEnd\") ",
            ),
            (format!("http://{authority}/closed"), "none", "0 Nobody "),
            (
                "http://127.0.0.1:1/refused".to_owned(),
                "502",
                "502 Proxy(\"connection_refused\") ",
            ),
            (
                "https://a.example/secure".to_owned(),
                "501",
                "501 Proxy(\"http_request_error\") ",
            ),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            let mut client = proxy.client();
            client.send(&text);
            if response != "none" {
                client.response();
            }
            let path = &target[target.rfind('/').unwrap_or(0)..];
            let line = proxy.wait_for_line(&format!("{path} - "));
            assert_eq!(field(&line, "response"), response, "{line}");
            let told = field(&line, "end");
            assert!(told.starts_with(end), "{line}");
            let numbers: Vec<&str> = told[end.len()..].split(' ').collect();
            let received = client.received().len().to_string();
            assert_eq!(
                numbers,
                [&*text.len().to_string(), &*received, "true"],
                "{line}"
            );
        }
    }

    #[test]
    fn counts_content_and_tunnels_both_ways() {
        let origin = Origin::answering(OK);
        let proxy = kinds("SeesEnd").start();
        let upload = request("POST", &origin, "/upload", "Content-Length: 5\r\n") + "hello";
        proxy.ask(&upload);
        let line = proxy.wait_for_line("/upload");
        let end = field(&line, "end");
        assert!(
            end.starts_with(&format!("200 Upstream {} ", upload.len())),
            "{line}"
        );
        let echo = Origin::echoing();
        let mut client = proxy.tunnel(&echo);
        client.send("twelve bytes");
        client.read_exact(12);
        client.finish();
        client.read_to_end();
        let line = proxy.wait_for_line(" - CONNECT ");
        let head = format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            echo.authority()
        );
        let end = field(&line, "end");
        let expected = format!("200 Proxy(\"connected\") {} 12 true", head.len() + 12);
        assert_eq!(end, expected, "{line}");
    }

    #[test]
    fn names_both_ends_of_both_connections() {
        let origin = Origin::answering(OK);
        let proxy = kinds("SeesEnd").start();
        proxy.get(&origin, "/ends");
        let line = proxy.wait_for_line("/ends");
        let ends = field(&line, "ends");
        let expected = format!("{} {} 127.0.0.1:", proxy.address(), origin.address());
        assert!(ends.starts_with(&expected), "{line}");
        assert_eq!(field(&line, "tls"), "none");
    }
}
