//! What a method allows (RFC 9110 §9).

/// Methods that may be sent twice with the effect of once (RFC 9110 §9.2.2; QUERY: RFC 10008).
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" | "QUERY"
    )
}

/// Methods that give content a meaning: without any they announce a length of 0 (RFC 9110 §8.6), as some servers
/// answer 411 otherwise.
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
