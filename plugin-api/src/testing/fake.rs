//! An exchange without a proxy: the views that a hook reads, and the callbacks by which it edits.
//!
//! Owns all data, and rebuilds the views after each edit. Refuses what the proxy refuses: invalid names and values,
//! fields that belong to the proxy, and edits in the wrong hook.

mod callbacks;
mod message;
mod views;

use crate::abi::hook::{Hook, Permission};
use crate::abi::{answered, fact, head};
use crate::{Direction, MessageKind, Reply, canonical_host};
use core::ffi::c_void;
use message::Fields;
pub(super) use message::{FakeRequest, FakeResponse, find};
use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::time::Duration;
use views::Views;
pub(super) use views::address;

/// The host's data of an exchange. Hooks access it only by pointer.
pub(super) struct Fake {
    pub(super) request: FakeRequest,
    pub(super) response: Option<FakeResponse>,
    pub(super) upstream: (String, u16),
    pub(super) upstream_scheme: String,
    /// The address that the client's tunnel leads to, if there is one.
    pub(super) tunnel: Option<String>,
    /// The certificate of the upstream was verified for the name that the client claims.
    pub(super) is_certified: bool,
    pub(super) parent: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) user: String,
    pub(super) body: Vec<u8>,
    pub(super) body_modes: [Option<crate::BodyMode>; 2],
    pub(super) failure_reason: String,
    pub(super) tls_hello: Option<(String, String)>,
    pub(super) connection_state: *mut c_void,
    pub(super) reply: Option<Reply>,
    pub(super) emitted: Option<Vec<u8>>,
    pub(super) sent: Vec<(Direction, MessageKind, Vec<u8>)>,
    pub(super) log_fields: Vec<(String, String)>,
    pub(super) failure: Option<String>,
    pub(super) local: Option<SocketAddr>,
    pub(super) upstream_address: Option<SocketAddr>,
    /// Server name and protocol.
    pub(super) client_tls: Option<(String, String)>,
    pub(super) summary: Option<FakeSummary>,
    client: SocketAddr,
    running: Option<Hook>,
    views: Option<Views>,
}

/// The outcome of the exchange.
#[derive(Clone)]
pub(super) struct FakeSummary {
    pub(super) status: Option<u16>,
    pub(super) answered_by: u32,
    pub(super) answerer: String,
    pub(super) from_client: u64,
    pub(super) to_client: u64,
    pub(super) elapsed: Duration,
}

impl Default for FakeSummary {
    fn default() -> Self {
        Self {
            status: None,
            answered_by: answered::NOBODY,
            answerer: String::new(),
            from_client: 0,
            to_client: 0,
            elapsed: Duration::ZERO,
        }
    }
}

impl Fake {
    pub(super) fn new(request: FakeRequest, client: SocketAddr) -> Self {
        Self {
            upstream: (request.host.clone(), request.port),
            upstream_scheme: request.scheme.clone(),
            tunnel: None,
            is_certified: false,
            parent: None,
            addresses: Vec::new(),
            source: None,
            user: String::new(),
            body: Vec::new(),
            body_modes: [None; 2],
            failure_reason: String::new(),
            tls_hello: None,
            connection_state: ptr::null_mut(),
            request,
            response: None,
            reply: None,
            emitted: None,
            sent: Vec::new(),
            log_fields: Vec::new(),
            failure: None,
            local: None,
            upstream_address: None,
            client_tls: None,
            summary: None,
            client,
            running: None,
            views: None,
        }
    }

    /// Whether the running hook has this permission.
    fn may(&self, permission: Permission) -> bool {
        self.running.is_some_and(|hook| hook.may(permission))
    }

    /// Whether the [`fact`] holds.
    fn holds(&self, which: u32) -> bool {
        let host = self.request.host.as_str();
        let is_in_tunnel = self.tunnel.as_ref() == Some(&self.upstream.0);
        match which {
            fact::HOST_PROVEN => {
                let is_verified = self.is_certified && self.upstream_scheme == "https";
                self.upstream.0 == host || is_verified && is_in_tunnel
            }
            fact::SERVER_NAME_PROVEN => self.tls_hello.as_ref().is_some_and(|(server_name, _)| {
                self.is_certified || canonical_host(server_name).is_ok_and(|name| name == host)
            }),
            fact::REDIRECTED => self.upstream.0 != host && !is_in_tunnel,
            _ => false,
        }
    }

    fn fields(&mut self, which: u32) -> Option<&mut Fields> {
        match which {
            head::REQUEST if self.may(Permission::EditRequest) => Some(&mut self.request.fields),
            head::RESPONSE if self.may(Permission::EditResponse) => {
                self.response.as_mut().map(|response| &mut response.fields)
            }
            _ => None,
        }
    }
}
