//! An exchange as a hook sees it: the only parameter besides `self`, so that later versions can add to it without
//! changing signatures.
//!
//! References to the exchange cannot outlive the hook; data to keep goes into the state.
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
    /// The state of this filter for this exchange; created by `Default` before the first hook, dropped after the last.
    pub state: &'a mut F::State,
    /// The state of this filter for the client connection.
    pub connection: &'a F::Connection,
    // Not a reference: the host writes to the view during callbacks.
    view: NonNull<ExchangeView>,
    _lent: PhantomData<&'a mut ExchangeView>,
}

impl<'a, F: Filter> Exchange<'a, F> {
    /// # Safety
    /// `view` and everything it points to must be valid for `'a`, and changed only by the view's own callbacks.
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

    /// The id of the client connection, counted from 1 since the proxy started, over all workers.
    pub fn connection_id(&self) -> u64 {
        self.view().connection_id
    }

    /// The id of the exchange, counted from 1 since the proxy started, over all workers.
    pub fn exchange_id(&self) -> u64 {
        self.view().exchange_id
    }

    /// The address of the client; none if it has no IP address, as on a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view().client)
    }

    /// The local address that the client connected to; none if unknown.
    pub fn local_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().local)
    }

    /// The remote address of the upstream connection, from `on_upstream_connected` on: the origin, or the parent proxy.
    /// None if there is no connection yet, and for shared HTTP/2 connections.
    pub fn upstream_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().upstream_address)
    }

    /// The local address of the upstream connection, if [`upstream_address`](Self::upstream_address) is known.
    pub fn upstream_local_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view().upstream_local)
    }

    /// The TLS session of the client with the proxy: of the listener, or of the intercepted tunnel. None without TLS.
    pub fn client_tls(&self) -> Option<ClientTls<'_>> {
        // SAFETY: null or valid until the hook returns.
        unsafe { self.view().client_tls.as_ref() }.map(ClientTls::new)
    }

    /// The summary of the exchange, in `on_access_log` and `on_upstream_connection_close`; none before.
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

    /// Access for editing the request.
    pub fn request_mut(&mut self) -> RequestMut<'_> {
        RequestMut {
            editor: self.editor(),
        }
    }

    /// The final response; none before it has arrived. At the end of the exchange, in `on_access_log` and
    /// `on_upstream_connection_close`, it is the response that was sent to the client: that of the upstream, a reply of
    /// a plugin, or an error response of the proxy.
    pub fn response(&self) -> Option<Response<'_>> {
        // SAFETY: null or valid until the next edit, which needs `&mut self`.
        unsafe { self.view().response.as_ref() }.map(|view| Response { view })
    }

    /// Access for editing the response. Before it has arrived, every edit fails as stale.
    pub fn response_mut(&mut self) -> ResponseMut<'_> {
        ResponseMut {
            editor: self.editor(),
        }
    }

    /// The destination of the exchange. It differs from the host of the request if a plugin has redirected it, and
    /// inside an intercepted tunnel to an address, whose requests may name any host, or to a host of `allow_fronting`.
    /// See [`Upstream::is_proven`].
    pub fn upstream(&self) -> Upstream<'_> {
        Upstream { view: self.view() }
    }

    /// The hosts that rules about hosts apply to: the requested host, and the host that is connected to, if it differs.
    /// A deny rule applies if `any` of them matches, an allow rule only if `all` of them match. Both are in their
    /// canonical form: see [`canonical_host`](crate::canonical_host).
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

    /// The proven host of the upstream: the host of the request if [`Upstream::is_proven`], otherwise the host that is
    /// connected to. Use it for secrets, and for anything that is stored or counted by host.
    pub fn proven_host(&self) -> &str {
        match self.upstream().is_proven() {
            true => self.request().host(),
            false => self.upstream().host(),
        }
    }

    /// Whether the [server name](TlsHello::server_name) of a client inside its tunnel is proven: the tunnel is to that
    /// name, or the verified certificate of the upstream is for it. Known in `do_intercept`; `false` in other hooks,
    /// and without interception.
    pub fn is_server_name_proven(&self) -> bool {
        holds(self.view(), fact::SERVER_NAME_PROVEN)
    }

    /// Sends the request to the upstream with another method. The response still matches the method of the client: for
    /// HEAD it has no content; for any other method it has a length, which is 0 if HEAD was sent to the upstream. The
    /// content of the request is unchanged.
    ///
    /// # Errors
    /// The proxy rejects the edit, and nothing is changed: the method is not a token, or TRACE for a request with
    /// content ([`BadValue`](EditError::BadValue)); it is or was CONNECT, or the request hooks are over
    /// ([`Stale`](EditError::Stale)).
    pub fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        self.editor().set_method(method)
    }

    /// Sends the request to another host: this changes target, `Host`, the connection, and the server name and
    /// verification of TLS. In contrast, [`set_upstream`](Self::set_upstream) changes only the connection. The scheme
    /// is unchanged, also inside an intercepted tunnel; there the request is no longer sent to the upstream of the
    /// tunnel. Later hooks and plugins see the new host, and a redirect by an earlier `set_upstream` is dropped.
    ///
    /// # Errors
    /// The proxy rejects the edit, and nothing is changed: `host` is not a valid host ([`BadName`](EditError::BadName),
    /// see [`canonical_host`](crate::canonical_host)), the port is 0 ([`BadValue`](EditError::BadValue)), this is a
    /// CONNECT, or the request hooks are over ([`Stale`](EditError::Stale)).
    pub fn set_host(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        self.editor().set_host(host, port)
    }

    /// Connects to another host; target and Host of the request are unchanged, except for plain HTTP requests to a
    /// parent proxy, which connects to the host in the target.
    ///
    /// # Errors
    /// The proxy rejects the edit: `host` is neither a name nor an address, or it is too late.
    pub fn set_upstream(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        self.editor().set_upstream(host, port)
    }

    /// Uses `https` (TLS, verified for the name of the upstream) or `http` to the upstream.
    ///
    /// # Errors
    /// The proxy rejects the edit: another scheme, a tunnel, or it is too late.
    pub fn set_upstream_scheme(&mut self, scheme: &str) -> Result<(), EditError> {
        self.editor().set_upstream_scheme(scheme)
    }

    /// Uses a parent proxy: `http://host:3128`, `https://user:password@host`, `socks5://host:1080`. An empty text means
    /// none. If the parent is this proxy itself, the exchange is answered with 508, and the log names the plugin.
    ///
    /// # Errors
    /// The proxy rejects the edit: it is not such a URL, or it is too late.
    pub fn set_parent(&mut self, url: &str) -> Result<(), EditError> {
        self.editor().set_parent(url)
    }

    /// Sets the addresses of the upstream, for one connection.
    ///
    /// # Errors
    /// The proxy rejects the edit in other hooks than `resolve_dns`.
    pub fn set_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), EditError> {
        addresses
            .into_iter()
            .try_for_each(|ip| self.editor().add_address(&raw_address(ip)))
    }

    /// Sets the local address to connect from.
    ///
    /// # Errors
    /// The proxy rejects the edit in other hooks than `resolve_dns`.
    pub fn set_source_address(&mut self, ip: IpAddr) -> Result<(), EditError> {
        self.editor().set_source_address(&raw_address(ip))
    }

    /// The user name that the client authenticated with; none without authentication.
    pub fn user(&self) -> Option<&str> {
        Some(self.view().user.as_str()).filter(|user| !user.is_empty())
    }

    /// Sets the user name, for every later hook of all plugins.
    ///
    /// # Errors
    /// The proxy rejects the edit: control characters, or another hook than `authenticate`.
    pub fn set_user(&mut self, name: &str) -> Result<(), EditError> {
        self.editor().set_user(name)
    }

    /// Sets the body mode of this plugin for this request, instead of [`Filter::CLIENT_BODY`].
    ///
    /// # Errors
    /// It is too late: the request hooks have ended.
    pub fn set_client_body(&mut self, mode: BodyMode) -> Result<(), EditError> {
        self.editor().set_body_mode(direction::CLIENT, &mode.0)
    }

    /// Sets the body mode of this plugin for the response, instead of [`Filter::UPSTREAM_BODY`].
    ///
    /// # Errors
    /// It is too late: the response hook has ended.
    pub fn set_upstream_body(&mut self, mode: BodyMode) -> Result<(), EditError> {
        self.editor().set_body_mode(direction::UPSTREAM, &mode.0)
    }

    /// The whole content, in the body hooks, including changes by earlier plugins; otherwise empty.
    pub fn body(&self) -> &[u8] {
        self.view().body.as_slice()
    }

    /// Replaces the whole content.
    ///
    /// # Errors
    /// This is not a body hook.
    pub fn set_body(&mut self, content: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor().set_body(content.as_ref())
    }

    /// The trailer section, in the trailer hooks; otherwise empty.
    pub fn trailers(&self) -> Trailers<'_> {
        let view = self.view();
        Trailers {
            first: view.trailers,
            count: view.trailer_count,
            _view: PhantomData,
        }
    }

    /// Access for editing the trailers.
    pub fn trailers_mut(&mut self) -> TrailersMut<'_> {
        TrailersMut {
            editor: self.editor(),
        }
    }

    /// Why connecting failed, in `on_upstream_failed`; otherwise empty.
    pub fn failure(&self) -> &str {
        self.view().failure.as_str()
    }

    /// The ClientHello inside the tunnel: available from `handle_tls_hello` to the end of the exchange of the CONNECT,
    /// if the client speaks TLS.
    pub fn tls_hello(&self) -> Option<TlsHello<'_>> {
        // SAFETY: null or valid until the hook returns.
        unsafe { self.view().tls_hello.as_ref() }.map(|view| TlsHello { view })
    }

    /// Sends a WebSocket message of this plugin, from `handle_websocket_message`: any number of messages, to either
    /// side. They are sent in this order, before the message of the hook; plugins do not see them. After a
    /// [Close](MessageKind::Close), its side gets no further messages.
    ///
    /// # Errors
    /// The proxy rejects the message: a text that is not UTF-8, a Ping, Pong or Close of more than 125 bytes, a Close
    /// without a valid code, or another hook.
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

    /// Adds `key=value` to the access log line of this exchange. A key that is not a plain word is ignored.
    pub fn add_log_field(&mut self, key: &str, value: impl AsRef<str>) {
        // A log field is not worth failing an exchange.
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

/// The ClientHello of a client that speaks TLS.
#[derive(Clone, Copy)]
pub struct TlsHello<'x> {
    view: &'x TlsHelloView,
}

impl<'x> TlsHello<'x> {
    /// The requested server name (SNI); none if there is none.
    pub fn server_name(&self) -> Option<&'x str> {
        Some(self.view.server_name.as_str()).filter(|name| !name.is_empty())
    }

    /// The offered protocols (ALPN), in the order of the client.
    pub fn protocols(&self) -> impl Iterator<Item = &'x str> + use<'x> {
        let protocols = self.view.protocols.as_str().split(',');
        protocols.filter(|protocol| !protocol.is_empty())
    }
}

/// The destination of an exchange: the host that is, or will be, connected to.
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

    /// Whether the upstream is proven to be the requested host. It is if the connection is made to that name (an
    /// absolute URL, a tunnel to the name), or if TLS with the upstream is verified for it. It is not inside a tunnel
    /// to an address, or to a host of `allow_fronting`, if the request is sent over plain HTTP or `insecure_hosts`
    /// disables the verification: then the name is only a claim of the client. It is not either if a plugin has
    /// redirected the exchange to another host: see [`is_redirected`](Self::is_redirected).
    pub fn is_proven(&self) -> bool {
        holds(self.view, fact::HOST_PROVEN)
    }

    /// Whether a plugin has redirected the exchange to another host than the requested one, by
    /// [`set_upstream`](Exchange::set_upstream). This is a decision of the operator, not a claim of the client.
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
    fn the_client_address_keeps_its_family() {
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
