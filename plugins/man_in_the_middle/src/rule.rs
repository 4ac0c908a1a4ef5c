//! Which responses have content.

/// Whether the response with this status to a request with this method may have content (RFC 9112 §6.3).
pub(crate) fn has_content(method: &str, status: u16) -> bool {
    method != "HEAD" && !matches!(status, 204 | 205 | 304)
}

#[cfg(test)]
mod tests {
    use super::has_content;

    #[test]
    fn head_and_three_statuses_have_no_content() {
        for (method, status, expected) in [
            ("GET", 200, true),
            ("POST", 404, true),
            ("GET", 206, true),
            ("GET", 301, true),
            ("HEAD", 200, false),
            ("GET", 204, false),
            ("POST", 205, false),
            ("GET", 304, false),
        ] {
            assert_eq!(has_content(method, status), expected, "{method} {status}");
        }
    }
}
