//! The pseudonym by which this process recognises its requests when they return through other proxies.
//!
//! It is a pseudonym in Via (RFC 9110 §7.6.3) that is unique to the process, so that two proxies with the same
//! configuration do not take each other for themselves. It is sent only where a loop is possible: to other proxies, and
//! to servers that the operator has named. Origins need not distinguish processes.

use std::sync::OnceLock;

/// `via` with a number that is unique to this process.
pub(crate) fn marked(via: &str) -> String {
    let number = process_number();
    match via.split_once(':') {
        Some((host, port)) => format!("{host}-{number:016x}:{port}"),
        None => format!("{via}-{number:016x}"),
    }
}

fn process_number() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        let mut bytes = [0; 8];
        match random.fill(&mut bytes) {
            Ok(()) => u64::from_be_bytes(bytes),
            // Loops are still detected, unless another proxy in between has the same number.
            Err(_) => u64::from(std::process::id()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_valid_in_via_and_constant() {
        let mark = marked("proxy");
        assert_eq!((mark.len(), &mark), (22, &marked("proxy")));
        assert!(mark.starts_with("proxy-"));
        let with_port = marked("edge.example:8080");
        assert!(with_port.starts_with("edge.example-") && with_port.ends_with(":8080"));
    }
}
