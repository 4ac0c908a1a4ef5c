//! Every bundled plugin works the same over http and https, with HTTP/1.1 and HTTP/2 inside TLS.
//!
//! One representative scenario per plugin, run in clear text and, with interception, over HTTP/1.1 and HTTP/2. Each
//! plugin's details are tested in its own module. Only CacheTunnels is missing: an intercepted connection is no tunnel.

use std::fs;

use rustix::process::Signal;

use super::cloudflare_dns_resolver::resolver;
use crate::support::tls::{
    Answer, Ask, Identity, Offer, Pki, Received, ReceivedRequest, TlsOrigin, Trust, Version,
};
use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch};

/// The client's scheme and HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    HttpsWithHttp1,
    HttpsWithHttp2,
}

const SCHEMES: [Scheme; 3] = [Scheme::Http, Scheme::HttpsWithHttp1, Scheme::HttpsWithHttp2];

impl Scheme {
    /// The scheme in a URL.
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::HttpsWithHttp1 | Scheme::HttpsWithHttp2 => "https",
        }
    }

    fn offer(self) -> Offer {
        match self {
            Scheme::Http => Offer::Nothing,
            Scheme::HttpsWithHttp1 => Offer::Http1,
            Scheme::HttpsWithHttp2 => Offer::Http2,
        }
    }
}

/// One run of a scenario.
struct Run {
    scheme: Scheme,
    pki: Pki,
    origin: TlsOrigin,
    scratch: Scratch,
}

impl Run {
    /// An origin named `host` and `localhost` that answers each request with the result of `answer`.
    fn with(
        scheme: Scheme,
        host: &str,
        answer: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) -> Run {
        eprintln!("{scheme:?}");
        let pki = Pki::new();
        let names = ["localhost", "127.0.0.1", host].map(str::to_owned);
        let plan = pki
            .origin()
            .offering(scheme.offer())
            .identity(Identity::Named(names.into()));
        let origin = match scheme {
            Scheme::Http => plan.serve_clear(answer),
            Scheme::HttpsWithHttp1 | Scheme::HttpsWithHttp2 => plan.serve(answer),
        };
        Run {
            scheme,
            origin,
            pki,
            scratch: Scratch::new(),
        }
    }

    /// A proxy with one plugin.
    fn plugin(&self, package: &str, name: &str) -> ProxyCommand {
        self.pki.intercepting().plugin(package, name)
    }

    fn port(&self) -> u16 {
        self.origin.address().port()
    }

    fn authority(&self) -> String {
        self.origin.authority()
    }

    /// Requests this path from the origin.
    fn get(&self, proxy: &Proxy, path: &str) -> Received {
        self.ask(proxy, |authority| Ask::get(authority, path))
    }

    fn ask(&self, proxy: &Proxy, ask: impl Fn(&str) -> Ask) -> Received {
        self.ask_for(proxy, &self.authority(), ask)
    }

    /// Sends a request to `authority` on a new connection. A refused tunnel counts as an answer, too.
    fn ask_for(&self, proxy: &Proxy, authority: &str, ask: impl Fn(&str) -> Ask) -> Received {
        let client = self.pki.client(proxy).offering(self.scheme.offer());
        let version = match self.scheme {
            Scheme::Http => return client.session().ask(ask(authority)),
            Scheme::HttpsWithHttp1 => Version::Http1,
            Scheme::HttpsWithHttp2 => Version::Http2,
        };
        let (host, _) = authority.rsplit_once(':').expect("an authority has a port");
        let tunnel = match client.connect(authority) {
            Ok(tunnel) => tunnel,
            Err(answer) => return *answer,
        };
        let secure = tunnel.secure(&self.pki, host, self.scheme.offer(), Trust::Proxy);
        let secure = secure.unwrap_or_else(|fault| panic!("no TLS: {fault}"));
        let mut session = secure.session(crate::support::tls::Form::Origin("https"));
        assert_eq!(session.version(), version);
        session.ask(ask(authority))
    }
}

/// Runs `scenario` for each scheme, with an origin that sends a plain response.
fn each(scenario: impl Fn(&Run)) {
    for scheme in SCHEMES {
        scenario(&Run::with(scheme, "named.example", |_| {
            Answer::ok("origin-ok").field("Content-Type", "text/plain")
        }));
    }
}

fn told(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[test]
fn cache_responses_stores_what_the_origin_sent() {
    each(|run| {
        let directory = run.scratch.path("");
        let proxy = run
            .plugin("cache_responses", "CacheResponses")
            .plugin_config(&format!("CacheResponses.directory={directory:?}"))
            .start();
        assert_eq!(run.get(&proxy, "/get").told(), told(200, "origin-ok"));
        let line = proxy.wait_for_line("Cached response at ");
        let (_, path) = line.split_once("Cached response at ").expect("waited for");
        let stored = fs::read_to_string(path).expect("the file is there");
        assert!(
            stored.starts_with("HTTP/") && stored.contains(" 200 "),
            "{stored}"
        );
        assert!(stored.ends_with("\r\n\r\norigin-ok"), "{stored}");
    });
}

#[test]
fn cloudflare_dns_resolver_leads_where_the_resolver_says() {
    each(|run| {
        let resolver = resolver(b"\x05named\x07example", 1);
        let url = format!("http://{}/dns-query", resolver.authority());
        let proxy = run
            .plugin("cloudflare_dns_resolver", "CloudflareDnsResolver")
            .plugin_config(&format!("CloudflareDnsResolver.url={url:?}"))
            .start();
        let authority = format!("named.example:{}", run.port());
        let received = run.ask_for(&proxy, &authority, |host| Ask::get(host, "/"));
        assert_eq!(received.told(), told(200, "origin-ok"));
        assert_eq!(run.origin.only_request().authority, authority);
    });
}

#[test]
fn custom_dns_resolver_leads_where_the_table_says() {
    each(|run| {
        let proxy = run
            .plugin("custom_dns_resolver", "CustomDnsResolver")
            .plugin_config(r#"CustomDnsResolver.hosts={ "named.example" = ["127.0.0.1"] }"#)
            .start();
        let authority = format!("named.example:{}", run.port());
        let received = run.ask_for(&proxy, &authority, |host| Ask::get(host, "/"));
        assert_eq!(received.told(), told(200, "origin-ok"));
        assert_eq!(run.origin.only_request().authority, authority);
    });
}

#[test]
fn egress_allowlist_looks_at_the_paths() {
    each(|run| {
        let rule = format!(
            "{{ host = 'localhost', ports = [{}], paths = ['/v1/*'], tunnels = true }}",
            run.port()
        );
        let proxy = run
            .plugin("egress_allowlist", "EgressAllowlist")
            .plugin_config(&format!("EgressAllowlist.allow=[{rule}]"))
            .start();
        assert_eq!(run.get(&proxy, "/v1/x").told(), told(200, "origin-ok"));
        let denied = run.get(&proxy, "/v2");
        assert_eq!(denied.status, 403);
        assert_eq!(denied.field("X-Egress-Denied").as_deref(), Some("path"));
        let by_address = run.origin.address().to_string();
        let denied = run.ask_for(&proxy, &by_address, |host| Ask::get(host, "/v1/x"));
        assert_eq!(denied.status, 403);
        assert_eq!(run.origin.only_request().path, "/v1/x");
    });
}

#[test]
fn filter_by_client_ip_denies() {
    each(|run| {
        let proxy = run
            .plugin("filter_by_client_ip", "FilterByClientIp")
            .plugin_config(r#"FilterByClientIp.deny=["127.0.0.0/8"]"#)
            .start();
        assert_eq!(run.get(&proxy, "/").status, 418);
        assert!(run.origin.connections().is_empty(), "nothing was dialled");
    });
}

#[test]
fn filter_by_upstream_host_denies() {
    each(|run| {
        let proxy = run
            .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
            .plugin_config(r#"FilterByUpstreamHost.hosts=["localhost"]"#)
            .start();
        assert_eq!(run.get(&proxy, "/").status, 418);
        assert!(run.origin.connections().is_empty(), "nothing was dialled");
    });
}

#[test]
fn filter_by_url_regex_looks_at_the_path() {
    each(|run| {
        let proxy = run
            .plugin("filter_by_url_regex", "FilterByUrlRegex")
            .plugin_config(r"FilterByUrlRegex.rules=[{ regex = '^localhost/ads/' }]")
            .start();
        assert_eq!(run.get(&proxy, "/ads/1.js").status, 404);
        assert_eq!(run.get(&proxy, "/page").told(), told(200, "origin-ok"));
        assert_eq!(run.origin.only_request().path, "/page");
    });
}

#[test]
fn man_in_the_middle_replaces_the_content() {
    each(|run| {
        let proxy = run.plugin("man_in_the_middle", "ManInTheMiddle").start();
        let received = run.get(&proxy, "/");
        assert_eq!(received.told(), told(200, "Hello from man in the middle"));
        assert_eq!(received.all("Content-Length"), ["28"]);
        assert_eq!(run.origin.requests().len(), 1);
    });
}

#[test]
fn mock_rest_api_answers_for_its_host() {
    each(|run| {
        let proxy = run
            .plugin("mock_rest_api", "ProposedRestApi")
            .plugin_config(r#"ProposedRestApi.host="localhost""#)
            .start();
        let received = run.get(&proxy, "/v1/users/");
        assert_eq!(received.status, 200);
        assert!(received.text().starts_with(r#"{"count": 2, "#));
        assert_eq!(run.get(&proxy, "/v2/").status, 404);
        run.origin.assert_unasked();
    });
}

#[test]
fn modify_chunk_response_replaces_content_of_unknown_length() {
    for scheme in SCHEMES {
        let run = Run::with(scheme, "named.example", |seen| match seen.path.as_str() {
            "/parts" => Answer::parts(vec![b"hello".to_vec(), b" world".to_vec()]),
            _ => Answer::ok("whole"),
        });
        let proxy = run
            .plugin("modify_chunk_response", "ModifyChunkResponse")
            .start();
        let expected = "modify\nchunk\nresponse\nplugin\n";
        assert_eq!(run.get(&proxy, "/parts").told(), told(200, expected));
        assert_eq!(run.get(&proxy, "/whole").told(), told(200, "whole"));
    }
}

#[test]
fn modify_post_data_replaces_what_is_posted() {
    each(|run| {
        let proxy = run.plugin("modify_post_data", "ModifyPostData").start();
        let parts = vec![b"a".to_vec(), b"b".to_vec()];
        for ask in [
            Ask::post(&run.authority(), "/", "original"),
            Ask::post_parts(&run.authority(), "/", parts),
        ] {
            let received = run.ask(&proxy, |_| ask.clone());
            assert_eq!(received.told(), told(200, "origin-ok"));
        }
        for seen in run.origin.requests() {
            assert_eq!(seen.text(), r#"{"key": "modified"}"#);
            assert_eq!(seen.all("Content-Type"), ["application/json"]);
            assert_eq!(seen.all("Content-Length"), ["19"]);
        }
    });
}

#[test]
fn modify_request_header_changes_fields() {
    each(|run| {
        let proxy = run
            .plugin("modify_request_header", "ModifyRequestHeader")
            .plugin_config(r#"ModifyRequestHeader.append={ x-seen = "two" }"#)
            .plugin_config(r#"ModifyRequestHeader.remove=["Cookie"]"#)
            .start();
        let received = run.ask(&proxy, |host| {
            let ask = Ask::get(host, "/").field("cookie", "c=1");
            ask.field("x-seen", "one")
        });
        assert_eq!(received.told(), told(200, "origin-ok"));
        let seen = run.origin.only_request();
        assert_eq!(seen.all("x-seen"), ["one", "two"]);
        assert_eq!(seen.all("x-proxy-version"), ["1.0.0"]);
        assert!(seen.all("cookie").is_empty());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn program_name_notes_who_asks() {
    let own_name = fs::read_to_string("/proc/self/comm").expect("Linux tells a process's name");
    let noted = format!("program={}", own_name.trim_end());
    each(|run| {
        let proxy = run
            .plugin("program_name", "ProgramName")
            .plugin_config("ProgramName.max_wait_ms=2000")
            .start();
        assert_eq!(run.get(&proxy, "/inside").told(), told(200, "origin-ok"));
        let line = proxy.wait_for_line("/inside");
        assert!(line.contains(&noted), "{line}");
    });
}

#[test]
fn proxy_pool_goes_through_a_parent() {
    each(|run| {
        let parent = Proxy::start();
        let proxy = run
            .plugin("proxy_pool", "ProxyPool")
            .plugin_config(&format!(
                "ProxyPool.parents=[\"http://{}\"]",
                parent.address()
            ))
            .plugin_config("ProxyPool.bypass=[]")
            .start();
        assert_eq!(run.get(&proxy, "/").told(), told(200, "origin-ok"));
        assert_eq!(run.origin.requests().len(), 1);
        // The parent logs a tunnel after it closes.
        drop(proxy);
        parent.wait_for_line(&run.authority());
    });
}

#[test]
fn rate_limit_denies_past_the_limit() {
    each(|run| {
        let proxy = run
            .plugin("rate_limit", "RateLimit")
            .plugin_config("RateLimit.requests=6")
            .plugin_config("RateLimit.window_seconds=86400")
            .start();
        assert_eq!(run.get(&proxy, "/").told(), told(200, "origin-ok"));
        // Whether the tunnel, its requests or both are counted.
        let answers: Vec<_> = (0..8).map(|_| run.get(&proxy, "/")).collect();
        let denied = answers.last().expect("eight answers");
        assert_eq!(denied.status, 429);
        assert!(denied.field("Retry-After").is_some());
        assert!(run.origin.requests().len() <= 6);
    });
}

#[test]
fn record_har_records_the_whole_url() {
    each(|run| {
        let file = run.scratch.path("proxy.har");
        let proxy = run
            .plugin("record_har", "RecordHar")
            .plugin_config(&format!("RecordHar.file='{}'", file.display()))
            .start();
        let received = run.ask(&proxy, |host| {
            let ask = Ask::get(host, "/a?b=c");
            ask.field("authorization", "Bearer hush")
        });
        assert_eq!(received.told(), told(200, "origin-ok"));
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait().code, Some(0));
        let archive = fs::read_to_string(&file).expect("the archive is there");
        let (scheme, authority) = (run.scheme.name(), run.authority());
        for part in [
            &*format!("\"method\":\"GET\",\"url\":\"{scheme}://{authority}/a?b=c\""),
            "\"status\":200",
            "\"text\":\"origin-ok\"",
        ] {
            assert!(archive.contains(part), "no {part} in {archive}");
        }
        assert!(!archive.contains("hush"), "{archive}");
    });
}

#[test]
fn redirect_to_custom_server_takes_plain_http_only() {
    each(|run| {
        let server = Origin::answering(OK.replace("origin-ok", "custom-ok"));
        let proxy = run
            .plugin("redirect_to_custom_server", "RedirectToCustomServer")
            .plugin_config(&format!(
                "RedirectToCustomServer.server='{}'",
                server.authority()
            ))
            .start();
        let expected = match run.scheme {
            Scheme::Http => "custom-ok",
            Scheme::HttpsWithHttp1 | Scheme::HttpsWithHttp2 => "origin-ok",
        };
        assert_eq!(run.get(&proxy, "/").told(), told(200, expected));
    });
}

#[test]
fn secret_inject_gives_the_secret_to_the_origin_alone() {
    each(|run| {
        let file = run.scratch.write("key", "s3cret\n");
        let secret = format!(
            "{{ placeholder = '{{{{KEY}}}}', file = '{}', hosts = ['localhost'] }}",
            file.display()
        );
        let proxy = run
            .plugin("secret_inject", "SecretInject")
            .plugin_config(&format!("SecretInject.secrets=[{secret}]"))
            .start();
        let received = run.ask(&proxy, |host| {
            let ask = Ask::get(host, "/");
            ask.field("authorization", "Bearer {{KEY}}")
        });
        match run.scheme {
            // Secrets are not sent in clear text.
            Scheme::Http => assert_eq!(received.status, 403),
            Scheme::HttpsWithHttp1 | Scheme::HttpsWithHttp2 => {
                assert_eq!(received.told(), told(200, "origin-ok"));
                let seen = run.origin.only_request();
                assert_eq!(seen.all("authorization"), ["Bearer s3cret"]);
            }
        }
        assert!(proxy.lines().iter().all(|line| !line.contains("s3cret")));
    });
}

#[test]
fn shortlink_answers_for_single_words() {
    for scheme in SCHEMES {
        let run = Run::with(scheme, "w", |_| Answer::ok("origin-ok"));
        let proxy = run
            .plugin("shortlink", "ShortLink")
            .plugin("custom_dns_resolver", "CustomDnsResolver")
            .plugin_config(r#"CustomDnsResolver.hosts={ "w" = ["127.0.0.1"] }"#)
            .start();
        let authority = format!("w:{}", run.port());
        let received = run.ask_for(&proxy, &authority, |host| Ask::get(host, "/x?y=z"));
        assert_eq!(received.status, 303);
        let location = received.field("Location");
        assert_eq!(location.as_deref(), Some("http://web.whatsapp.com/x?y=z"));
        run.origin.assert_unasked();
    }
}

#[test]
fn tls_intercept_conditionally_keeps_hosts_unseen() {
    each(|run| {
        let proxy = run
            .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
            .plugin_config(r#"TlsInterceptConditionally.exclude=["localhost"]"#)
            .start();
        if run.scheme == Scheme::Http {
            assert_eq!(run.get(&proxy, "/").told(), told(200, "origin-ok"));
            return;
        }
        let client = run.pki.client(&proxy).offering(run.scheme.offer());
        let unseen = client
            .trusting(Trust::Origins)
            .get(&run.authority(), "/unseen");
        assert_eq!(unseen.told(), told(200, "origin-ok"));
        let by_address = run.origin.address().to_string();
        assert_eq!(
            client.get(&by_address, "/seen").told(),
            told(200, "origin-ok")
        );
        proxy.wait_for_line("/seen");
        assert!(!proxy.lines().iter().any(|line| line.contains("/unseen")));
    });
}
