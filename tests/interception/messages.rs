//! What passes unchanged, whichever HTTP version each side speaks.

use super::Scene;
use crate::support::pattern;
use crate::support::tls::{Answer, Ask, Offer, Session, Version};

/// The versions that the client offers and the origin accepts.
const SIDES: [(Offer, Offer); 6] = [
    (Offer::Http1, Offer::Http1),
    (Offer::Http2, Offer::Http2),
    (Offer::Both, Offer::Both),
    (Offer::Both, Offer::Http1),
    (Offer::Http1, Offer::Http2),
    (Offer::Nothing, Offer::Nothing),
];

const LARGE: usize = 1 << 20;

/// Runs `case` on a new connection for each pair of sides.
fn on_all_sides(answer: &Answer, case: impl Fn(&Scene, &str, &mut Session)) {
    for (client, origin) in SIDES {
        let scene = Scene::of(client, origin, answer.clone());
        let authority = scene.authority();
        let mut session = scene.client().https(&authority);
        eprintln!("client {client:?}, origin {origin:?}");
        case(&scene, &authority, &mut session);
        for connection in scene.origin.connections() {
            let expected = match origin {
                Offer::Http1 => Some("http/1.1"),
                Offer::Http2 | Offer::Both => Some("h2"),
                Offer::Nothing | Offer::Names(_) => None,
            };
            assert_eq!(connection.protocol.as_deref(), expected);
        }
    }
}

#[test]
fn a_get_is_answered() {
    let answer = Answer::ok("origin-ok").field("X-Kept", "yes");
    on_all_sides(&answer, |scene, authority, session| {
        let received = session.ask(Ask::get(authority, "/path?q=1").field("X-Seen", "too"));
        assert_eq!(received.told(), (200, "origin-ok".into()));
        assert_eq!(received.field("x-kept").as_deref(), Some("yes"));
        assert_eq!(received.all("content-length"), ["9"]);
        let seen = scene.origin.only_request();
        assert_eq!((&*seen.method, &*seen.path), ("GET", "/path?q=1"));
        assert_eq!(&seen.authority, authority);
        assert_eq!(seen.field("x-seen").as_deref(), Some("too"));
        assert_eq!(seen.body, b"");
        assert_eq!(seen.server_name.as_deref(), Some("localhost"));
        match seen.version {
            Version::Http2 => assert_eq!(seen.scheme.as_deref(), Some("https")),
            Version::Http1 => assert_eq!(seen.all("host"), [authority]),
        }
    });
}

#[test]
fn the_version_of_each_side_is_its_own() {
    for (client, origin, spoken) in [
        (Offer::Http1, Offer::Http1, Version::Http1),
        (Offer::Http1, Offer::Http2, Version::Http1),
        (Offer::Http2, Offer::Http2, Version::Http2),
        (Offer::Both, Offer::Both, Version::Http2),
        (Offer::Nothing, Offer::Both, Version::Http1),
    ] {
        let scene = Scene::of(client, origin, Answer::ok("ok"));
        let session = scene.client().https(&scene.authority());
        assert_eq!(session.version(), spoken, "{client:?}, {origin:?}");
    }
}

#[test]
fn the_body_of_a_post_arrives_with_its_length() {
    on_all_sides(&Answer::ok("taken"), |scene, authority, session| {
        let received = session.ask(Ask::post(authority, "/post", "a=b").field("X-Form", "1"));
        assert_eq!(received.told(), (200, "taken".into()));
        let seen = scene.origin.only_request();
        assert_eq!((&*seen.method, &*seen.text()), ("POST", "a=b"));
        assert_eq!(seen.all("content-length"), ["3"]);
    });
}

#[test]
fn an_empty_post_arrives_as_one() {
    on_all_sides(&Answer::ok("taken"), |scene, authority, session| {
        let received = session.ask(Ask::post(authority, "/", ""));
        assert_eq!(received.told(), (200, "taken".into()));
        let seen = scene.origin.only_request();
        assert_eq!(seen.all("content-length"), ["0"]);
        assert!(seen.body.is_empty() && seen.is_complete);
    });
}

#[test]
fn trailers_pass_both_ways() {
    on_all_sides(&Answer::echo(), |scene, authority, session| {
        let parts = vec![b"one ".to_vec(), b"two".to_vec()];
        let ask = Ask::post_parts(authority, "/", parts)
            .field("TE", "trailers")
            .trailer("x-checksum", "abc");
        let received = session.ask(ask);
        assert_eq!(received.told(), (200, "one two".into()));
        let expected = vec![("x-checksum".to_owned(), "abc".to_owned())];
        assert_eq!(lower(&received.trailers), expected);
        let seen = scene.origin.only_request();
        assert_eq!(
            (seen.text(), lower(&seen.trailers)),
            ("one two".into(), expected)
        );
    });
}

fn lower(fields: &[(String, String)]) -> Vec<(String, String)> {
    let lowered = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    fields.iter().map(lowered).collect()
}

#[test]
fn a_mebibyte_passes_both_ways_and_unchanged() {
    on_all_sides(&Answer::echo(), |scene, authority, _| {
        let content = pattern(LARGE);
        for ask in [
            Ask::post(authority, "/known", content.clone()),
            Ask::post_parts(authority, "/unknown", vec![content.clone()]),
        ] {
            // The response starts before the request ends, after which an HTTP/1.1 connection may close.
            let received = scene.client().https(authority).ask(ask);
            assert_eq!((received.status, &received.fault), (200, &None));
            assert!(received.body == content, "{} bytes", received.body.len());
        }
        let seen = scene.origin.requests();
        assert!(seen.len() == 2 && seen.iter().all(|seen| seen.body == content));
    });
}

#[test]
fn many_requests_pass_on_one_connection() {
    on_all_sides(&Answer::ok("ok"), |scene, authority, session| {
        for number in 0..50 {
            let path = format!("/{number}");
            assert_eq!(
                session.ask(Ask::get(authority, &path)).told(),
                (200, "ok".into())
            );
        }
        let seen = scene.origin.requests();
        let paths: Vec<_> = seen.iter().map(|seen| seen.path.clone()).collect();
        let expected: Vec<_> = (0..50).map(|number| format!("/{number}")).collect();
        assert_eq!(paths, expected);
        assert_eq!(
            scene.origin.connections().len(),
            1,
            "connections to the origin"
        );
    });
}

#[test]
fn streams_of_one_client_share_a_connection_to_the_origin() {
    let scene = Scene::of(Offer::Http2, Offer::Http2, Answer::ok("ok"));
    let authority = scene.authority();
    let session = scene.client().https(&authority);
    let pending: Vec<_> = (0..50)
        .map(|number| session.begin(Ask::get(&authority, &format!("/{number}"))))
        .collect();
    for pending in pending {
        assert_eq!(
            pending.finish().expect("an answer").told(),
            (200, "ok".into())
        );
    }
    assert_eq!(scene.origin.requests().len(), 50);
    assert_eq!(scene.origin.connections().len(), 1);
}

#[test]
fn the_answer_to_head_has_a_length_and_no_content() {
    let answer = Answer::ok("").field("X-Kept", "yes");
    on_all_sides(&answer, |scene, authority, session| {
        for _ in 0..2 {
            let received = session.ask(Ask::new("HEAD", authority, "/"));
            assert_eq!(received.told(), (200, String::new()));
            assert_eq!(received.field("x-kept").as_deref(), Some("yes"));
        }
        assert_eq!(scene.origin.requests().len(), 2);
    });
}

#[test]
fn answers_without_content_pass() {
    for status in [204, 304] {
        let answer = Answer::status(status).field("ETag", "\"x\"");
        on_all_sides(&answer, |_, authority, session| {
            for _ in 0..2 {
                let received = session.ask(Ask::get(authority, "/"));
                assert_eq!(received.told(), (status, String::new()));
                assert_eq!(received.field("etag").as_deref(), Some("\"x\""));
            }
        });
    }
}

#[test]
fn content_of_unknown_length_passes() {
    let answer = Answer::parts(vec![b"some ".to_vec(), b"parts".to_vec()]);
    on_all_sides(&answer, |_, authority, session| {
        for _ in 0..2 {
            let received = session.ask(Ask::get(authority, "/"));
            assert_eq!(received.told(), (200, "some parts".into()));
        }
    });
}

#[test]
fn interim_responses_pass() {
    let answer = Answer::ok("ok").after_interim(103, "link", "</a.css>; rel=preload");
    on_all_sides(&answer, |_, authority, session| {
        let received = session.ask(Ask::get(authority, "/"));
        assert_eq!(received.told(), (200, "ok".into()));
        let [(status, fields)] = &received.interim[..] else {
            panic!("{:?}", received.interim)
        };
        assert_eq!((*status, &*fields[0].1), (103, "</a.css>; rel=preload"));
    });
}

#[test]
fn a_response_that_breaks_off_stays_visibly_incomplete() {
    let answer = Answer::parts(vec![b"some".to_vec()]).broken();
    on_all_sides(&answer, |_, authority, session| {
        let received = session.try_ask(Ask::get(authority, "/"));
        // The response may break off before its head is forwarded.
        let is_seen = match &received {
            Ok(received) => received.fault.is_some() || received.status == 502,
            Err(_) => true,
        };
        assert!(is_seen, "{received:?}");
    });
}

#[test]
fn cookies_arrive_as_one_field() {
    on_all_sides(&Answer::ok("ok"), |scene, authority, session| {
        let ask = Ask::get(authority, "/").field("cookie", "a=1; b=2");
        session.ask(ask);
        let seen = scene.origin.only_request();
        assert_eq!(seen.all("cookie").join("; "), "a=1; b=2");
    });
}

#[test]
fn cookies_in_crumbs_are_one_field_to_an_origin_of_http1() {
    // HTTP/2 clients may split Cookie for compression; HTTP/1.1 requires a single field (RFC 9113 §8.2.3).
    let scene = Scene::of(Offer::Both, Offer::Http1, Answer::ok("ok"));
    let authority = scene.authority();
    let mut session = scene.client().https(&authority);
    if session.version() == Version::Http2 {
        session.ask(
            Ask::get(&authority, "/")
                .field("cookie", "a=1")
                .field("cookie", "b=2"),
        );
        assert_eq!(scene.origin.only_request().all("cookie"), ["a=1; b=2"]);
    }
}

#[test]
fn fields_of_the_connection_stay_on_it() {
    on_all_sides(&Answer::ok("ok"), |scene, authority, session| {
        let ask = Ask::get(authority, "/");
        let ask = match session.version() {
            Version::Http1 => ask.field("Connection", "X-Hop").field("X-Hop", "1"),
            Version::Http2 => ask,
        };
        let ask = ask
            .field("Proxy-Authorization", "Basic eDp5")
            .field("X-End", "1");
        assert_eq!(session.ask(ask).status, 200);
        let seen = scene.origin.only_request();
        for name in ["X-Hop", "Keep-Alive", "Proxy-Connection", "Upgrade"] {
            assert_eq!(seen.field(name), None, "{name}");
        }
        assert_eq!(seen.field("X-End").as_deref(), Some("1"));
    });
}

#[test]
fn requests_of_several_clients_do_not_mix() {
    let scene = Scene::answering(Answer::echo());
    let authority = scene.authority();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (scene, authority) = (&scene, &authority);
            scope.spawn(move || {
                let offer = if client % 2 == 0 {
                    Offer::Http1
                } else {
                    Offer::Http2
                };
                let mut session = scene.client().offering(offer).https(authority);
                for number in 0..20 {
                    let content = format!("client {client}, request {number}");
                    let received = session.ask(Ask::post(authority, "/", content.clone()));
                    assert_eq!(received.told(), (200, content));
                }
            });
        }
    });
}
