//! The settings of the environment: `PROXY_PORT` is `port`, `PROXY_TIMEOUTS__IDLE` is `timeouts.idle`.

use std::ffi::OsString;

use super::document::{Node, Place, Value};
use super::settings::Settings;
use super::settings_reader::{self, Fault};

/// What the names of all variables begin with.
const PREFIX: &str = "PROXY_";

/// Variables with this prefix that are no settings.
const OTHERS: [&str; 1] = ["PROXY_CONFIG"];

/// More sections than any setting has; further ones count as part of the key.
const MAX_DEPTH: usize = 8;

/// What the variables say. One that is empty counts as unset, except for the credential: it is more likely a secret that
/// got lost on its way than a wish for an open proxy.
pub(super) fn document(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Node {
    let mut document = Node::empty_table(Place::Default);
    for (name, value) in variables {
        let (Some(name), value) = (name.to_str(), value.to_string_lossy()) else {
            continue;
        };
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| !key.is_empty()) else {
            continue;
        };
        if OTHERS.contains(&name) || (value.is_empty() && key != "BASIC_AUTH") {
            continue;
        }
        let key = key.to_ascii_lowercase();
        let path: Vec<&str> = key.splitn(MAX_DEPTH, "__").collect();
        let place = Place::Variable(name.to_owned());
        document.put(&path, Node::text(place, value.into_owned()));
    }
    for foreign in foreign(&document) {
        document.remove(&foreign);
    }
    document
}

/// Names that are like no setting belong to other programs: Kubernetes, for example, sets `PROXY_SERVICE_HOST` for a
/// service of the name `proxy`. Those with a section do not.
fn foreign(document: &Node) -> Vec<String> {
    let (_, faults): (Settings, Vec<Fault>) = settings_reader::read(document);
    let has_section = |path: &str| !matches!(document.find_nearest(path).value, Value::Text(_));
    let foreign = faults
        .into_iter()
        .filter(|fault| matches!(fault.unknown, Some(None)) && !fault.path.contains('.'))
        .filter(|fault| !has_section(&fault.path));
    foreign.map(|fault| fault.path).collect()
}

/// What is wrong with a variable, and what to do about it.
pub(super) fn reason(name: &str, value: &Value, fault: &Fault) -> String {
    if let Some(None) = fault.unknown {
        return "no setting has this name".to_owned();
    }
    // Service links: `PROXY_PORT=tcp://10.0.0.1:8899`.
    let is_link = matches!(value, Value::Text(text) if text.starts_with("tcp://"));
    if name == "PROXY_PORT" && is_link {
        return format!(
            "{}; Kubernetes sets this variable for a service named `proxy`; set enableServiceLinks: false for the pod, \
             or rename the service",
            fault.reason
        );
    }
    fault.reason.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &Node, path: &str) -> Option<String> {
        match &document.find(path)?.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    #[test]
    fn names_are_keys_with_their_sections() {
        let variables = [
            ("PROXY_PORT", "1"),
            ("PROXY_TIMEOUTS__IDLE", "2"),
            ("PROXY_TLS__UPSTREAM__EXTRA_CA_FILES", "a,b"),
            ("PROXY_CONFIG", "x"),
            ("PROXY_VIA", ""),
            ("PROXY_", "x"),
            ("PORT", "3"),
        ];
        let document = document(variables.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(text(&document, "port").as_deref(), Some("1"));
        assert_eq!(text(&document, "timeouts.idle").as_deref(), Some("2"));
        let files = text(&document, "tls.upstream.extra_ca_files");
        assert_eq!(files.as_deref(), Some("a,b"));
        for unset in ["config", "via"] {
            assert!(document.find(unset).is_none(), "{unset}");
        }
    }

    #[test]
    fn a_name_with_thousands_of_sections_is_one_unknown_key() {
        let name = format!("PROXY_{}", "A__".repeat(10_000));
        let document = document([(name.into(), "1".into())]);
        let (_, faults): (Settings, Vec<Fault>) = settings_reader::read(&document);
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn an_empty_credential_is_not_unset() {
        let variables = [(OsString::from("PROXY_BASIC_AUTH"), OsString::new())];
        assert!(document(variables).find("basic_auth").is_some());
    }
}
