//! `proxy.toml` as written.
//!
//! Every key is optional and unknown keys are errors, so that a misspelt key is not silently ignored. A value that
//! parses is in range; an error has line, column and key. `load` decides which value takes precedence.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::DirectRule;
use super::value::{
    Backlog, Bounded, ByteLen, FieldText, FileName, ForeignProtocol, HeaderName, Hostname,
    LogLevel, NameServer, OpenFileLimit, Port, Pseudonym, Seconds, SecondsOrZero, UrlPath,
    WorkerCount,
};
use super::{BasicAuth, HostPattern, Resolver, ResponseSyntax, Symlinks, UnknownProtocol};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileConfig {
    pub(super) hostname: Option<Hostname>,
    pub(super) port: Option<Port>,
    pub(super) num_workers: Option<WorkerCount>,
    pub(super) backlog: Option<Backlog>,
    /// Accepted for compatibility, like the flag; has no effect.
    #[serde(rename = "threadless")]
    _threadless: Option<bool>,
    pub(super) disable_headers: Vec<HeaderName>,
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_file: Option<PathBuf>,
    pub(super) open_file_limit: Option<OpenFileLimit>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) plugin_dirs: Vec<PathBuf>,
    pub(super) plugin_statistics: Option<bool>,
    pub(super) client_recvbuf_size: Option<ByteLen>,
    pub(super) server_recvbuf_size: Option<ByteLen>,
    pub(super) timeout: Option<Seconds>,
    pub(super) via: Option<Pseudonym>,
    pub(super) timeouts: FileTimeouts,
    pub(super) limits: FileLimits,
    pub(super) dns: FileDns,
    pub(super) compatibility: FileCompatibility,
    pub(super) tls: FileTls,
    pub(super) interception: FileInterception,
    pub(super) disable_http_proxy: bool,
    pub(super) web_server: FileWebServer,
    pub(super) plugins: Vec<FilePlugin>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileTimeouts {
    pub(super) header_read: Option<Seconds>,
    pub(super) idle: Option<Seconds>,
    pub(super) stall: Option<Seconds>,
    pub(super) half_closed: Option<Seconds>,
    pub(super) connect: Option<Seconds>,
    pub(super) upstream_response: Option<Seconds>,
    pub(super) upstream_idle: Option<Seconds>,
    pub(super) tunnel_idle: Option<Seconds>,
    pub(super) plugin_hook: Option<Seconds>,
    pub(super) plugin_budget: Option<Seconds>,
    pub(super) hosts: Vec<FileHostTimeouts>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileHostTimeouts {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) stall: Option<Seconds>,
    pub(super) upstream_response: Option<Seconds>,
    pub(super) upstream_idle: Option<Seconds>,
    pub(super) tunnel_idle: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileLimits {
    pub(super) max_head_len: Option<Bounded<1024, 16_777_216>>,
    pub(super) max_fields: Option<Bounded<1, 256>>,
    pub(super) max_target_len: Option<Bounded<16, 16_777_216>>,
    pub(super) max_concurrent_streams: Option<Bounded<1, 65_535>>,
    pub(super) max_connections: Option<Bounded<0, 1_000_000_000>>,
    pub(super) max_body_buffer: Option<Bounded<0, 1_073_741_824>>,
    pub(super) max_buffer_total: Option<ByteLen>,
    pub(super) upstream_idle_per_host: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_total: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_timeout: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileDns {
    pub(super) resolver: Option<Resolver>,
    pub(super) servers: Vec<NameServer>,
    pub(super) cache_ttl_max: Option<SecondsOrZero>,
    pub(super) negative_ttl: Option<SecondsOrZero>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileCompatibility {
    pub(super) responses: ResponseSyntax,
    pub(super) relaxed_hosts: Vec<HostPattern>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileTls {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_log: bool,
    pub(super) upstream: FileUpstreamTls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileUpstreamTls {
    pub(super) extra_ca_files: Vec<PathBuf>,
    pub(super) client_certificates: Vec<FileClientCertificate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileClientCertificate {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileInterception {
    pub(super) ca_cert_file: Option<PathBuf>,
    pub(super) ca_key_file: Option<PathBuf>,
    pub(super) ca_signing_key_file: Option<PathBuf>,
    pub(super) ca_cert_dir: Option<PathBuf>,
    pub(super) include: Option<Vec<HostPattern>>,
    pub(super) exclude: Vec<HostPattern>,
    pub(super) insecure_hosts: Vec<HostPattern>,
    pub(super) allow_fronting: Vec<HostPattern>,
    pub(super) rejected_for: Option<SecondsOrZero>,
    pub(super) cached_certificates: Option<Bounded<1, 1_000_000>>,
    pub(super) kept_certificates: Option<Bounded<1, 10_000_000>>,
    pub(super) kept_certificates_len: Option<ByteLen>,
    pub(super) unknown: UnknownProtocol,
    pub(super) relay_protocols: Vec<ForeignProtocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileWebServer {
    pub(super) enable: bool,
    pub(super) static_files: FileStaticFiles,
    pub(super) pac: FilePac,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileStaticFiles {
    pub(super) enable: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) index: Option<Vec<FileName>>,
    pub(super) listing: bool,
    pub(super) symlinks: Option<Symlinks>,
    pub(super) precompressed: Option<bool>,
    pub(super) compress_from: Option<Bounded<0, 1_073_741_824>>,
    pub(super) cache_control: Option<FieldText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilePac {
    pub(super) file: Option<String>,
    pub(super) url_path: Option<UrlPath>,
    pub(super) direct: Vec<DirectRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilePlugin {
    pub(super) library: Spanned<String>,
    pub(super) name: Option<String>,
    pub(super) timeout: Option<Seconds>,
    #[serde(default)]
    pub(super) config: toml::Table,
}

impl FileConfig {
    /// Parses the text of a `proxy.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        let document = toml::Deserializer::parse(text)
            .map_err(|error| FileError::at(text, error.span(), String::new(), error.message()))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let key = error.path().to_string();
            let error = error.into_inner();
            FileError::at(text, error.span(), key, error.message())
        })
    }
}

/// What is wrong in the file, and where. Shows names from the file, but no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {}{reason}", prefixed(.key))]
pub struct FileError {
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    /// The dotted key; empty if the text is not valid TOML.
    key: String,
    reason: String,
}

impl FileError {
    fn at(text: &str, span: Option<Range<usize>>, key: String, message: &str) -> Self {
        let (line, column) = position(text, span.map_or(0, |span| span.start));
        let key = if key == "." { String::new() } else { key };
        let reason = match message.strip_prefix("unknown field ") {
            Some(rest) => format!("unknown key {rest}"),
            None => message.to_owned(),
        };
        FileError {
            line,
            column,
            key,
            reason: reason.replace('\n', " "),
        }
    }
}

fn prefixed(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    }
}

/// Line and column of a byte offset, both counted from 1.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        FileConfig::parse(text)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn an_error_has_line_column_key_and_reason() {
        for (text, error) in [
            ("port = 70000", "1:8: port: must be between 0 and 65535"),
            (
                "\nport = \"x\"",
                "2:8: port: expected a whole number, found string",
            ),
            (
                "[timeouts]\nidle = 0",
                "2:8: timeouts.idle: must be greater than 0 seconds",
            ),
            (
                "[timeouts]\nidle = -1.5",
                "2:8: timeouts.idle: must be greater than 0 seconds",
            ),
            (
                "[[timeouts.hosts]]\nhosts = [\"a.test\"]\nupstream_idle = 0",
                "3:17: timeouts.hosts[0].upstream_idle: must be greater than 0 seconds",
            ),
            (
                "[[timeouts.hosts]]\nhosts = [\"*\"]\nupstream_response = 31536001",
                "3:21: timeouts.hosts[0].upstream_response: must be at most 31536000 seconds",
            ),
            (
                "[[timeouts.hosts]]\nhosts = [\"a b\"]",
                "2:9: timeouts.hosts[0].hosts[0]: is not a host pattern; write example.com, .example.com, \
                 *.example.com, an IP address or *",
            ),
            (
                "[[timeouts.hosts]]\nhosts = [\"a\"]\nidle = 1",
                "3:1: timeouts.hosts[0].idle: unknown key `idle`, expected one of `hosts`, `stall`, `upstream_response`, `upstream_idle`, `tunnel_idle`",
            ),
            (
                "timeout = true",
                "1:11: timeout: expected a number of seconds, found boolean",
            ),
            (
                "[limits]\nmax_fields = 257",
                "2:14: limits.max_fields: must be between 1 and 256",
            ),
            (
                "client_recvbuf_size = \"many\"",
                "1:23: client_recvbuf_size: is not a number of bytes; write one such as 65536, 64K or 1M",
            ),
            (
                "disable_headers = [\"ok\", \"not ok\"]",
                "1:19: disable_headers[1]: `not ok` is not a header name",
            ),
            (
                "basic_auth = \"secret\"",
                "1:14: basic_auth: has no colon; write user:password",
            ),
            (
                "[[plugins]]\nname = \"X\"",
                "1:1: plugins[0]: missing field `library`",
            ),
            (
                "[dns]\nresolver = \"hosts\"",
                "2:12: dns.resolver: unknown variant `hosts`, expected `dns` or `system`",
            ),
            (
                "[dns]\nserver = []",
                "2:1: dns.server: unknown key `server`, expected one of `resolver`, `servers`, `cache_ttl_max`, `negative_ttl`",
            ),
        ] {
            assert_eq!(refusal(text), error);
        }
    }

    #[test]
    fn a_text_that_is_not_toml_is_located() {
        assert!(refusal("port = 1\nhostname = [").starts_with("2:13: "));
        assert!(refusal("port = 1\nport = 2").starts_with("2:1: "));
    }

    #[test]
    fn misspelt_keys_are_not_ignored() {
        assert!(refusal("prot = 1").starts_with("1:1: prot: unknown key `prot`, expected one of"));
    }
}
