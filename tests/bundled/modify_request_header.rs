//! Request fields are changed before they are forwarded.

use crate::support::{OK, Origin, Proxy, request};

#[test]
fn the_origin_sees_the_changed_fields() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("modify_request_header", "ModifyRequestHeader")
        .plugin_config(r#"ModifyRequestHeader.append={ x-seen = "two" }"#)
        .plugin_config(r#"ModifyRequestHeader.remove=["Cookie"]"#)
        .start();
    let fields = "Cookie: c=1\r\nX-Seen: one\r\nAccept: */*\r\n";
    let answer = proxy.ask(request("GET", &origin, "/", fields));
    assert_eq!(answer.text(), "origin-ok");
    let request = origin.only_request();
    assert_eq!(request.all("x-proxy-version"), ["1.0.0"]);
    assert_eq!(request.all("x-seen"), ["one", "two"]);
    assert_eq!(request.all("accept"), ["*/*"]);
    assert!(request.all("cookie").is_empty());
}
