//! Which parents an exchange may go through, if any, and whose fault it is when that fails.

use crate::config::Rule;
use crate::hosts::HostSet;
use crate::pool::{Group, Pool};
use plugin_api::Error;

/// The bypass list and the rules.
pub(crate) struct Routes {
    bypass: HostSet,
    rules: Vec<(HostSet, Group)>,
    /// For hosts that no rule names; none if they go direct.
    others: Option<Group>,
}

impl Routes {
    /// Reads the lists and puts their parents into the pool.
    ///
    /// # Errors
    /// A list that cannot be meant, with its key.
    pub(crate) fn new(
        pool: &mut Pool,
        bypass: &[String],
        rules: &[Rule],
        parents: &[String],
    ) -> Result<Self, Error> {
        if parents.is_empty() && rules.is_empty() {
            return Err(Error::new("parents: is empty"));
        }
        let read = |rule: &Rule| {
            let hosts = HostSet::new("rules.hosts", &rule.hosts)?;
            let group = pool.add("rules.parents", &rule.parents)?;
            let group = group.ok_or_else(|| {
                Error::new("rules.parents: is empty; list hosts to connect to directly in `bypass`")
            })?;
            Ok((hosts, group))
        };
        Ok(Self {
            bypass: HostSet::new("bypass", bypass)?,
            rules: rules.iter().map(read).collect::<Result<_, Error>>()?,
            others: pool.add("parents", parents)?,
        })
    }

    /// The parents for an exchange with `host` and `port`; none if it goes direct. So does what is meant for a parent
    /// itself: through another one it might come back to here.
    pub(crate) fn group(&self, pool: &Pool, host: &str, port: u16) -> Option<&Group> {
        let is_parent = pool.parents().iter().any(|parent| parent.is_at(host, port));
        if is_parent || self.bypass.contains(host) {
            return None;
        }
        let rule = self.rules.iter().find(|(hosts, _)| hosts.contains(host));
        rule.map(|(_, group)| group).or(self.others.as_ref())
    }
}

/// Whether a failure to connect speaks against the parent, rather than against `host` behind it. What cannot be told is
/// the parent's: to try another one does no harm.
pub(crate) fn is_fault_of_parent(failure: &str, host: &str) -> bool {
    // In these words the proxy tells that the parent was there and said no, or that the TLS behind it failed.
    !failure.contains("the parent proxy answered")
        && !failure.contains(&format!("TLS with {host} failed"))
}

#[cfg(test)]
mod tests {
    use super::is_fault_of_parent;

    #[test]
    fn a_parent_that_answers_is_not_down() {
        for (failure, expected) in [
            ("connection refused", true),
            ("", true),
            ("the parent proxy closed the connection", true),
            ("TLS with parent.example failed: expired", true),
            ("cannot connect: the parent proxy answered 403", false),
            ("the parent proxy answered: host unreachable", false),
            ("TLS with a.example failed: expired", false),
        ] {
            assert_eq!(
                is_fault_of_parent(failure, "a.example"),
                expected,
                "{failure}"
            );
        }
    }
}
