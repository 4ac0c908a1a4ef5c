//! The name that was meant, when another was written.

/// The name among these that is most like the one that was written, if any is like it: a third of its letters may be
/// wrong, missing, too many or in each other's place (Damerau-Levenshtein).
pub(crate) fn closest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let normal = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let written = normal(written);
    let most = (written.chars().count() / 3).max(1);
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &normal(name)), *name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_has_a_closest_one_if_it_is_like_any() {
        let names = ["hostname", "port", "timeout", "timeouts", "num_workers"];
        for (written, meant) in [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("host_name", Some("hostname")),
            ("num-workers", Some("num_workers")),
            ("timeoutes", Some("timeouts")),
            ("listen", None),
            ("x", None),
        ] {
            assert_eq!(closest(written, &names), meant, "{written}");
        }
    }
}
