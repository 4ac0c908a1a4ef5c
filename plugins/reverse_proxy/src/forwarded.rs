//! The fields that identify the client to upstreams: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and
//! X-Real-IP.
//!
//! Upstreams believe these and similar fields, but any client can send them: unless clients are trusted, all known ones
//! are removed, in every spelling that a server may accept. This plugin does not write Forwarded (RFC 7239), which few
//! servers read.

use std::net::IpAddr;

/// How the fields are treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardedPolicy {
    /// Whether they are written.
    pub(crate) writes: bool,
    /// Whether the client's fields are forwarded.
    pub(crate) trusts: bool,
}

/// The facts that the proxy knows itself.
#[derive(Debug)]
pub(crate) struct ForwardedClient<'r> {
    /// The client's address, if it is an IP address.
    pub(crate) ip: Option<IpAddr>,
    /// `http` or `https`.
    pub(crate) scheme: &'r str,
    /// The Host of the request.
    pub(crate) host: Option<&'r [u8]>,
}

/// An edit of a request field: set to a value, or removed.
type FieldEdit = (String, Option<Vec<u8>>);

const FOR: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const HOST: &str = "X-Forwarded-Host";
const REAL_IP: &str = "X-Real-IP";

/// Fields that identify the client or the requested host, in addition to those that begin with `X-Forwarded-`.
const CLAIMS: [&str; 14] = [
    "forwarded",
    "x-forwarded",
    "forwarded-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-real-ip",
    "x-real-port",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
];

impl ForwardedPolicy {
    /// The edits of a request that arrived with the fields `sent`.
    pub(crate) fn edits(
        self,
        client: &ForwardedClient<'_>,
        sent: &[(&str, &[u8])],
    ) -> Vec<FieldEdit> {
        let mut edits: Vec<FieldEdit> = Vec::new();
        if !self.trusts {
            for (name, _) in sent.iter().filter(|(name, _)| is_claim(name)) {
                if !edits
                    .iter()
                    .any(|(each, _)| each.eq_ignore_ascii_case(name))
                {
                    edits.push(((*name).to_owned(), None));
                }
            }
        }
        if self.writes {
            let believed = |name: &str| -> Vec<&[u8]> {
                let named = sent
                    .iter()
                    .filter(|(each, _)| each.eq_ignore_ascii_case(name));
                let values = named.map(|(_, value)| *value);
                values.filter(|_| self.trusts).collect()
            };
            let ip = client
                .ip
                .map(|ip| ip.to_canonical().to_string().into_bytes());
            if let Some(ip) = &ip {
                let mut chain = believed(FOR);
                chain.retain(|value| !value.is_empty());
                chain.push(ip);
                edits.push((FOR.to_owned(), Some(chain.join(&b", "[..]))));
            }
            // The first trusted proxy has seen the client's request.
            if believed(PROTO).is_empty() {
                edits.push((PROTO.to_owned(), Some(client.scheme.as_bytes().to_vec())));
            }
            if let Some(host) = client.host.filter(|_| believed(HOST).is_empty()) {
                edits.push((HOST.to_owned(), Some(host.to_vec())));
            }
            // Behind a trusted proxy, only that one knows it.
            if let Some(ip) = ip.filter(|_| !self.trusts) {
                edits.push((REAL_IP.to_owned(), Some(ip)));
            }
        }
        edits
    }
}

/// Whether upstreams could take the field for one written by a proxy. Many treat `_` as `-` (CGI), some any character
/// that is not a letter or digit, such as a dot.
fn is_claim(name: &str) -> bool {
    let spelled = |letter: char| match letter.is_ascii_alphanumeric() {
        true => letter.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = name.chars().map(spelled).collect();
    name.starts_with("x-forwarded-") || CLAIMS.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::{ForwardedClient, ForwardedPolicy};

    type Fields = [(&'static str, &'static str)];

    const SENT: &Fields = &[
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-For", "192.0.2.8, 192.0.2.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=192.0.2.7"),
        ("x-real-ip", "192.0.2.7"),
    ];

    /// The forwarded fields.
    fn fields(writes: bool, trusts: bool, ip: Option<&str>, sent: &Fields) -> Vec<String> {
        let client = ForwardedClient {
            ip: ip.map(|ip| ip.parse().unwrap()),
            scheme: "http",
            host: Some(b"site.example"),
        };
        let received: Vec<(&str, &[u8])> = sent
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let mut fields: Vec<(String, String)> = sent
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in (ForwardedPolicy { writes, trusts }).edits(&client, &received) {
            fields.retain(|(each, _)| !each.eq_ignore_ascii_case(&name));
            let value = value.map(|value| String::from_utf8(value).unwrap());
            fields.extend(value.map(|value| (name, value)));
        }
        let line = |(name, value)| format!("{name}: {value}");
        fields.into_iter().map(line).collect()
    }

    #[test]
    fn sets_client_protocol_and_host() {
        for ip in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(
                fields(true, false, Some(ip), &[]),
                [
                    "X-Forwarded-For: 192.0.2.1",
                    "X-Forwarded-Proto: http",
                    "X-Forwarded-Host: site.example",
                    "X-Real-IP: 192.0.2.1"
                ]
            );
        }
        let lines = fields(true, false, Some("2001:db8::1"), &[]);
        assert_eq!(lines[0], "X-Forwarded-For: 2001:db8::1");
        let lines = fields(true, false, None, &[]);
        assert!(
            lines
                .iter()
                .all(|line| !line.contains("-For:") && !line.contains("-IP:")),
            "{lines:?}"
        );
    }

    #[test]
    fn untrusted_fields_are_replaced_or_removed() {
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
    fn lookalike_fields_are_removed() {
        for name in [
            "X-Real-IP",
            "X_Real_Ip",
            "x-forwarded_for",
            "X.Real.IP",
            "X-Forwarded.For",
            "x!forwarded~proto",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-Anything",
            "X-Forwarded",
            "Forwarded-For",
            "Client-IP",
            "X-Client-IP",
            "X-Cluster-Client-Ip",
            "True-Client-IP",
            "CF-Connecting-IP",
        ] {
            assert!(
                fields(false, false, None, &[(name, "192.0.2.7")]).is_empty(),
                "{name}"
            );
            let kept = fields(false, true, None, &[(name, "192.0.2.7")]);
            assert_eq!(kept.len(), 1, "{name}");
        }
        for name in ["X-Forward", "Via", "X-Real", "IP"] {
            let kept = fields(false, false, None, &[(name, "192.0.2.7")]);
            assert_eq!(kept.len(), 1, "{name}");
        }
    }

    #[test]
    fn trusted_fields_are_kept_and_the_client_appended() {
        let lines = fields(true, true, Some("192.0.2.1"), SENT);
        for line in [
            "X-Forwarded-For: 192.0.2.7, 192.0.2.8, 192.0.2.9, 192.0.2.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "Forwarded: for=192.0.2.7",
            "x-real-ip: 192.0.2.7",
        ] {
            assert!(
                lines.iter().any(|each| each == line),
                "no {line} in {lines:?}"
            );
        }
        assert_eq!(lines.len(), 5);
        assert_eq!(fields(false, true, None, SENT).len(), SENT.len());
        let alone = fields(true, true, Some("192.0.2.1"), &[]);
        assert_eq!(alone.len(), 3, "{alone:?}");
    }
}
