//! What upstreams are told of the client: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and X-Real-IP.
//!
//! Upstreams believe these fields and their likes, and anybody can send them: unless clients are trusted, all that are
//! known are removed, in whatever spelling a server may take for theirs. This plugin itself writes no Forwarded
//! (RFC 7239), since few read it.

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
type Edit = (String, Option<Vec<u8>>);

const FOR: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const HOST: &str = "X-Forwarded-Host";
const REAL_IP: &str = "X-Real-IP";

/// Fields that say who the client is or what it has asked for, besides those that begin with `X-Forwarded-`.
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

impl Policy {
    /// The changes to a request that has come with the fields `sent`.
    pub(crate) fn edits(self, client: &Client<'_>, sent: &[(&str, &[u8])]) -> Vec<Edit> {
        let mut edits: Vec<Edit> = Vec::new();
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
            // The first proxy that is trusted has seen what the client asked for.
            if believed(PROTO).is_empty() {
                edits.push((PROTO.to_owned(), Some(client.scheme.as_bytes().to_vec())));
            }
            if let Some(host) = client.host.filter(|_| believed(HOST).is_empty()) {
                edits.push((HOST.to_owned(), Some(host.to_vec())));
            }
            // Behind a proxy that is trusted, only that one knows it.
            if let Some(ip) = ip.filter(|_| !self.trusts) {
                edits.push((REAL_IP.to_owned(), Some(ip)));
            }
        }
        edits
    }
}

/// Whether upstreams could take the field for one that a proxy has written. Many see `_` where `-` stands (CGI), some
/// for whatever is no letter or digit, such as a dot.
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
    use super::{Client, Policy};

    type Fields = [(&'static str, &'static str)];

    const SENT: &Fields = &[
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-For", "192.0.2.8, 192.0.2.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=192.0.2.7"),
        ("x-real-ip", "192.0.2.7"),
    ];

    /// The fields as they go on.
    fn fields(writes: bool, trusts: bool, ip: Option<&str>, sent: &Fields) -> Vec<String> {
        let client = Client {
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
        for (name, value) in (Policy { writes, trusts }).edits(&client, &received) {
            fields.retain(|(each, _)| !each.eq_ignore_ascii_case(&name));
            let value = value.map(|value| String::from_utf8(value).unwrap());
            fields.extend(value.map(|value| (name, value)));
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
    fn all_that_could_be_taken_for_a_proxys_word_is_removed() {
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
    fn what_trusted_proxies_say_is_kept_and_the_client_appended() {
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
