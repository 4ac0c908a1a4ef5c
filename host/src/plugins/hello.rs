//! The ClientHello in a tunnel, as plugins see it.

use abi_stable::std_types::RStr;
use plugin_api::abi::TlsHelloView;

use super::views;

/// A ClientHello as plugins see it. Stays where it is for as long as it is shown.
#[derive(Debug)]
pub(crate) struct ShownHello {
    server_name: String,
    protocols: String,
}

impl ShownHello {
    /// `protocols` are the names offered by ALPN. Bytes that are not UTF-8 become replacement characters.
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
