//! Invalid values in messages, and changes in the wrong hook.

use super::{log, nowhere, said, zoo};
use crate::support::{OK, Origin, Proxy, get, response};
use std::collections::BTreeMap;

/// What each hook may change; all other changes must fail.
const EDITS: [(&str, &str); 15] = [
    (
        "authenticate",
        "request append remove path upstream scheme parent user client_body upstream_body",
    ),
    (
        "before_upstream_connection",
        "request append remove path upstream scheme parent client_body upstream_body",
    ),
    (
        "handle_client_request",
        "request append remove path upstream scheme parent client_body upstream_body",
    ),
    (
        "handle_client_body",
        "request append remove path upstream scheme parent upstream_body body",
    ),
    ("resolve_dns", "addresses source"),
    ("on_upstream_connected", ""),
    ("on_upstream_failed", "upstream scheme parent"),
    ("handle_client_chunk", ""),
    ("handle_client_trailers", "trailers"),
    ("handle_upstream_response", "upstream_body response status"),
    ("handle_upstream_body", "body response status"),
    ("handle_upstream_chunk", ""),
    ("handle_upstream_trailers", "trailers"),
    ("on_access_log", ""),
    ("on_upstream_connection_close", ""),
];

/// A response in one chunk, with a trailer.
const TRAILED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    4\r\ndown\r\n0\r\nX-End: 2\r\n\r\n";

#[test]
fn a_change_in_the_wrong_hook_is_stale() {
    let origin = Origin::replying(|request| match request.method() {
        "POST" => TRAILED.to_vec(),
        _ => OK.as_bytes().to_vec(),
    });
    let host = format!("localhost:{}", origin.address().port());
    let proxy = zoo("EditAll").start();
    let mut client = proxy.client();
    for path in ["/whole", "/stream"] {
        let answer = client.ask(format!(
            "POST http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nup\r\n0\r\nX-End: 1\r\n\r\n"
        ));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "down"));
        assert!(answer.is_sound(), "{:?}", answer.fault);
    }
    assert_eq!(
        client
            .ask("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
            .status(),
        502
    );
    drop(client);
    let mut made = BTreeMap::new();
    let log = log(proxy);
    for line in said(&log, "may ") {
        let (hook, edits) = line
            .split_once(": ")
            .unwrap_or((line.trim_end_matches(':'), ""));
        let earlier = made.insert(hook.to_owned(), edits.to_owned());
        assert!(
            earlier.is_none_or(|earlier| earlier == edits),
            "{hook}: {edits}"
        );
    }
    let wanted: BTreeMap<String, String> = EDITS
        .iter()
        .map(|(hook, edits)| ((*hook).to_owned(), (*edits).to_owned()))
        .collect();
    assert_eq!(made, wanted);
}

#[test]
fn a_tunnel_has_neither_scheme_nor_path_to_change() {
    let origin = Origin::echoing();
    let proxy = zoo("EditAll").start();
    let mut client = proxy.tunnel(&origin);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    drop(client);
    let log = log(proxy);
    let made = said(&log, "may before_upstream_connection: ");
    assert_eq!(
        made,
        ["request append remove path(BadValue) upstream parent client_body upstream_body"]
    );
    let made = said(&log, "may handle_tunnel_chunk:");
    let made: Vec<&str> = made.into_iter().map(str::trim).collect();
    assert_eq!(made, ["", ""]);
}

fn results(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .collect()
}

/// The error for an invalid edit.
fn expected(edit: &str) -> &'static str {
    let value = |name: &str| {
        edit.strip_prefix("set ")
            .or(edit.strip_prefix("append "))
            .is_some_and(|field| field.starts_with(name))
    };
    match edit {
        "status 204 A" | "status 304 A" => "BadValue",
        "body" => "Stale",
        edit if edit.starts_with("upstream a.example 0") => "BadValue",
        edit if edit.starts_with("upstream ") => "BadName",
        edit if edit.starts_with("path ") || edit.starts_with("scheme ") => "BadValue",
        edit if edit.starts_with("parent ") || edit.starts_with("status ") => "BadValue",
        _ if value("X-A=") => "BadValue",
        _ if value("X-A") || value("X A") || value("=") || value("\\u{fc}") => "BadName",
        _ => "HostOwned",
    }
}

#[test]
fn no_edit_makes_a_message_that_says_something_else() {
    let origin = Origin::answering(OK);
    let proxy = zoo("BadEdits").start();
    let mut client = proxy.client();
    for path in ["/request", "/response"] {
        let answer = client.ask(get(&origin, path));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let text = answer.text();
        let results = results(&text);
        assert!(results.len() > 40, "{text}");
        for (edit, result) in results {
            assert_eq!(result, expected(edit), "{path}: {edit}");
        }
    }
    let asked = origin.only_request();
    assert_eq!(
        (asked.target(), asked.field("X-A"), asked.field("X-B")),
        ("/response", None, None)
    );
}

fn answering(hook: &str, settings: &[&str]) -> Proxy {
    let command = zoo("Answer").plugin_config(&format!("Answer.hook=\"{hook}\""));
    settings
        .iter()
        .fold(command, |command, setting| {
            command.plugin_config(&format!("Answer.{setting}"))
        })
        .start()
}

const HOOKS: [&str; 2] = ["before_upstream_connection", "handle_upstream_response"];

#[test]
fn a_reply_that_is_no_response_is_a_failure_of_its_plugin() {
    let origin = Origin::answering(OK);
    for hook in HOOKS {
        for settings in [
            &["status=0"][..],
            &["status=99"],
            &["status=101"],
            &["status=100"],
            &["status=600"],
            &["status=65535"],
            &["status=200", "reason=\"A\\r\\nX-B: 1\""],
            &["status=200", "field=[\"X-A\", \"1\\r\\nX-B: 2\"]"],
            &["status=200", "field=[\"X-A\\r\\nX-B\", \"1\"]"],
            &["status=200", "field=[\"Content-Length\", \"3\"]"],
            &["status=200", "field=[\"Transfer-Encoding\", \"chunked\"]"],
            &["status=200", "field=[\"Connection\", \"X-A\"]"],
            &["status=200", "field=[\"Upgrade\", \"h2c\"]"],
        ] {
            let proxy = answering(hook, settings);
            let mut client = proxy.client();
            for _ in 0..2 {
                let answer = client.ask(get(&origin, "/"));
                assert_eq!(answer.status(), 500, "{settings:?}");
                assert!(
                    answer.is_sound() && answer.field("X-B").is_none(),
                    "{settings:?}"
                );
            }
            let line = proxy.wait_for_line("invalid reply");
            assert!(line.contains("Answer") && line.contains(hook), "{line}");
        }
    }
}

#[test]
fn a_reply_without_content_has_none_whatever_its_plugin_says() {
    let origin = Origin::answering(OK);
    for hook in HOOKS {
        for status in [204, 304] {
            let proxy = answering(
                hook,
                &[
                    &format!("status={status}"),
                    "body=\"HTTP/1.1 200 OK\\r\\n\\r\\n\"",
                ],
            );
            let mut client = proxy.client();
            for _ in 0..3 {
                let answer = client.ask(get(&origin, "/"));
                assert_eq!(
                    (answer.status(), answer.field("Content-Length")),
                    (status, None)
                );
                assert_eq!(client.rest(), b"");
            }
        }
    }
}

#[test]
fn a_reply_to_head_has_a_length_and_no_content() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    for hook in HOOKS {
        let proxy = answering(hook, &["status=200", "body=\"four\""]);
        let mut client = proxy.client();
        for _ in 0..3 {
            let answer = client.ask(crate::support::request("HEAD", &origin, "/", ""));
            assert_eq!(answer.field("Content-Length").as_deref(), Some("4"));
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn a_reply_has_one_date() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let proxy = answering(
        HOOKS[0],
        &["status=200", &format!("field=[\"Date\", \"{date}\"]")],
    );
    assert_eq!(proxy.ask(nowhere("/")).all("Date"), [date]);
}

#[test]
fn the_content_of_a_response_to_head_cannot_be_replaced() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let proxy = zoo("EditAll").start();
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.ask(crate::support::request("HEAD", &origin, "/", ""));
        assert_eq!((answer.status(), client.rest()), (200, &b""[..]));
    }
    assert_eq!(said(&log(proxy), "may handle_upstream_body"), [""; 0]);
}

#[test]
fn a_change_that_is_refused_fails_the_exchange_of_who_insists() {
    let origin = Origin::answering(response("200 OK", "fine"));
    for (setting, reason) in [
        ("Detour.scheme=\"ftp\"", "not a valid value"),
        ("Detour.host=\"127.1\"", "not a valid name"),
    ] {
        let proxy = zoo("Detour").plugin_config(setting).start();
        assert_eq!(proxy.get(&origin, "/").status(), 500);
        let line = proxy.wait_for_line(reason);
        assert!(
            line.contains("Detour") && line.contains("before_upstream_connection"),
            "{line}"
        );
    }
    origin.assert_untouched();
}

#[test]
fn a_setting_of_the_wrong_type_stops_the_start() {
    for (plugin, settings, words) in [
        (
            "HostSleep",
            &["HostSleep.milliseconds=\"long\""][..],
            ["milliseconds", "invalid type"],
        ),
        ("HostSleep", &[], ["milliseconds", "missing field"]),
        (
            "Usher",
            &["Usher.users=\"alice\""],
            ["users", "invalid type"],
        ),
        (
            "Names",
            &["Names.host=\"a\"", "Names.addresses=[\"localhost\"]"],
            ["addresses", "IP address"],
        ),
        (
            "Answer",
            &["Answer.hook=\"a\"", "Answer.status=70000"],
            ["status", "70000"],
        ),
        ("SpawnInNew", &["SpawnInNew.x=1"], ["x", "unknown field"]),
    ] {
        let command = settings.iter().fold(zoo(plugin), |command, setting| {
            command.plugin_config(setting)
        });
        let exit = command.run();
        assert_eq!(exit.code, Some(78), "{exit:?}");
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        for word in words.iter().chain([&plugin]) {
            assert!(exit.stderr.contains(word), "no {word} in {}", exit.stderr);
        }
    }
}
