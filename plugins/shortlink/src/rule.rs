//! Which hosts are short links, and where they lead.

use plugin_api::Error;
use std::collections::HashMap;

/// Destinations by short name.
pub(crate) struct ShortLinks {
    destinations: HashMap<String, String>,
}

impl ShortLinks {
    /// Links from name to destination, which is a host or the beginning of what follows `http://`.
    ///
    /// # Errors
    /// A name that no short host can equal, a destination that cannot stand in a URL.
    pub(crate) fn new(links: HashMap<String, String>) -> Result<Self, Error> {
        for (name, destination) in &links {
            if !is_short(name) {
                return Err(Error::new(format!("links: `{name}` is not a single word")));
            }
            if destination.is_empty() || !destination.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Error::new(format!("links: `{destination}` is not a host")));
            }
        }
        let lower = links
            .into_iter()
            .map(|(name, to)| (name.to_ascii_lowercase(), to));
        Ok(Self {
            destinations: lower.collect(),
        })
    }

    /// Where `host` leads. The proxy gives hosts in lower case.
    pub(crate) fn destination(&self, host: &str) -> Option<&str> {
        self.destinations.get(host).map(String::as_str)
    }
}

/// Whether `host` is a single word: neither a name with a dot nor an IPv6 address, nor this machine.
pub(crate) fn is_short(host: &str) -> bool {
    !host.is_empty()
        && !host.contains(['.', ':', '/', ' '])
        && !host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::{ShortLinks, is_short};
    use std::collections::HashMap;

    #[test]
    fn a_short_host_is_a_single_word() {
        for (host, expected) in [
            ("g", true),
            ("proxy", true),
            ("localhost", false),
            ("a.b", false),
            ("::1", false),
            ("", false),
        ] {
            assert_eq!(is_short(host), expected, "{host}");
        }
    }

    #[test]
    fn finds_names_written_in_any_case() {
        let links = HashMap::from([("Wiki".to_owned(), "wiki.example/start".to_owned())]);
        let links = ShortLinks::new(links).unwrap();
        assert_eq!(links.destination("wiki"), Some("wiki.example/start"));
        assert_eq!(links.destination("w"), None);
    }
}
