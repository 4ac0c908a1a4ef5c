//! Switching protocols by Upgrade, and refusing to (RFC 9110 §7.8).

use super::case::Act::{Close, WaitFor};
use super::case::{Case, case, get_with, post, say};

const RULE: &str = "9110 7.8";
const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    [accepted(), declined(), never_asked()]
        .into_iter()
        .flatten()
        .collect()
}

fn accepted() -> Vec<Case> {
    vec![
        get_with("upgrade_carries_bytes_both_ways", RULE, ASK)
            .origin([say(SWITCH), WaitFor(b"\x81\x85frame".to_vec()), say(b"\x81\x04pong"), Close])
            .wait_for("101 Switching")
            .send(b"\x81\x85frame")
            .closes()
            .statuses(&[101])
            .origin_line("Connection: Upgrade")
            .origin_line("Upgrade: websocket")
            .line("Upgrade: websocket")
            .client_has(b"\r\n\r\n\x81\x04pong"),
        get_with("upgrade_with_bytes_right_behind", RULE, ASK).origin([say(format!("{SWITCH}first")), Close]).closes().statuses(&[101]).client_has("\r\n\r\nfirst"),
        get_with("upgrade_after_an_interim_response", RULE, ASK)
            .origin([say(format!("HTTP/1.1 103 Early Hints\r\n\r\n{SWITCH}first")), Close])
            .closes()
            .interim(&[103])
            .statuses(&[101]),
        get_with("upgrade_to_any_protocol", RULE, "Connection: upgrade\r\nUpgrade: frob/2\r\n")
            .origin([say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: frob/2\r\n\r\nfirst"), Close])
            .closes()
            .statuses(&[101])
            .client_has("\r\n\r\nfirst"),
    ]
}

fn declined() -> Vec<Case> {
    vec![
        get_with("declined_upgrade_stays_http", RULE, ASK)
            .origin([say("HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\ndenied")])
            .statuses(&[403])
            .body("denied")
            .stays(),
        get_with("ignored_upgrade_stays_http", RULE, ASK)
            .statuses(&[200])
            .body("origin-ok")
            .stays(),
        get_with("switch_without_upgrade_field", "9110 15.2.2", ASK)
            .origin([say("HTTP/1.1 101 Switching Protocols\r\n\r\nraw")])
            .bad_gateway(),
        get_with("switch_to_another_protocol", RULE, ASK)
            .origin([say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: frob\r\n\r\nraw")])
            .bad_gateway()
            .client_lacks("101 Switching"),
        get_with("switch_to_one_protocol_too_many", RULE, ASK)
            .origin([say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, frob\r\n\r\nraw")])
            .bad_gateway()
            .client_lacks("101 Switching"),
    ]
}

fn never_asked() -> Vec<Case> {
    vec![
        get_with("upgrade_without_connection", RULE, "Upgrade: websocket\r\n")
            .statuses(&[200])
            .origin_no_field("Upgrade"),
        get_with(
            "connection_without_upgrade",
            RULE,
            "Connection: Upgrade\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Upgrade")
        .origin_no_field("Connection"),
        get_with(
            "upgrade_to_h2c_ends_here",
            "9113 3.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Upgrade")
        .origin_no_field("HTTP2-Settings"),
        get_with(
            "http2_is_taken_out_of_a_list",
            "9113 3.1",
            "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
        )
        .statuses(&[200])
        .origin_line("Upgrade: websocket"),
        get_with(
            "upgrade_to_tls_ends_here",
            "2817 5",
            "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        )
        .statuses(&[200])
        .origin_no_field("Upgrade"),
        post(
            "upgrade_of_a_request_with_body",
            RULE,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
            "hello",
        )
        .statuses(&[200])
        .origin_no_field("Upgrade")
        .origin_body("hello"),
        case("upgrade_in_http_1.0", RULE)
            .send("GET {T}/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .statuses(&[200])
            .origin_no_field("Upgrade"),
        case("preface_of_http2", "9113 3.4")
            .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            .refused_as(&[400, 505]),
    ]
}
