//! Defects that were found and fixed where TLS or HTTP/2 is spoken, each as the claim that failed.
//!
//! Clients speak through tunnels that the proxy looks into, unless a test says otherwise.

use crate::support::tls::{Answer, Ask, Form, Offer, Pki, Trust};

mod tunnels {
    use super::*;

    #[test]
    fn that_begin_and_stop_are_not_relayed_unseen() {
        // Whoever waits for the time limit behind the first byte would get past everything that looks.
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
        // The upstream's TLS was tried, and the client then speaks something else: a second connection is made.
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
        // A client that accepts no certificate of ours for one name says nothing about others at the same address.
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        let proxy = pki.intercepting().start();
        let tunnel = || pki.client(&proxy).tunnel(&origin.address().to_string());
        let refused = tunnel().secure(&pki, "pinned.example", Offer::Both, Trust::Origins);
        assert!(refused.is_err());
        proxy.wait_for_line("relayed unseen");
        let secure = tunnel().secure(&pki, "localhost", Offer::Both, Trust::Proxy);
        assert!(secure.is_ok(), "{:?}", secure.err());
    }

    #[test]
    fn with_an_empty_line_before_the_request_are_served_as_http() {
        // Servers skip it (RFC 9112 §2.2), so what follows must be seen.
        let pki = Pki::new();
        let origin = pki.origin().serve_clear(|_| Answer::ok("ok"));
        // An origin that does not say that it speaks no TLS.
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
