//! Which hosts a setting is about.

use serde::Deserialize;

use super::ValueError;

/// `example.com`, `*.example.com` (its subdomains, not itself), `.example.com` (both), `*` (every host), or an IP
/// literal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    All,
    /// In lower case.
    Exact(String),
    /// The dot and what follows it, in lower case.
    Below(String),
    /// As `Below`, and the name itself.
    Within(String),
}

impl HostPattern {
    /// # Errors
    /// The text is no host, and no pattern of one.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.to_ascii_lowercase();
        let form = if text == "*" {
            Form::All
        } else if let Some(suffix) = text.strip_prefix('*').filter(|rest| rest.starts_with('.')) {
            Form::Below(suffix.to_owned())
        } else if text.starts_with('.') {
            Form::Within(text.clone())
        } else {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            Form::Exact(bare.trim_end_matches('.').to_owned())
        };
        let name = match &form {
            Form::All => "x",
            Form::Exact(name) => name,
            Form::Below(suffix) | Form::Within(suffix) => &suffix[1..],
        };
        let is_host = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
        if name.is_empty() || !is_host {
            return Err(ValueError::NotAHostPattern);
        }
        Ok(Self(form))
    }

    /// Every host.
    pub fn all() -> Self {
        Self(Form::All)
    }

    /// Whether `host`, in lower case and without brackets, is meant.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.0 {
            Form::All => true,
            Form::Exact(name) => host == name,
            Form::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Form::Within(suffix) => host.ends_with(suffix.as_str()) || host == &suffix[1..],
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_hosts_it_names() {
        for (pattern, hosts, others) in [
            ("*", &["a", "::1"][..], &[][..]),
            (
                "Example.com",
                &["example.com", "example.com."],
                &["www.example.com", "xexample.com"],
            ),
            (
                "*.example.com",
                &["a.example.com", "a.b.example.com"],
                &["example.com", "xexample.com", ".example.com"],
            ),
            (
                ".example.com",
                &["example.com", "a.example.com"],
                &["xexample.com"],
            ),
            ("[::1]", &["::1"], &["::2"]),
            ("127.0.0.1", &["127.0.0.1"], &["127.0.0.11"]),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            for host in hosts {
                assert!(parsed.matches(host), "{pattern} {host}");
            }
            for host in others {
                assert!(!parsed.matches(host), "{pattern} {host}");
            }
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", ".", "*.", "a b", "http://a/", "a*", "*a"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
