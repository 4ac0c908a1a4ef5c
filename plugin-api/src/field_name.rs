//! Compares field names case-insensitively, eight bytes at a time.
//!
//! Every look-up of a field compares it with all names of a head: this is most of the cost of a hook that reads fields.

/// Whether two names are equal, ignoring the case of ASCII letters.
#[inline]
pub(crate) fn is_same(name: &str, other: &str) -> bool {
    let (name, other) = (name.as_bytes(), other.as_bytes());
    // Most names differ in their length or their last letter.
    name.len() == other.len()
        && match (name.last(), other.last()) {
            (Some(last), Some(other)) if (last ^ other) & !CASE != 0 => false,
            _ => is_same_text(name, other),
        }
}

/// The bit that differs between the cases of a letter.
const CASE: u8 = 0x20;

/// Like [`is_same`], for texts of the same length.
fn is_same_text(mut text: &[u8], mut other: &[u8]) -> bool {
    let (Some(end), Some(other_end)) = (text.last_chunk(), other.last_chunk()) else {
        return text.eq_ignore_ascii_case(other);
    };
    while let (Some((chunk, rest)), Some((other_chunk, other_rest))) =
        (text.split_first_chunk(), other.split_first_chunk())
    {
        if !are_same(*chunk, *other_chunk) {
            return false;
        }
        (text, other) = (rest, other_rest);
    }
    // If the length is not a multiple of eight, these overlap with what was compared already.
    are_same(*end, *other_end)
}

#[inline]
fn are_same(bytes: [u8; 8], other: [u8; 8]) -> bool {
    let (bytes, other) = (u64::from_ne_bytes(bytes), u64::from_ne_bytes(other));
    (bytes ^ other) & !case_of_letters(bytes) == 0
}

/// The case bit of each byte that is a letter.
#[inline]
fn case_of_letters(bytes: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    let small = (bytes | (EACH * CASE as u64)) & !HIGH;
    // The high bit of each byte says whether it is at least `a`, and whether it is above `z`.
    let from_a = small + EACH * (0x80 - b'a' as u64);
    let beyond_z = small + EACH * (0x7f - b'z' as u64);
    ((from_a ^ beyond_z) & !bytes & HIGH) >> 2
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn agrees_with_the_standard_library_on_every_pair_of_bytes() {
        for length in [1, 7, 8, 9, 16, 17] {
            for position in 0..length {
                let name = |byte: u8| {
                    let mut name = "x".repeat(length).into_bytes();
                    name[position] = byte;
                    String::from_utf8(name).unwrap()
                };
                for (first, second) in (0..128).flat_map(|a| (0..128).map(move |b| (a, b))) {
                    let (first, second) = (name(first), name(second));
                    let is_equal = first.eq_ignore_ascii_case(&second);
                    assert_eq!(is_same(&first, &second), is_equal, "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn compares_other_letters_exactly() {
        assert!(is_same("naïve-title", "NAïVE-Title"));
        assert!(!is_same("naïve-title", "naÏve-title"));
        assert!(is_same("", ""));
        assert!(!is_same("", "x"));
    }
}
