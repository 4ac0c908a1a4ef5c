//! Files in the format of `/etc/hosts` (hosts(5)): an address, its names, and comments.

use std::net::IpAddr;

/// The address and the names of each line, in order; for an invalid line, its number.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Result<(IpAddr, Vec<&str>), usize>> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let (meant, _) = line.split_once('#').unwrap_or((line, ""));
        let mut words = meant.split_whitespace();
        let address = words.next()?;
        Some(
            address
                .parse()
                .map_err(|_| number)
                .map(|ip| (ip, words.collect())),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn reads_addresses_names_and_comments() {
        let text = "# local\n127.0.0.1\tlocalhost\n\n::1  a b # c\r\n 192.0.2.1\nfe80::1%lo0 x\nnonsense\n";
        let read: Vec<String> = lines(text).map(|line| format!("{line:?}")).collect();
        assert_eq!(
            read,
            [
                r#"Ok((127.0.0.1, ["localhost"]))"#,
                r#"Ok((::1, ["a", "b"]))"#,
                "Ok((192.0.2.1, []))",
                "Err(6)",
                "Err(7)",
            ]
        );
    }
}
