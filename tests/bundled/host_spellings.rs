//! Every plugin that names hosts matches a host in all of its spellings. Requests with an ambiguous spelling are
//! refused.

use std::path::PathBuf;

use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch};

/// Spellings of one host, the canonical one first.
const NAME: &[&str] = &[
    "ads.test",
    "ADS.test",
    "Ads.Test",
    "aDS.TEsT",
    "ads.test.",
    "ADS.TEST.",
];
const ADDRESS: &[&str] = &[
    "127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::FFFF:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:1]",
    "[::ffff:7f00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[0:0:0:0:0:FFFF:7f00:1]",
    "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
    "[0::ffff:7f00:1]",
    "[::0:ffff:127.0.0.1]",
    "[0:0::ffff:7f00:1]",
    "0.0.0.0",
    "[::ffff:0.0.0.0]",
    "[::ffff:0:0]",
];
const LONG_ADDRESS: &[&str] = &[
    "[2001:db8::1]",
    "[2001:DB8::1]",
    "[2001:0db8::1]",
    "[2001:db8:0:0:0:0:0:1]",
    "[2001:db8:0::0:1]",
    "[2001:0DB8:0000:0000:0000:0000:0000:0001]",
];
/// Ambiguous spellings. The proxy refuses them, so filters need not know them.
const REFUSED: &[&str] = &[
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "127.0.0.0x1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.000.000.001",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "ads%2etest",
    "%61ds.test",
    "ads..test",
    "ads.test..",
    ".ads.test",
    "u@ads.test",
    "u:p@127.0.0.1",
    "ads.test%00",
    "[::ffff:127.0.0.1%25lo]",
    "[fe80::1%eth0]",
    "[127.0.0.1]",
    "[ads.test]",
    "[::ffff:127.1]",
    "[::ffff:0127.0.0.1]",
    "\u{e4}ds.test",
    "ads\u{3002}test",
];

fn groups() -> impl Iterator<Item = &'static [&'static str]> {
    [NAME, ADDRESS, LONG_ADDRESS].into_iter()
}

/// The hosts of the groups as a TOML list, in non-canonical spellings.
const LISTED: &str = "['Ads.Test.', '::FFFF:7f00:1', '2001:DB8:0::1']";

fn plugin(package: &str, name: &str, config: &str) -> ProxyCommand {
    Proxy::command()
        .plugin(package, name)
        .plugin_config(&format!("{name}.{config}"))
}

/// Resolves names to 127.0.0.1, where the origins are.
fn resolving(command: ProxyCommand) -> Proxy {
    command
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config("CustomDnsResolver.hosts={ '*' = ['127.0.0.1'] }")
        .start()
}

fn get(proxy: &Proxy, host: &str, port: u16, fields: &str) -> crate::support::Message {
    proxy.ask(format!(
        "GET http://{host}:{port}/x HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}\r\n"
    ))
}

fn connect(proxy: &Proxy, host: &str, port: u16) -> u16 {
    let mut client = proxy.client();
    client.send(format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    ));
    client.response_to("CONNECT").status()
}

/// Every accepted spelling gets `status`, every other one 400.
fn answers_all(proxy: &Proxy, status: u16) {
    let nobody = Origin::silent();
    let port = nobody.address().port();
    for host in groups().flatten() {
        assert_eq!(get(proxy, host, port, "").status(), status, "GET {host}");
        assert_eq!(connect(proxy, host, port), status, "CONNECT {host}");
    }
    refuses_others(proxy, port);
    nobody.assert_untouched();
}

/// An ambiguous spelling neither bypasses the plugin nor leaks its secrets.
fn refuses_others(proxy: &Proxy, port: u16) {
    for host in REFUSED {
        let answer = get(proxy, host, port, "X: {{KEY}}\r\n");
        assert_eq!(answer.status(), 400, "GET {host}");
        assert_eq!(connect(proxy, host, port), 400, "CONNECT {host}");
    }
}

#[test]
fn a_denied_host_is_denied_in_every_spelling() {
    let config = format!("hosts={LISTED}");
    answers_all(
        &plugin("filter_by_upstream_host", "FilterByUpstreamHost", &config).start(),
        418,
    );
}

#[test]
fn an_expression_sees_one_spelling() {
    let config = r"rules=[{ regex = '^(ads\.test|127\.0\.0\.1|2001:db8::1)(/|$)' }]";
    answers_all(
        &plugin("filter_by_url_regex", "FilterByUrlRegex", config).start(),
        404,
    );
}

#[test]
fn a_host_that_is_not_allowed_is_denied_in_every_spelling() {
    let config = "allow=[{ host = 'other.test', ports = [80] }]";
    answers_all(
        &plugin("egress_allowlist", "EgressAllowlist", config).start(),
        403,
    );
}

#[test]
fn an_allowed_host_is_allowed_in_every_spelling() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let config = format!(
        "allow=[{{ host = 'Ads.Test.', ports = [{port}] }}, {{ host = '::ffff:7f00:1', ports = [{port}] }}]"
    );
    let proxy = resolving(plugin("egress_allowlist", "EgressAllowlist", &config));
    for host in [NAME, ADDRESS].into_iter().flatten() {
        assert_eq!(get(&proxy, host, port, "").status(), 200, "{host}");
    }
    refuses_others(&proxy, port);
}

#[test]
fn the_spellings_of_a_host_share_one_limit() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let limit = plugin("rate_limit", "RateLimit", "per='host'")
        .plugin_config("RateLimit.requests=2")
        .plugin_config("RateLimit.window_seconds=86400");
    let proxy = resolving(limit);
    for group in [NAME, ADDRESS] {
        let statuses: Vec<u16> = group
            .iter()
            .map(|host| get(&proxy, host, port, "").status())
            .collect();
        let (served, denied) = statuses.split_at(2);
        assert_eq!(served, [200, 200], "{group:?}");
        assert!(denied.iter().all(|status| *status == 429), "{group:?}");
    }
    refuses_others(&proxy, port);
}

#[test]
fn a_secret_is_for_a_host_in_every_spelling() {
    let (scratch, origin) = (Scratch::new(), Origin::answering(OK));
    let file: PathBuf = scratch.write("key", "s3cret");
    let file = file.display();
    let config = format!(
        "secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{file}', hosts = {LISTED}, allow_plain_http = true }}]"
    );
    let proxy = resolving(plugin("secret_inject", "SecretInject", &config));
    for host in [NAME, ADDRESS].into_iter().flatten() {
        let answer = get(&proxy, host, origin.address().port(), "X: {{KEY}}\r\n");
        assert_eq!(answer.status(), 200, "{host}");
    }
    refuses_others(&proxy, origin.address().port());
    let requests = origin.requests();
    assert_eq!(requests.len(), NAME.len() + ADDRESS.len());
    for request in requests {
        assert_eq!(
            request.field("X").as_deref(),
            Some("s3cret"),
            "{}",
            request.start
        );
    }
}

#[test]
fn a_mocked_host_answers_in_every_spelling() {
    for (host, group) in [
        ("Ads.Test.", NAME),
        ("::FFFF:7f00:1", ADDRESS),
        ("[2001:DB8:0::1]", LONG_ADDRESS),
    ] {
        let config = format!("host='{host}'");
        let proxy = plugin("mock_rest_api", "ProposedRestApi", &config)
            .plugin_config("ProposedRestApi.routes={ '/x' = { json = '{}' } }")
            .start();
        for spelling in group {
            assert_eq!(get(&proxy, spelling, 80, "").text(), "{}", "{spelling}");
        }
        refuses_others(&proxy, 80);
    }
}

#[test]
fn a_host_that_needs_no_parent_needs_none_in_any_spelling() {
    let (origin, parent) = (Origin::answering(OK), Origin::silent());
    let config = format!("parents=['http://{}']", parent.authority());
    let pool = plugin("proxy_pool", "ProxyPool", &config)
        .plugin_config(&format!("ProxyPool.bypass={LISTED}"));
    let proxy = resolving(pool);
    for host in [NAME, ADDRESS].into_iter().flatten() {
        let answer = get(&proxy, host, origin.address().port(), "");
        assert_eq!(answer.status(), 200, "{host}");
    }
    refuses_others(&proxy, origin.address().port());
    parent.assert_untouched();
}

#[test]
fn a_name_has_its_addresses_in_every_spelling() {
    let origin = Origin::answering(OK);
    let proxy = plugin(
        "custom_dns_resolver",
        "CustomDnsResolver",
        "hosts={ 'Ads.Test.' = ['::ffff:127.0.0.1'] }",
    )
    .start();
    for host in NAME {
        let answer = get(&proxy, host, origin.address().port(), "");
        assert_eq!(answer.status(), 200, "{host}");
    }
    refuses_others(&proxy, origin.address().port());
}

#[test]
fn a_short_link_leads_somewhere_in_every_spelling() {
    let proxy = plugin("shortlink", "ShortLink", "links={ Wiki = 'wiki.example' }").start();
    for host in ["wiki", "WIKI", "wiki.", "Wiki."] {
        assert_eq!(get(&proxy, host, 80, "").status(), 303, "{host}");
    }
}

#[test]
fn spellings_of_a_host_share_its_connection_and_its_host_field() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let proxy = resolving(Proxy::command());
    for group in [NAME, ADDRESS] {
        let mut client = proxy.client();
        for host in group {
            let answer = client.ask(format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            ));
            assert_eq!(answer.status(), 200, "{host}");
        }
    }
    // A name with a final dot is resolved without search domains and could be another host.
    assert_eq!(origin.connections().len(), 3);
    let hosts = origin
        .requests()
        .into_iter()
        .map(|request| request.field("Host"));
    let expected = [NAME, ADDRESS].into_iter().flat_map(|group| {
        group
            .iter()
            .map(move |_| Some(format!("{}:{port}", group[0])))
    });
    assert!(hosts.eq(expected));
}
