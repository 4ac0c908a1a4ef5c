//! Sets, appends and removes header fields of requests.
//!
//! ```toml
//! [[plugins]]
//! library = "libmodify_request_header.so"
//! name = "ModifyRequestHeader"
//! config = { set = { x-proxy-version = "1.0.0" }, append = {}, remove = [] }   # the default
//! ```
//!
//! ```text
//! > GET http://example.com/ HTTP/1.1       example.com gets: GET / HTTP/1.1
//! > Host: example.com                                        Host: example.com
//!                                                            x-proxy-version: 1.0.0
//! ```
//!
//! The fields are changed after all plugins have accepted the request. Requests inside a tunnel (CONNECT) are changed
//! only if the proxy intercepts it; the fields of a CONNECT request are not forwarded.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::{Change, changes};

struct ModifyRequestHeader {
    changes: Vec<Change>,
}

#[filter]
impl Filter for ModifyRequestHeader {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let changes = changes(config)?;
        Ok(Self { changes })
    }

    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let mut request = exchange.request_mut();
        for change in &self.changes {
            match change {
                Change::Remove(name) => request.remove(name)?,
                Change::Set(name, value) => request.set(name, value)?,
                Change::Append(name, value) => request.append(name, value)?,
            }
        }
        proceed()
    }
}

export_plugins!(ModifyRequestHeader);

#[cfg(test)]
mod tests {
    use super::ModifyRequestHeader;
    use plugin_api::testing::{configured, get};

    #[test]
    fn adds_its_version_by_default() {
        let filter: ModifyRequestHeader = configured("").unwrap();
        let run = get("http://a.example/")
            .field("X-Proxy-Version", "forged")
            .run(&filter);
        let version = run.request_field("x-proxy-version");
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn changes_configured_fields_only() {
        let filter: ModifyRequestHeader = configured(
            "set = { x-a = 'new' }\nappend = { x-b = 'two' }\nremove = ['cookie', 'X-Absent']",
        )
        .unwrap();
        let run = get("http://a.example/")
            .field("X-A", "old")
            .field("X-B", "one")
            .field("Cookie", "c=1")
            .field("Accept", "*/*")
            .run(&filter);
        let field = |name| run.request_field(name);
        assert_eq!((field("x-a"), field("x-b")), (Some("new"), Some("one")));
        assert_eq!((field("cookie"), field("accept")), (None, Some("*/*")));
        assert_eq!(field("x-proxy-version"), None);
        assert_eq!(field("host"), Some("a.example"));
    }

    #[test]
    fn refuses_framing_fields_at_the_start() {
        let refused = configured::<ModifyRequestHeader>("set = { Content-Length = '5' }").err();
        let reason = "set: `Content-Length` is set by the proxy itself";
        assert_eq!(refused.unwrap().message(), reason);
        let misspelt = configured::<ModifyRequestHeader>("add = {}").err().unwrap();
        let reason = "unknown field `add`, expected one of `set`, `append`, `remove`";
        assert_eq!(misspelt.message(), reason);
    }
}
