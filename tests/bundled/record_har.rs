//! An exchange is written to the archive when it ends, without secrets.

use std::fs;

use rustix::process::Signal;

use crate::support::tls::{Answer, Offer, Pki};
use crate::support::{Origin, Proxy, Scratch, request, response};

#[test]
fn exchanges_are_recorded_without_credentials() {
    let scratch = Scratch::new();
    let file = scratch.path("proxy.har");
    let origin = Origin::answering(response("200 OK", "origin-ok"));
    let proxy = Proxy::command()
        .plugin("record_har", "RecordHar")
        .plugin_config(&format!("RecordHar.file='{}'", file.display()))
        .start();
    let fields = "Authorization: Bearer hush\r\nX-Seen: yes\r\n";
    let answer = proxy.ask(request("GET", &origin, "/a?b=c", fields));
    assert_eq!(answer.text(), "origin-ok");
    drop(proxy.tunnel(&origin));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));

    let archive = fs::read_to_string(&file).expect("the archive is there");
    let lines: Vec<_> = archive.lines().collect();
    assert!(
        lines[0].starts_with("{\"log\":{\"version\":\"1.2\","),
        "{archive}"
    );
    assert_eq!((lines.len(), lines[3]), (4, "]}}"), "{archive}");
    let authority = origin.authority();
    for part in [
        &*format!("\"method\":\"GET\",\"url\":\"http://{authority}/a?b=c\""),
        "\"queryString\":[{\"name\":\"b\",\"value\":\"c\"}]",
        "{\"name\":\"Authorization\",\"value\":\"[redacted]\"}",
        "{\"name\":\"X-Seen\",\"value\":\"yes\"}",
        "\"status\":200,\"statusText\":\"OK\"",
        "\"size\":9,\"mimeType\":\"\",\"text\":\"origin-ok\"",
        "\"serverIPAddress\":\"127.0.0.1\"",
    ] {
        assert!(lines[1].contains(part), "no {part} in {archive}");
    }
    // A plaintext connection to an address: no DNS and no TLS time.
    assert!(lines[1].contains("\"dns\":-1.0") && lines[1].contains("\"ssl\":-1.0"));
    assert!(!lines[1].contains("\"connect\":-1.0"), "{archive}");
    assert!(lines[2].contains(&format!("\"method\":\"CONNECT\",\"url\":\"{authority}\"")));
    assert!(!archive.contains("hush"), "{archive}");
}

#[test]
fn a_file_that_is_no_archive_is_left_alone() {
    let scratch = Scratch::new();
    let file = scratch.write("notes.txt", "mine");
    let exit = Proxy::command()
        .plugin("record_har", "RecordHar")
        .plugin_config(&format!("RecordHar.file='{}'", file.display()))
        .run();
    assert_eq!(exit.code, Some(78), "{exit:?}");
    assert!(exit.stderr.contains("move it away"), "{}", exit.stderr);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "mine");
}

#[test]
fn requests_inside_of_a_tunnel_are_recorded_with_the_version_of_each_side() {
    for (client, origin, versions) in [
        (Offer::Http1, Offer::Http1, ["HTTP/1.1", "HTTP/1.1"]),
        (Offer::Http2, Offer::Http2, ["HTTP/2.0", "HTTP/2.0"]),
        (Offer::Http2, Offer::Http1, ["HTTP/2.0", "HTTP/1.1"]),
    ] {
        let scratch = Scratch::new();
        let file = scratch.path("proxy.har");
        let pki = Pki::new();
        let origin = pki.origin().offering(origin).answering(Answer::ok("ok"));
        let proxy = pki
            .intercepting()
            .plugin("record_har", "RecordHar")
            .plugin_config(&format!("RecordHar.file='{}'", file.display()))
            .start();
        let authority = origin.authority();
        let received = pki.client(&proxy).offering(client).get(&authority, "/a");
        assert_eq!(received.status, 200);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait().code, Some(0));
        let archive = fs::read_to_string(&file).expect("the archive is there");
        let entries: Vec<_> = archive
            .lines()
            .filter(|line| line.contains("startedDateTime"))
            .collect();
        assert_eq!(entries.len(), 2, "{archive}");
        let connect = format!("\"method\":\"CONNECT\",\"url\":\"{authority}\"");
        assert!(entries[0].contains(&connect), "{archive}");
        let url = format!("\"method\":\"GET\",\"url\":\"https://{authority}/a\"");
        assert!(entries[1].contains(&url), "{archive}");
        let recorded: Vec<_> = entries[1]
            .split("\"httpVersion\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(recorded, versions, "{archive}");
    }
}
