//! The server that requests are sent to.

use plugin_api::{Authority, Error};

/// A host with a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// Name or address, in its canonical form.
    pub(crate) host: String,
    /// Not 0.
    pub(crate) port: u16,
}

impl ServerAddress {
    /// Parses `host:port`.
    ///
    /// # Errors
    /// Anything else, such as a URL or a host without port.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let reason = match Authority::parse(text) {
            Ok(Authority {
                host,
                port: Some(port),
            }) => {
                return Ok(Self {
                    host: host.into_owned(),
                    port,
                });
            }
            Ok(_) => "no port; write host:port".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::new(format!("server: `{text}` has {reason}")))
    }
}

#[cfg(test)]
mod tests {
    use super::ServerAddress;

    #[test]
    fn reads_host_and_port() {
        for (text, host, port) in [
            ("localhost:8899", "localhost", 8899),
            ("[::1]:1", "::1", 1),
            ("a.b:65535", "a.b", 65535),
        ] {
            assert_eq!(
                ServerAddress::parse(text).unwrap(),
                ServerAddress {
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
            assert!(ServerAddress::parse(text).is_err(), "{text}");
        }
    }
}
