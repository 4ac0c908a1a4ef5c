//! The ClientHello inside a tunnel: which plugins see it, and which decide what happens to the tunnel.

use std::time::{Duration, Instant};

use crate::support::tls::{
    Answer, Ask, Identity, Offer, Pki, Shown, TlsOrigin, Trust, Version, Way, client_hello,
};
use crate::support::{OK, Origin, Proxy, ProxyCommand};

/// Whose certificate the client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    TheProxy,
    TheOrigin,
}

/// The origin and the CAs of one test.
struct Scene {
    pki: Pki,
    origin: TlsOrigin,
}

impl Scene {
    fn new() -> Scene {
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::ok("ok"));
        Scene { pki, origin }
    }

    /// A scene whose origin is named `host` and speaks HTTP/1.1 only.
    fn called(host: &str) -> Scene {
        let pki = Pki::new();
        let names = ["127.0.0.1", host].map(str::to_owned);
        let origin = pki
            .origin()
            .offering(Offer::Http1)
            .identity(Identity::Named(names.into()))
            .answering(Answer::ok("ok"));
        Scene { pki, origin }
    }

    /// The version that a client offering both negotiates. A proxy connected to the origin offers the origin's version.
    fn version(&self, proxy: &Proxy, authority: &str) -> Version {
        let client = self.pki.client(proxy).trusting(Trust::Anyone);
        client.https(authority).version()
    }

    fn authority(&self) -> String {
        self.origin.authority()
    }

    fn proxy(&self, plugin: &str, settings: &[&str]) -> ProxyCommand {
        settings.iter().fold(
            self.pki.intercepting().plugin("zoo", plugin),
            |command, setting| command.plugin_config(&format!("{plugin}.{setting}")),
        )
    }

    /// Asserts that the tunnel to `authority` leads to the origin; returns which side terminates the client's TLS.
    fn who_answers(&self, proxy: &Proxy, authority: &str) -> Answers {
        let client = self.pki.client(proxy).trusting(Trust::Anyone);
        let mut session = client.https(authority);
        let issuer = session.certificate().issuer;
        let received = session.ask(Ask::get(authority, "/"));
        assert_eq!(received.told(), (200, "ok".into()));
        match issuer == Shown::of(&self.pki.proxy_certificate()).subject {
            true => Answers::TheProxy,
            false => Answers::TheOrigin,
        }
    }

    /// Asserts that the TLS handshake in a tunnel fails.
    fn assert_ends(&self, proxy: &Proxy) {
        let tunnel = self.pki.client(proxy).tunnel(&self.authority());
        let secure = tunnel.secure(&self.pki, "localhost", Offer::Both, Trust::Anyone);
        assert!(secure.is_err(), "nobody may answer");
        self.origin.assert_unasked();
    }
}

#[test]
fn a_hello_is_shown_with_name_protocols_and_the_tunnels_request() {
    let scene = Scene::new();
    for (offer, protocols) in [
        (Offer::Both, "h2+http/1.1"),
        (Offer::Http1, "http/1.1"),
        (Offer::Nothing, ""),
    ] {
        let proxy = scene.proxy("Looker", &[]).start();
        let client = scene.pki.client(&proxy).offering(offer);
        let received = client.get(&scene.authority(), "/inside");
        assert_eq!(received.told(), (200, "ok".into()));
        let line = proxy.wait_for_line("looker ");
        let wanted =
            format!("looker localhost server_name=localhost protocols={protocols} request=CONNECT");
        assert!(line.ends_with(&wanted), "{line}");
        // Log fields added for the hello appear only in the line of the CONNECT.
        let line = proxy.wait_for_line("hello=localhost");
        assert!(line.contains(" - CONNECT "), "{line}");
        let line = proxy.wait_for_line("/inside");
        assert!(!line.contains("hello="), "{line}");
    }
}

#[test]
fn a_client_of_an_address_asks_for_no_name() {
    let scene = Scene::new();
    let proxy = scene.proxy("Looker", &[]).start();
    let by_address = scene.origin.address().to_string();
    assert_eq!(scene.who_answers(&proxy, &by_address), Answers::TheProxy);
    proxy.wait_for_line("looker 127.0.0.1 server_name=- ");
}

#[test]
fn a_hello_in_a_tunnel_on_a_stream_is_shown_too() {
    let scene = Scene::new();
    let proxy = scene
        .proxy("Looker", &[])
        .args(scene.pki.listener())
        .start();
    let client = scene.pki.client(&proxy).over(Way::Http2);
    assert_eq!(client.get(&scene.authority(), "/").status, 200);
    proxy.wait_for_line("looker localhost server_name=localhost protocols=h2+http/1.1 ");
}

#[test]
fn a_hello_in_pieces_is_shown_once_and_whole() {
    let scene = Scene::new();
    let proxy = scene.proxy("Looker", &[]).start();
    let tunnel = scene.pki.client(&proxy).tunnel(&scene.authority());
    let tunnel = tunnel.dribbling();
    let secure = tunnel.secure(&scene.pki, "localhost", Offer::Both, Trust::Proxy);
    drop(secure.expect("a handshake"));
    proxy.wait_for_line("looker localhost server_name=localhost protocols=h2+http/1.1 ");
    let told = proxy.lines();
    let told = told.iter().filter(|line| line.contains("looker "));
    assert_eq!(told.count(), 1);
}

#[test]
fn without_interception_a_hello_is_shown_and_the_tunnel_relayed() {
    let scene = Scene::new();
    let proxy = scene
        .pki
        .relaying()
        .plugin("zoo", "Looker")
        .plugin("zoo", "Decider")
        .plugin_config("Decider.intercept=\"yes\"")
        .start();
    assert_eq!(
        scene.who_answers(&proxy, &scene.authority()),
        Answers::TheOrigin
    );
    proxy.wait_for_line("looker localhost server_name=localhost protocols=h2+http/1.1 ");
    // Without interception, `do_intercept` is not called.
    assert!(proxy.lines().iter().all(|line| !line.contains("decider")));
}

#[test]
fn what_is_no_tls_is_shown_to_nobody() {
    let pki = Pki::new();
    let origin = Origin::serve(|peer| {
        peer.read_more();
        peer.send("no TLS here");
        peer.park();
    });
    for command in [pki.relaying(), pki.intercepting()] {
        let proxy = command
            .plugin("zoo", "Looker")
            .plugin("zoo", "Decider")
            .plugin_config("Looker.does=\"close\"")
            .plugin_config("Decider.intercept=\"yes\"")
            .start();
        let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
        tunnel.send("\x00 something else");
        assert_eq!(tunnel.read_exact(11), b"no TLS here");
        let is_told = |line: &String| line.contains("looker") || line.contains("decider");
        assert!(!proxy.lines().iter().any(is_told));
    }
}

#[test]
fn the_first_plugin_with_an_opinion_decides_against_the_configuration() {
    use Answers::{TheOrigin, TheProxy};
    let scene = Scene::new();
    let include = "[interception]\ninclude = [\"localhost\"]";
    let include_others = "[interception]\ninclude = [\"*.example\"]";
    let exclude = "[interception]\nexclude = [\"localhost\"]";
    for (config, opinions, expected) in [
        (include, ["default", "default"], TheProxy),
        (exclude, ["default", "default"], TheOrigin),
        (include_others, ["default", "default"], TheOrigin),
        (exclude, ["yes", "no"], TheProxy),
        (include_others, ["yes", "default"], TheProxy),
        (exclude, ["default", "yes"], TheProxy),
        (include, ["no", "yes"], TheOrigin),
        (include, ["default", "no"], TheOrigin),
    ] {
        eprintln!("{config:?} {opinions:?}");
        let proxy = scene
            .proxy("Decider", &["label=\"a\""])
            .plugin("zoo", "DeciderB")
            .plugin_config(&format!("Decider.intercept={:?}", opinions[0]))
            .plugin_config(&format!("DeciderB.intercept={:?}", opinions[1]))
            .plugin_config("DeciderB.label=\"b\"")
            .config(config)
            .start();
        let authority = scene.authority();
        assert_eq!(scene.who_answers(&proxy, &authority), expected);
        proxy.wait_for_line("decider a localhost");
        if opinions[0] == "default" {
            proxy.wait_for_line("decider b localhost");
        } else {
            let lines = proxy.lines();
            assert!(!lines.iter().any(|line| line.contains("decider b")));
        }
    }
}

#[test]
fn a_plugin_may_insist_although_a_client_has_refused_our_certificate() {
    let scene = Scene::new();
    let authority = scene.authority();
    for (opinion, expected) in [("default", Answers::TheOrigin), ("yes", Answers::TheProxy)] {
        let setting = format!("intercept={opinion:?}");
        let proxy = scene.proxy("Decider", &[&setting]).start();
        let wary = scene.pki.client(&proxy).trusting(Trust::Origins);
        let tunnel = wary.tunnel(&authority);
        let client = tunnel.local.to_string();
        let refused = tunnel.secure(&scene.pki, "localhost", Offer::Both, Trust::Origins);
        assert!(refused.is_err(), "the client does not know our authority");
        proxy.wait_for_line(&format!("{client} - CONNECT"));
        assert_eq!(scene.who_answers(&proxy, &authority), expected, "{opinion}");
    }
}

#[test]
fn a_tunnel_may_be_ended_at_its_hello() {
    for (does, logged, note) in [
        ("close", None, "closed by Looker"),
        // The client already has the response to its CONNECT.
        ("reply", Some("may not change"), "a plugin failed"),
        ("fail", Some("looked too hard"), "a plugin failed"),
        ("panic", Some("looked too long"), "a plugin failed"),
    ] {
        eprintln!("{does}");
        let scene = Scene::new();
        for command in [scene.pki.intercepting(), scene.pki.relaying()] {
            let proxy = command
                .plugin("zoo", "Looker")
                .plugin_config(&format!("Looker.does={does:?}"))
                .plugin_config("Looker.to=\"localhost\"")
                .start();
            scene.assert_ends(&proxy);
            let line = proxy.wait_for_line(" - CONNECT ");
            assert!(line.contains(note), "{line}");
            if let Some(logged) = logged {
                let line = proxy.wait_for_line(logged);
                let words = ["ERROR", "Looker", "handle_tls_hello"];
                assert!(words.iter().all(|word| line.contains(word)), "{line}");
            }
        }
        // Hellos with other server names are not affected.
        let proxy = scene
            .proxy(
                "Looker",
                &[&format!("does={does:?}"), "to=\"other.example\""],
            )
            .start();
        let answers = scene.who_answers(&proxy, &scene.authority());
        assert_eq!(answers, Answers::TheProxy);
    }
}

#[test]
fn a_plugin_that_panics_over_its_decision_ends_the_tunnel() {
    let scene = Scene::new();
    let proxy = scene.proxy("Decider", &["intercept=\"panic\""]).start();
    for _ in 0..2 {
        scene.assert_ends(&proxy);
    }
    let line = proxy.wait_for_line("cannot decide");
    let words = ["ERROR", "Decider", "do_intercept"];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    let line = proxy.wait_for_line(" - CONNECT ");
    assert!(line.contains("a plugin failed"), "{line}");
}

#[test]
fn a_hook_that_waits_holds_up_its_own_tunnel_only() {
    let scene = Scene::new();
    let proxy = scene.proxy("SlowLooker", &["wait_ms=60000"]).start();
    let mut waiting = scene.pki.client(&proxy).tunnel(&scene.authority());
    waiting.send(client_hello(&scene.pki, "localhost"));
    proxy.wait_for_line("slow looker begins");
    let asked = Instant::now();
    let other = Origin::answering(OK);
    assert_eq!(proxy.get(&other, "/").status(), 200);
    assert!(asked.elapsed() < Duration::from_secs(2));
    let begun = Instant::now();
    drop(waiting.read_to_end());
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(9), "{elapsed:?}");
    let line = proxy.wait_for_line("within 5 s");
    let words = ["SlowLooker", "handle_tls_hello"];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    proxy.wait_for_line("slow looker gave up");
    scene.origin.assert_unasked();
}

#[test]
fn a_hook_that_has_waited_decides_like_any_other() {
    let scene = Scene::new();
    let proxy = scene.proxy("SlowLooker", &["wait_ms=50"]).start();
    let answers = scene.who_answers(&proxy, &scene.authority());
    assert_eq!(answers, Answers::TheProxy);
    proxy.wait_for_line("slow looker ends localhost");
    for (does, logged) in [
        ("close", "closed by SlowLooker"),
        ("fail", "looked too hard"),
        ("panic", "looked too long"),
    ] {
        let scene = Scene::new();
        let settings = ["wait_ms=50", &format!("does={does:?}")];
        let proxy = scene.proxy("SlowLooker", &settings).start();
        scene.assert_ends(&proxy);
        proxy.wait_for_line(logged);
    }
}

#[test]
fn a_client_that_resets_ends_the_wait() {
    let scene = Scene::new();
    let proxy = scene.proxy("SlowLooker", &["wait_ms=60000"]).start();
    let authority = scene.authority();
    let mut client = proxy.client();
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(client.response_to("CONNECT").status(), 200);
    client.send(client_hello(&scene.pki, "localhost"));
    proxy.wait_for_line("slow looker begins");
    let begun = Instant::now();
    client.reset();
    proxy.wait_for_line("slow looker gave up");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn addresses_that_plugins_have_given_lead_a_tunnel_to_its_end() {
    // Only the plugin resolves this host.
    let host = "named.invalid";
    let scene = Scene::called(host);
    let authority = format!("{host}:{}", scene.origin.address().port());
    for (config, opinion, expected) in [
        ("", "no", Answers::TheOrigin),
        ("", "default", Answers::TheProxy),
        (
            "[interception]\nexclude = [\"*\"]",
            "yes",
            Answers::TheProxy,
        ),
        (
            "[interception]\nexclude = [\"*\"]",
            "no",
            Answers::TheOrigin,
        ),
    ] {
        eprintln!("{config:?} {opinion}");
        let proxy = scene
            .proxy("Decider", &[&format!("intercept={opinion:?}")])
            .plugin("zoo", "Names")
            .plugin_config(&format!("Names.host={host:?}"))
            .plugin_config("Names.addresses=[\"127.0.0.1\"]")
            .config(config)
            .start();
        assert_eq!(scene.who_answers(&proxy, &authority), expected);
        assert_eq!(scene.version(&proxy, &authority), Version::Http1);
    }
}

#[test]
fn a_tunnel_that_a_plugin_has_redirected_stays_so() {
    let authority = "named.invalid:443";
    let scene = Scene::called("named.invalid");
    let map = format!("{{ \"{authority}\" = \"{}\" }}", scene.origin.address());
    for (config, opinion, expected) in [
        ("", "default", Answers::TheProxy),
        ("", "no", Answers::TheOrigin),
        (
            "[interception]\nexclude = [\"*\"]",
            "yes",
            Answers::TheProxy,
        ),
    ] {
        eprintln!("{config:?} {opinion}");
        let proxy = scene
            .proxy("Decider", &[&format!("intercept={opinion:?}")])
            .plugin("zoo", "ConnectTo")
            .plugin_config(&format!("ConnectTo.map={map}"))
            .config(config)
            .start();
        assert_eq!(scene.who_answers(&proxy, authority), expected);
        assert_eq!(scene.version(&proxy, authority), Version::Http1);
    }
}
