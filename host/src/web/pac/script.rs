//! The text of a generated PAC file.
//!
//! It uses ECMAScript 3 only, for the oldest engines. Of the PAC functions, it uses those that inspect the host name:
//! functions that resolve names would delay the browser at each request, and reveal to the DNS what only the proxy
//! should know.

use super::address::ProxyAddress;
use crate::config::{DirectRule, RuleForm};

/// The content of a generated PAC file.
#[derive(Debug)]
pub(super) struct ScriptOptions<'a> {
    /// The proxies, in the order in which they are tried.
    pub(super) proxies: &'a [ProxyAddress],
    pub(super) client_protocol: ClientProtocol,
    /// Hosts that need no proxy, in addition to this machine and the proxies.
    pub(super) direct: Vec<&'a DirectRule>,
    pub(super) without_proxy: WithoutProxy,
}

/// The protocol between clients and the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientProtocol {
    ClearText,
    Tls,
}

/// What clients do if no proxy answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutProxy {
    GoDirectly,
    Fail,
}

/// The whole file.
pub(super) fn script(options: &ScriptOptions<'_>) -> String {
    let mut conditions = vec![
        r#"host == "localhost" || dnsDomainIs(host, ".localhost")"#.to_owned(),
        r#"isAddress && isInNet(host, "127.0.0.0", "255.0.0.0")"#.to_owned(),
        is_host("::1"),
    ];
    let proxies = options.proxies.iter().map(|proxy| is_host(proxy.host()));
    let direct = options.direct.iter().map(|rule| condition(rule));
    for condition in proxies.chain(direct) {
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    let lines: String = conditions
        .iter()
        .map(|condition| format!("    if ({condition}) return \"DIRECT\";\n"))
        .collect();
    let answer = quoted(&answer(options));
    format!("{HEAD}{lines}\n    return {answer};\n}}\n")
}

const HEAD: &str = r#"// A PAC (proxy auto-configuration) file, made by `proxy pac generate`.
function FindProxyForURL(url, host) {
    host = host.toLowerCase();
    // Some engines keep the brackets of IPv6 addresses; names may end with a dot.
    if (host.charAt(0) == "[") host = host.substring(1, host.length - 1);
    if (host.charAt(host.length - 1) == ".") host = host.substring(0, host.length - 1);
    // isInNet would resolve a name.
    var isAddress = /^\d+\.\d+\.\d+\.\d+$/.test(host);

"#;

/// What `FindProxyForURL` returns for hosts that need a proxy.
fn answer(options: &ScriptOptions<'_>) -> String {
    let word = match options.client_protocol {
        ClientProtocol::ClearText => "PROXY",
        ClientProtocol::Tls => "HTTPS",
    };
    let mut ways: Vec<String> = options
        .proxies
        .iter()
        .map(|proxy| format!("{word} {proxy}"))
        .collect();
    if options.without_proxy == WithoutProxy::GoDirectly {
        ways.push("DIRECT".to_owned());
    }
    ways.join("; ")
}

fn condition(rule: &DirectRule) -> String {
    match &rule.0 {
        // IPv6 addresses contain no dots either.
        RuleForm::Local => r#"isPlainHostName(host) && host.indexOf(":") < 0"#.to_owned(),
        RuleForm::Network(address, mask) => {
            format!("isAddress && isInNet(host, \"{address}\", \"{mask}\")")
        }
        RuleForm::All => r#"shExpMatch(host, "*")"#.to_owned(),
        RuleForm::Exact(name) => is_host(name),
        RuleForm::Below(suffix) => is_below(suffix),
        RuleForm::Within(suffix) => {
            let itself = is_host(suffix.trim_start_matches('.'));
            format!("{itself} || {}", is_below(suffix))
        }
    }
}

fn is_host(name: &str) -> String {
    format!("host == {}", quoted(name))
}

fn is_below(suffix: &str) -> String {
    format!("dnsDomainIs(host, {})", quoted(suffix))
}

/// A string literal of ECMAScript 3, in ASCII, that is also safe inside HTML.
fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok(c @ (' '..='~')) if !matches!(c, '"' | '\\' | '<' | '>' | '&') => literal.push(c),
            _ => literal.push_str(&format!("\\u{unit:04x}")),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(
        proxies: &[&str],
        client_protocol: ClientProtocol,
        direct: &[&str],
        without_proxy: WithoutProxy,
    ) -> String {
        let proxies: Vec<ProxyAddress> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let direct: Vec<DirectRule> = direct.iter().map(|text| text.parse().unwrap()).collect();
        script(&ScriptOptions {
            proxies: &proxies,
            client_protocol,
            direct: direct.iter().collect(),
            without_proxy,
        })
    }

    fn with_direct(direct: &[&str]) -> String {
        made(
            &["proxy.example:8899"],
            ClientProtocol::ClearText,
            direct,
            WithoutProxy::GoDirectly,
        )
    }

    #[test]
    fn the_whole_text_is_readable() {
        assert_eq!(
            with_direct(&[".corp.example"]),
            r#"// A PAC (proxy auto-configuration) file, made by `proxy pac generate`.
function FindProxyForURL(url, host) {
    host = host.toLowerCase();
    // Some engines keep the brackets of IPv6 addresses; names may end with a dot.
    if (host.charAt(0) == "[") host = host.substring(1, host.length - 1);
    if (host.charAt(host.length - 1) == ".") host = host.substring(0, host.length - 1);
    // isInNet would resolve a name.
    var isAddress = /^\d+\.\d+\.\d+\.\d+$/.test(host);

    if (host == "localhost" || dnsDomainIs(host, ".localhost")) return "DIRECT";
    if (isAddress && isInNet(host, "127.0.0.0", "255.0.0.0")) return "DIRECT";
    if (host == "::1") return "DIRECT";
    if (host == "proxy.example") return "DIRECT";
    if (host == "corp.example" || dnsDomainIs(host, ".corp.example")) return "DIRECT";

    return "PROXY proxy.example:8899; DIRECT";
}
"#
        );
    }

    #[test]
    fn proxies_are_tried_in_their_order() {
        for (client_protocol, without_proxy, answer) in [
            (
                ClientProtocol::ClearText,
                WithoutProxy::GoDirectly,
                "return \"PROXY a:1; PROXY [2001:db8::1]:2; DIRECT\";",
            ),
            (
                ClientProtocol::ClearText,
                WithoutProxy::Fail,
                "return \"PROXY a:1; PROXY [2001:db8::1]:2\";",
            ),
            (
                ClientProtocol::Tls,
                WithoutProxy::GoDirectly,
                "return \"HTTPS a:1; HTTPS [2001:db8::1]:2; DIRECT\";",
            ),
        ] {
            let script = made(
                &["a:1", "[2001:db8::1]:2"],
                client_protocol,
                &[],
                without_proxy,
            );
            assert!(script.contains(answer), "{script}");
        }
    }

    #[test]
    fn every_rule_has_its_condition() {
        for (rule, condition) in [
            (
                "<local>",
                r#"isPlainHostName(host) && host.indexOf(":") < 0"#,
            ),
            (
                "10.1.2.3/8",
                r#"isAddress && isInNet(host, "10.0.0.0", "255.0.0.0")"#,
            ),
            ("*", r#"shExpMatch(host, "*")"#),
            ("Example.com", r#"host == "example.com""#),
            ("[2001:DB8::1]", r#"host == "2001:db8::1""#),
            ("*.example.com", r#"dnsDomainIs(host, ".example.com")"#),
        ] {
            let line = format!("    if ({condition}) return \"DIRECT\";\n");
            assert!(with_direct(&[rule]).contains(&line), "{rule}");
        }
    }

    #[test]
    fn no_condition_is_repeated() {
        let script = with_direct(&[
            "a.example",
            "A.example",
            "::1",
            "127.0.0.0/8",
            "proxy.example",
        ]);
        assert_eq!(script.matches("return \"DIRECT\"").count(), 5, "{script}");
    }

    #[test]
    fn strings_cannot_end_early() {
        for (text, literal) in [
            ("a-b_c.d:e", r#""a-b_c.d:e""#),
            (r#"a"b\c"#, r#""a\u0022b\u005cc""#),
            ("a\r\n\u{2028}", r#""a\u000d\u000a\u2028""#),
            ("</script>", r#""\u003c/script\u003e""#),
            ("é😀", r#""\u00e9\ud83d\ude00""#),
        ] {
            assert_eq!(quoted(text), literal);
        }
    }
}
