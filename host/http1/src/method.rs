//! Properties of methods (RFC 9110 §9).

/// Idempotent methods (RFC 9110 §9.2.2; QUERY: RFC 10008).
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" | "QUERY"
    )
}

/// Methods for which content has a meaning: without content they announce a length of 0 (RFC 9110 §8.6), because some
/// servers answer 411 otherwise.
pub(crate) fn expects_content(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH" | "QUERY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_idempotent_and_post_is_not() {
        assert!(is_idempotent("QUERY"));
        assert!(!is_idempotent("POST"));
        assert!(!is_idempotent("query"));
    }
}
