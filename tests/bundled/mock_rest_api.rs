//! A REST API, mocked without an upstream.

use crate::support::{OK, Origin, Proxy, plugin_directory};

#[test]
fn the_api_answers_under_the_name_its_users_know() {
    let origin = Origin::answering(OK);
    let directory = plugin_directory().as_os_str();
    let proxy = Proxy::command()
        .args(["--plugin-dir".as_ref(), directory])
        .args([
            "--plugins",
            "plugin_examples/mock_rest_api.ProposedRestApiPlugin",
        ])
        .start();
    let mut client = proxy.client();
    let users = client.ask("GET http://api.example.com/v1/users/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(users.start, "HTTP/1.1 200 OK");
    assert_eq!(
        users.field("Content-Type").as_deref(),
        Some("application/json")
    );
    assert!(users.text().starts_with(r#"{"count": 2, "next": null, "#));
    let line = proxy.wait_for_line("/v1/users/");
    assert!(
        line.contains(" - GET None:None/v1/users/ - None None - "),
        "{line}"
    );
    let other = client.ask("GET http://api.example.com/v2/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (&*other.start, &*other.text()),
        ("HTTP/1.1 404 NOT FOUND", "Not Found")
    );
    assert_eq!(proxy.get(&origin, "/v1/users/").text(), "origin-ok");
}
