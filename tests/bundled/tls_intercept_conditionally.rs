//! Excluded tunnels are not intercepted, by CONNECT host or by server name. For all others the configuration or another
//! plugin decides.

use crate::support::tls::{Answer, Ask, Form, Identity, Offer, Pki, Shown, TlsOrigin, Trust};
use crate::support::{Origin, Proxy, ProxyCommand};

/// An origin whose certificate also covers `a.bank.example`, besides `localhost` and 127.0.0.1.
struct Scene {
    pki: Pki,
    origin: TlsOrigin,
}

impl Scene {
    fn new() -> Scene {
        let pki = Pki::new();
        let names = ["localhost", "127.0.0.1", "a.bank.example"].map(str::to_owned);
        let origin = pki
            .origin()
            .identity(Identity::Named(names.into()))
            .answering(Answer::ok("ok"));
        Scene { pki, origin }
    }

    fn proxy(&self, setting: &str) -> ProxyCommand {
        self.pki
            .intercepting()
            .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
            .plugin_config(&format!("TlsInterceptConditionally.{setting}"))
    }

    /// Whether a tunnel to `host` with server name `server_name` is intercepted. The handshake must succeed either way.
    fn is_seen(&self, proxy: &Proxy, host: &str, server_name: &str) -> bool {
        let authority = format!("{host}:{}", self.origin.address().port());
        let tunnel = self.pki.client(proxy).tunnel(&authority);
        let secure = tunnel.secure(&self.pki, server_name, Offer::Both, Trust::Anyone);
        let secure = secure.expect("a handshake");
        let issuer = secure.certificate().issuer;
        let mut session = secure.session(Form::Origin("https"));
        let named = format!("{server_name}:{}", self.origin.address().port());
        let received = session.ask(Ask::get(&named, "/"));
        assert_eq!(received.told(), (200, "ok".into()));
        issuer == Shown::of(&self.pki.proxy_certificate()).subject
    }
}

#[test]
fn a_tunnel_carries_its_bytes_unchanged() {
    let origin = Origin::echoing();
    let proxy = Proxy::command()
        .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
        .plugin_config(r#"TlsInterceptConditionally.exclude=["127.0.0.1"]"#)
        .start();
    let mut client = proxy.tunnel(&origin);
    client.send("through the tunnel");
    assert_eq!(client.read_exact(18), b"through the tunnel");
}

#[test]
fn without_interception_every_tunnel_is_relayed() {
    let scene = Scene::new();
    let proxy = scene
        .pki
        .relaying()
        .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
        .start();
    assert!(!scene.is_seen(&proxy, "localhost", "localhost"));
}

#[test]
fn an_excluded_host_shows_its_own_certificate() {
    let scene = Scene::new();
    let proxy = scene.proxy(r#"exclude=["localhost"]"#).start();
    for (host, server_name, expected) in [
        ("localhost", "localhost", false),
        ("127.0.0.1", "127.0.0.1", true),
        // Only the ClientHello names the excluded host.
        ("127.0.0.1", "localhost", false),
        ("127.0.0.1", "a.bank.example", true),
    ] {
        let seen = scene.is_seen(&proxy, host, server_name);
        assert_eq!(seen, expected, "{host}, {server_name}");
    }
}

#[test]
fn an_excluded_domain_is_known_by_the_server_name() {
    let scene = Scene::new();
    let proxy = scene.proxy(r#"exclude=["*.bank.example"]"#).start();
    assert!(!scene.is_seen(&proxy, "127.0.0.1", "a.bank.example"));
    assert!(scene.is_seen(&proxy, "127.0.0.1", "localhost"));
}

#[test]
fn with_included_hosts_all_others_stay_closed() {
    let scene = Scene::new();
    let proxy = scene.proxy(r#"include=["localhost"]"#).start();
    assert!(scene.is_seen(&proxy, "localhost", "localhost"));
    assert!(!scene.is_seen(&proxy, "127.0.0.1", "127.0.0.1"));
    assert!(!scene.is_seen(&proxy, "127.0.0.1", "a.bank.example"));
}

#[test]
fn for_other_tunnels_the_configuration_decides_or_a_later_plugin() {
    let scene = Scene::new();
    let config = "[interception]\nexclude = [\"localhost\"]";
    let command = || scene.proxy(r#"exclude=["127.0.0.1"]"#).config(config);
    let alone = command().start();
    assert!(!scene.is_seen(&alone, "localhost", "localhost"));
    let with_another = command()
        .plugin("zoo", "Decider")
        .plugin_config("Decider.intercept=\"yes\"")
        .start();
    assert!(scene.is_seen(&with_another, "localhost", "localhost"));
    assert!(!scene.is_seen(&with_another, "127.0.0.1", "127.0.0.1"));
}
