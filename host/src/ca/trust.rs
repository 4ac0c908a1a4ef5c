//! How to install a certificate, with a list of steps for each kind of client.
//!
//! The terminal and the page show the same steps, with the names of the file and of the certificate filled in. This
//! module changes nothing.

use std::fmt;
use std::path::Path;

use super::page;

/// What to do for every kind of client.
pub(super) struct Steps(Vec<Client>);

/// One kind of client.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) steps: Vec<Step>,
}

/// One thing to do.
pub(super) enum Step {
    /// For a person to read.
    Words(String),
    /// For a shell.
    Command(String),
}

use Step::{Command, Words};

impl Steps {
    /// `file` has the certificate in PEM; `name` is what it is called.
    pub(super) fn new(file: &Path, name: &str) -> Self {
        let windows = format!("\"{}\"", file.display());
        let name = quoted(Path::new(if name.is_empty() { "proxy CA" } else { name }));
        let plain = file.display();
        let file = quoted(file);
        let host = page::HOST;
        let client = |name, steps| Client { name, steps };
        let words = |text: &str| Words(text.to_owned());
        Steps(vec![
            client(
                "Debian, Ubuntu",
                vec![
                    Command(format!(
                        "sudo cp {file} /usr/local/share/ca-certificates/proxy-ca.crt"
                    )),
                    Command("sudo update-ca-certificates".to_owned()),
                ],
            ),
            client(
                "Fedora, RHEL",
                vec![
                    Command(format!(
                        "sudo cp {file} /etc/pki/ca-trust/source/anchors/proxy-ca.pem"
                    )),
                    Command("sudo update-ca-trust".to_owned()),
                ],
            ),
            client(
                "Arch Linux",
                vec![Command(format!("sudo trust anchor --store {file}"))],
            ),
            client(
                "macOS",
                vec![Command(format!(
                    "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {file}"
                ))],
            ),
            client(
                "Windows",
                vec![
                    words("In an administrator terminal:"),
                    Command(format!("certutil -addstore -f Root {windows}")),
                    words("For one user only, without administrator rights:"),
                    Command(format!("certutil -user -addstore -f Root {windows}")),
                ],
            ),
            client(
                "iOS, iPadOS",
                vec![
                    Words(format!(
                        "Set the proxy in the settings of the Wi-Fi network, then open http://{host}/ca.mobileconfig \
                         in Safari and allow the download. Or send the device what `proxy ca export --format \
                         mobileconfig` writes."
                    )),
                    words("Settings > General > VPN & Device Management: install the profile."),
                    words("Settings > General > About > Certificate Trust Settings: switch it on."),
                ],
            ),
            client(
                "Android",
                vec![
                    Words(format!(
                        "Set the proxy in the settings of the Wi-Fi network, then download http://{host}/ca.cer."
                    )),
                    words(
                        "Settings > Security > More security settings > Encryption & credentials > Install a \
                         certificate > CA certificate: choose the file. Names and order differ by maker.",
                    ),
                    words(
                        "Browsers then trust it. Other apps trust it only if their network security configuration \
                         allows user certificates.",
                    ),
                ],
            ),
            client(
                "Firefox",
                vec![Words(format!(
                    "Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import: \
                         choose {plain} and tick \"Trust this CA to identify websites\"."
                ))],
            ),
            client(
                "Chrome, Chromium on Linux",
                vec![
                    words("With certutil of libnss3-tools (Debian) or nss-tools (Fedora):"),
                    Command("mkdir -p ~/.pki/nssdb".to_owned()),
                    Command(format!(
                        "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i {file}"
                    )),
                    words("On other systems, they use the trust store of the system."),
                ],
            ),
            client(
                "Java",
                vec![Command(format!(
                    "keytool -importcert -cacerts -storepass changeit -noprompt -alias proxy-ca -file {file}"
                ))],
            ),
            client(
                "Node.js",
                vec![Command(format!("export NODE_EXTRA_CA_CERTS={file}"))],
            ),
            client(
                "Python",
                vec![
                    words("For requests, and for everything else (ssl, httpx, aiohttp):"),
                    Command(format!("export REQUESTS_CA_BUNDLE={file}")),
                    Command(format!("export SSL_CERT_FILE={file}")),
                    words(
                        "Python then trusts only this file, so set them only where all traffic goes through the \
                         proxy.",
                    ),
                ],
            ),
            client(
                "curl",
                vec![
                    Command(format!("curl --cacert {file} https://example.com/")),
                    words("or, for every call:"),
                    Command(format!("export CURL_CA_BUNDLE={file}")),
                ],
            ),
            client(
                "git",
                vec![Command(format!(
                    "git config --global http.sslCAInfo {file}"
                ))],
            ),
        ])
    }

    /// In the order in which they are shown.
    pub(super) fn clients(&self) -> &[Client] {
        &self.0
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, client) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{}", client.name)?;
            for step in &client.steps {
                match step {
                    Words(text) => writeln!(f, "    {text}")?,
                    Command(text) => writeln!(f, "        {text}")?,
                }
            }
        }
        Ok(())
    }
}

/// A file's name as one word for a POSIX shell.
pub(super) fn quoted(file: &Path) -> String {
    let text = file.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_word_of_a_shell() {
        for (file, word) in [
            ("ca-cert.pem", "ca-cert.pem"),
            ("/a b/c.pem", "'/a b/c.pem'"),
            ("$(x)", "'$(x)'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(file)), word);
        }
    }

    #[test]
    fn every_command_about_the_file_names_it() {
        let text = Steps::new(Path::new("/srv/my ca.pem"), "proxy CA 'x'").to_string();
        let count = text.matches("'/srv/my ca.pem'").count();
        assert_eq!(count, 12, "{text}");
        assert_eq!(text.matches("\"/srv/my ca.pem\"").count(), 2);
        assert!(text.contains(r"-n 'proxy CA '\''x'\'''"));
    }
}
