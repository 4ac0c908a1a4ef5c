//! Regression tests for fixed defects in TLS and HTTP/2; each name is the claim that failed.
//!
//! Clients use intercepted tunnels, unless a test says otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;

use crate::support::tls::{Answer, Ask, Form, Offer, Pki, Trust, Version};

mod tunnels {
    use super::*;

    #[test]
    fn that_begin_and_stop_are_not_relayed_unseen() {
        // Stalling after the first byte until the time limit must not bypass inspection.
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("unseen"));
        let proxy = pki
            .intercepting()
            .config("[timeouts]\nheader_read = 1")
            .start();
        for beginning in [&b"\x16"[..], b"G", b"GET / HT"] {
            let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
            tunnel.send(beginning);
            tunnel.read_to_end();
        }
        origin.assert_unasked();
    }

    #[test]
    fn lead_where_a_plugin_says_that_the_name_does_when_they_are_relayed_after_all() {
        // The proxy tried TLS with the upstream, but the client does not speak TLS: it opens a second connection.
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        let proxy = pki
            .intercepting()
            .config("[interception]\ninsecure_hosts = [\"shop.example\"]")
            .plugin("custom_dns_resolver", "CustomDnsResolver")
            .plugin_config("CustomDnsResolver.hosts={ \"shop.example\" = [\"127.0.0.1\"] }")
            .plugin_config("CustomDnsResolver.system=false")
            .start();
        let authority = format!("shop.example:{}", origin.address().port());
        let mut tunnel = pki.client(&proxy).tunnel(&authority);
        tunnel.send(b"\0 neither TLS nor HTTP");
        tunnel.finish();
        tunnel.read_to_end();
        assert_eq!(origin.connections().len(), 2);
    }

    #[test]
    fn to_an_address_are_for_the_name_that_the_client_asks_for() {
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        for (config, trust) in [
            ("exclude = [\"localhost\"]", Trust::Origins),
            ("include = [\"localhost\"]", Trust::Proxy),
            ("include = [\"other.example\"]", Trust::Origins),
            ("include = [\"127.0.0.1\"]", Trust::Proxy),
        ] {
            let proxy = pki
                .intercepting()
                .config(&format!("[interception]\n{config}"))
                .start();
            let tunnel = pki.client(&proxy).tunnel(&origin.address().to_string());
            let secure = tunnel.secure(&pki, "localhost", Offer::Both, trust);
            assert!(secure.is_ok(), "{config}: {:?}", secure.err());
        }
    }

    #[test]
    fn to_an_address_are_given_up_for_one_name_only() {
        // A client that rejects our certificate for one name says nothing about other names at the same address.
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        let proxy = pki.intercepting().start();
        let tunnel = || pki.client(&proxy).tunnel(&origin.address().to_string());
        let refused = tunnel().secure(&pki, "pinned.example", Offer::Both, Trust::Origins);
        assert!(refused.is_err());
        proxy.wait_for_line("relayed without decryption");
        let secure = tunnel().secure(&pki, "localhost", Offer::Both, Trust::Proxy);
        assert!(secure.is_ok(), "{:?}", secure.err());
    }

    #[test]
    fn with_an_empty_line_before_the_request_are_served_as_http() {
        // Servers skip the empty line (RFC 9112 §2.2), so the request after it must be inspected.
        let pki = Pki::new();
        let origin = pki.origin().serve_clear(|_| Answer::ok("ok"));
        // This origin does not report that it speaks no TLS.
        let proxy = pki.intercepting().config("[timeouts]\nconnect = 1").start();
        let authority = origin.authority();
        let mut tunnel = pki.client(&proxy).tunnel(&authority);
        tunnel.send(b"\r\n");
        let mut session = tunnel.session(Form::Origin("http"));
        let received = session.ask(Ask::get(&authority, "/seen"));
        assert_eq!(received.told(), (200, "ok".into()));
        proxy.wait_for_line(&format!("GET {authority}/seen - 200"));
    }
}

mod shared_connections {
    use super::*;

    #[test]
    fn that_have_fallen_silent_are_not_asked_again() {
        let pki = Pki::new();
        let gate = crate::support::tls::Gate::closed();
        let origin = pki.origin().serve(move |seen| match seen.path.as_str() {
            "/silent" => Answer::ok("").behind(&gate),
            _ => Answer::ok("ok"),
        });
        let proxy = pki
            .intercepting()
            .config("[timeouts]\nupstream_response = 1")
            .start();
        let mut session = pki.client(&proxy).https(&origin.authority());
        let authority = origin.authority();
        assert_eq!(session.ask(Ask::get(&authority, "/silent")).status, 504);
        assert_eq!(session.ask(Ask::get(&authority, "/")).status, 200);
        let asked = origin.requests().pop().expect("a request");
        assert_eq!((asked.version, asked.connection), (Version::Http2, 1));
    }

    #[test]
    fn never_carry_who_may_take_the_connection_for_the_clients_own() {
        // NTLM and Negotiate: the next client would act as another user.
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        let proxy = pki.intercepting().start();
        let authority = origin.authority();
        let client = pki.client(&proxy);
        client.get(&authority, "/before");
        for scheme in ["Negotiate abc", "NTLM abc"] {
            let ask = Ask::get(&authority, "/bound").field("Authorization", scheme);
            assert_eq!(client.https(&authority).ask(ask).status, 200);
        }
        client.get(&authority, "/after");
        let (bound, others): (Vec<_>, Vec<_>) = origin
            .requests()
            .into_iter()
            .partition(|seen| seen.path == "/bound");
        for seen in &bound {
            assert_eq!(seen.version, Version::Http1);
            assert!(
                others
                    .iter()
                    .all(|other| other.connection != seen.connection)
            );
        }
        assert_ne!(bound[0].connection, bound[1].connection);
        assert!(others.iter().all(|seen| seen.version == Version::Http2));
    }

    #[test]
    fn are_asked_again_for_what_was_refused_whatever_it_is() {
        // RFC 9113 §8.7: a refused stream was not processed.
        let pki = Pki::new();
        let asked = AtomicUsize::new(0);
        let origin = pki
            .origin()
            .serve(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::reset(Reason::REFUSED_STREAM),
                _ => Answer::ok("ok"),
            });
        let proxy = pki.intercepting().start();
        let authority = origin.authority();
        let mut session = pki.client(&proxy).https(&authority);
        let received = session.ask(Ask::new("POST", &authority, "/"));
        assert_eq!(received.told(), (200, "ok".into()));
    }

    #[test]
    fn are_not_asked_again_for_what_was_reset() {
        // The connection is healthy and the upstream has seen the request: a retry would fail the same way.
        let pki = Pki::new();
        let origin = pki
            .origin()
            .answering(Answer::reset(Reason::INTERNAL_ERROR));
        let proxy = pki.intercepting().start();
        let authority = origin.authority();
        let mut session = pki.client(&proxy).https(&authority);
        assert_eq!(session.ask(Ask::get(&authority, "/")).status, 502);
        assert_eq!(origin.requests().len(), 1);
        assert_eq!(origin.connections().len(), 1);
    }
}
