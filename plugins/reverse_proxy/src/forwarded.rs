//! What upstreams are told of the client: X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
//!
//! Upstreams believe these fields, and anybody can send them: unless clients are trusted, what they say there is removed,
//! as is their Forwarded (RFC 7239), which says the same. This plugin itself writes no Forwarded, since few read it.

use std::net::IpAddr;

/// What becomes of the fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Whether they are written.
    pub(crate) writes: bool,
    /// Whether what the client says there goes on.
    pub(crate) trusts: bool,
}

/// What the proxy knows itself.
#[derive(Debug)]
pub(crate) struct Client<'r> {
    /// Where the request comes from, if that is an IP address.
    pub(crate) ip: Option<IpAddr>,
    /// `http` or `https`.
    pub(crate) scheme: &'r str,
    /// The request's Host.
    pub(crate) host: Option<&'r [u8]>,
}

/// What a field of the request becomes: set to a value, or removed.
type Edit = (&'static str, Option<Vec<u8>>);

const FOR: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const HOST: &str = "X-Forwarded-Host";
const FORWARDED: &str = "Forwarded";

impl Policy {
    /// The changes to a request; `sent` gives the values that it has in the lines of a field.
    pub(crate) fn edits<'r>(
        self,
        client: &Client<'r>,
        sent: impl Fn(&str) -> Vec<&'r [u8]>,
    ) -> Vec<Edit> {
        let mut edits: Vec<Edit> = Vec::new();
        if !self.trusts {
            let untrusted = [FOR, PROTO, HOST, FORWARDED];
            edits.extend(untrusted.map(|name| (name, None)));
            edits.retain(|(name, _)| !sent(name).is_empty());
        }
        if self.writes {
            let believed = |name| if self.trusts { sent(name) } else { Vec::new() };
            let ip = client
                .ip
                .map(|ip| ip.to_canonical().to_string().into_bytes());
            if let Some(ip) = &ip {
                let mut chain = believed(FOR);
                chain.retain(|value| !value.is_empty());
                chain.push(ip);
                edits.push((FOR, Some(chain.join(&b", "[..]))));
            }
            // The first proxy that is trusted has seen what the client asked for.
            if believed(PROTO).is_empty() {
                edits.push((PROTO, Some(client.scheme.as_bytes().to_vec())));
            }
            if let Some(host) = client.host.filter(|_| believed(HOST).is_empty()) {
                edits.push((HOST, Some(host.to_vec())));
            }
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Policy};

    type Fields = [(&'static str, &'static str)];

    const SENT: &Fields = &[
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-For", "192.0.2.8, 192.0.2.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=192.0.2.7"),
    ];

    /// The fields as they go on.
    fn fields(writes: bool, trusts: bool, ip: Option<&str>, sent: &Fields) -> Vec<String> {
        let client = Client {
            ip: ip.map(|ip| ip.parse().unwrap()),
            scheme: "http",
            host: Some(b"site.example"),
        };
        let values = |name: &str| {
            let named = sent.iter().filter(|(each, _)| *each == name);
            named.map(|(_, value)| value.as_bytes()).collect()
        };
        let mut fields: Vec<(String, String)> = sent
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in (Policy { writes, trusts }).edits(&client, values) {
            fields.retain(|(each, _)| each != name);
            let value = value.map(|value| String::from_utf8(value).unwrap());
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
        let line = |(name, value)| format!("{name}: {value}");
        fields.into_iter().map(line).collect()
    }

    #[test]
    fn tells_who_has_asked_for_what() {
        for ip in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(
                fields(true, false, Some(ip), &[]),
                [
                    "X-Forwarded-For: 192.0.2.1",
                    "X-Forwarded-Proto: http",
                    "X-Forwarded-Host: site.example"
                ]
            );
        }
        let lines = fields(true, false, Some("2001:db8::1"), &[]);
        assert_eq!(lines[0], "X-Forwarded-For: 2001:db8::1");
        let lines = fields(true, false, None, &[]);
        assert!(
            lines.iter().all(|line| !line.contains("-For:")),
            "{lines:?}"
        );
    }

    #[test]
    fn what_strangers_say_is_replaced_or_removed() {
        let nothing = fields(true, false, Some("192.0.2.1"), &[]);
        assert_eq!(fields(true, false, Some("192.0.2.1"), SENT), nothing);
        assert!(
            fields(true, false, None, SENT)
                .iter()
                .all(|line| !line.contains("192."))
        );
        assert!(fields(false, false, Some("192.0.2.1"), SENT).is_empty());
    }

    #[test]
    fn what_trusted_proxies_say_is_kept_and_the_client_appended() {
        let lines = fields(true, true, Some("192.0.2.1"), SENT);
        for line in [
            "X-Forwarded-For: 192.0.2.7, 192.0.2.8, 192.0.2.9, 192.0.2.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "Forwarded: for=192.0.2.7",
        ] {
            assert!(
                lines.iter().any(|each| each == line),
                "no {line} in {lines:?}"
            );
        }
        assert_eq!(lines.len(), 4);
        assert_eq!(fields(false, true, None, SENT).len(), SENT.len());
        let alone = fields(true, true, Some("192.0.2.1"), &[]);
        assert_eq!(alone.len(), 3, "{alone:?}");
    }
}
