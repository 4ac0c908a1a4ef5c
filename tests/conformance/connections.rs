//! One client connection: several requests, its end, and Expect (RFC 9112 §9, RFC 9110 §10.1.1).

use super::case::Act::{Close, Early, Pause, WaitFor};
use super::case::{Case, case, get_with, post, say};

const KEEP: &str = "9112 9.3";
const PIPE: &str = "9112 9.3.2";
const END: &str = "9112 9.6";
const EXPECT: &str = "9110 10.1.1";

pub(super) fn cases() -> Vec<Case> {
    [pipelines(), ends(), stale(), expectations()]
        .into_iter()
        .flatten()
        .collect()
}

fn numbered(body: &str) -> [super::case::Act; 1] {
    [say(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))]
}

fn pipelines() -> Vec<Case> {
    let get = "GET {T}/p HTTP/1.1\r\nHost: {H}\r\n\r\n";
    vec![
        case("pipeline_is_answered_in_order", PIPE)
            .methods(&["GET"; 3])
            .send(get.repeat(3))
            .origin(numbered("one"))
            .origin(numbered("two"))
            .origin(numbered("three"))
            .statuses(&[200, 200, 200])
            .requests(3)
            .body("one"),
        case("pipeline_of_twenty", PIPE).methods(&["GET"; 20]).send(get.repeat(20)).statuses(&[200; 20]).requests(20).stays(),
        case("pipeline_after_a_length", PIPE)
            .methods(&["POST", "GET"])
            .send(format!("POST {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nContent-Length: 5\r\n\r\nhello{get}"))
            .statuses(&[200, 200])
            .requests(2),
        case("pipeline_after_chunks", PIPE)
            .methods(&["POST", "GET"])
            .send(format!("POST {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{get}"))
            .statuses(&[200, 200])
            .requests(2),
        case("pipeline_with_empty_lines_between", "9112 2.2").methods(&["GET"; 2]).send(format!("{get}\r\n\r\n{get}")).statuses(&[200, 200]).requests(2),
        case("pipeline_ends_with_close", END)
            .methods(&["GET"])
            .send(format!("GET {{T}}/ HTTP/1.1\r\nHost: {{H}}\r\nConnection: close\r\n\r\n{get}"))
            .closes()
            .statuses(&[200])
            .requests(1),
        case("pipeline_ends_with_a_fault", PIPE)
            .methods(&["GET", "GET"])
            .send(format!("{get}GET {{T}}/ HTTP/1.1\r\nBad Field: x\r\nHost: {{H}}\r\n\r\n{get}"))
            .closes()
            .statuses(&[200, 400])
            .requests(1),
        case("request_byte_by_byte", "9112 2.2")
            .methods(&["POST"])
            .dribble("POST {T}/ HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n")
            .statuses(&[200])
            .requests(1)
            .origin_body("hello"),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        get_with("persistent_by_default", KEEP, "")
            .statuses(&[200])
            .stays(),
        get_with(
            "close_is_honoured_and_announced",
            END,
            "Connection: close\r\n",
        )
        .closes()
        .statuses(&[200])
        .line("Connection: close")
        .body("origin-ok"),
        get_with(
            "close_among_other_options",
            END,
            "Connection: X-A,CLOSE\r\n",
        )
        .closes()
        .statuses(&[200]),
        get_with(
            "close_with_keep_alive",
            END,
            "Connection: keep-alive, close\r\n",
        )
        .closes()
        .statuses(&[200]),
        case("http_1.0_ends", KEEP)
            .send("GET {T}/ HTTP/1.0\r\nHost: {H}\r\n\r\n")
            .closes()
            .statuses(&[200])
            .body("origin-ok"),
        case("half_closed_client_gets_its_answer", END)
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .finish()
            .origin([
                Pause(200),
                say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin-ok"),
            ])
            .statuses(&[200])
            .body("origin-ok"),
        case("half_closed_client_gets_its_close_delimited_answer", END)
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .finish()
            .origin([
                Pause(100),
                say("HTTP/1.1 200 OK\r\n\r\nhello "),
                Pause(100),
                say("world"),
                Close,
            ])
            .statuses(&[200])
            .body("hello world"),
        case("silence_is_not_answered", KEEP)
            .methods(&[])
            .finish()
            .closes()
            .client_lacks("HTTP"),
        case("empty_lines_are_not_answered", "9112 2.2")
            .methods(&[])
            .send("\r\n\r\n")
            .finish()
            .closes()
            .client_lacks("HTTP"),
    ]
}

fn stale() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin-ok";
    vec![
        case("get_on_a_dead_connection_is_tried_again", "9110 9.2.2")
            .methods(&["GET", "GET"])
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .wait_for("origin-ok")
            .send("GET {T}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .origin([say(ok)])
            .origin([Close])
            .statuses(&[200, 200]),
        case("post_on_a_dead_connection_is_not_tried_again", "9110 9.2.2")
            .methods(&["GET", "POST"])
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .wait_for("origin-ok")
            .send("POST {T}/b HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello")
            .origin([say(ok)])
            .origin([Close])
            .statuses(&[200, 502])
            .requests(2),
        case("connection_that_closed_while_idle", KEEP)
            .methods(&["GET", "GET"])
            .send("GET {T}/ HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .wait_for("origin-ok")
            .pause(150)
            .send("GET {T}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .origin([say(ok), Pause(50), Close])
            .statuses(&[200, 200]),
    ]
}

fn expectations() -> Vec<Case> {
    let expecting = |id| {
        let row = case(id, EXPECT).methods(&["POST"]);
        row.send(
            "POST {T}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
    };
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin-ok";
    vec![
        expecting("continue_from_the_origin")
            .wait_for("HTTP/1.1 100")
            .send("hello")
            .origin([
                Early,
                say("HTTP/1.1 100 Continue\r\n\r\n"),
                WaitFor(b"hello".to_vec()),
                say(ok),
            ])
            .interim(&[100])
            .statuses(&[200])
            .origin_line("Expect: 100-continue"),
        expecting("refusal_instead_of_continue")
            .wait_for("HTTP/1.1 4")
            .origin([
                Early,
                say("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"),
                Pause(100),
                Close,
            ])
            .interim(&[])
            .statuses(&[403])
            .body("no"),
        expecting("body_that_does_not_wait")
            .send("hello")
            .statuses(&[200])
            .origin_body("hello"),
        post(
            "expectation_unknown",
            EXPECT,
            "Expect: the-unexpected\r\nContent-Length: 5\r\n",
            "hello",
        )
        .status_in(&[200, 417]),
        post(
            "expectation_in_mixed_case",
            EXPECT,
            "Expect: 100-Continue\r\nContent-Length: 5\r\n",
            "hello",
        )
        .statuses(&[200])
        .origin_body("hello"),
        get_with(
            "expectation_without_body",
            EXPECT,
            "Expect: 100-continue\r\n",
        )
        .statuses(&[200]),
    ]
}
