//! Which hosts are short links, and their destinations.

use plugin_api::Error;
use std::collections::HashMap;

/// Destinations by short name.
pub(crate) struct ShortLinks {
    destinations: HashMap<String, String>,
}

impl ShortLinks {
    /// Links by name; a destination is a host, or what follows `http://`.
    ///
    /// # Errors
    /// An invalid short name, or a destination that is invalid in a URL.
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

    /// The destination of `host`, which is in lower case.
    pub(crate) fn destination(&self, host: &str) -> Option<&str> {
        self.destinations.get(host).map(String::as_str)
    }
}

/// Whether `host` is a single word: not a name with a dot, an IPv6 address, or this machine.
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
