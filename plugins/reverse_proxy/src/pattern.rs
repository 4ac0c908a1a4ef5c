//! The names that a route's pattern captures, to check an upstream's URL at startup.
//!
//! The proxy matches paths, and reports what is wrong with a pattern, unless that prevents finding the names.

use regex::Regex;

/// A path pattern, with its names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    names: Vec<CaptureName>,
}

#[derive(Debug, PartialEq, Eq)]
struct CaptureName {
    name: String,
    /// Whether it matches the rest of a path.
    is_rest: bool,
}

impl Pattern {
    /// The names of a path pattern such as `/api/{version}/{*rest}`.
    ///
    /// # Errors
    /// Why it is invalid.
    pub(crate) fn of_path(pattern: &str) -> Result<Self, String> {
        if !pattern.starts_with('/') {
            return Err("does not begin with a slash".to_owned());
        }
        let mut names = Vec::new();
        for part in braces(pattern)? {
            if let TemplatePiece::Name(name) = part {
                let rest = name.strip_prefix('*');
                names.push(CaptureName {
                    name: checked(rest.unwrap_or(name))?.to_owned(),
                    is_rest: rest.is_some(),
                });
            }
        }
        Ok(Self { names })
    }

    /// The groups of a regular expression: by name, or by number if they have none.
    ///
    /// # Errors
    /// Why it is invalid.
    pub(crate) fn of_regex(expression: &str) -> Result<Self, String> {
        let regex = Regex::new(expression).map_err(|error| {
            // The first lines only repeat the expression and mark the position.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!(
                "is not a valid regular expression: {}",
                reason.trim_start_matches("error: ")
            )
        })?;
        let groups = regex.capture_names().enumerate().skip(1);
        let names = groups.map(|(number, name)| CaptureName {
            name: name.map_or_else(|| number.to_string(), str::to_owned),
            is_rest: false,
        });
        Ok(Self {
            names: names.collect(),
        })
    }

    /// Whether the capture `name` matches the rest of a path; none if there is no such capture.
    pub(crate) fn is_rest(&self, name: &str) -> Option<bool> {
        let found = self.names.iter().find(|each| each.name == name);
        found.map(|name| name.is_rest)
    }
}

/// A part of a text with names in braces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TemplatePiece<'t> {
    /// Literal text; braces are single here.
    Literal(&'t str),
    /// The text between braces.
    Name(&'t str),
}

/// Splits `text` at `{name}`; `{{` and `}}` are literal braces.
///
/// # Errors
/// An unmatched brace.
pub(crate) fn braces(text: &str) -> Result<Vec<TemplatePiece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, tail) = rest.split_at(at);
        pieces.push(TemplatePiece::Literal(literal));
        let brace = &tail[..1];
        if tail[1..].starts_with(brace) {
            pieces.push(TemplatePiece::Literal(brace));
            rest = &tail[2..];
            continue;
        }
        let name = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
        let Some((name, tail)) = name else {
            return Err(format!(
                "has a lone `{brace}`; write a literal one as `{brace}{brace}`"
            ));
        };
        pieces.push(TemplatePiece::Name(name));
        rest = tail;
    }
    pieces.push(TemplatePiece::Literal(rest));
    pieces.retain(|piece| *piece != TemplatePiece::Literal(""));
    Ok(pieces)
}

fn checked(name: &str) -> Result<&str, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_letter) {
        true => Ok(name),
        false => Err(format!(
            "has a name with characters other than letters, digits, `-` and `_`: `{name}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, TemplatePiece, braces};

    #[test]
    fn a_path_has_the_names_between_its_braces() {
        let pattern = Pattern::of_path("/{{x}}/{version}/{file}.txt/{*rest}").unwrap();
        for (name, is_rest) in [
            ("version", Some(false)),
            ("file", Some(false)),
            ("rest", Some(true)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(pattern.is_rest(name), is_rest, "{name}");
        }
    }

    #[test]
    fn an_expression_has_its_groups_by_number_and_name() {
        let pattern = Pattern::of_regex(r"/(\d+)/(?<name>[a-z]+)/(?:x)(y)").unwrap();
        for (name, is_rest) in [
            ("0", None),
            ("1", Some(false)),
            ("2", None),
            ("name", Some(false)),
            ("3", Some(false)),
            ("4", None),
        ] {
            assert_eq!(pattern.is_rest(name), is_rest, "{name}");
        }
    }

    #[test]
    fn doubled_braces_are_literal() {
        let pieces = braces("a{{{b}}}c").unwrap();
        let literal = TemplatePiece::Literal;
        assert_eq!(
            pieces,
            [
                literal("a"),
                literal("{"),
                TemplatePiece::Name("b"),
                literal("}"),
                literal("c")
            ]
        );
    }

    #[test]
    fn refuses_malformed_patterns() {
        for (path, reason) in [
            ("api", "does not begin with a slash"),
            ("/{a", "has a lone `{`; write a literal one as `{{`"),
            ("/a}", "has a lone `}`; write a literal one as `}}`"),
            (
                "/{}",
                "has a name with characters other than letters, digits, `-` and `_`: ``",
            ),
            (
                "/{*}",
                "has a name with characters other than letters, digits, `-` and `_`: ``",
            ),
            (
                "/{a/b}",
                "has a name with characters other than letters, digits, `-` and `_`: `a/b`",
            ),
        ] {
            assert_eq!(Pattern::of_path(path).unwrap_err(), reason);
        }
        let reason = Pattern::of_regex("/(").unwrap_err();
        assert_eq!(reason, "is not a valid regular expression: unclosed group");
    }
}
