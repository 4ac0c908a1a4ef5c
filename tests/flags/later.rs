//! Every flag that proxy.py has added since 2.0, up to 2.4: accepted with its meaning, or refused with what replaces it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use super::{shown, status_of_itself};
use crate::support::tls::{Answer, Pki};
use crate::support::{Client, OK, Origin, Proxy, ProxyCommand, Scratch, get, plugin_directory};

/// A proxy that finds the bundled plugins.
fn with(args: &[&str]) -> ProxyCommand {
    Proxy::command()
        .args(["--plugin-dir".as_ref(), plugin_directory().as_os_str()])
        .args(args)
}

#[test]
fn flags_with_a_setting_set_it() {
    let interception = ["--ca-cert-file=c", "--ca-key-file=k", "--ca-signing-key=s"];
    for (args, setting, value) in [
        (&["--num-acceptors", "3"][..], "num_workers", "3"),
        (
            &["--num-acceptors=3", "--num-workers=2"],
            "num_workers",
            "2",
        ),
        (
            &["--min-compression-length", "20"],
            "web_server.static_files.compress_from",
            "21",
        ),
        (
            &[&interception[..], &["--data-dir", "d"]].concat(),
            "interception.ca_cert_dir",
            "\"d/certificates\"",
        ),
        (
            &[&interception[..], &["--data-dir=d", "--ca-cert-dir=c"]].concat(),
            "interception.ca_cert_dir",
            "\"c\"",
        ),
        (
            &["--ca-file", "c"],
            "tls.upstream.extra_ca_files",
            "[\"c\"]",
        ),
        (&["--enable-reverse-proxy"], "web_server.enable", "true"),
        (&["--enable-dashboard"], "web_server.enable", "true"),
        (&["--enable-metrics"], "web_server.enable", "true"),
    ] {
        assert_eq!(shown(args, setting), value, "{args:?}");
    }
}

#[test]
fn tuning_is_accepted_in_silence() {
    let origin = Origin::answering(OK);
    for args in [
        &["--threaded"][..],
        &["--threadless", "--local-executor", "0"],
        &["--local-executor"],
        &["--work-klass", "proxy.http.HttpProtocolHandler"],
        &["--max-sendbuf-size", "65536"],
        &["--enable-conn-pool"],
        &["--openssl", "/usr/bin/openssl"],
        &["--rewrite-host-header"],
        &["--metrics-path", "/metrics"],
    ] {
        let proxy = with(args).start();
        assert_eq!(proxy.get(&origin, "/").status(), 200, "{args:?}");
        assert_eq!(proxy.warnings(), [""; 0], "{args:?}");
    }
}

#[test]
fn what_does_not_exist_yet_is_reported_at_the_start() {
    for (flag, missing) in [
        ("--enable-devtools", "no DevTools endpoint yet"),
        ("--enable-dashboard", "no dashboard yet"),
        ("--enable-metrics", "no metrics endpoint yet"),
    ] {
        let proxy = with(&[flag]).start();
        let line = proxy.wait_for_line(missing);
        assert!(line.contains(flag) && line.contains("WARNING"), "{line}");
        assert_eq!(status_of_itself(&proxy), 404);
    }
}

/// The addresses in the lines of the start.
fn addresses(proxy: &Proxy) -> Vec<SocketAddr> {
    let lines = proxy.lines().into_iter();
    let addresses = lines.filter_map(|line| {
        let (_, address) = line.split_once("Started server on ")?;
        address.split_whitespace().next()?.parse().ok()
    });
    addresses.collect()
}

#[test]
fn further_addresses_and_ports_are_listened_on() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--hostnames", "127.0.0.2", "127.0.0.3", "--ports", "0"]).start();
    // The last lines of the start.
    proxy.wait_for_lines("Started server on 127.0.0.3:", 2);
    let addresses = addresses(&proxy);
    assert_eq!(addresses.len(), 6, "{addresses:?}");
    for address in addresses {
        let answer = Client::connect(address).ask(get(&origin, "/"));
        assert_eq!(answer.status(), 200, "{address}");
    }
}

#[test]
fn a_unix_socket_takes_the_place_of_the_port() {
    let origin = Origin::answering(OK);
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let flag = ["--unix-socket-path".as_ref(), path.as_os_str()];
    let proxy = Proxy::bare()
        .args(["--hostname", "127.0.0.1", "--ports", "0"])
        .args(flag)
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    assert_eq!(addresses(&proxy).len(), 1);
    let mut client = UnixStream::connect(&path).expect("the proxy listens there");
    let request = get(&origin, "/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_proxy_protocol_header_names_the_client() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--enable-proxy-protocol"]).start();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.8 4711 8899\r\n";
    let answer = proxy.ask(header.to_owned() + &get(&origin, "/"));
    assert_eq!(answer.status(), 200);
    proxy.wait_for_line(" - 192.0.2.7:4711 - GET ");
}

#[test]
fn a_further_ca_is_trusted() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("trusted"));
    // As `pki` passes it.
    let proxy = pki.intercepting().start();
    let received = pki.client(&proxy).get(&origin.authority(), "/");
    assert_eq!(received.told(), (200, "trusted".into()));
}

#[test]
fn a_plugin_that_checks_credentials_is_called_first() {
    let list = ["--plugins", "proxy.plugin.ShortLinkPlugin"];
    let auth = ["--auth-plugin", "proxy.plugin.FilterByUpstreamHostPlugin"];
    let proxy = with(&[list, auth].concat()).start();
    proxy.wait_for_line("Started server on");
    let lines = proxy.lines();
    let at = |name: &str| lines.iter().position(|line| line.contains(name));
    let (auth, other) = (at("FilterByUpstreamHost"), at("ShortLink"));
    assert!(auth.is_some() && auth < other, "{lines:?}");
    // The class that --basic-auth stands for is no plugin.
    let origin = Origin::answering(OK);
    let proxy = with(&["--auth-plugin", "proxy.http.proxy.auth.AuthPlugin"])
        .args(["--basic-auth", "user:password"])
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 407);
}

#[test]
fn class_names_of_what_is_built_in_turn_it_on() {
    let origin = Origin::answering(OK);
    let proxy = with(&["--plugins", "proxy.http.server.HttpWebServerPlugin"]).start();
    assert_eq!(status_of_itself(&proxy), 404);
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    let proxy = with(&["--disable-http-proxy"])
        .args(["--plugins", "HttpProxyPlugin", "HttpWebServerPlugin"])
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
}

#[test]
fn static_files_are_compressed_above_the_given_length() {
    let scratch = Scratch::new();
    scratch.write("a.txt", "x".repeat(100));
    let dir = scratch.path("").display().to_string();
    for (len, coding) in [("99", Some("gzip")), ("100", None)] {
        let proxy = with(&["--enable-static-server", "--static-server-dir", &dir])
            .args(["--min-compression-length", len])
            .start();
        let answer =
            proxy.ask("GET /a.txt HTTP/1.1\r\nHost: here\r\nAccept-Encoding: gzip\r\n\r\n");
        assert_eq!(answer.field("Content-Encoding").as_deref(), coding, "{len}");
    }
}

#[test]
fn what_is_refused_is_replaced_by_what_the_sentence_names() {
    for (args, words) in [
        (&["--proxy-pool", "127.0.0.1:8899"][..], "ProxyPool.parents"),
        (&["--insecure-tls-interception"], "insecure_hosts"),
        (
            &["--filtered-client-ips", "127.0.0.1"],
            "FilterByClientIp.deny",
        ),
        (&["--filtered-client-ips-mode", "whitelist"], "`allow`"),
        (
            &["--filtered-upstream-hosts", "a.example"],
            "FilterByUpstreamHost.hosts",
        ),
        (
            &["--filtered-url-regex-config", "f"],
            "FilterByUrlRegex.file",
        ),
        (
            &["--cloudflare-dns-mode", "family"],
            "CloudflareDnsResolver.url",
        ),
        (&["--cache-dir", "d"], "CacheResponses.directory"),
        (&["--cache-requests"], "RecordHar"),
        (&["--cache-by-content-type"], "CacheResponses"),
        (&["--enable-ssh-tunnel"], "ssh -R"),
        (&["--tunnel-hostname", "h"], "ssh -R"),
        (&["--tunnel-port", "22"], "ssh -R"),
        (&["--tunnel-username", "u"], "ssh -R"),
        (&["--tunnel-ssh-key", "k"], "ssh -R"),
        (&["--tunnel-ssh-key-passphrase", "p"], "ssh -R"),
        (&["--tunnel-remote-port", "8899"], "ssh -R"),
        (&["--ssh-listener-klass", "c"], "ssh -R"),
        (&["--work-klass", "my.Handler"], "write a plugin"),
    ] {
        let exit = with(args).run();
        assert_eq!(exit.code, Some(2), "{args:?}: {exit:?}");
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        let flag = args[0];
        assert!(exit.stderr.contains(flag), "{flag}: {}", exit.stderr);
        assert!(exit.stderr.contains(words), "{flag}: {}", exit.stderr);
    }
}

#[test]
fn the_settings_of_plugins_that_replace_flags_exist() {
    let scratch = Scratch::new();
    let directory = scratch.path("responses");
    std::fs::create_dir(&directory).expect("a scratch directory is ours");
    let rules = scratch.write("rules.json", "[{\"regex\": \"^ads\"}]");
    let plugins = "proxy.plugin.ProxyPoolPlugin,proxy.plugin.FilterByClientIpPlugin,\
                   proxy.plugin.FilterByUpstreamHostPlugin,proxy.plugin.FilterByURLRegexPlugin,\
                   proxy.plugin.CloudflareDnsResolverPlugin,proxy.plugin.CacheResponsesPlugin";
    let settings = [
        "ProxyPool.parents=[\"http://user:password@127.0.0.1:3128\"]".to_owned(),
        "FilterByClientIp.deny=[\"192.0.2.1\"]".to_owned(),
        "FilterByUpstreamHost.hosts=[\"a.example\"]".to_owned(),
        format!("FilterByUrlRegex.file={}", rules.display()),
        "CloudflareDnsResolver.url=https://family.cloudflare-dns.com/dns-query".to_owned(),
        format!("CacheResponses.directory={}", directory.display()),
    ];
    let mut command = with(&["--plugins", plugins])
        .env("PROXY_INTERCEPTION__INSECURE_HOSTS", "a.example,b.example");
    for setting in &settings {
        command = command.plugin_config(setting);
    }
    let exit = command.check();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn an_address_that_is_given_twice_is_one_listener() {
    let hostnames = [
        "--hostname",
        "127.0.0.1",
        "--hostnames",
        "127.0.0.2",
        "127.0.0.1",
    ];
    let exit = Proxy::bare()
        .args(hostnames)
        .args(["--port", "18010", "--ports", "18020", "-t"])
        .run();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}
