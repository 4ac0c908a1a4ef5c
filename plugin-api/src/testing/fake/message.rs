//! The messages of an exchange, owned.

use crate::Authority;
use std::borrow::Cow;

pub(crate) type Fields = Vec<(String, Vec<u8>)>;

pub(crate) struct FakeRequest {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) fields: Fields,
}

impl FakeRequest {
    pub(crate) fn new(method: &str, url: &str) -> Self {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if method == "CONNECT" => ("", url),
            None => ("http", url),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // An authority that the proxy would refuse is used unchanged.
        let (host, port) = match Authority::parse(authority) {
            Ok(Authority { host, port }) => (host.into_owned(), port),
            Err(_) => (authority.to_ascii_lowercase(), None),
        };
        let path = match path {
            "" if method == "CONNECT" => String::new(),
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Self {
            method: method.to_owned(),
            target: url.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host,
            port: port.unwrap_or(if scheme == "http" { 80 } else { 443 }),
            path,
            fields: vec![("Host".to_owned(), authority.as_bytes().to_vec())],
        }
    }
}

impl FakeRequest {
    pub(super) fn readdress(&mut self, host: &str, port: u16) {
        let is_default = matches!((self.scheme.as_str(), port), ("http", 80) | ("https", 443));
        let host_field = Authority {
            host: Cow::Borrowed(host),
            port: Some(port).filter(|_| !is_default),
        };
        self.fields
            .retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        self.fields
            .insert(0, ("Host".to_owned(), host_field.to_string().into_bytes()));
        (self.host, self.port) = (host.to_owned(), port);
    }
}

pub(crate) struct FakeResponse {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Fields,
}

impl FakeResponse {
    pub(crate) fn new(status: u16, fields: &[(&str, &str)]) -> Self {
        let owned = |field: &(&str, &str)| (field.0.to_owned(), field.1.as_bytes().to_vec());
        Self {
            status,
            reason: String::new(),
            fields: fields.iter().map(owned).collect(),
        }
    }
}

/// The first field of this name, if it is text.
pub(crate) fn find<'x>(fields: &'x Fields, name: &str) -> Option<&'x str> {
    let (_, value) = fields
        .iter()
        .find(|field| field.0.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}
