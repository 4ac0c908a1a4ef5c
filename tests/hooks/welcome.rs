//! Hooks that allow or deny connections and users.

use super::{log, nowhere, said, zoo};
use crate::support::{OK, Origin, request};

#[test]
fn a_connection_that_nobody_wants_ends_without_a_byte() {
    for (does, logged) in [
        ("close", None),
        ("fail", Some("the door is stuck")),
        ("panic", Some("the door is on fire")),
        ("reply", Some("only proceed or close")),
    ] {
        let proxy = zoo("Door")
            .plugin_config(&format!("Door.does=\"{does}\""))
            .start();
        for _ in 0..2 {
            let mut client = proxy.client();
            client.read_to_end();
            assert_eq!(client.received(), b"", "{does}");
        }
        if let Some(logged) = logged {
            let line = proxy.wait_for_line(logged);
            assert!(line.contains("ERROR") && line.contains("Door"), "{line}");
        }
    }
}

#[test]
fn a_connection_is_shown_with_both_addresses() {
    let proxy = zoo("Door").plugin_config("Door.does=\"\"").start();
    let client = proxy.client();
    let own = client.socket().local_addr().expect("a connected socket");
    let line = proxy.wait_for_line("door client");
    assert!(line.contains(&format!("client=Some({own})")), "{line}");
    assert!(
        line.contains(&format!("local=Some({})", proxy.address())),
        "{line}"
    );
}

#[test]
fn who_did_not_see_a_connection_begin_does_not_see_it_end() {
    let proxy = zoo("Witness")
        .plugin("zoo", "Door")
        .plugin("zoo", "WitnessB")
        .plugin_config("Witness.label=\"a\"")
        .plugin_config("WitnessB.label=\"b\"")
        .plugin_config("Door.does=\"close\"")
        .start();
    proxy.client().read_to_end();
    let log = log(proxy);
    let seen = said(&log, "seen ");
    let hooks: Vec<&str> = seen
        .iter()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(
        hooks,
        [
            "on_client_connection",
            "on_client_connection_close",
            "end_of_connection"
        ],
        "{seen:?}"
    );
}

#[test]
fn a_challenge_asks_for_credentials() {
    let origin = Origin::answering(OK);
    let proxy = zoo("Usher")
        .plugin("zoo", "NameUser")
        .plugin_config("Usher.users=[\"alice\"]")
        .start();
    let mut client = proxy.client();
    for fields in ["", "Proxy-Authorization: Basic mallory\r\n"] {
        let answer = client.ask(request("GET", &origin, "/", fields));
        assert_eq!(answer.status(), 407);
        assert_eq!(
            answer.field("Proxy-Authenticate").as_deref(),
            Some("Basic realm=\"zoo\"")
        );
    }
    origin.assert_untouched();
    let answer = client.ask(request(
        "GET",
        &origin,
        "/",
        "Proxy-Authorization: Basic alice\r\n",
    ));
    assert_eq!(answer.status(), 200);
    let asked = origin.only_request();
    assert_eq!(asked.field("X-User").as_deref(), Some("alice"));
    assert_eq!(asked.field("Proxy-Authorization"), None);
}

#[test]
fn tunnels_are_challenged_too() {
    let origin = Origin::silent();
    let proxy = zoo("Usher").plugin_config("Usher.users=[]").start();
    let authority = origin.authority();
    let answer = proxy.ask(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 407);
    origin.assert_untouched();
}

#[test]
fn the_configured_user_is_known_to_plugins() {
    let origin = Origin::answering(OK);
    let proxy = zoo("NameUser")
        .args(["--basic-auth", "carol:secret"])
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 407);
    let fields = "Proxy-Authorization: Basic Y2Fyb2w6c2VjcmV0\r\n";
    let mut client = proxy.client();
    assert_eq!(
        client.ask(request("GET", &origin, "/", fields)).status(),
        200
    );
    assert_eq!(
        origin.only_request().field("X-User").as_deref(),
        Some("carol")
    );
}

#[test]
fn nobody_is_the_user_where_nobody_asks() {
    let origin = Origin::answering(OK);
    let proxy = zoo("NameUser").start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(origin.only_request().field("X-User").as_deref(), Some("-"));
}

#[test]
fn users_are_asked_for_before_anything_else_is_said() {
    let proxy = zoo("Usher")
        .plugin_config("Usher.users=[\"alice\"]")
        .start();
    for target in ["/", "*", "https://a.example/", "http://a.example/"] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let message =
            |fields: &str| format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        assert_eq!(proxy.ask(message("")).status(), 407, "{target}");
        let status = proxy
            .ask(message("Proxy-Authorization: Basic alice\r\n"))
            .status();
        assert_ne!(status, 407, "{target}");
    }
}

#[test]
fn authentication_comes_before_every_other_hook_of_any_plugin() {
    let proxy = zoo("Answer")
        .plugin("zoo", "Usher")
        .plugin_config("Answer.hook=\"before_upstream_connection\"")
        .plugin_config("Answer.status=200")
        .plugin_config("Usher.users=[]")
        .start();
    assert_eq!(proxy.ask(nowhere("/")).status(), 407);
}
