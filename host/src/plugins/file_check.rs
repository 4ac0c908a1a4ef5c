//! Checks a library file before it is loaded.
//!
//! Loading runs the library's initialisers, and the system's loader maps segments without asking whether the file
//! is long enough: a cut-off copy ends the process with SIGBUS. So the headers are judged here first, and the note
//! that `export_plugins!` leaves tells whether this is a plugin and of which interface. Every offset comes from
//! the file and is doubted. What is checked is what was read, and that is what is loaded, whatever becomes of the file.

use memchr::memmem;
use thiserror::Error;

/// How much of a file's start [`check`] wants to see.
pub const PREFIX_LEN: usize = 4096;

const NOTE_MARK: &[u8] = b"proxy-plugin-note:";
const NOTE_MAX_LEN: usize = 4096;

/// Why a file cannot be a library for this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FileFault {
    /// No ELF header, or not that of a shared object.
    #[error(
        "is not a shared library: specify the one that cargo built from the crate of the plugin"
    )]
    NotALibrary,
    /// The headers speak of bytes beyond the file's end.
    #[error("is truncated ({len} bytes, expected {needed}): copy or build it again")]
    CutOff {
        /// Bytes there are.
        len: u64,
        /// Bytes there should be.
        needed: u64,
    },
    /// Built for another kind of machine.
    #[error("is built for another architecture ({0}): build it for this machine")]
    OtherProcessor(Processor),
    /// Headers that no linker writes.
    #[error("has damaged headers: build it again")]
    Damaged,
}

/// A kind of machine, as an ELF header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    machine: u16,
    is_64_bit: bool,
    is_little_endian: bool,
}

impl Processor {
    const OWN: Self = Self {
        machine: if cfg!(target_arch = "x86_64") {
            62
        } else if cfg!(target_arch = "aarch64") {
            183
        } else if cfg!(target_arch = "riscv64") {
            243
        } else {
            Self::UNKNOWN
        },
        is_64_bit: true,
        is_little_endian: cfg!(target_endian = "little"),
    };
    const UNKNOWN: u16 = 0;

    fn runs_here(self) -> bool {
        let is_machine = Self::OWN.machine == Self::UNKNOWN || self.machine == Self::OWN.machine;
        is_machine
            && self.is_64_bit == Self::OWN.is_64_bit
            && self.is_little_endian == Self::OWN.is_little_endian
    }
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.machine {
            3 => f.write_str("x86")?,
            40 => f.write_str("arm")?,
            62 => f.write_str("x86-64")?,
            183 => f.write_str("aarch64")?,
            243 => f.write_str("risc-v")?,
            other => write!(f, "machine {other}")?,
        }
        f.write_str(if self.is_64_bit {
            ", 64 bit"
        } else {
            ", 32 bit"
        })?;
        f.write_str(if self.is_little_endian {
            ""
        } else {
            ", big endian"
        })
    }
}

/// Judges a file by its first [`PREFIX_LEN`] bytes (or all, if it has fewer) and its length.
///
/// # Errors
/// When the system's loader would refuse the file, or not survive it.
pub fn check(prefix: &[u8], file_len: u64) -> Result<(), FileFault> {
    let header = Header::read(prefix, file_len)?;
    header.check_segments(prefix, file_len)?;
    // Not needed to load it, but the last thing in the file: missing when the end of a copy is.
    let sections = u64::from(header.section_count) * u64::from(header.section_len);
    reaches(header.sections_at, sections, file_len)
}

/// The parts of an ELF header that matter here.
struct Header {
    segments_at: u64,
    segment_len: u16,
    segment_count: u16,
    sections_at: u64,
    section_len: u16,
    section_count: u16,
}

impl Header {
    const LEN: usize = 64;
    const SHARED_OBJECT: u16 = 3;
    const SEGMENT_LEN: u16 = 56;
    const SECTION_LEN: u16 = 64;

    fn read(prefix: &[u8], file_len: u64) -> Result<Self, FileFault> {
        if !prefix.starts_with(b"\x7fELF") {
            return Err(FileFault::NotALibrary);
        }
        let needed = Self::LEN as u64;
        let header: &[u8; Self::LEN] = prefix.first_chunk().ok_or(FileFault::CutOff {
            len: file_len,
            needed,
        })?;
        let processor = Processor {
            machine: u16_at(header, 18)?,
            is_64_bit: header[4] == 2,
            is_little_endian: header[5] == 1,
        };
        if !processor.runs_here() {
            return Err(FileFault::OtherProcessor(processor));
        }
        if u16_at(header, 16)? != Self::SHARED_OBJECT {
            return Err(FileFault::NotALibrary);
        }
        Ok(Self {
            segments_at: u64_at(header, 32)?,
            segment_len: u16_at(header, 54)?,
            segment_count: u16_at(header, 56)?,
            sections_at: u64_at(header, 40)?,
            section_len: u16_at(header, 58)?,
            section_count: u16_at(header, 60)?,
        })
    }

    /// Every segment must lie within the file.
    fn check_segments(&self, prefix: &[u8], file_len: u64) -> Result<(), FileFault> {
        let is_section_len = self.section_count == 0 || self.section_len == Self::SECTION_LEN;
        if self.segment_len != Self::SEGMENT_LEN || self.segment_count == 0 || !is_section_len {
            return Err(FileFault::Damaged);
        }
        let table_len = u64::from(self.segment_count) * u64::from(self.segment_len);
        reaches(self.segments_at, table_len, file_len)?;
        for index in 0..usize::from(self.segment_count) {
            // Linkers put this table right behind the header; one out of sight is none of theirs.
            let start = usize::try_from(self.segments_at).map_err(|_| FileFault::Damaged)?;
            let at = start + index * usize::from(Self::SEGMENT_LEN);
            reaches(u64_at(prefix, at + 8)?, u64_at(prefix, at + 32)?, file_len)?;
        }
        Ok(())
    }
}

/// Whether `len` bytes from `start` are within the file.
fn reaches(start: u64, len: u64, file_len: u64) -> Result<(), FileFault> {
    match start.checked_add(len) {
        Some(needed) if needed <= file_len => Ok(()),
        Some(needed) => Err(FileFault::CutOff {
            len: file_len,
            needed,
        }),
        None => Err(FileFault::Damaged),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, FileFault> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, FileFault> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FileFault> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or(FileFault::Damaged)
}

/// What a plugin library declares about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginNote {
    /// Major and minor version of the interface it was built with.
    pub api: (u16, u16),
    /// The plugins it holds.
    pub plugins: Vec<String>,
}

/// Finds the note in a file's content; without one the file is no plugin.
pub fn find_note(content: &[u8]) -> Option<PluginNote> {
    memmem::find_iter(content, NOTE_MARK).find_map(|at| read_note(&content[at + NOTE_MARK.len()..]))
}

fn read_note(content: &[u8]) -> Option<PluginNote> {
    let content = &content[..content.len().min(NOTE_MAX_LEN)];
    let end = memchr::memchr(0, content)?;
    let text = str::from_utf8(&content[..end]).ok()?;
    let value = |key: &str| {
        let entries = text.split(';').filter_map(|entry| entry.split_once('='));
        entries
            .into_iter()
            .find(|entry| entry.0 == key)
            .map(|entry| entry.1)
    };
    let (major, minor) = value("plugin-api")?.split_once('.')?;
    let plugins = value("plugins")?.split(',').filter(|name| !name.is_empty());
    Some(PluginNote {
        api: (major.parse().ok()?, minor.parse().ok()?),
        plugins: plugins.map(str::to_owned).collect(),
    })
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::{FileFault, PluginNote, Processor, check, find_note};

    const LEN: usize = 1000;

    /// A shared object of `LEN` bytes: one segment up to byte 900, then a table of one section.
    fn library() -> Vec<u8> {
        let mut file = vec![0; LEN];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &3_u16.to_ne_bytes());
        put(18, &Processor::OWN.machine.to_ne_bytes());
        put(32, &64_u64.to_ne_bytes());
        put(40, &936_u64.to_ne_bytes());
        put(54, &56_u16.to_ne_bytes());
        put(56, &1_u16.to_ne_bytes());
        put(58, &64_u16.to_ne_bytes());
        put(60, &1_u16.to_ne_bytes());
        put(64 + 8, &100_u64.to_ne_bytes());
        put(64 + 32, &800_u64.to_ne_bytes());
        file
    }

    fn with(at: usize, bytes: &[u8]) -> Result<(), FileFault> {
        let mut file = library();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        check(&file, LEN as u64)
    }

    #[test]
    fn accepts_a_whole_library_and_no_shorter_one() {
        let file = library();
        assert_eq!(check(&file, LEN as u64), Ok(()));
        for len in 0..LEN {
            let result = check(&file[..len], len as u64);
            match len {
                0..4 => assert_eq!(result, Err(FileFault::NotALibrary)),
                _ => assert!(
                    matches!(result, Err(FileFault::CutOff { .. })),
                    "{len}: {result:?}"
                ),
            }
        }
    }

    #[test]
    fn survives_every_byte_being_wrong() {
        for at in 0..128 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let _ = with(at, &[value]);
            }
        }
        assert_eq!(with(32, &[0xff; 8]), Err(FileFault::Damaged));
        assert_eq!(with(64 + 8, &[0xff; 8]), Err(FileFault::Damaged));
        assert_eq!(with(40, &[0xff; 8]), Err(FileFault::Damaged));
    }

    #[test]
    fn tells_what_else_a_file_is() {
        assert_eq!(check(b"#!/bin/sh", 9), Err(FileFault::NotALibrary));
        assert_eq!(with(16, &2_u16.to_ne_bytes()), Err(FileFault::NotALibrary));
        let other = with(18, &40_u16.to_ne_bytes()).unwrap_err().to_string();
        assert!(
            other.starts_with("is built for another architecture (arm, 64 bit)"),
            "{other}"
        );
    }

    #[test]
    fn reads_the_note_behind_a_false_one() {
        let content =
            b"..proxy-plugin-note:\0..proxy-plugin-note:crate=c;version=2.1.0;plugins=A,B,;\
            plugin-api=01.12;\0..";
        let plugins = vec!["A".to_owned(), "B".to_owned()];
        assert_eq!(
            find_note(content),
            Some(PluginNote {
                api: (1, 12),
                plugins
            })
        );
        for bad in [
            "proxy-plugin-note:plugin-api=1.0;plugins=A;",
            "proxy-plugin-note:plugins=A;\0",
            "x",
        ] {
            assert_eq!(find_note(bad.as_bytes()), None);
        }
    }
}
