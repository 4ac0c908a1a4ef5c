//! Which URLs are blocked, and by which rules.
//!
//! All expressions form one automaton, compiled once, whose time is linear in the length of the URL: neither a long
//! list nor a crafted URL makes it slow. The price is that look-around and back-references are not supported; they are
//! refused at startup.

use crate::config::RuleConfig;
use plugin_api::Error;
use regex::{Regex, RegexSet, RegexSetBuilder};

/// The maximum memory of all compiled expressions, in bytes; a list above it is refused.
const MAX_COMPILED_LEN: usize = 64 << 20;

/// The rules, in order.
pub(crate) struct UrlRules {
    expressions: RegexSet,
    rules: Vec<RuleConfig>,
}

/// The rules that a URL matches.
#[derive(Debug)]
pub(crate) struct Block<'r> {
    /// The status code of the first rule that matched.
    pub(crate) status: u16,
    /// The reason phrase of that rule.
    pub(crate) reason: &'r str,
    /// The notes of all rules that matched, in order.
    pub(crate) notes: String,
}

impl UrlRules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// The first invalid rule, with its number from 1, or all rules if they need too much memory.
    pub(crate) fn new(rules: Vec<RuleConfig>) -> Result<Self, Error> {
        for (number, rule) in (1..).zip(&rules) {
            check(rule).map_err(|reason| Error::new(format!("rule {number}: {reason}")))?;
        }
        let expressions = RegexSetBuilder::new(rules.iter().map(|rule| &rule.regex))
            .size_limit(MAX_COMPILED_LEN)
            .build()
            .map_err(|error| refused(&rules, &error))?;
        Ok(Self { expressions, rules })
    }

    /// The number of rules.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rules that match `url`, which is host and path of a request, or the host of a tunnel.
    pub(crate) fn block(&self, url: &str) -> Option<Block<'_>> {
        // Usually none matches; checking that first is cheaper than collecting the matches.
        if !self.expressions.is_match(url) {
            return None;
        }
        let matches = self.expressions.matches(url);
        let matching: Vec<&RuleConfig> = matches.iter().map(|at| &self.rules[at]).collect();
        let first = matching.first()?;
        let notes: Vec<&str> = matching.iter().map(|rule| rule.notes.as_str()).collect();
        Some(Block {
            status: first.status,
            reason: &first.reason,
            notes: notes.join("; "),
        })
    }
}

fn check(rule: &RuleConfig) -> Result<(), String> {
    if rule.regex.is_empty() {
        return Err("regex: is empty, which would match everything".to_owned());
    }
    if !(400..=599).contains(&rule.status) {
        return Err(format!("status: {} is not from 400 to 599", rule.status));
    }
    if rule.reason.chars().any(char::is_control) {
        return Err("reason: contains a control character".to_owned());
    }
    Ok(())
}

/// Why the rules do not compile together: the rule that does not compile alone, or else all of them.
fn refused(rules: &[RuleConfig], together: &regex::Error) -> Error {
    let alone = (1..).zip(rules).find_map(|(number, rule)| {
        let error = Regex::new(&rule.regex).err()?;
        let reason = in_one_line(&error);
        Some(format!("rule {number}: regex: `{}`: {reason}", rule.regex))
    });
    Error::new(alone.unwrap_or_else(|| format!("rules: {}", in_one_line(together))))
}

/// The reason of a regex error, whose full text has several lines to mark the position.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::UrlRules;
    use crate::config::RuleConfig;

    fn rule(regex: &str) -> RuleConfig {
        RuleConfig {
            regex: regex.to_owned(),
            notes: format!("notes of {regex}"),
            status: 404,
            reason: "Blocked".to_owned(),
        }
    }

    #[test]
    fn expressions_match_anywhere_unless_anchored() {
        let rules = UrlRules::new(vec![
            rule(r"ads\."),
            rule(r"^a\.example/track"),
            rule(r"x$"),
        ]);
        let rules = rules.unwrap();
        for (url, blocked) in [
            ("ads.example/", true),
            ("b.example/ads.js", true),
            ("b.example/adsxjs", false),
            ("a.example/tracker?id=1", true),
            ("ba.example/tracker", false),
            ("a.example/?x", true),
            ("a.example/?xy", false),
        ] {
            assert_eq!(rules.block(url).is_some(), blocked, "{url}");
        }
    }

    #[test]
    fn the_first_match_answers_and_all_are_noted() {
        let first = RuleConfig {
            status: 403,
            reason: "No".to_owned(),
            ..rule("b")
        };
        let rules = UrlRules::new(vec![rule("zzz"), first, rule("a")]).unwrap();
        let block = rules.block("a.b/").unwrap();
        assert_eq!((block.status, block.reason), (403, "No"));
        assert_eq!(block.notes, "notes of b; notes of a");
    }

    #[test]
    fn no_rules_block_nothing() {
        assert!(UrlRules::new(Vec::new()).unwrap().block("a/").is_none());
    }

    #[test]
    fn refuses_a_rule_by_its_number() {
        let status = RuleConfig {
            status: 200,
            ..rule("a")
        };
        let reason = RuleConfig {
            reason: "a\r\nb".to_owned(),
            ..rule("a")
        };
        for (bad, message) in [
            (rule("("), "rule 2: regex: `(`: unclosed group"),
            (
                rule(""),
                "rule 2: regex: is empty, which would match everything",
            ),
            (status, "rule 2: status: 200 is not from 400 to 599"),
            (reason, "rule 2: reason: contains a control character"),
        ] {
            let refused = UrlRules::new(vec![rule("a"), bad]).err().unwrap();
            assert_eq!(refused.message(), message);
        }
        let look_around = UrlRules::new(vec![rule("a(?!b)")]).err().unwrap();
        assert!(look_around.message().contains("look-around"));
        let huge = UrlRules::new(vec![rule("((a{100}){100}){1000}")])
            .err()
            .unwrap();
        assert!(huge.message().contains("limit"), "{}", huge.message());
    }
}
