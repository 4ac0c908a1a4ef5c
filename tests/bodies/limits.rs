//! The limit on bodies buffered for a plugin, and what happens to larger ones.

use super::{Framed, answering, editors, orders, post, text};
use crate::support::{Coding, End, Message, OK, Origin, Proxy, get};

const OK_LINE: &str = "HTTP/1.1 200 OK\r\n";
const ALL: [Framed; 3] = [Framed::Length, Framed::Chunked, Framed::UntilClose];

fn upload(
    proxy: &Proxy,
    origin: &Origin,
    chain: &[&str],
    framed: Framed,
    content: &[u8],
) -> Message {
    proxy.ask(framed.message(&post(origin, "/", &orders(chain)), content))
}

fn download(proxy: &Proxy, chain: &[&str], framed: Framed, content: &[u8]) -> Message {
    let origin = answering(framed, OK_LINE, content);
    proxy.ask(post(&origin, "/", &orders(chain)) + "\r\n")
}

#[test]
fn a_request_beyond_the_limit_is_refused() {
    let proxy = editors().start();
    for framed in [Framed::Length, Framed::Chunked] {
        for len in [99, 100] {
            let origin = Origin::answering(OK);
            let answer = upload(&proxy, &origin, &["whole limit=100"], framed, &text(len));
            assert_eq!((answer.status(), len), (200, len), "{framed:?}");
            assert!(origin.only_request().body == text(len));
        }
        for len in [101, 3000, 300_000] {
            let origin = Origin::answering(OK);
            let head = post(&origin, "/", &orders(&["whole limit=100"]));
            let mut client = proxy.client();
            client.try_send(framed.message(&head, &text(len)));
            let answer = client.response_to("POST");
            assert_eq!(answer.status(), 413, "{framed:?}, {len}");
            origin.assert_untouched();
            if answer.field("Connection").is_none() {
                // The whole request had been read when it exceeded the limit, so the connection stays open.
                let again = client.ask(get(&origin, "/"));
                assert_eq!(again.status(), 200, "{framed:?}, {len}");
                continue;
            }
            client.finish();
            assert_eq!(client.read_to_end(), End::Closed, "{framed:?}, {len}");
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn a_response_beyond_the_limit_is_refused() {
    let proxy = editors().start();
    for framed in ALL {
        let answer = download(&proxy, &["whole limit=100 append"], framed, &text(100));
        assert!(answer.body == [&text(100)[..], b"A"].concat(), "{framed:?}");
        for len in [101, 300_000] {
            let answer = download(&proxy, &["whole limit=100"], framed, &text(len));
            assert_eq!(answer.status(), 502, "{framed:?}, {len}");
            let status = answer.field("Proxy-Status").unwrap_or_default();
            assert!(status.contains("http_response_body_size"), "{status}");
        }
    }
}

#[test]
fn what_may_pass_beyond_the_limit_goes_through_the_chunk_hooks() {
    let proxy = editors().start();
    for len in [101, 65_537, 300_000] {
        for framed in ALL {
            let path = format!("/{len}/{framed:?}");
            let origin = answering(framed, OK_LINE, &text(len));
            let inward = match framed {
                Framed::UntilClose => Framed::Chunked,
                framed => framed,
            };
            let head = post(&origin, &path, &orders(&["whole limit=100 or_pass pass"]));
            let mut client = proxy.client();
            client.send(inward.message(&head, &text(len)));
            let answer = client.response_to("POST");
            assert!(answer.is_sound() && answer.body == text(len), "{path}");
            assert!(origin.only_request().body == text(len), "{path}");
            let line = proxy.wait_for_line(&path);
            for which in ["client", "upstream"] {
                let seen = line
                    .split(&format!("A-{which}="))
                    .nth(1)
                    .unwrap_or_default();
                assert!(
                    seen.contains(&format!("ends:1,wholes:0,bytes:{len}")),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn each_plugin_has_its_own_limit() {
    let proxy = editors().start();
    let refusing = [
        ["whole limit=100 append", "whole limit=1000 append"],
        ["whole limit=1000 append", "whole limit=100 append"],
    ];
    let passing = [
        ["whole limit=100 or_pass append", "whole limit=1000 append"],
        ["whole limit=1000 append", "whole limit=100 or_pass append"],
    ];
    for framed in [Framed::Length, Framed::Chunked] {
        for chain in &refusing {
            let origin = Origin::answering(OK);
            let answer = upload(&proxy, &origin, chain, framed, &text(500));
            assert_eq!(answer.status(), 413, "{chain:?}, {framed:?}");
            let answer = download(&proxy, chain, framed, &text(500));
            assert_eq!(answer.status(), 502, "{chain:?}, {framed:?}");
        }
        for chain in &passing {
            let origin = Origin::answering(OK);
            upload(&proxy, &origin, chain, framed, &text(500));
            let wanted = [&text(500)[..], b"AB"].concat();
            assert!(
                origin.only_request().body == wanted,
                "{chain:?}, {framed:?}"
            );
            let answer = download(&proxy, chain, framed, &text(500));
            assert!(answer.body == wanted, "{chain:?}, {framed:?}");
        }
    }
}

#[test]
fn a_limit_counts_what_the_plugin_sees() {
    let proxy = editors().start();
    let content = vec![b'x'; 1000];
    for coding in Coding::ALL {
        let coded = coding.encode(&content);
        assert!(coded.len() < 100, "{coding:?}");
        let fields = format!("Content-Encoding: {}\r\n", coding.name());
        let head = format!("HTTP/1.1 200 OK\r\n{fields}");
        let cases: [(&[&str], u16); 7] = [
            (&["whole decoded limit=1000"], 200),
            (&["whole decoded limit=999"], 413),
            (&["whole decoded limit=999 or_pass"], 200),
            (&["whole limit=100"], 200),
            (&["whole decoded limit=999", "whole limit=100000"], 413),
            (&["whole limit=100", "whole decoded limit=1000"], 200),
            (&["whole limit=100", "whole decoded limit=999 or_pass"], 200),
        ];
        for (chain, status) in cases {
            let origin = Origin::answering(Framed::Chunked.message(&head, &coded));
            let request = post(&origin, "/", &(orders(chain) + &fields));
            let answer = proxy.ask(Framed::Chunked.message(&request, &coded));
            assert_eq!(answer.status(), status, "{coding:?}, {chain:?}");
            if status == 200 {
                let request = origin.only_request();
                assert!(
                    coding.decode(&request.body).as_ref() == Some(&content),
                    "{chain:?}"
                );
                assert!(
                    coding.decode(&answer.body).as_ref() == Some(&content),
                    "{chain:?}"
                );
            } else {
                origin.assert_untouched();
                let only: Vec<_> = chain
                    .iter()
                    .map(|each| format!("only=upstream {each}"))
                    .collect();
                let only: Vec<_> = only.iter().map(String::as_str).collect();
                let answer = proxy.ask(post(&origin, "/", &orders(&only)) + "\r\n");
                assert_eq!(answer.status(), 502, "{coding:?}, {chain:?}");
            }
        }
    }
}

#[test]
fn constants_hold_where_an_exchange_says_nothing() {
    let proxy = Proxy::command().plugin("zoo", "UpperWhole").start();
    for (len, status) in [(16, 200), (17, 413)] {
        let origin = Origin::answering(Framed::Length.message(OK_LINE, b"short"));
        let answer = proxy.ask(Framed::Chunked.message(&post(&origin, "/", ""), &text(len)));
        assert_eq!(answer.status(), status);
        if status == 200 {
            assert!(origin.only_request().body == text(len).to_ascii_uppercase());
            assert_eq!(answer.text(), "SHORT");
        }
    }
    let answer = download(&proxy, &[], Framed::Chunked, &text(17));
    assert_eq!(answer.status(), 502);
}

#[test]
fn an_exchange_may_ask_for_something_else() {
    let proxy = editors().start();
    for (chain, seen) in [
        ("upper", Some("chunks:0,ends:0,wholes:1,bytes:50")),
        ("stream upper", Some("ends:1,wholes:0,bytes:50")),
        ("skip upper", None),
    ] {
        let path = format!("/{}", chain.len());
        let origin = answering(Framed::Chunked, OK_LINE, &text(50));
        let answer = proxy.ask(post(&origin, &path, &orders(&[chain])) + "\r\n");
        let line = proxy.wait_for_line(&path);
        match seen {
            Some(seen) => assert!(line.contains(seen), "{chain}: {line}"),
            None => assert!(!line.contains("A-upstream"), "{chain}: {line}"),
        }
        assert_eq!(answer.body == text(50), seen.is_none(), "{chain}");
    }
}

#[test]
fn the_proxys_own_limit_wins_and_is_told_once() {
    let proxy = Proxy::command()
        .plugin("zoo", "Greedy")
        .config("[limits]\nmax_body_buffer = 10")
        .start();
    for (len, status) in [(10, 200), (11, 413), (11, 413)] {
        let origin = Origin::answering(OK);
        let answer = upload(&proxy, &origin, &[], Framed::Chunked, &text(len));
        assert_eq!(answer.status(), status);
    }
    proxy.wait_for_line("larger bodies");
    let lines = proxy.lines();
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("larger bodies"))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("Greedy") && told[0].contains("WARN"),
        "{}",
        told[0]
    );
}
