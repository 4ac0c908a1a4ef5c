//! The PAC file.

use std::fs;
use std::time::{Duration, Instant};

use super::{CONFIG, Site, ask, assert_refused, get};
use crate::support::{HANG, OK, Origin, Proxy, ProxyCommand, Scratch};

const TEXT: &str = "function FindProxyForURL(url, host) { return \"PROXY 127.0.0.1:8899\"; }\n";
const MEDIA_TYPE: &str = "application/x-ns-proxy-autoconfig";

fn serving(file_or_text: impl AsRef<std::ffi::OsStr>) -> ProxyCommand {
    Proxy::command().args(["--pac-file".as_ref(), file_or_text.as_ref()])
}

#[test]
fn a_file_and_a_text_are_served_alike_at_both_paths() {
    let scratch = Scratch::new();
    let file = scratch.write("proxy.pac", TEXT);
    for command in [serving(&file), serving(TEXT)] {
        let proxy = command.start();
        let mut client = proxy.client();
        for path in ["/", "/?x", "/wpad.dat", "/wpad.dat?a=b", "/%77pad.dat"] {
            let answer = client.ask(get(path));
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, TEXT),
                "{path}"
            );
            assert_eq!(answer.all("Content-Type"), [MEDIA_TYPE]);
            assert_eq!(answer.all("Cache-Control").len(), 1);
        }
        let answer = client.ask(ask("HEAD", "/", ""));
        assert_eq!(answer.field("Content-Length"), Some(TEXT.len().to_string()));
        assert!(answer.body.is_empty());
        let tag = answer.field("ETag").unwrap_or_default();
        let known = client.ask(ask("GET", "/", &format!("If-None-Match: {tag}\r\n")));
        assert_eq!(known.status(), 304);
        let refused = client.ask(ask("DELETE", "/", ""));
        assert_eq!(
            (refused.status(), refused.all("Allow")),
            (405, vec!["GET, HEAD".into()])
        );
        for path in ["/proxy.pac", "/wpad.dat/", "/index.html", "/WPAD.DAT"] {
            assert_eq!(client.ask(get(path)).status(), 404, "{path}");
        }
    }
}

#[test]
fn it_is_served_where_the_flag_says_and_only_there() {
    let proxy = serving(TEXT)
        .args(["--pac-file-url-path", "/a/b.pac"])
        .start();
    let mut client = proxy.client();
    for (path, status) in [
        ("/a/b.pac", 200),
        ("/a/%62.pac?q", 200),
        ("/wpad.dat", 200),
        ("/a/x.pac", 404),
        ("/a/b.pac/", 404),
        ("/", 404),
    ] {
        assert_eq!(client.ask(get(path)).status(), status, "{path}");
    }
}

#[test]
fn the_proxy_forwards_as_before() {
    let origin = Origin::answering(OK);
    let proxy = serving(TEXT).start();
    assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
    assert_eq!(proxy.get(&origin, "/wpad.dat").text(), "origin-ok");
}

#[test]
fn it_comes_before_files() {
    let site = Site::new();
    site.write("index.html", "index");
    site.write("wpad.dat", "a file");
    site.write("a.txt", "content");
    let proxy = site.command().args(["--pac-file", TEXT]).start();
    for (path, content) in [("/", TEXT), ("/wpad.dat", TEXT), ("/a.txt", "content")] {
        assert_eq!(proxy.ask(get(path)).text(), content, "{path}");
    }
    let moved = site
        .command()
        .args(["--pac-file", TEXT, "--pac-file-url-path", "/p"]);
    assert_eq!(moved.start().ask(get("/")).text(), "index");
}

#[test]
fn a_file_that_changes_is_read_again_and_the_last_one_stays() {
    let scratch = Scratch::new();
    let file = scratch.write("proxy.pac", TEXT);
    let proxy = serving(&file).start();
    let mut client = proxy.client();
    let first = client.ask(get("/"));
    assert_eq!(first.text(), TEXT);
    let changed = TEXT.replace("PROXY", "DIRECT; PROXY");
    // Replaced by a rename, as editors do.
    let new = scratch.write("new.pac", &changed);
    fs::rename(new, &file).expect("a scratch file can move");
    let deadline = Instant::now() + HANG;
    let second = loop {
        let answer = client.ask(get("/"));
        if answer.text() == changed {
            break answer;
        }
        assert_eq!(answer.text(), TEXT);
        assert!(Instant::now() < deadline, "the file is not read again");
        assert!(client.stays_quiet(Duration::from_millis(50)));
    };
    assert_ne!(second.field("ETag"), first.field("ETag"));

    fs::remove_file(&file).expect("it is there");
    while !proxy
        .lines()
        .iter()
        .any(|line| line.contains("keeping the previous one"))
    {
        assert_eq!(client.ask(get("/")).text(), changed);
        assert!(
            Instant::now() < deadline + HANG,
            "nobody says that the file is gone"
        );
        assert!(client.stays_quiet(Duration::from_millis(50)));
    }
    assert_eq!(client.ask(get("/")).text(), changed);
}

#[test]
fn what_is_neither_file_nor_text_is_named_at_start() {
    let scratch = Scratch::new();
    let missing = scratch.path("missing.pac");
    let exit = serving(&missing).run();
    let name = missing.display().to_string();
    assert_refused(
        &exit,
        &[&name, "cannot be read", "FindProxyForURL", "--pac-file"],
    );
    let directory = scratch.path("");
    assert_refused(&serving(&directory).run(), &["is not a regular file"]);
    let long = scratch.write("long.pac", vec![b' '; (1 << 20) + 1]);
    assert_refused(&serving(&long).run(), &["1 MiB"]);
}

#[test]
fn a_path_that_is_none_is_refused() {
    for path in ["wpad.dat", "", "/a?b", "/a b"] {
        let exit = serving(TEXT).args(["--pac-file-url-path", path]).run();
        assert!(matches!(exit.code, Some(2 | CONFIG)), "{path:?}: {exit:?}");
        assert!(exit.stderr.contains("pac-file-url-path"), "{exit:?}");
    }
}

#[test]
fn a_plugin_must_not_have_the_same_path() {
    for (pattern, at) in [("/wpad.dat", "/"), ("/", "/"), ("/a.pac", "/a.pac")] {
        let exit = serving(TEXT)
            .args(["--pac-file-url-path", at])
            .plugin("routes", "Told")
            .plugin_config(&format!("Told.routes=[{{ pattern = '{pattern}' }}]"))
            .run();
        assert_refused(
            &exit,
            &["Told", pattern, "--pac-file-url-path", "conflicts"],
        );
    }
    // A pattern that only covers the path is allowed: the more literal route wins.
    let proxy = serving(TEXT)
        .args(["--pac-file-url-path", "/a.pac"])
        .plugin("routes", "Told")
        .plugin_config("Told.says='told'")
        .plugin_config("Told.routes=[{ pattern = '/{*all}' }]")
        .start();
    assert_eq!(proxy.ask(get("/a.pac")).text(), TEXT);
    assert_eq!(proxy.ask(get("/b.pac")).text(), "told all=b.pac");
}
