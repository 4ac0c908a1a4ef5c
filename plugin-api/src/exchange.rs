//! One exchange as a hook sees it: the only parameter besides `self`, so that a later version can add to it
//! without changing a signature.
//!
//! Nothing of the exchange can be kept beyond the hook; what shall be kept goes into the state.
#![expect(unsafe_code, reason = "reads the host's view of the exchange")]

use crate::abi::{Address, ExchangeView};
use crate::message::Editor;
use crate::{EditError, Filter, Request, RequestMut, Response, ResponseMut};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;

/// A request on its way through the proxy, with its response once that has arrived.
pub struct Exchange<'a, F: Filter> {
    /// What this filter keeps for this exchange; made by `Default` before the first hook, dropped after the last.
    pub state: &'a mut F::State,
    // Not a reference: the host writes to the view during callbacks.
    view: NonNull<ExchangeView>,
    _lent: PhantomData<&'a mut ExchangeView>,
}

impl<'a, F: Filter> Exchange<'a, F> {
    /// # Safety
    /// `view` and all it points to must be valid for `'a`, and be changed by nobody but the view's own callbacks.
    pub(crate) unsafe fn new(view: NonNull<ExchangeView>, state: &'a mut F::State) -> Self {
        Self {
            state,
            view,
            _lent: PhantomData,
        }
    }

    /// Counts client connections since the proxy started; the same for all exchanges of one.
    pub fn connection_id(&self) -> u64 {
        self.view().connection_id
    }

    /// Counts exchanges since the proxy started.
    pub fn exchange_id(&self) -> u64 {
        self.view().exchange_id
    }

    /// Who sent the request; none when it did not come from an IP address.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view().client)
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

    /// The final response; none before it has arrived.
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

    /// Where the exchange is going: the request's target, unless a plugin changed it.
    pub fn upstream(&self) -> Upstream<'_> {
        Upstream { view: self.view() }
    }

    /// Connects somewhere else; target and Host of the request stay as they are.
    ///
    /// # Errors
    /// When the proxy refuses: `host` is neither a name nor an address, or it is too late.
    pub fn set_upstream(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        self.editor().set_upstream(host, port)
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

/// Where an exchange is going.
#[derive(Clone, Copy)]
pub struct Upstream<'x> {
    view: &'x ExchangeView,
}

impl<'x> Upstream<'x> {
    /// The host: lower case, IPv6 without brackets.
    pub fn host(&self) -> &'x str {
        self.view.upstream_host.as_str()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.view.upstream_port as u16
    }
}

fn socket_address(address: &Address) -> Option<SocketAddr> {
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
