//! Whose fault it is that a request was not answered, and how far it had come, from what the proxy says of it.

/// What a failure says of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was never reached: another one may get any request.
    Unreached,
    /// It may have got the request: another one gets it only if that does no harm.
    Unanswered,
    /// Nothing: a filter has failed, the client has, or the URL was refused.
    Elsewhere,
}

impl Fault {
    pub(crate) fn of(failure: &str) -> Self {
        // The proxy names who has failed, then at what.
        match failure.strip_prefix("upstream, ") {
            Some(step) if step.starts_with("connecting: ") => Self::Unreached,
            Some(_) => Self::Unanswered,
            None => Self::Elsewhere,
        }
    }

    /// Whether another upstream may be tried for a request with this method.
    pub(crate) fn may_go_on(self, method: &str) -> bool {
        match self {
            Self::Unreached => true,
            Self::Unanswered => is_idempotent(method),
            Self::Elsewhere => false,
        }
    }
}

/// Whether to ask twice is to ask once (RFC 9110 §9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn only_what_was_not_sent_or_does_no_harm_twice_goes_on() {
        for (failure, fault, post, get) in [
            (
                "upstream, connecting: cannot connect to a:1: refused",
                Fault::Unreached,
                true,
                true,
            ),
            (
                "upstream, reading a head: the connection ended early",
                Fault::Unanswered,
                false,
                true,
            ),
            (
                "plugin, running a hook: upstream, connecting: ",
                Fault::Elsewhere,
                false,
                false,
            ),
            (
                "client, reading a body: reset",
                Fault::Elsewhere,
                false,
                false,
            ),
            (
                "cannot forward to http://a/: not a valid value",
                Fault::Elsewhere,
                false,
                false,
            ),
            ("", Fault::Elsewhere, false, false),
        ] {
            assert_eq!(Fault::of(failure), fault, "{failure}");
            let goes_on = ["POST", "GET"].map(|method| fault.may_go_on(method));
            assert_eq!(goes_on, [post, get], "{failure}");
        }
        assert!(!Fault::Unanswered.may_go_on("get"));
    }
}
