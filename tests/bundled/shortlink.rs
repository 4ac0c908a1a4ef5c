//! The proxy answers short links itself, without dialling an upstream.

use crate::support::Proxy;

#[test]
fn a_short_link_is_answered_with_its_destination() {
    let proxy = Proxy::command().plugin("shortlink", "ShortLink").start();
    let answer = proxy.ask("GET http://w/x?y=z HTTP/1.1\r\nHost: w\r\n\r\n");
    assert_eq!(answer.status(), 303);
    let location = answer.field("Location");
    assert_eq!(location.as_deref(), Some("http://web.whatsapp.com/x?y=z"));
}
