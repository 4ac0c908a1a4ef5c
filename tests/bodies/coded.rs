//! Content is decoded for the plugins that request it and encoded again for everything else.

use super::{Framed, answering, edited, editors, orders, post, text};
use crate::support::{Coding, Message, Origin, Proxy, bomb, shown};

/// A POST with encoded content, and the answer with the same content.
struct Exchanged {
    request: Message,
    answer: Message,
}

fn exchange(proxy: &Proxy, chain: &[&str], framed: Framed, names: &str, coded: &[u8]) -> Exchanged {
    let fields = format!("Content-Encoding: {names}\r\n");
    let head = format!("HTTP/1.1 200 OK\r\n{fields}");
    let message = framed.message(&head, coded);
    let origin = Origin::answering(message);
    let head = post(&origin, "/", &(orders(chain) + &fields));
    let mut client = proxy.client();
    client.send(framed.message(&head, coded));
    let answer = client.response_to("POST");
    assert_eq!(answer.status(), 200, "{chain:?}: {}", answer.text());
    let request = origin.only_request();
    for message in [&request, &answer] {
        assert!(message.is_sound(), "{chain:?}: {:?}", message.fault);
        assert_eq!(message.field("Content-Encoding").as_deref(), Some(names));
    }
    Exchanged { request, answer }
}

fn assert_exact(proxy: &Proxy, chain: &[&str], coding: Coding, len: usize) {
    let coded = coding.encode(&text(len));
    for framed in [Framed::Length, Framed::Chunked] {
        let Exchanged { request, answer } = exchange(proxy, chain, framed, coding.name(), &coded);
        for message in [request, answer] {
            let told = format!(
                "{chain:?}, {coding:?}, {framed:?}, {len}, {}",
                message.start
            );
            let content = coding.decode(&message.body);
            let content = content.unwrap_or_else(|| panic!("{told}: {}", shown(&message.body)));
            // Empty content has a non-empty encoding, so plugins are called for it.
            let wanted = match len {
                0 => chain.iter().fold(Vec::new(), |content: Vec<u8>, orders| {
                    match orders.ends_with("append") {
                        true => [content, b"A".to_vec()].concat(),
                        false => content,
                    }
                }),
                _ => edited(chain, &text(len)),
            };
            assert!(content == wanted, "{told}: {}", shown(&content));
        }
    }
}

#[test]
fn are_undone_and_redone_around_one_plugin() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        for orders in [
            "stream decoded pass",
            "stream decoded upper",
            "stream decoded append",
            "whole decoded pass",
            "whole decoded upper",
            "whole decoded append",
            "whole decoded drop",
        ] {
            for len in [0, 1, 100, 65_537] {
                assert_exact(&proxy, &[orders], coding, len);
            }
        }
    }
}

#[test]
fn are_undone_only_for_those_who_ask() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        for chain in [
            [
                "stream decoded append",
                "stream pass",
                "stream decoded append",
            ],
            ["stream pass", "stream decoded upper", "stream pass"],
            ["whole decoded append", "whole pass", "whole decoded append"],
            ["whole pass", "stream decoded append", "stream pass"],
            [
                "stream pass",
                "whole decoded append",
                "stream decoded replace",
            ],
            ["stream decoded drop", "whole decoded append", "whole pass"],
        ] {
            assert_exact(&proxy, &chain, coding, 100);
            assert_exact(&proxy, &chain, coding, 65_537);
        }
    }
}

#[test]
fn of_whole_bodies_that_nobody_changes_are_not_done_again() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        // Encoded differently than the proxy would encode it.
        let coded = [coding.encode(b"one, "), coding.encode(b"two")].concat();
        let coded = match coding {
            Coding::Gzip | Coding::Zstd => coded,
            _ => coding.encode(&text(3000)),
        };
        for chain in [
            ["whole decoded pass", "whole pass"],
            ["whole pass", "whole decoded pass"],
            ["stream pass", "stream pass"],
        ] {
            let Exchanged { request, answer } =
                exchange(&proxy, &chain, Framed::Chunked, coding.name(), &coded);
            assert!(
                request.body == coded && answer.body == coded,
                "{chain:?} {coding:?}"
            );
        }
    }
}

#[test]
fn are_exact_at_every_split() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        let coded = coding.encode(&text(30));
        let fields = format!("Content-Encoding: {}\r\n", coding.name());
        for chain in ["stream decoded append", "whole decoded append"] {
            let origin = Origin::serve({
                let fields = fields.clone();
                move |peer| {
                    while let Some(request) = peer.request() {
                        let head = format!("HTTP/1.1 200 OK\r\n{fields}");
                        let answer = Framed::Chunked.message(&head, &request.body);
                        let cut: usize = request.target()[1..].parse().expect("a number");
                        let cut = cut.min(answer.len());
                        peer.send(&answer[..cut]);
                        peer.send(&answer[cut..]);
                    }
                }
            });
            let mut client = proxy.client();
            for cut in 1..260 {
                let head = post(&origin, &format!("/{cut}"), &(orders(&[chain]) + &fields));
                let message = Framed::Chunked.message(&head, &coded);
                let body_cut = message.len() - 1 - cut % (coded.len() + 20);
                client.send(&message[..body_cut]);
                client.send(&message[body_cut..]);
                let answer = client.response_to("POST");
                let content = coding.decode(&answer.body).unwrap_or_default();
                let wanted = [&text(30)[..], b"AA"].concat();
                assert!(answer.is_sound(), "{:?}", answer.fault);
                assert_eq!(content, wanted, "{coding:?}, {chain}, cut at {cut}");
            }
        }
    }
}

#[test]
fn that_are_not_there_change_nothing() {
    let proxy = editors().start();
    for orders in ["stream decoded append", "whole decoded append"] {
        let exchanged = exchange(&proxy, &[orders], Framed::Chunked, "gzip", b"");
        assert_eq!(exchanged.request.body, b"");
        assert_eq!(exchanged.answer.body, b"");
        let exchanged = exchange(&proxy, &[orders], Framed::Length, "identity", b"plain");
        assert_eq!(exchanged.request.text(), "plainA");
        assert_eq!(exchanged.answer.text(), "plainA");
    }
}

#[test]
fn that_cannot_be_undone_pass_where_they_may() {
    let proxy = editors().start();
    let coded = Coding::Gzip.encode(b"content");
    for names in ["compress", "gzip, br", "gzip, gzip", "x-unknown"] {
        for orders in ["stream decoded upper", "whole decoded or_pass upper"] {
            for framed in [Framed::Length, Framed::Chunked] {
                let exchanged = exchange(&proxy, &[orders], framed, names, &coded);
                assert!(exchanged.request.body == coded, "{names}, {orders}");
                assert!(exchanged.answer.body == coded, "{names}, {orders}");
            }
        }
        let exchanged = exchange(&proxy, &["whole append"], Framed::Length, names, &coded);
        assert!(
            exchanged.answer.body == [&coded[..], b"A"].concat(),
            "{names}"
        );
    }
}

#[test]
fn that_cannot_be_undone_are_refused_where_they_may_not() {
    let proxy = editors().start();
    for names in ["compress", "gzip, br"] {
        let fields = format!("Content-Encoding: {names}\r\n");
        let origin = Origin::answering(
            Framed::Length.message(&format!("HTTP/1.1 200 OK\r\n{fields}"), b"content"),
        );
        let head = post(&origin, "/", &(orders(&["whole decoded"]) + &fields));
        let answer = proxy.ask(Framed::Length.message(&head, b"content"));
        assert_eq!(answer.status(), 415, "{names}");
        origin.assert_untouched();
        let only = orders(&["only=upstream whole decoded"]);
        let answer = proxy.ask(post(&origin, "/", &only) + "\r\n");
        assert_bad_coding(&answer, names);
    }
}

fn assert_bad_coding(answer: &Message, told: &str) {
    assert_eq!(answer.status(), 502, "{told}");
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(
        status.contains("http_response_content_coding"),
        "{told}: {status}"
    );
}

#[test]
fn of_a_part_cannot_be_undone() {
    let proxy = editors().start();
    let coded = &Coding::Gzip.encode(&text(200))[7..90];
    for fields in [
        "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Range: bytes 7-89/100\r\n",
        "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Type: multipart/byteranges; boundary=b\r\n",
    ] {
        let origin = answering(Framed::Length, fields, coded);
        let ask = |chain: &str| proxy.ask(post(&origin, "/", &orders(&[chain])) + "\r\n");
        for chain in ["stream decoded upper", "whole decoded or_pass upper"] {
            let answer = ask(chain);
            assert!(
                answer.is_sound() && answer.body == coded,
                "{chain}: {fields}"
            );
        }
        assert_eq!(ask("whole append").body, [coded, b"A"].concat(), "{fields}");
        assert_bad_coding(&ask("whole decoded"), fields);
    }
}

/// Content that is invalid in its coding.
fn broken(coding: Coding) -> Vec<(&'static str, Vec<u8>)> {
    let whole = coding.encode(&text(5000));
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 0x55;
    altered.truncate(whole.len() - 1);
    vec![
        ("cut off", whole[..whole.len() - 3].to_vec()),
        ("cut to a byte", whole[..1].to_vec()),
        ("altered", altered),
        ("no coding at all", b"\x07 plain content".to_vec()),
    ]
}

#[test]
fn that_are_broken_in_a_request_are_refused() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        let fields = format!("Content-Encoding: {}\r\n", coding.name());
        for (fault, content) in broken(coding) {
            for chain in ["whole decoded", "whole decoded or_pass", "stream decoded"] {
                let origin = Origin::answering(crate::support::OK);
                let head = post(&origin, "/", &(orders(&[chain]) + &fields));
                let answer = proxy.ask(Framed::Length.message(&head, &content));
                assert_eq!(answer.status(), 400, "{coding:?}, {fault}, {chain}");
                assert_eq!(origin.requests().len(), 0, "{coding:?}, {fault}, {chain}");
            }
        }
    }
}

#[test]
fn that_are_broken_in_a_response_never_look_whole() {
    let proxy = editors().start();
    for coding in Coding::ALL {
        for (fault, content) in broken(coding) {
            for framed in [Framed::Length, Framed::Chunked] {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {}\r\n", coding.name());
                let origin = Origin::answering(framed.message(&head, &content));
                let ask = |chain: &str| proxy.ask(post(&origin, "/", &orders(&[chain])) + "\r\n");
                assert_bad_coding(&ask("whole decoded"), fault);
                let answer = ask("stream decoded");
                assert!(
                    answer.status() == 502 || !answer.complete,
                    "{coding:?}, {fault}: {}",
                    answer.start
                );
            }
        }
    }
}

#[test]
fn that_expand_without_end_are_refused_in_little_memory() {
    let proxy = editors().start();
    let bomb = bomb(512);
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n";
    let origin = answering(Framed::Length, head, &bomb);
    let ask = |chain: &str| proxy.ask(post(&origin, "/", &orders(&[chain])) + "\r\n");
    assert_eq!(ask("skip").body.len(), bomb.len());
    let before = proxy.resident_kib();
    for _ in 0..3 {
        let answer = ask("stream decoded");
        assert!(
            answer.status() == 502 || !answer.complete,
            "{}",
            answer.start
        );
        assert_eq!(ask("whole decoded").status(), 502);
        let fields = orders(&["only=client stream decoded"]) + "Content-Encoding: deflate\r\n";
        let mut client = proxy.client();
        client.try_send(Framed::Length.message(&post(&origin, "/", &fields), &bomb));
        assert_eq!(client.response_to("POST").status(), 413);
    }
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB for bombs");
}
