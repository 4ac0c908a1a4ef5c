//! The page from which clients download the CA certificate: `http://proxy.local/`.
//!
//! The name exists only for clients that use the proxy, which answers requests for it. The page needs no further
//! requests and no scripts, and everything in it that comes from the certificate is escaped. It is sent unencrypted, so
//! it asks the reader to compare the fingerprint. The caller decides which requests are for it.

use super::certificate::{Certificate, date};
use super::command::Format;
use super::export;
use super::mobileconfig::escaped;
use super::trust::{Instruction, Instructions};
use std::path::Path;

/// The host of the page. `.local` is never resolved by DNS (RFC 6762 §3).
pub const HOST: &str = "proxy.local";

/// The file name for a saved certificate.
const FILE: &str = "proxy-ca.pem";

/// A response, without the fields that all responses of the proxy have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageReply {
    /// The status code.
    pub status: u16,
    /// Field lines; without `Content-Length`.
    pub fields: Vec<(&'static str, String)>,
    /// The content, also for HEAD, whose reply is sent without it.
    pub body: Vec<u8>,
}

/// Answers `method` for `path`, which may have a query.
///
/// `proxy` is the host and port by which the client connects to the proxy, such as `localhost:8899`. `certificate` is
/// that of the CA, in DER; `None` if interception is not configured.
pub fn answer(method: &str, path: &[u8], proxy: &str, certificate: Option<&[u8]>) -> PageReply {
    if !matches!(method, "GET" | "HEAD") {
        let mut reply = text(405, "This page is read-only: use GET.");
        reply.fields.push(("Allow", "GET, HEAD".to_owned()));
        return reply;
    }
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let certificate = certificate.and_then(|der| Certificate::from_der(der).ok());
    match (path, certificate) {
        (b"" | b"/", Some(certificate)) => html(&with_certificate(&certificate, proxy)),
        (b"" | b"/", None) => html(WITHOUT_CERTIFICATE),
        (path, Some(certificate)) => match Download::at(path) {
            Some(download) => download.reply(&certificate),
            None => text(404, "There is no such page; see http://proxy.local/."),
        },
        (path, None) if Download::at(path).is_some() => text(
            404,
            "This proxy does not intercept TLS, so there is no certificate to trust.",
        ),
        (_, None) => text(404, "There is no such page; see http://proxy.local/."),
    }
}

/// A format of the certificate to download.
struct Download {
    format: Format,
    content_type: &'static str,
    disposition: &'static str,
}

impl Download {
    fn at(path: &[u8]) -> Option<Self> {
        let (format, content_type, disposition) = match path {
            // For programs: browsers save it rather than open it.
            b"/ca.pem" => (
                Format::Pem,
                "application/x-pem-file",
                "attachment; filename=\"proxy-ca.pem\"",
            ),
            // This type, without `attachment`, makes Firefox and iOS offer to trust it; others save it.
            b"/ca.cer" => (
                Format::Der,
                "application/x-x509-ca-cert",
                "inline; filename=\"proxy-ca.cer\"",
            ),
            b"/ca.der" => (
                Format::Der,
                "application/x-x509-ca-cert",
                "inline; filename=\"proxy-ca.der\"",
            ),
            b"/ca.mobileconfig" => (
                Format::Mobileconfig,
                "application/x-apple-aspen-config",
                "inline; filename=\"proxy-ca.mobileconfig\"",
            ),
            _ => return None,
        };
        Some(Download {
            format,
            content_type,
            disposition,
        })
    }

    fn reply(&self, certificate: &Certificate) -> PageReply {
        let body = export::encode(certificate, self.format);
        let mut reply = reply(200, self.content_type, body);
        let disposition = self.disposition.to_owned();
        reply.fields.push(("Content-Disposition", disposition));
        reply
    }
}

fn html(body: &str) -> PageReply {
    let page = format!("{HEAD}{body}{FOOT}");
    let mut reply = reply(200, "text/html; charset=utf-8", page.into_bytes());
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let field = ("Content-Security-Policy", policy.to_owned());
    reply.fields.push(field);
    reply
}

fn text(status: u16, text: &str) -> PageReply {
    let body = format!("{text}\n").into_bytes();
    reply(status, "text/plain; charset=utf-8", body)
}

fn reply(status: u16, content_type: &str, body: Vec<u8>) -> PageReply {
    PageReply {
        status,
        fields: vec![
            ("Content-Type", content_type.to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            // Another proxy serves another certificate under the same name.
            ("Cache-Control", "no-store".to_owned()),
        ],
        body,
    }
}

fn with_certificate(certificate: &Certificate, proxy: &str) -> String {
    let name = escaped(certificate.name());
    let until = date(certificate.not_after());
    let key = escaped(certificate.key());
    let fingerprint = certificate.fingerprint_text();
    let proxy = escaped(proxy);
    let instructions: String = Instructions::new(Path::new(FILE), certificate.name())
        .clients()
        .iter()
        .map(|client| {
            let instructions: String = client.instructions.iter().map(instruction).collect();
            let name = escaped(client.name);
            format!("<details><summary>{name}</summary>{instructions}</details>\n")
        })
        .collect();
    format!(
        "<h1>Trust this proxy</h1>
<p>This proxy decrypts the TLS traffic of its clients. A device that trusts this certificate allows \
this, and opens sites without warnings.</p>
<p><strong>Trust it only if you know who runs this proxy:</strong> whoever holds its key can impersonate any site to \
your device. This page was sent unencrypted, so compare the fingerprint with the output of <code>proxy ca show</code> \
on the machine of the proxy.</p>
<dl>
<dt>Name</dt><dd>{name}</dd>
<dt>Valid until</dt><dd>{until}</dd>
<dt>Key</dt><dd>{key}</dd>
<dt>SHA-256 fingerprint</dt><dd><code>{fingerprint}</code></dd>
</dl>
<ul class=get>
<li><a href=/ca.mobileconfig>Profile</a> for iPhone, iPad and Mac (ca.mobileconfig)
<li><a href=/ca.cer>Certificate</a> for Android, Windows and Firefox (ca.cer, DER)
<li><a href=/ca.pem>Certificate</a> for Linux and for programs (ca.pem, PEM)
</ul>
<p>From a terminal:</p>
<pre>curl -x http://{proxy} -o {FILE} http://{HOST}/ca.pem</pre>
<h2>How to install it</h2>
{instructions}"
    )
}

fn instruction(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Text(text) => format!("<p>{}</p>", escaped(text)),
        Instruction::Command(text) => format!("<pre>{}</pre>", escaped(text)),
    }
}

const WITHOUT_CERTIFICATE: &str = "<h1>This proxy works</h1>
<p>It does not intercept TLS: encrypted traffic passes through without decryption, and there is no \
certificate to trust.</p>
<p>To enable interception, its operator runs</p>
<pre>proxy ca init
proxy --ca-cert-file ca-cert.pem --ca-key-file ca-key.pem --ca-signing-key-file ca-signing-key.pem</pre>
<p>Then this page offers the certificate for download.</p>
";

const HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width, initial-scale=1\">
<meta name=color-scheme content=\"light dark\">
<title>proxy</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 0 auto; padding: 1rem; }
dt { font-weight: bold; }
dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .5rem; border: 1px solid #8888; border-radius: .3rem; }
.get { padding-left: 1.2rem; line-height: 2; }
.get a { font-weight: bold; }
summary { padding: .4rem 0; cursor: pointer; }
</style>
";

const FOOT: &str = "</html>\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::certificate::tests::named;
    use rcgen::DnType;

    const PROXY: &str = "localhost:8899";

    fn field<'a>(reply: &'a PageReply, name: &str) -> &'a str {
        let mut values = reply.fields.iter().filter(|(field, _)| *field == name);
        let value = values.next().map_or("", |(_, value)| value);
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    fn body(reply: &PageReply) -> &str {
        std::str::from_utf8(&reply.body).unwrap()
    }

    #[test]
    fn the_page_shows_the_fingerprint_and_every_client() {
        let certificate = named(&[(DnType::CommonName, "proxy CA here")]);
        for path in ["", "/", "/?from=phone"] {
            let reply = answer("GET", path.as_bytes(), PROXY, Some(certificate.der()));
            assert_eq!(reply.status, 200);
            assert_eq!(field(&reply, "Content-Type"), "text/html; charset=utf-8");
            assert!(body(&reply).contains(&certificate.fingerprint_text()));
            assert!(body(&reply).contains("curl -x http://localhost:8899 "));
            assert_eq!(body(&reply).matches("<summary>").count(), 14);
            assert!(body(&reply).len() < 16 * 1024);
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        let reply = answer("GET", b"/", PROXY, Some(certificate.der()));
        for word in ["src=", "url(", "<script", "<link", "href=http", "href=//"] {
            assert!(!body(&reply).contains(word), "{word}");
        }
    }

    #[test]
    fn each_form_has_its_type_and_name() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        for (path, content_type, name) in [
            ("/ca.pem", "application/x-pem-file", "proxy-ca.pem"),
            ("/ca.cer", "application/x-x509-ca-cert", "proxy-ca.cer"),
            ("/ca.der", "application/x-x509-ca-cert", "proxy-ca.der"),
            (
                "/ca.mobileconfig",
                "application/x-apple-aspen-config",
                "proxy-ca.mobileconfig",
            ),
        ] {
            let reply = answer("GET", path.as_bytes(), PROXY, Some(certificate.der()));
            assert_eq!(reply.status, 200, "{path}");
            assert_eq!(field(&reply, "Content-Type"), content_type);
            assert!(
                field(&reply, "Content-Disposition").ends_with(&format!("filename=\"{name}\""))
            );
            assert_eq!(field(&reply, "X-Content-Type-Options"), "nosniff");
            assert!(!reply.body.is_empty());
            assert_eq!(
                answer("HEAD", path.as_bytes(), PROXY, Some(certificate.der())),
                reply
            );
        }
        let der = answer("GET", b"/ca.der", PROXY, Some(certificate.der()));
        assert_eq!(der.body, certificate.der());
    }

    #[test]
    fn names_are_escaped() {
        let certificate = named(&[(DnType::CommonName, "</dd><script>alert('&')</script>")]);
        let reply = answer("GET", b"/", "\"><script>", Some(certificate.der()));
        assert!(!body(&reply).contains("<script"));
        assert!(body(&reply).contains("<dd>&lt;/dd&gt;&lt;script&gt;alert(&#39;&amp;&#39;)"));
        assert!(body(&reply).contains("-x http://&quot;&gt;&lt;script&gt; "));
    }

    #[test]
    fn other_paths_are_not_found() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        for path in [
            "/favicon.ico",
            "/ca.pem/",
            "//",
            "/CA.PEM",
            "/../ca.pem",
            "*",
        ] {
            for certificate in [Some(certificate.der()), None] {
                let reply = answer("GET", path.as_bytes(), PROXY, certificate);
                assert_eq!(reply.status, 404, "{path}");
            }
        }
    }

    #[test]
    fn other_methods_get_405_with_allow() {
        for method in ["POST", "OPTIONS", "get", ""] {
            let reply = answer(method, b"/", PROXY, None);
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(field(&reply, "Allow"), "GET, HEAD");
        }
    }

    #[test]
    fn without_interception_the_page_says_how_to_turn_it_on() {
        let reply = answer("GET", b"/", PROXY, None);
        assert_eq!(reply.status, 200);
        assert!(body(&reply).contains("proxy ca init"));
        for path in ["/ca.pem", "/ca.cer", "/ca.der", "/ca.mobileconfig"] {
            assert_eq!(answer("GET", path.as_bytes(), PROXY, None).status, 404);
        }
    }
}
