//! Chunked responses get new content; others pass unchanged.

use crate::support::{OK, Origin, Proxy};

fn proxy() -> Proxy {
    let command = Proxy::command().plugin("modify_chunk_response", "ModifyChunkResponse");
    command.start()
}

#[test]
fn chunked_content_becomes_four_lines() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\nX-Kept: yes\r\n\r\n\
         5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    let answer = proxy().get(&origin, "/");
    assert!(answer.is_sound(), "{:?}", answer.fault);
    assert_eq!(answer.text(), "modify\nchunk\nresponse\nplugin\n");
    assert_eq!(answer.field("ETag"), None);
    assert_eq!(answer.field("X-Kept").as_deref(), Some("yes"));
}

#[test]
fn a_chunked_response_that_breaks_off_stays_visibly_incomplete() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    assert!(!proxy().get(&origin, "/").complete);
}

#[test]
fn a_response_of_known_length_passes() {
    let origin = Origin::answering(OK);
    let answer = proxy().get(&origin, "/");
    assert_eq!(answer.text(), "origin-ok");
    assert_eq!(answer.all("Content-Length"), ["9"]);
}
