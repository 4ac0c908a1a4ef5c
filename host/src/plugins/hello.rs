//! The ClientHello in a tunnel, for plugins that decide about its interception.

use abi_stable::std_types::RStr;
use plugin_api::abi::{TlsHelloView, code};

use super::session::report;
use super::{Hook, Session, views};
use crate::error::PluginFailure;
use crate::http1::RequestHead;

/// A ClientHello as plugins see it. Stays where it is for as long as it is shown.
#[derive(Debug)]
pub(crate) struct ShownHello {
    server_name: String,
    protocols: String,
}

impl ShownHello {
    /// `protocols` are the names offered with ALPN; such that are no text are shown with replacement characters.
    pub(crate) fn new<'a>(
        server_name: Option<&str>,
        protocols: impl Iterator<Item = &'a [u8]>,
    ) -> Box<Self> {
        let protocols: Vec<_> = protocols.map(String::from_utf8_lossy).collect();
        Box::new(Self {
            server_name: server_name.unwrap_or_default().to_owned(),
            protocols: protocols.join(","),
        })
    }

    pub(super) fn view(&self) -> TlsHelloView {
        TlsHelloView {
            server_name: views::text(self.server_name.as_bytes()),
            protocols: views::text(self.protocols.as_bytes()),
            reserved: [0; 4],
        }
    }
}

/// No hello.
pub(super) const NO_HELLO: TlsHelloView = TlsHelloView {
    server_name: RStr::from_str(""),
    protocols: RStr::from_str(""),
    reserved: [0; 4],
};

impl Session {
    /// Shows plugins what the client has said, from now to the end of the exchange.
    pub(crate) fn show_hello(&self, hello: Box<ShownHello>) {
        self.with(|inner| inner.show_hello(hello));
    }

    /// Whether plugins want the TLS of this tunnel to be ended here; `None` when none of them has an opinion.
    ///
    /// # Errors
    /// A plugin that was asked could not say.
    pub(crate) fn ask_about_interception(
        &self,
        request: &RequestHead,
    ) -> Result<Option<bool>, PluginFailure> {
        let hook = Hook::DoIntercept;
        if !self.has_listeners(hook) {
            return Ok(None);
        }
        self.with(|inner| inner.show(request, None));
        match self.call_from(0, hook) {
            None => Ok(None),
            Some((_, code::INTERCEPT)) => Ok(Some(true)),
            Some((_, code::TUNNEL)) => Ok(Some(false)),
            Some((position, result)) => {
                let failure = self.failure(self.listeners(hook)[position], hook, result);
                report(&failure);
                Err(failure)
            }
        }
    }
}
