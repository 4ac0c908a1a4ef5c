//! The server that requests go to.

use plugin_api::{Error, canonical_host};

/// A host with a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Name or address, in its canonical form.
    pub(crate) host: String,
    /// Not 0.
    pub(crate) port: u16,
}

impl Server {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// Anything else, such as a URL or a host alone.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let port = decimal(port).filter(|port| *port != 0)?;
            Some(Self {
                host: host_of(host)?,
                port,
            })
        });
        parsed.ok_or_else(|| Error::new(format!("server: `{text}` is not of the form host:port")))
    }
}

/// `parse` alone would take a plus sign.
fn decimal(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

fn host_of(text: &str) -> Option<String> {
    // IPv6 without brackets could not be told from a port.
    let is_bare = text.contains(':') && !text.starts_with('[');
    let host = canonical_host(text).ok().filter(|_| !is_bare)?;
    Some(host.into_owned())
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn reads_host_and_port() {
        for (text, host, port) in [
            ("localhost:8899", "localhost", 8899),
            ("[::1]:1", "::1", 1),
            ("a.b:65535", "a.b", 65535),
        ] {
            assert_eq!(
                Server::parse(text).unwrap(),
                Server {
                    host: host.to_owned(),
                    port
                }
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "a",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "::1:80",
            "[a]:80",
            "http://a:80",
        ] {
            assert!(Server::parse(text).is_err(), "{text}");
        }
    }
}
