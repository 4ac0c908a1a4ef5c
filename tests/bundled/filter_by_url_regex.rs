//! URLs are blocked by regular expressions, from the plugin's table or from a file in proxy.py's format.

use crate::support::{OK, Origin, Proxy, Scratch};

#[test]
fn a_matching_url_is_blocked_and_its_rule_is_in_the_log() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("filter_by_url_regex", "FilterByUrlRegex")
        .plugin_config(
            r#"FilterByUrlRegex.rules=[{ regex = '^127\.0\.0\.1/ads/', notes = "our ads" }]"#,
        )
        .start();
    let blocked = proxy.get(&origin, "/ads/1.js");
    assert_eq!(blocked.start, "HTTP/1.1 404 Blocked");
    origin.assert_untouched();
    let line = proxy.wait_for_line("/ads/1.js");
    assert!(line.ends_with(" - blocked=our ads"), "{line}");
    assert_eq!(proxy.get(&origin, "/page").text(), "origin-ok");
}

#[test]
fn a_list_in_a_file_blocks_tunnels_by_their_host() {
    let scratch = Scratch::new();
    let list = scratch.write(
        "list.json",
        r#"[{"regex": "ads\\.example", "notes": "ads"}]"#,
    );
    let proxy = Proxy::command()
        .plugin("filter_by_url_regex", "FilterByUrlRegex")
        .plugin_config(&format!(
            "FilterByUrlRegex.file={:?}",
            list.display().to_string()
        ))
        .start();
    let answer = proxy.ask("CONNECT ads.example:443 HTTP/1.1\r\nHost: ads.example:443\r\n\r\n");
    assert_eq!(answer.start, "HTTP/1.1 404 Blocked");
}
