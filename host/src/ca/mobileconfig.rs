//! A configuration profile that makes iOS and macOS trust a certificate.
//!
//! A property list with one payload of type `com.apple.security.root`, see Apple's Configuration Profile Reference. It
//! is unsigned. Its identifiers are derived from the certificate's fingerprint, so the same certificate is always the
//! same profile, and another one does not replace it.

use super::certificate::Certificate;

/// The profile, as XML.
pub(super) fn of(certificate: &Certificate) -> String {
    let name = match certificate.name() {
        "" => "proxy CA",
        name => name,
    };
    let name = escaped(name);
    let fingerprint = certificate.fingerprint();
    let (profile, payload) = fingerprint.split_at(16);
    let identifier: String = fingerprint[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (profile, payload) = (uuid(profile), uuid(payload));
    let data = base64_lines(certificate);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
	<key>PayloadIdentifier</key>
	<string>local.proxy.ca.{identifier}</string>
	<key>PayloadUUID</key>
	<string>{profile}</string>
	<key>PayloadDisplayName</key>
	<string>{name}</string>
	<key>PayloadDescription</key>
	<string>Allows the proxy that holds the key of this certificate to decrypt the TLS traffic of this device.</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
			<key>PayloadIdentifier</key>
			<string>local.proxy.ca.{identifier}.certificate</string>
			<key>PayloadUUID</key>
			<string>{payload}</string>
			<key>PayloadDisplayName</key>
			<string>{name}</string>
			<key>PayloadCertificateFileName</key>
			<string>proxy-ca.cer</string>
			<key>PayloadContent</key>
			<data>
{data}			</data>
		</dict>
	</array>
</dict>
</plist>
"#
    )
}

/// The lines of the PEM form without the first and the last.
fn base64_lines(certificate: &Certificate) -> String {
    let pem = certificate.pem();
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    lines.map(|line| format!("\t\t\t{line}\n")).collect()
}

/// A UUID of version 8, for application-specific content (RFC 9562 §5.8), from the first 16 of `bytes`.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().take(16).enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = match at {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        text.push_str(&format!("{byte:02X}"));
    }
    text
}

/// Escapes `text` for XML or HTML elements and attributes. Characters that XML 1.0 §2.2 forbids are replaced.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::certificate::tests::named;
    use rcgen::DnType;

    #[test]
    fn the_same_certificate_is_the_same_profile() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        assert_eq!(of(&certificate), of(&certificate));
        assert_ne!(of(&certificate), of(&named(&[(DnType::CommonName, "x")])));
    }

    #[test]
    fn names_are_escaped() {
        let profile = of(&named(&[(
            DnType::CommonName,
            "<a href='&\">\u{1}\u{ffff}",
        )]));
        let name = "<string>&lt;a href=&#39;&amp;&quot;&gt;\u{fffd}\u{fffd}</string>";
        assert_eq!(profile.matches(name).count(), 2);
    }

    #[test]
    fn uuids_have_version_and_variant() {
        assert_eq!(uuid(&[0; 16]), "00000000-0000-8000-8000-000000000000");
        assert_eq!(uuid(&[0xff; 16]), "FFFFFFFF-FFFF-8FFF-BFFF-FFFFFFFFFFFF");
    }

    #[test]
    fn a_certificate_without_name_has_a_profile_with_one() {
        assert!(of(&named(&[])).contains("<string>proxy CA</string>"));
    }
}
