//! One exchange as a hook sees it: the only parameter besides `self`, so that a later version can add to it
//! without changing a signature.
//!
//! Nothing of the exchange can be kept beyond the hook; what shall be kept goes into the state.
#![expect(unsafe_code, reason = "reads the host's view of the exchange")]

use crate::abi::{Address, ExchangeView, TlsHelloView, direction, fact};
use crate::message::Editor;
use crate::{
    BodyMode, ClientTls, Direction, EditError, Filter, MessageKind, Request, RequestMut, Response,
    ResponseMut, Summary, Trailers, TrailersMut, connection,
};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;

/// A request on its way through the proxy, with its response once that has arrived.
pub struct Exchange<'a, F: Filter> {
    /// What this filter keeps for this exchange; made by `Default` before the first hook, dropped after the last.
    pub state: &'a mut F::State,
    /// What this filter keeps for the client's connection.
    pub connection: &'a F::Connection,
    // Not a reference: the host writes to the view during callbacks.
    view: NonNull<ExchangeView>,
    _lent: PhantomData<&'a mut ExchangeView>,
}

impl<'a, F: Filter> Exchange<'a, F> {
    /// # Safety
    /// `view` and all it points to must be valid for `'a`, and be changed by nobody but the view's own callbacks.
    pub(crate) unsafe fn new(view: NonNull<ExchangeView>, state: &'a mut F::State) -> Self {
        // SAFETY: the host keeps the connection's state longer than its exchanges.
        let connection = unsafe { connection::state::<F>(view.as_ref().connection_state) };
        Self {
            state,
            connection,
            view,
            _lent: PhantomData,
        }
    }

    /// Counts client connections since the proxy started, from 1 and over all workers; the same for all exchanges of
    /// one.
    pub fn connection_id(&self) -> u64 {
        self.view().connection_id
    }

    /// Counts exchanges since the proxy started, from 1 and over all workers.
    pub fn exchange_id(&self) -> u64 {
        self.view().exchange_id
    }

    /// Who sent the request; none when it did not come from an IP address.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view().client)
    }

    /// Where the client has connected to; none where that is not known.
    pub fn local_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().local)
    }

    /// The other end of the upstream connection, from `on_upstream_connected` on: the origin, or the parent proxy. None
    /// where there is none yet, and where the connection is one of HTTP/2 that exchanges share.
    pub fn upstream_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().upstream_address)
    }

    /// Our end of the upstream connection, where [`upstream_address`](Self::upstream_address) is the other one.
    pub fn upstream_local_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().upstream_local)
    }

    /// The TLS session of the client with the proxy: of the listener, or inside of an intercepted tunnel that of the
    /// tunnel. None where the client speaks clear text.
    pub fn client_tls(&self) -> Option<ClientTls<'_>> {
        // SAFETY: null or valid until the hook returns.
        unsafe { self.view().client_tls.as_ref() }.map(ClientTls::new)
    }

    /// What the exchange came to, in `on_access_log` and `on_upstream_connection_close`; none before.
    pub fn summary(&self) -> Option<Summary<'_>> {
        // SAFETY: null or valid until the hook returns.
        unsafe { self.view().summary.as_ref() }.map(Summary::new)
    }

    /// The request.
    pub fn request(&self) -> Request<'_> {
        // SAFETY: never null, and valid until the next edit, which needs `&mut self`.
        Request {
            view: unsafe { &*self.view().request },
        }
    }

    /// The way to edit the request.
    pub fn request_mut(&mut self) -> RequestMut<'_> {
        RequestMut {
            editor: self.editor(),
        }
    }

    /// The final response; none before it has arrived. At the end of the exchange, in `on_access_log` and
    /// `on_upstream_connection_close`, it is the response that the client was given: the upstream's, a plugin's reply,
    /// or an error response of the proxy.
    pub fn response(&self) -> Option<Response<'_>> {
        // SAFETY: null or valid until the next edit, which needs `&mut self`.
        unsafe { self.view().response.as_ref() }.map(|view| Response { view })
    }

    /// The way to edit the response. Before it has arrived, every edit is refused as stale.
    pub fn response_mut(&mut self) -> ResponseMut<'_> {
        ResponseMut {
            editor: self.editor(),
        }
    }

    /// Where the exchange is going. The request says what it is for; the two differ where a plugin has redirected it,
    /// and inside an intercepted tunnel to an address, whose requests may name any host, or to a host of `allow_fronting`. See [`Upstream::is_proven`].
    pub fn upstream(&self) -> Upstream<'_> {
        Upstream { view: self.view() }
    }

    /// The hosts that a rule about hosts has to hold for: the one that the request is for, and the one that is
    /// connected to, where that is another. A rule that denies applies if `any` of them matches, a rule that allows
    /// only if `all` of them do. Both are in their canonical form: see [`canonical_host`](crate::canonical_host).
    ///
    /// ```
    /// # use plugin_api::prelude::*;
    /// # #[derive(Deserialize)] struct Deny { host: String }
    /// #[filter]
    /// impl Filter for Deny {
    ///     fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
    ///         if exchange.hosts().any(|host| host == self.host) { reject(403, "Denied") } else { proceed() }
    ///     }
    /// }
    /// # use plugin_api::testing::{configured, get};
    /// # let filter: Deny = configured("host = '192.0.2.1'").unwrap();
    /// # assert!(get("http://a.example/").run(&filter).reply().is_none());
    /// # assert!(get("http://a.example/").inside_tunnel_to("192.0.2.1").run(&filter).reply().is_some());
    /// ```
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let (asked_for, connected) = (self.request().host(), self.upstream().host());
        let other = Some(connected).filter(|connected| *connected != asked_for);
        [Some(asked_for), other].into_iter().flatten()
    }

    /// The host that the upstream is known to be: the request's where [`Upstream::is_proven`] says so, else the one
    /// that is connected to. What is kept or counted by host goes by this one, and secrets go by it, too.
    pub fn proven_host(&self) -> &str {
        match self.upstream().is_proven() {
            true => self.request().host(),
            false => self.upstream().host(),
        }
    }

    /// Whether the [server name](TlsHello::server_name) that a client asks for inside its tunnel is proven: the
    /// tunnel was made to that name, or the upstream's verified certificate is for it. Known in `do_intercept`; `false`
    /// in other hooks, and where the proxy does not intercept.
    pub fn is_server_name_proven(&self) -> bool {
        holds(self.view(), fact::SERVER_NAME_PROVEN)
    }

    /// Sends the request to the upstream with another method. The response still fits the client's own method: to HEAD
    /// it has no content; to any other method it has a length, which is 0 if the upstream was sent HEAD. The content of
    /// the request is kept.
    ///
    /// # Errors
    /// When the proxy refuses, nothing is changed: the method is not a token, or TRACE for a request with content
    /// ([`BadValue`](EditError::BadValue)); it is or was CONNECT, or the request hooks are over
    /// ([`Stale`](EditError::Stale)).
    pub fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        self.editor().set_method(method)
    }

    /// Sends the request to another host: target, `Host`, the connection, and the server name and verification of TLS
    /// all follow. [`set_upstream`](Self::set_upstream) in contrast changes the connection alone. The scheme stays,
    /// also inside an intercepted tunnel; there the request no longer goes to the tunnel's upstream. Later hooks and
    /// plugins see the new host, and a redirect by an earlier `set_upstream` is dropped.
    ///
    /// # Errors
    /// When the proxy refuses, nothing is changed: `host` is no host ([`BadName`](EditError::BadName), see
    /// [`canonical_host`](crate::canonical_host)), the port is 0 ([`BadValue`](EditError::BadValue)), this is a
    /// CONNECT, or the request hooks are over ([`Stale`](EditError::Stale)).
    pub fn set_host(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        self.editor().set_host(host, port)
    }

    /// Connects somewhere else; target and Host of the request stay as they are, unless it goes to a parent proxy in
    /// clear, which goes by what it is told to fetch.
    ///
    /// # Errors
    /// When the proxy refuses: `host` is neither a name nor an address, or it is too late.
    pub fn set_upstream(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        self.editor().set_upstream(host, port)
    }

    /// Speaks `https` (TLS, verified against the upstream's name) or `http` to the upstream.
    ///
    /// # Errors
    /// When the proxy refuses: another scheme, a tunnel, or it is too late.
    pub fn set_upstream_scheme(&mut self, scheme: &str) -> Result<(), EditError> {
        self.editor().set_upstream_scheme(scheme)
    }

    /// Goes through a parent proxy: `http://host:3128`, `https://user:password@host`, `socks5://host:1080`. An empty
    /// text means none. A parent that turns out to be this proxy itself is not asked: the exchange is answered 508,
    /// and the plugin named in the log.
    ///
    /// # Errors
    /// When the proxy refuses: it is no such URL, or it is too late.
    pub fn set_parent(&mut self, url: &str) -> Result<(), EditError> {
        self.editor().set_parent(url)
    }

    /// Says where the upstream's name leads. Counts for one connection.
    ///
    /// # Errors
    /// When the proxy refuses: this is another hook than `resolve_dns`.
    pub fn set_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), EditError> {
        addresses
            .into_iter()
            .try_for_each(|ip| self.editor().add_address(&raw_address(ip)))
    }

    /// Says which of this machine's addresses to connect from.
    ///
    /// # Errors
    /// When the proxy refuses: this is another hook than `resolve_dns`.
    pub fn set_source_address(&mut self, ip: IpAddr) -> Result<(), EditError> {
        self.editor().set_source_address(&raw_address(ip))
    }

    /// The name that the client has authenticated with; none if nobody asked.
    pub fn user(&self) -> Option<&str> {
        Some(self.view().user.as_str()).filter(|user| !user.is_empty())
    }

    /// Names the user, for every later hook of any plugin.
    ///
    /// # Errors
    /// When the proxy refuses: control characters, or another hook than `authenticate`.
    pub fn set_user(&mut self, name: &str) -> Result<(), EditError> {
        self.editor().set_user(name)
    }

    /// How this plugin wants the body of this request, in place of [`Filter::CLIENT_BODY`].
    ///
    /// # Errors
    /// When it is too late: the request hooks are over.
    pub fn set_client_body(&mut self, mode: BodyMode) -> Result<(), EditError> {
        self.editor().set_body_mode(direction::CLIENT, &mode.0)
    }

    /// How this plugin wants the body of the response, in place of [`Filter::UPSTREAM_BODY`].
    ///
    /// # Errors
    /// When it is too late: the response's hook is over.
    pub fn set_upstream_body(&mut self, mode: BodyMode) -> Result<(), EditError> {
        self.editor().set_body_mode(direction::UPSTREAM, &mode.0)
    }

    /// The whole content, in the body hooks; else empty. After a plugin before this one has replaced it, that.
    pub fn body(&self) -> &[u8] {
        self.view().body.as_slice()
    }

    /// Replaces the whole content.
    ///
    /// # Errors
    /// When this is another hook than the body hooks.
    pub fn set_body(&mut self, content: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor().set_body(content.as_ref())
    }

    /// The trailer section that is passing, in the trailer hooks; else empty.
    pub fn trailers(&self) -> Trailers<'_> {
        let view = self.view();
        Trailers {
            first: view.trailers,
            count: view.trailer_count,
            _view: PhantomData,
        }
    }

    /// The way to edit the trailers.
    pub fn trailers_mut(&mut self) -> TrailersMut<'_> {
        TrailersMut {
            editor: self.editor(),
        }
    }

    /// Why there is no upstream, in `on_upstream_failed`; else empty.
    pub fn failure(&self) -> &str {
        self.view().failure.as_str()
    }

    /// What the client said first inside of its tunnel: there from `handle_tls_hello` to the end of the CONNECT's exchange,
    /// if it has spoken TLS.
    pub fn tls_hello(&self) -> Option<TlsHello<'_>> {
        // SAFETY: null or valid until the hook returns.
        unsafe { self.view().tls_hello.as_ref() }.map(|view| TlsHello { view })
    }

    /// Sends a WebSocket message of this plugin's own, from `handle_websocket_message`: any number of them, to either
    /// side. They go out in this order, before the message that the hook is about, whatever becomes of that; no plugin
    /// is shown them. A [Close](MessageKind::Close) is the last that its side gets: what would follow it is
    /// left out.
    ///
    /// # Errors
    /// When the proxy refuses: a text that is not UTF-8, a Ping, Pong or Close beyond 125 bytes, a Close without a code
    /// that may be sent, or this is another hook.
    pub fn send_message(
        &mut self,
        to: Direction,
        kind: MessageKind,
        data: impl AsRef<[u8]>,
    ) -> Result<(), EditError> {
        let to = match to {
            Direction::Client => direction::CLIENT,
            Direction::Upstream => direction::UPSTREAM,
        };
        self.editor()
            .send_message(to, kind.number().into(), data.as_ref())
    }

    /// Adds `key=value` to this exchange's line in the access log. A key that is not a plain word is left out.
    pub fn add_log_field(&mut self, key: &str, value: impl AsRef<str>) {
        // A log line is no reason to fail an exchange.
        let _ = self.editor().add_log_field(key, value.as_ref());
    }

    pub(crate) fn editor(&mut self) -> Editor<'_> {
        let (host, callbacks) = (self.view().host, self.view().callbacks);
        // SAFETY: the handle is valid for as long as the view is.
        unsafe { Editor::new(host, callbacks) }
    }

    fn view(&self) -> &ExchangeView {
        // SAFETY: valid for `'a`; the host writes to it only during calls that need `&mut self`.
        unsafe { self.view.as_ref() }
    }
}

/// The first message of a client that speaks TLS.
#[derive(Clone, Copy)]
pub struct TlsHello<'x> {
    view: &'x TlsHelloView,
}

impl<'x> TlsHello<'x> {
    /// The server name it asks for (SNI); none if it says none.
    pub fn server_name(&self) -> Option<&'x str> {
        Some(self.view.server_name.as_str()).filter(|name| !name.is_empty())
    }

    /// The protocols it offers (ALPN), in its order.
    pub fn protocols(&self) -> impl Iterator<Item = &'x str> + use<'x> {
        let protocols = self.view.protocols.as_str().split(',');
        protocols.filter(|protocol| !protocol.is_empty())
    }
}

/// Where an exchange is going: what the connection is, or will be, made to.
#[derive(Clone, Copy)]
pub struct Upstream<'x> {
    view: &'x ExchangeView,
}

impl<'x> Upstream<'x> {
    /// The host, in its canonical form: see [`canonical_host`](crate::canonical_host).
    pub fn host(&self) -> &'x str {
        self.view.upstream_host.as_str()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.view.upstream_port as u16
    }

    /// Whether the upstream is known to be the host that the request is for. It is, if the connection is made by
    /// that name (an absolute URL, a tunnel to the name), or if TLS with the upstream is verified for it. It is not
    /// inside a tunnel to an address, or to a host of `allow_fronting`, where the request is in clear or `insecure_hosts`
    /// waives the verification: there the name is no more than what the client says. Nor is it where a plugin has sent the exchange to another host:
    /// see [`is_redirected`](Self::is_redirected).
    pub fn is_proven(&self) -> bool {
        holds(self.view, fact::HOST_PROVEN)
    }

    /// Whether a plugin has sent the exchange to another host than the request is for, by
    /// [`set_upstream`](Exchange::set_upstream). That is the operator's decision and no claim of the client.
    pub fn is_redirected(&self) -> bool {
        holds(self.view, fact::REDIRECTED)
    }

    /// `http` or `https`; empty for a tunnel.
    pub fn scheme(&self) -> &'x str {
        self.view.upstream_scheme.as_str()
    }
}

fn holds(view: &ExchangeView, fact: u32) -> bool {
    // SAFETY: the handle is valid for as long as the view is, and this callback changes nothing.
    unsafe { Editor::new(view.host, view.callbacks) }.holds(fact)
}

fn raw_address(ip: IpAddr) -> Address {
    let (octets, family) = match ip {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), 4),
        IpAddr::V6(ip) => (ip.octets(), 6),
    };
    Address {
        ip: octets,
        port: 0,
        family,
        reserved: 0,
    }
}

pub(crate) fn socket_address(address: &Address) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(address.ip);
    match address.family {
        4 => Some(SocketAddr::new(
            IpAddr::V4(ip.to_ipv4_mapped()?),
            address.port,
        )),
        6 => Some(SocketAddr::new(IpAddr::V6(ip), address.port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, socket_address};
    use std::net::Ipv4Addr;

    #[test]
    fn tells_the_client_address_in_the_family_it_connected_with() {
        let ip = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        let address = |family| Address {
            ip,
            port: 80,
            family,
            reserved: 0,
        };
        let text = |family| socket_address(&address(family)).map(|address| address.to_string());
        assert_eq!(text(4).as_deref(), Some("192.0.2.7:80"));
        assert_eq!(text(6).as_deref(), Some("[::ffff:192.0.2.7]:80"));
        assert_eq!(text(0), None);
    }
}
