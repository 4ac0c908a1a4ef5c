//! Field values that are not recorded.

use plugin_api::{Error, is_token};

/// Names of fields that are recorded without their values.
pub(crate) struct Redaction {
    names: Vec<String>,
}

impl Redaction {
    /// Fields of these names, in any case.
    ///
    /// # Errors
    /// An invalid field name.
    pub(crate) fn new(names: Vec<String>) -> Result<Self, Error> {
        match names.iter().find(|name| !is_token(name)) {
            Some(name) => Err(Error::new(format!(
                "redact_fields: `{name}` is not a field name"
            ))),
            None => Ok(Self { names }),
        }
    }

    /// The recorded value; bytes that are not UTF-8 are replaced.
    pub(crate) fn shown(&self, name: &str, value: &[u8]) -> String {
        match self
            .names
            .iter()
            .any(|hidden| hidden.eq_ignore_ascii_case(name))
        {
            true => "[redacted]".to_owned(),
            false => String::from_utf8_lossy(value).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Redaction;

    #[test]
    fn hides_values_by_name_in_any_case() {
        let redaction = Redaction::new(vec!["Cookie".to_owned()]).unwrap();
        assert_eq!(redaction.shown("COOKIE", b"a=b"), "[redacted]");
        assert_eq!(redaction.shown("cookie2", b"a\xff"), "a\u{fffd}");
    }

    #[test]
    fn refuses_a_name_that_would_hide_nothing() {
        let refused = Redaction::new(vec!["cookie: ".to_owned()]).err().unwrap();
        assert_eq!(
            refused.message(),
            "redact_fields: `cookie: ` is not a field name"
        );
    }
}
