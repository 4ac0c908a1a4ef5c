//! One library: from a path to its root, or to the reason why not.
//!
//! What can be checked without running any of it is checked first; see `file_check`. What is loaded is a private copy of the
//! bytes that were checked, so that they cannot change afterwards; see `private_copy`. The same bytes are the
//! same library, whatever file they are in, and other bytes in the same file are another one. A library that was opened
//! once is never closed: its threads, thread-locals and statics may be in use, and there is no sound way to know. That
//! holds for one that is refused after that, too, since its initialisers have run.
#![expect(
    unsafe_code,
    reason = "opens libraries and believes their layout after checking it"
)]

use super::private_copy::PrivateCopy;
use crate::plugins::callee::{Call, Place, PluginId};
use crate::plugins::file_check;
use crate::plugins::load_error::{LoadProblem, one_line, with_causes};
use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL};
use abi_stable::type_layout::TypeLayout;
use aws_lc_rs::digest::{SHA256, digest};
use plugin_api::abi::{API_MAJOR, HostTableRef, PluginDeclarationRef, PluginLibraryRef};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Tells one library from another, by its content: SHA-256.
pub(super) type Digest = [u8; 32];

/// A library that is open for as long as the process lives.
#[derive(Clone, Copy)]
pub(super) struct OpenLibrary {
    pub(super) digest: Digest,
    root: PluginLibraryRef,
}

impl OpenLibrary {
    /// The plugins that it holds.
    pub(super) fn declarations(&self) -> &'static [PluginDeclarationRef] {
        // SAFETY: may be called at any time after `init`.
        unsafe { self.root.plugins()() }.as_slice()
    }
}

/// A library that is mapped for as long as the process lives, of use or not.
struct Mapped {
    digest: Digest,
    /// What it exports; none if it is no plugin library.
    header: Option<AbiHeaderRef>,
    /// None until it has been introduced to the host.
    root: Option<PluginLibraryRef>,
}

/// The libraries of this process. None is mapped a second time: one that is refused costs its size once, however often
/// it is asked for.
static MAPPED: Mutex<Vec<Mapped>> = Mutex::new(Vec::new());

/// Loads the library at `path` unless its content is loaded already, checks that both sides mean the same, and
/// introduces `host` to it.
pub(super) fn open(path: &Path, host: HostTableRef) -> Result<OpenLibrary, LoadProblem> {
    let content = inspect(path)?;
    let digest = digest_of(&content);
    let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = mapped.iter().position(|library| library.digest == digest);
    if let Some(root) = known.and_then(|known| mapped[known].root) {
        return Ok(OpenLibrary { digest, root });
    }
    let file = path.file_name().unwrap_or(path.as_os_str());
    let file = file.to_string_lossy();
    // Its initialisers run, and no plugin is known yet.
    let call = Call::new(PluginId::of(&file, &file), Place::INIT);
    call.run_library(|| {
        let index = match known {
            Some(known) => known,
            None => {
                let header = map(path, &content)?;
                mapped.push(Mapped {
                    digest,
                    header,
                    root: None,
                });
                mapped.len() - 1
            }
        };
        let root = introduce(mapped[index].header, host)?;
        mapped[index].root = Some(root);
        Ok(OpenLibrary { digest, root })
    })
}

fn introduce(
    header: Option<AbiHeaderRef>,
    host: HostTableRef,
) -> Result<PluginLibraryRef, LoadProblem> {
    let header = header.ok_or(LoadProblem::NotAPlugin)?.upgrade();
    let header = header.map_err(|error| LoadProblem::Layout(one_line(&error.to_string())))?;
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
    if unsafe { root.init()(host) } != 0 {
        return Err(LoadProblem::InitFailed);
    }
    Ok(root)
}

fn digest_of(content: &[u8]) -> Digest {
    let mut of_content = [0; 32];
    of_content.copy_from_slice(digest(&SHA256, content).as_ref());
    of_content
}

/// The content of the file, judged without loading it.
fn inspect(path: &Path) -> Result<Vec<u8>, LoadProblem> {
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
        Some(_) => Ok(content),
    }
}

/// The file's content, if its headers are those of a library.
fn read_library(path: &Path, len: u64) -> Result<Vec<u8>, LoadProblem> {
    let mut file = File::open(path).map_err(LoadProblem::Unreadable)?;
    let mut content = Vec::new();
    let prefix = Read::by_ref(&mut file).take(file_check::PREFIX_LEN as u64);
    read_all(prefix, &mut content)?;
    let is_checked = cfg!(all(target_os = "linux", target_pointer_width = "64"));
    if is_checked {
        file_check::check(&content, len)?;
    }
    read_all(file, &mut content)?;
    if is_checked {
        // The file may have changed since: what counts is what was read.
        let prefix = &content[..content.len().min(file_check::PREFIX_LEN)];
        file_check::check(prefix, content.len() as u64)?;
    }
    Ok(content)
}

fn read_all(mut from: impl Read, content: &mut Vec<u8>) -> Result<(), LoadProblem> {
    let read: io::Result<usize> = from.read_to_end(content);
    read.map(drop).map_err(LoadProblem::Unreadable)
}

/// Opens the library for good and finds what it exports.
fn map(path: &Path, content: &[u8]) -> Result<Option<AbiHeaderRef>, LoadProblem> {
    let library = open_copy(path, content)?;
    // SAFETY: whatever exports this symbol promises it to be a header; a wrong one is caught by its magic.
    let symbol =
        unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
    let header = symbol.map(|symbol| *symbol).ok();
    std::mem::forget(library);
    Ok(header)
}

#[cfg(unix)]
use libloading::os::unix::Library;
#[cfg(windows)]
use libloading::os::windows::Library;

/// Opens a private copy of the library at `path`.
fn open_copy(path: &Path, content: &[u8]) -> Result<Library, LoadProblem> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = name.to_string_lossy();
    #[cfg(target_os = "linux")]
    if let Ok(copy) = PrivateCopy::in_memory(&name, content) {
        match open_forever(copy) {
            // The system does not execute what is in memory alone.
            Err((_, error)) if error.contains("failed to map") => {}
            opened => return opened.map_err(|(copy, error)| refused(path, &copy, &error)),
        }
    }
    let copy = PrivateCopy::on_disk(&name, content).map_err(LoadProblem::NotCopied)?;
    open_forever(copy).map_err(|(copy, error)| refused(path, &copy, &error))
}

/// Opens a copy for good, or gives it back with the reason.
fn open_forever(copy: PrivateCopy) -> Result<Library, (PrivateCopy, String)> {
    // SAFETY: runs the library's initialisers, which is what loading a plugin means; the file is one.
    match unsafe { open_file(copy.path()) } {
        Ok(library) => {
            copy.keep();
            Ok(library)
        }
        Err(error) => Err((copy, with_causes(&error))),
    }
}

/// The loader's error about a copy, as one about the file that the operator knows.
fn refused(path: &Path, copy: &PrivateCopy, error: &str) -> LoadProblem {
    let copied = copy.path().display().to_string();
    let error = error.replace(&copied, &path.display().to_string());
    match error.contains("cannot open shared object file") {
        true => LoadProblem::NeedsLibrary(error),
        false => LoadProblem::CannotOpen(error),
    }
}

#[cfg(unix)]
unsafe fn open_file(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const RTLD_NODELETE: std::ffi::c_int = 0x1000;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const RTLD_NODELETE: std::ffi::c_int = 0;
    // NOW: a symbol that is missing is found here and not in the middle of traffic.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
}

#[cfg(windows)]
unsafe fn open_file(path: &Path) -> Result<Library, libloading::Error> {
    unsafe { Library::new(path) }
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
