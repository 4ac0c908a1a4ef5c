//! A description of a library that can be read without loading it.
//!
//! Loading runs initialisers, so a proxy should know beforehand whether it can use a library. `export_plugins!` adds a
//! line of text to the file, which survives stripping:
//! `proxy-plugin-note:crate=…;version=…;plugins=A,B;plugin-api=01.00;`

use crate::abi::{API_MAJOR, API_MINOR};

/// The text, as bytes of known length for a static.
#[repr(C)]
pub struct Note<const N: usize> {
    text: [u8; N],
    api: [u8; 18],
}

impl<const N: usize> Note<N> {
    /// `text`, followed by the version of this crate's interface.
    pub const fn new(text: &str) -> Self {
        let mut api = *b"plugin-api=00.00;\0";
        api[11] += (API_MAJOR / 10) as u8;
        api[12] += (API_MAJOR % 10) as u8;
        api[14] += (API_MINOR / 10) as u8;
        api[15] += (API_MINOR % 10) as u8;
        match text.as_bytes().first_chunk() {
            Some(bytes) => Self { text: *bytes, api },
            None => panic!("the length of the note is not that of its text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn ends_with_the_version_of_the_interface() {
        let note = Note::<2>::new("x;");
        assert_eq!((&note.text, &note.api), (b"x;", b"plugin-api=01.00;\0"));
    }
}
