//! How to install a certificate, with a list of steps for each kind of client.
//!
//! The terminal and the page show the same steps, with the names of the file and of the certificate filled in. This
//! module changes nothing.

use std::fmt;
use std::path::Path;

use super::page;

/// The instructions for all kinds of clients.
pub(super) struct Instructions(Vec<ClientInstructions>);

/// One kind of client.
pub(super) struct ClientInstructions {
    pub(super) name: &'static str,
    pub(super) instructions: Vec<Instruction>,
}

/// A line of instructions.
pub(super) enum Instruction {
    /// Text for a person.
    Text(String),
    /// A shell command.
    Command(String),
}

use Instruction::{Command, Text};

impl Instructions {
    /// `file` contains the certificate in PEM; `name` is its name.
    pub(super) fn new(file: &Path, name: &str) -> Self {
        let windows = format!("\"{}\"", file.display());
        let name = quoted(Path::new(if name.is_empty() { "proxy CA" } else { name }));
        let plain = file.display();
        let file = quoted(file);
        let host = page::HOST;
        let client = |name, instructions| ClientInstructions { name, instructions };
        let text_line = |text: &str| Text(text.to_owned());
        Instructions(vec![
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
                    text_line("In an administrator terminal:"),
                    Command(format!("certutil -addstore -f Root {windows}")),
                    text_line("For one user only, without administrator rights:"),
                    Command(format!("certutil -user -addstore -f Root {windows}")),
                ],
            ),
            client(
                "iOS, iPadOS",
                vec![
                    Text(format!(
                        "Set the proxy in the settings of the Wi-Fi network, then open http://{host}/ca.mobileconfig \
                         in Safari and allow the download. Or send the device what `proxy ca export --format \
                         mobileconfig` writes."
                    )),
                    text_line("Settings > General > VPN & Device Management: install the profile."),
                    text_line(
                        "Settings > General > About > Certificate Trust Settings: switch it on.",
                    ),
                ],
            ),
            client(
                "Android",
                vec![
                    Text(format!(
                        "Set the proxy in the settings of the Wi-Fi network, then download http://{host}/ca.cer."
                    )),
                    text_line(
                        "Settings > Security > More security settings > Encryption & credentials > Install a \
                         certificate > CA certificate: choose the file. Names and order differ by maker.",
                    ),
                    text_line(
                        "Browsers then trust it. Other apps trust it only if their network security configuration \
                         allows user certificates.",
                    ),
                ],
            ),
            client(
                "Firefox",
                vec![Text(format!(
                    "Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import: \
                         choose {plain} and tick \"Trust this CA to identify websites\"."
                ))],
            ),
            client(
                "Chrome, Chromium on Linux",
                vec![
                    text_line("With certutil of libnss3-tools (Debian) or nss-tools (Fedora):"),
                    Command("mkdir -p ~/.pki/nssdb".to_owned()),
                    Command(format!(
                        "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i {file}"
                    )),
                    text_line("On other systems, they use the trust store of the system."),
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
                    text_line("For requests, and for everything else (ssl, httpx, aiohttp):"),
                    Command(format!("export REQUESTS_CA_BUNDLE={file}")),
                    Command(format!("export SSL_CERT_FILE={file}")),
                    text_line(
                        "Python then trusts only this file, so set them only where all traffic goes through the \
                         proxy.",
                    ),
                ],
            ),
            client(
                "curl",
                vec![
                    Command(format!("curl --cacert {file} https://example.com/")),
                    text_line("or, for every call:"),
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
    pub(super) fn clients(&self) -> &[ClientInstructions] {
        &self.0
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, client) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{}", client.name)?;
            for instruction in &client.instructions {
                match instruction {
                    Text(text) => writeln!(f, "    {text}")?,
                    Command(text) => writeln!(f, "        {text}")?,
                }
            }
        }
        Ok(())
    }
}

/// A file name as a word for a POSIX shell.
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
    fn a_file_is_one_shell_word() {
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
        let text = Instructions::new(Path::new("/srv/my ca.pem"), "proxy CA 'x'").to_string();
        let count = text.matches("'/srv/my ca.pem'").count();
        assert_eq!(count, 12, "{text}");
        assert_eq!(text.matches("\"/srv/my ca.pem\"").count(), 2);
        assert!(text.contains(r"-n 'proxy CA '\''x'\'''"));
    }
}
