//! Interception: the proxy terminates the TLS of its clients, inspects the content, and speaks TLS to the origin.
//!
//! Origins are `localhost` or 127.0.0.1, with a certificate from a CA that the proxy trusts; clients trust the proxy's
//! CA. Unless a test says otherwise, both sides may speak HTTP/2.

mod certificates;
mod claims;
mod first_bytes;
mod fronts;
mod inside;
mod messages;
mod refusals;
mod relays;
mod spellings;
mod web_sockets;

use crate::support::Proxy;
use crate::support::tls::{Answer, Offer, Pki, ProxyClient, TlsOrigin};

/// A proxy that intercepts every tunnel, an origin, and the protocols on both sides.
struct Scene {
    pki: Pki,
    proxy: Proxy,
    origin: TlsOrigin,
    client: Offer,
}

impl Scene {
    /// An origin that gives the same answer to every request; both sides may speak HTTP/2.
    fn answering(answer: Answer) -> Scene {
        Scene::of(Offer::Both, Offer::Both, answer)
    }

    /// With the protocols that the client offers and the origin accepts.
    fn of(client: Offer, origin: Offer, answer: Answer) -> Scene {
        let pki = Pki::new();
        Scene {
            origin: pki.origin().offering(origin).answering(answer),
            proxy: pki.intercepting().start(),
            client,
            pki,
        }
    }

    /// A client that trusts the proxy.
    fn client(&self) -> ProxyClient<'_> {
        self.pki.client(&self.proxy).offering(self.client)
    }

    /// Host and port of the origin.
    fn authority(&self) -> String {
        self.origin.authority()
    }
}
