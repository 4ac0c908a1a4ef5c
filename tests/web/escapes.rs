//! Paths that must not escape the directory.

use std::fs;
use std::os::unix::fs::symlink;

use super::{SECRET, Site, get};
use crate::support::{Client, Proxy, contains};

/// The host's list of paths; its header describes the files that the site needs.
const ESCAPES: &str = include_str!("../../host/src/web/files/escapes.txt");

/// The lines of the list: status and path.
fn escapes() -> impl Iterator<Item = (u16, &'static str)> {
    ESCAPES.lines().filter_map(|line| {
        let (status, path) = line.split_once(' ')?;
        Some((status.parse().ok()?, path))
    })
}

fn trapped() -> Site {
    let site = Site::new();
    site.write("a.txt", "a");
    site.write("dir/index.html", "d");
    let beside = site.scratch.path("public-secret");
    fs::create_dir(&beside).expect("a scratch directory can be written");
    site.scratch.write("public-secret/secret", SECRET);
    for name in [
        ".git/config",
        ".htpasswd",
        "dir/.env",
        ".well-known/.hidden",
    ] {
        site.write(name, SECRET);
    }
    for (to, name) in [
        ("../secret", "out"),
        ("..", "outdir"),
        ("../../secret", "dir/up"),
    ] {
        symlink(to, site.path(name)).expect("links can be made");
    }
    site
}

#[test]
fn no_spelling_bypasses_what_is_not_served() {
    assert!(escapes().count() >= 140);
    let site = trapped();
    for settings in [
        "symlinks = 'inside'\nlisting = false",
        "symlinks = 'inside'\nlisting = true",
        "symlinks = 'none'\nlisting = false",
        "symlinks = 'none'\nlisting = true",
    ] {
        let proxy = site.command_with(settings).start();
        assert!(proxy.ask(get("/a.txt")).text() == "a", "{settings}");
        let mut client = proxy.client();
        for (status, path) in escapes() {
            let answer = answered(&proxy, &mut client, path);
            assert_eq!(answer, status, "{path} with {settings}");
        }
        assert!(!contains(client.received(), SECRET.as_bytes()));
    }
}

/// Sends the request and returns the status. Reconnects if the response closes the connection.
fn answered(proxy: &Proxy, client: &mut Client, path: &str) -> u16 {
    let answer = client.ask(get(path));
    assert!(answer.is_sound(), "{path}: {:?}", answer.fault);
    assert!(
        matches!(answer.status(), 400 | 403 | 404),
        "{path}: {}",
        answer.start
    );
    let text = answer.text();
    assert!(!text.contains(SECRET), "{path}: {text}");
    if answer.field("Connection").is_some() {
        *client = proxy.client();
    }
    answer.status()
}

/// The same paths in absolute form and over HTTP/2.
#[test]
fn no_spelling_leads_out_over_http2_or_in_absolute_form() {
    use crate::support::tls::{Ask, Form, Pki, Way};
    let (site, pki) = (trapped(), Pki::new());
    let plain = site.command().args(["--disable-http-proxy"]).start();
    let secure = pki.relaying().args(pki.listener()).args(site.arguments());
    let secure = secure.start();
    let mut session = pki
        .client(&secure)
        .over(Way::Http2)
        .pipe()
        .session(Form::Origin("https"));
    let mut client = plain.client();
    for (status, path) in escapes() {
        let absolute = format!("GET http://here{path} HTTP/1.1\r\nHost: here\r\n\r\n");
        let answer = client.ask(absolute);
        assert_eq!(answer.status(), status, "{path}");
        if answer.field("Connection").is_some() {
            client = plain.client();
        }
        assert!(!answer.text().contains(SECRET), "{path}");
        // The HTTP/2 library cannot send every spelling.
        if path
            .parse::<http::uri::PathAndQuery>()
            .is_ok_and(|it| it.as_str() == path)
        {
            let answer = session.ask(Ask::get("here", path));
            assert_eq!(answer.status, status, "{path}");
            assert!(!answer.text().contains(SECRET), "{path}");
        }
    }
}

#[test]
fn links_are_followed_as_far_as_the_setting_says() {
    let site = Site::new();
    site.write("real/a.txt", "content");
    symlink("real/a.txt", site.path("inside")).expect("links can be made");
    symlink("real", site.path("dir")).expect("links can be made");
    symlink("../secret", site.path("outside")).expect("links can be made");
    symlink(site.scratch.path("secret"), site.path("absolute")).expect("links can be made");
    symlink("loop", site.path("loop")).expect("links can be made");
    for (setting, inside, outside) in [("inside", 200, 404), ("none", 404, 404), ("all", 200, 200)]
    {
        let proxy = site
            .command_with(&format!("symlinks = '{setting}'"))
            .start();
        let status = |path: &str| proxy.ask(get(path)).status();
        assert_eq!(status("/real/a.txt"), 200);
        assert_eq!(
            (status("/inside"), status("/dir/a.txt")),
            (inside, inside),
            "{setting}"
        );
        assert_eq!(
            (status("/outside"), status("/absolute")),
            (outside, outside),
            "{setting}"
        );
        assert!(matches!(status("/loop"), 403 | 404), "{setting}");
    }
}
