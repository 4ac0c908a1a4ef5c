//! The changes of fields, and which ones the proxy would reject.
//!
//! Everything is checked at startup, with the proxy's own rules, so that no request fails because of a typing error.

use crate::config::Config;
use plugin_api::{Error, is_field_value, is_host_owned, is_token};
use std::collections::HashSet;

/// A change of a request's fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Removes all fields of this name.
    Remove(String),
    /// Replaces all fields of this name by one with this value.
    Set(String, String),
    /// Adds a field at the end.
    Append(String, String),
}

/// The changes of `config`, in the order in which they are made.
///
/// # Errors
/// Invalid names and values, and fields that only the proxy writes; with their key.
pub(crate) fn changes(config: Config) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for name in config.remove {
        check_name("remove", &name)?;
        changes.push(Change::Remove(name));
    }
    let mut names = HashSet::new();
    for (name, value) in config.set {
        check("set", &name, &value)?;
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(Error::new(format!(
                "set: `{name}` is listed twice, in two spellings"
            )));
        }
        changes.push(Change::Set(name, value));
    }
    for (name, value) in config.append {
        check("append", &name, &value)?;
        changes.push(Change::Append(name, value));
    }
    Ok(changes)
}

fn check(key: &str, name: &str, value: &str) -> Result<(), Error> {
    check_name(key, name)?;
    if is_field_value(value) {
        return Ok(());
    }
    Err(Error::new(format!(
        "{key}.{name}: the value contains control characters, or begins or ends with a space"
    )))
}

fn check_name(key: &str, name: &str) -> Result<(), Error> {
    if !is_token(name) {
        return Err(Error::new(format!("{key}: `{name}` is not a field name")));
    }
    if is_host_owned(name) {
        return Err(Error::new(format!(
            "{key}: `{name}` is set by the proxy itself"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Change, changes};
    use crate::config::Config;
    use std::collections::BTreeMap;

    fn config(set: &[(&str, &str)], append: &[(&str, &str)], remove: &[&str]) -> Config {
        let map = |pairs: &[(&str, &str)]| {
            let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
            pairs.iter().map(owned).collect::<BTreeMap<_, _>>()
        };
        Config {
            set: map(set),
            append: map(append),
            remove: remove.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn refused(config: Config) -> String {
        changes(config).err().unwrap().message().to_owned()
    }

    #[test]
    fn removes_then_sets_then_appends() {
        let config = config(&[("b", "1"), ("a", "")], &[("a", "2")], &["Z"]);
        let expected = [
            Change::Remove("Z".to_owned()),
            Change::Set("a".to_owned(), String::new()),
            Change::Set("b".to_owned(), "1".to_owned()),
            Change::Append("a".to_owned(), "2".to_owned()),
        ];
        assert_eq!(changes(config).unwrap(), expected);
    }

    #[test]
    fn refuses_host_owned_fields() {
        for name in ["HOST", "CONTENT-LENGTH", "TRANSFER-ENCODING", "CONNECTION"] {
            let name = name.to_owned();
            for (key, config) in [
                ("set", config(&[(&name, "x")], &[], &[])),
                ("append", config(&[], &[(&name, "x")], &[])),
                ("remove", config(&[], &[], &[&name])),
            ] {
                let reason = format!("{key}: `{name}` is set by the proxy itself");
                assert_eq!(refused(config), reason);
            }
        }
    }

    #[test]
    fn refuses_invalid_names_and_values() {
        for name in ["", "a b", "a:", "ä", "a\r\n"] {
            let reason = format!("append: `{name}` is not a field name");
            assert_eq!(refused(config(&[], &[(name, "x")], &[])), reason);
        }
        for value in ["a\r\nb: c", " a", "a ", "a\0"] {
            let reason =
                "set.a: the value contains control characters, or begins or ends with a space";
            assert_eq!(refused(config(&[("a", value)], &[], &[])), reason);
        }
        let twice = refused(config(&[("A", "1"), ("a", "2")], &[], &[]));
        assert_eq!(twice, "set: `a` is listed twice, in two spellings");
    }
}
