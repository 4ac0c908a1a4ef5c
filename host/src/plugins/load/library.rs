//! One library: from a path to its root, or to the reason why not.
//!
//! What can be told without running any of it is told first; see `file_check`. A library that was opened once is
//! never closed: its threads, thread-locals and statics may be in use, and there is no sound way to know.
#![expect(
    unsafe_code,
    reason = "opens libraries and believes their layout after checking it"
)]

use super::error::{LoadProblem, one_line, with_causes};
use crate::plugins::file_check;
use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL};
use abi_stable::type_layout::TypeLayout;
use plugin_api::abi::{API_MAJOR, HostTableRef, PluginLibraryRef};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Loads the library at `path`, checks that both sides mean the same, and introduces `host` to it.
pub(super) fn open(path: &Path, host: HostTableRef) -> Result<PluginLibraryRef, LoadProblem> {
    inspect(path)?;
    // Without a slash the system would search its own directories.
    let path = fs::canonicalize(path).map_err(LoadProblem::Unreadable)?;
    let header = open_header(&path)?;
    check_layout(header)?;
    // SAFETY: the layout of what the header leads to is that of `PluginLibraryRef`.
    let root = unsafe { header.unchecked_layout::<PluginLibraryRef>() };
    let root = root.map_err(|_| LoadProblem::InitFailed)?;
    if root.api_major() != API_MAJOR {
        return Err(LoadProblem::OtherApi((root.api_major(), root.api_minor())));
    }
    if root.panic_unwind() == 0 {
        return Err(LoadProblem::AbortsOnPanic);
    }
    // SAFETY: called before anything else of this library, as its contract says.
    match unsafe { root.init()(host) } {
        0 => Ok(root),
        _ => Err(LoadProblem::InitFailed),
    }
}

/// Looks at the file without loading it.
fn inspect(path: &Path) -> Result<(), LoadProblem> {
    let metadata = fs::metadata(path).map_err(LoadProblem::Unreadable)?;
    if metadata.is_dir() {
        return Err(LoadProblem::Directory);
    }
    // A device or a pipe may never end.
    if !metadata.is_file() {
        return Err(file_check::FileFault::NotALibrary.into());
    }
    let content = read_library(path, metadata.len())?;
    match file_check::find_note(&content) {
        None => Err(LoadProblem::NotAPlugin),
        Some(note) if note.api.0 != API_MAJOR => Err(LoadProblem::OtherApi(note.api)),
        Some(_) => Ok(()),
    }
}

/// The file's content, if its headers are those of a library.
fn read_library(path: &Path, len: u64) -> Result<Vec<u8>, LoadProblem> {
    let mut file = File::open(path).map_err(LoadProblem::Unreadable)?;
    let mut content = Vec::new();
    let prefix = Read::by_ref(&mut file).take(file_check::PREFIX_LEN as u64);
    read_all(prefix, &mut content)?;
    if cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        file_check::check(&content, len)?;
    }
    read_all(file, &mut content)?;
    Ok(content)
}

fn read_all(mut from: impl Read, content: &mut Vec<u8>) -> Result<(), LoadProblem> {
    let read: io::Result<usize> = from.read_to_end(content);
    read.map(drop).map_err(LoadProblem::Unreadable)
}

/// Opens the library for good and finds what it exports.
fn open_header(path: &Path) -> Result<&'static LibHeader, LoadProblem> {
    let cannot = |error: &libloading::Error| LoadProblem::CannotOpen(with_causes(error));
    // SAFETY: runs the library's initialisers, which is what loading a plugin means; the file is one.
    let library = unsafe { open_forever(path) }.map_err(|error| cannot(&error))?;
    // SAFETY: whatever exports this symbol promises it to be a header; a wrong one is caught by its magic.
    let symbol =
        unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
    let header = symbol
        .map(|symbol| *symbol)
        .map_err(|_| LoadProblem::NotAPlugin);
    std::mem::forget(library);
    let header = header?.upgrade();
    header.map_err(|error| LoadProblem::Layout(one_line(&error.to_string())))
}

#[cfg(unix)]
unsafe fn open_forever(path: &Path) -> Result<libloading::os::unix::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const RTLD_NODELETE: std::ffi::c_int = 0x1000;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const RTLD_NODELETE: std::ffi::c_int = 0;
    // NOW: a symbol that is missing is found here and not in the middle of traffic.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
}

#[cfg(windows)]
unsafe fn open_forever(path: &Path) -> Result<libloading::os::windows::Library, libloading::Error> {
    unsafe { libloading::os::windows::Library::new(path) }
}

/// Compares the layouts in both directions: either side may be the newer one, with fields the other lacks.
fn check_layout(header: &'static LibHeader) -> Result<(), LoadProblem> {
    let theirs = header.layout().ok_or(LoadProblem::NotAPlugin)?;
    let ours = <PluginLibraryRef as StableAbi>::LAYOUT;
    match compare(ours, theirs) {
        Err(errors) if compare(theirs, ours).is_err() => Err(LoadProblem::Layout(summary(&errors))),
        _ => Ok(()),
    }
}

fn compare(
    interface: &'static TypeLayout,
    implementation: &'static TypeLayout,
) -> Result<(), AbiInstabilityErrors> {
    // Fresh, since the default ones remember other libraries and then refuse what they would have accepted.
    let globals = CheckingGlobals::new();
    check_layout_compatibility_with_globals(interface, implementation, &globals)
}

/// The first fields that differ, out of a report of hundreds of lines.
fn summary(errors: &AbiInstabilityErrors) -> String {
    const SHOWN: usize = 3;
    let mut differences: Vec<String> = Vec::new();
    for error in errors.errors.iter().filter(|error| !error.errs.is_empty()) {
        let found = error
            .stack_trace
            .iter()
            .map(|entry| entry.found.to_string());
        let fields: Vec<_> = found.filter_map(|text| named_field(&text)).collect();
        let kinds = error
            .errs
            .iter()
            .map(|kind| variant_name(&format!("{kind:?}")));
        let difference = format!(
            "{}: {}",
            fields.join("."),
            kinds.collect::<Vec<_>>().join("+")
        );
        if !differences.contains(&difference) {
            differences.push(difference);
        }
    }
    differences.truncate(SHOWN);
    one_line(&differences.join("; "))
}

/// The field's name in abi_stable's description of one; none for those it made up itself.
fn named_field(description: &str) -> Option<String> {
    let line = description
        .lines()
        .find_map(|line| line.trim().strip_prefix("field_name:"))?;
    let is_made_up = line.is_empty() || line.starts_with("__") || line == "0" || line == "data";
    (!is_made_up).then(|| line.to_owned())
}

fn variant_name(debug: &str) -> String {
    debug
        .chars()
        .take_while(|letter| letter.is_alphanumeric())
        .collect()
}
