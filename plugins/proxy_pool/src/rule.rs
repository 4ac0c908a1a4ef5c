//! Which parents an exchange may use, and who is at fault when connecting fails.

use crate::config::Rule;
use crate::hosts::HostSet;
use crate::pool::{Group, Pool};
use plugin_api::Error;

/// The bypass list and the rules.
pub(crate) struct Routes {
    bypass: HostSet,
    rules: Vec<(HostSet, Group)>,
    /// For hosts that match no rule; none if they are connected to directly.
    others: Option<Group>,
}

impl Routes {
    /// Parses the lists and adds their parents to the pool.
    ///
    /// # Errors
    /// An invalid list, with its key.
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

    /// The parents for an exchange with `host` and `port`; none if it connects directly. So does an exchange with a
    /// parent itself: through another parent, it might return to this proxy.
    pub(crate) fn group(&self, pool: &Pool, host: &str, port: u16) -> Option<&Group> {
        let is_parent = pool.parents().iter().any(|parent| parent.is_at(host, port));
        if is_parent || self.bypass.contains(host) {
            return None;
        }
        let rule = self.rules.iter().find(|(hosts, _)| hosts.contains(host));
        rule.map(|(_, group)| group).or(self.others.as_ref())
    }
}

/// Whether a failure to connect is the fault of the parent, rather than of `host` behind it. In doubt, it is the
/// parent's: trying another one is harmless.
pub(crate) fn is_fault_of_parent(failure: &str, host: &str) -> bool {
    // The proxy's wording if the parent answered with an error, or if TLS through it failed.
    !failure.contains("the parent proxy answered")
        && !failure.contains(&format!("TLS with {host} failed"))
}

#[cfg(test)]
mod tests {
    use super::is_fault_of_parent;

    #[test]
    fn a_parent_that_refuses_is_not_down() {
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
