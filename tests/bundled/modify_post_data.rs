//! The content of a POST is replaced before it is forwarded.

use crate::support::{OK, Origin, Proxy, request};

#[test]
fn the_origin_gets_the_new_content_with_its_length_and_type() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("modify_post_data", "ModifyPostData")
        .start();
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n";
    let post = request("POST", &origin, "/post", form) + r#"{"key": "value"}"#;
    assert_eq!(proxy.ask(post).text(), "origin-ok");
    let received = origin.only_request();
    assert_eq!(received.text(), r#"{"key": "modified"}"#);
    assert_eq!(received.all("Content-Type"), ["application/json"]);
    assert_eq!(received.all("Content-Length"), ["19"]);
}

#[test]
fn content_of_unknown_length_and_in_a_coding_is_replaced_too() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("modify_post_data", "ModifyPostData")
        .start();
    let fields = "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n";
    let post = request("POST", &origin, "/", fields) + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(proxy.ask(post).text(), "origin-ok");
    let received = origin.only_request();
    assert_eq!(received.text(), r#"{"key": "modified"}"#);
    assert_eq!(received.field("Content-Encoding"), None);
}

#[test]
fn other_requests_pass_as_they_are() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("modify_post_data", "ModifyPostData")
        .start();
    let put = request("PUT", &origin, "/", "Content-Length: 3\r\n") + "abc";
    assert_eq!(proxy.ask(put).text(), "origin-ok");
    assert_eq!(origin.only_request().text(), "abc");
}

#[test]
fn content_beyond_the_limit_is_answered_413() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("modify_post_data", "ModifyPostData")
        .plugin_config("ModifyPostData.max_body=4")
        .start();
    let post = request("POST", &origin, "/", "Content-Length: 5\r\n") + "abcde";
    assert_eq!(proxy.ask(post).status(), 413);
    origin.assert_untouched();
}
