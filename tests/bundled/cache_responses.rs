//! Copies of responses in files, and what happens to incomplete ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Origin, Proxy, ProxyCommand, Scratch};

fn storing_to(scratch: &Scratch, name: &str) -> ProxyCommand {
    let directory = scratch.path("");
    Proxy::command()
        .plugin("cache_responses", name)
        .plugin_config(&format!("{name}.directory={directory:?}"))
}

/// The path of the next copy, as logged.
fn cached(proxy: &Proxy) -> PathBuf {
    let line = proxy.wait_for_line("Cached response at ");
    let (_, path) = line.split_once("Cached response at ").expect("waited for");
    PathBuf::from(path)
}

#[test]
fn a_response_is_in_a_file_that_its_owner_alone_may_read() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let scratch = Scratch::new();
    let proxy = storing_to(&scratch, "CacheResponses").start();
    assert_eq!(proxy.get(&origin, "/get").text(), "abcde");
    let path = cached(&proxy);
    let name = path.file_name().and_then(|name| name.to_str());
    assert!(name.is_some_and(|name| name.starts_with("127.0.0.1-") && name.ends_with(".txt")));
    let content = fs::read(&path).expect("the file is there");
    assert_eq!(
        String::from_utf8_lossy(&content),
        "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nabcde"
    );
    let metadata = fs::metadata(&path).expect("the file is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let line = proxy.wait_for_line("/get");
    assert!(
        line.contains(&format!("cache_file={}", path.display())),
        "{line}"
    );
}

#[test]
fn a_response_that_breaks_off_leaves_no_file() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    });
    let scratch = Scratch::new();
    let proxy = storing_to(&scratch, "CacheResponses")
        .args(["--log-level", "DEBUG"])
        .start();
    assert!(!proxy.get(&origin, "/").complete);
    let line = proxy.wait_for_line(" - Removed ");
    assert!(line.ends_with(": the response is incomplete"), "{line}");
    let left = fs::read_dir(scratch.path("")).expect("the directory is there");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_tunnel_is_stored_as_it_came() {
    let origin = Origin::serve(|peer| {
        peer.read_more();
        peer.send("\x16\x03\x01 undeciphered");
    });
    for plugin in ["CacheResponses", "CacheTunnels"] {
        let scratch = Scratch::new();
        let proxy = storing_to(&scratch, plugin).start();
        let mut client = proxy.tunnel(&origin);
        client.send("hello");
        client.finish();
        client.read_to_end();
        let content = fs::read(cached(&proxy)).expect("the file is there");
        assert_eq!(content, b"\x16\x03\x01 undeciphered", "{plugin}");
    }
}
