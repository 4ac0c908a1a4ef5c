//! Serves the files of a directory as an origin server would (RFC 9110).
//!
//! For each request, `path` decodes the name, `open` finds the file and nothing outside the directory, the client's
//! fields choose a representation (`coding`), its conditions (`condition`) and its ranges (`range`) are evaluated, and
//! `send` sends the result. Only GET and HEAD; files are never written. Names that begin with a dot are not served,
//! except `/.well-known/`. Plugins and the PAC file take precedence over files. That, the request's content and the
//! connection are the caller's concern.
//!
//! All file access happens on the worker's thread, the default of common web servers: names and content are usually in
//! memory, and then a look-up is cheaper than a switch to another thread. On a slow disk or a network file system, a
//! look-up delays the other connections of the worker.
//!
//! A short file costs one openat2, statx, read, send and close; a longer one uses sendfile instead of read. Each coding
//! that the client accepts and that may exist beside the file (`name.br`, `name.gz`) costs one more openat2.

mod answer;
mod below;
mod coding;
mod condition;
mod listing;
mod mime;
mod multipart;
mod open;
mod path;
mod range;
mod send;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub(crate) use answer::FileAnswer;
pub use open::FilesError;
pub(crate) use send::SendFileError;

use std::ops::Range;
use std::sync::Arc;

use answer::FileContent;
use coding::{AcceptEncoding, names};
use condition::{Precondition, Validators};
use mime::{Gain, MediaType};
use multipart::{Multipart, content_range};
use open::{Found, OpenError, OpenFile, Root};
use path::{PathError, Resolved, encoded};
use range::Selected;
use send::Segment;

use crate::config::StaticFilesConfig;
use crate::content_coding::Coding;
use crate::http1::{RequestHead, Version};

/// Files up to this size, in bytes, are compressed on the fly; longer ones are sent uncompressed. Compressing this much
/// takes 160 ms of processor time; operators can precompress longer files.
const MAX_COMPRESSED: u64 = 16 * 1024 * 1024;

/// Files that may be compressed on the fly at a time, over all workers; further ones are sent uncompressed. An encoder
/// holds up to 1.3 MiB until its client has read everything, and clients may be slow and many.
const MAX_ENCODERS: usize = 64;

/// The static files, shared by all workers.
#[derive(Debug)]
pub(crate) struct Files {
    root: Root,
    config: StaticFilesConfig,
    encoders: Arc<Encoders>,
}

/// Its reference count is the number of encoders in use, plus one.
#[derive(Debug)]
struct Encoders;

/// The representation of a file that is sent (RFC 9110 §8.1).
struct Representation {
    file: OpenFile,
    media_type: MediaType,
    encoding: Encoding,
    /// The value of ETag.
    tag: Vec<u8>,
    /// Other clients may get another representation.
    varies: bool,
}

/// How the content is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    /// Precompressed, in a file of its own.
    Precompressed(Coding),
    /// Compressed on the fly.
    OnTheFly(Coding),
}

impl Files {
    /// Opens the directory. The default directory may be missing; then there are no files.
    pub(crate) fn open(config: &StaticFilesConfig) -> Result<Self, FilesError> {
        Ok(Self {
            root: Root::open(config)?,
            config: config.clone(),
            encoders: Arc::new(Encoders),
        })
    }

    /// Answers a request. Opens the file, but reads nothing from it.
    pub(crate) fn answer(&self, request: &RequestHead) -> FileAnswer {
        match request.method() {
            "GET" | "HEAD" => {
                let found = self.found(request);
                found.unwrap_or_else(|refusal| refusal.answer(request))
            }
            "OPTIONS" => FileAnswer::options(),
            _ => FileAnswer::method_not_allowed(),
        }
    }

    fn found(&self, request: &RequestHead) -> Result<FileAnswer, NotServed> {
        let target = request.path();
        let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
        let (path, query) = target.split_at(path_len);
        let Resolved { name, is_directory } = path::resolve(path)?;
        if is_directory {
            return self.directory(request, &name);
        }
        match self.root.look_up(&name)? {
            Found::File(file) => Ok(self.file(request, &name, file)),
            Found::Directory(_) => Ok(redirect(&name, query)),
        }
    }

    fn directory(&self, request: &RequestHead, name: &[u8]) -> Result<FileAnswer, NotServed> {
        for index in &self.config.index {
            let index = match name {
                b"" => index.as_bytes().to_vec(),
                name => [name, index.as_bytes()].join(&b'/'),
            };
            match self.root.look_up(&index) {
                Ok(Found::File(file)) => return Ok(self.file(request, &index, file)),
                Ok(Found::Directory(_)) => {}
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.config.has_listing {
            return Err(NotServed {
                status: 404,
                reason: "it is not a directory with an index file, and listings are disabled",
            });
        }
        match self.root.look_up(name)? {
            Found::File(_) => Err(NotServed {
                status: 404,
                reason: "it is a file, but the path ends with a slash",
            }),
            Found::Directory(directory) => {
                let page = listing::page(&self.root, name, &directory)
                    .map_err(|error| OpenError::report(&error))?;
                Ok(FileAnswer::new(200).with_text("text/html; charset=utf-8", page))
            }
        }
    }

    /// Answers a request for an existing file.
    fn file(&self, request: &RequestHead, name: &[u8], file: OpenFile) -> FileAnswer {
        let fields = request.fields();
        let chosen = self.choose(request, name, file);
        let modified = condition::seconds(chosen.file.modified);
        if !condition::has_any(fields) {
            return self.whole(chosen, modified);
        }
        let validators = Validators {
            tag: &chosen.tag,
            modified,
        };
        match condition::evaluate(fields, validators) {
            Precondition::Met => {}
            Precondition::NotModified => return self.describe(FileAnswer::new(304), &chosen),
            Precondition::Failed => return FileAnswer::plain(412),
        }
        let is_whole = request.is_method("HEAD")
            || matches!(chosen.encoding, Encoding::OnTheFly(_))
            || !condition::holds_for_range(fields, validators);
        let selected = match is_whole {
            true => Selected::Whole,
            false => range::select(fields.named("range"), chosen.file.len),
        };
        match selected {
            Selected::Whole => self.whole(chosen, modified),
            Selected::Parts(parts) => self.parts(chosen, modified, parts),
            Selected::Nothing => {
                let range = format!("bytes */{}", chosen.file.len);
                FileAnswer::plain(416).with("Content-Range", range)
            }
        }
    }

    /// Chooses the representation that the client prefers.
    fn choose(&self, request: &RequestHead, name: &[u8], file: OpenFile) -> Representation {
        let media_type = MediaType::of(name);
        let gain = media_type.gain();
        let may_be_stored = self.config.has_precompressed && gain != Gain::Nothing;
        let may_be_coded = gain == Gain::Sure
            && file.len <= MAX_COMPRESSED
            && (self.config.compress_from).is_some_and(|least| file.len >= least);
        // Accept-Encoding is parsed only if there is a choice.
        let accepted = match may_be_stored || may_be_coded {
            true => AcceptEncoding::of(request.fields()),
            false => AcceptEncoding::default(),
        };
        let stored = match may_be_stored {
            true => self.stored(name, accepted, &file),
            false => None,
        };
        let coding = accepted.best_first(Coding::Gzip).next();
        let (file, encoding) = match (stored, coding) {
            (Some((stored, coding)), _) => (stored, Encoding::Precompressed(coding)),
            (None, Some(coding)) if may_be_coded && takes_chunks(request) && self.has_encoder() => {
                (file, Encoding::OnTheFly(coding))
            }
            _ => (file, Encoding::Identity),
        };
        Representation {
            tag: tag(&file, encoding),
            file,
            media_type,
            encoding,
            varies: may_be_stored || may_be_coded,
        }
    }

    /// Two workers may take the last encoder at the same time, which exceeds the limit by one.
    fn has_encoder(&self) -> bool {
        Arc::strong_count(&self.encoders) <= MAX_ENCODERS
    }

    /// The best precompressed file, unless it is older than the file itself.
    fn stored(
        &self,
        name: &[u8],
        accepted: AcceptEncoding,
        file: &OpenFile,
    ) -> Option<(OpenFile, Coding)> {
        accepted.best_first(Coding::Brotli).find_map(|coding| {
            let name = [name, names(coding).file.as_bytes()].concat();
            match self.root.look_up(&name) {
                Ok(Found::File(stored)) if stored.modified >= file.modified => {
                    Some((stored, coding))
                }
                _ => None,
            }
        })
    }

    fn whole(&self, chosen: Representation, modified: Option<u64>) -> FileAnswer {
        let answer = typed(FileAnswer::new(200), chosen.media_type);
        let answer = self.describe(dated(answer, modified), &chosen);
        let (file, len) = (chosen.file.file, chosen.file.len);
        match chosen.encoding {
            Encoding::OnTheFly(coding) => answer
                .with("Content-Encoding", names(coding).field)
                .with_body(FileContent::OnTheFly {
                    file,
                    len,
                    coding,
                    permit: Arc::clone(&self.encoders),
                }),
            Encoding::Identity | Encoding::Precompressed(_) => ranged(answer, chosen.encoding)
                .with_body(FileContent::File {
                    file,
                    segments: Vec::from([Segment::Part(0..len)]),
                    len,
                }),
        }
    }

    fn parts(
        &self,
        chosen: Representation,
        modified: Option<u64>,
        parts: Vec<Range<u64>>,
    ) -> FileAnswer {
        let answer = FileAnswer::new(206);
        let (answer, segments) = match &parts[..] {
            [part] => {
                let range = content_range(part, chosen.file.len);
                let answer = typed(answer, chosen.media_type).with("Content-Range", range);
                (answer, Vec::from([Segment::Part(part.clone())]))
            }
            _ => {
                let multipart = Multipart::new(parts, chosen.media_type, chosen.file.len);
                let boundary = multipart.boundary.as_bytes();
                let value = [b"multipart/byteranges; boundary=", boundary];
                let answer = answer
                    .with_parts("Content-Type", &value)
                    .with("X-Content-Type-Options", "nosniff");
                (answer, multipart.segments)
            }
        };
        let answer = self.describe(dated(answer, modified), &chosen);
        ranged(answer, chosen.encoding).with_body(FileContent::File {
            file: chosen.file.file,
            len: segments.iter().map(Segment::len).sum(),
            segments,
        })
    }

    /// Adds the fields that a 304 has as well.
    fn describe(&self, answer: FileAnswer, chosen: &Representation) -> FileAnswer {
        let mut answer = answer.with("ETag", &chosen.tag);
        if !self.config.cache_control.is_empty() {
            answer = answer.with("Cache-Control", &self.config.cache_control);
        }
        match chosen.varies {
            true => answer.with("Vary", "Accept-Encoding"),
            false => answer,
        }
    }
}

fn typed(answer: FileAnswer, media_type: MediaType) -> FileAnswer {
    let [essence, charset] = media_type.value();
    answer
        .with_parts("Content-Type", &[essence.as_bytes(), charset.as_bytes()])
        .with("X-Content-Type-Options", "nosniff")
}

fn dated(answer: FileAnswer, modified: Option<u64>) -> FileAnswer {
    match modified {
        Some(modified) => answer.with_date("Last-Modified", condition::last_modified(modified)),
        None => answer,
    }
}

fn ranged(answer: FileAnswer, encoding: Encoding) -> FileAnswer {
    let answer = answer.with("Accept-Ranges", "bytes");
    match encoding {
        Encoding::Precompressed(coding) => answer.with("Content-Encoding", names(coding).field),
        Encoding::Identity | Encoding::OnTheFly(_) => answer,
    }
}

/// A strong tag if the bytes are those of a file. Compressed on the fly, the bytes are the same for all clients of this
/// version of the proxy, but another version may compress differently; so the tag is weak.
fn tag(file: &OpenFile, encoding: Encoding) -> Vec<u8> {
    let (opening, suffix) = match encoding {
        Encoding::Identity => ("\"", ""),
        Encoding::Precompressed(coding) => ("\"", names(coding).tag),
        Encoding::OnTheFly(coding) => ("W/\"", names(coding).tag),
    };
    let mut tag = Vec::with_capacity(64);
    tag.extend_from_slice(opening.as_bytes());
    file.write_fingerprint(&mut tag);
    tag.extend_from_slice(suffix.as_bytes());
    tag.push(b'"');
    tag
}

/// Whether content of unknown length can be sent: the client understands chunks and requests no range.
fn takes_chunks(request: &RequestHead) -> bool {
    let has_range = request.is_method("GET") && request.fields().named("range").next().is_some();
    request.version() != Version::Http10 && !has_range
}

/// Redirects to the directory with a final slash. `resolve` returns no leading `/`, so the path never begins with `//`,
/// which would name another host.
fn redirect(name: &[u8], query: &[u8]) -> FileAnswer {
    let location = format!("/{}/", encoded(name)).into_bytes();
    FileAnswer::plain(301).with_parts("Location", &[&location, query])
}

/// Why a file is not served: the status for the client, and the reason for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotServed {
    status: u16,
    reason: &'static str,
}

impl NotServed {
    fn answer(self, request: &RequestHead) -> FileAnswer {
        let Self { status, reason } = self;
        tracing::debug!(path = %request.path().escape_ascii(), status, reason, "static file refused");
        FileAnswer::plain(status)
    }
}

impl From<PathError> for NotServed {
    fn from(error: PathError) -> Self {
        Self {
            status: match error {
                PathError::Malformed => 400,
                PathError::Outside => 403,
                PathError::Hidden
                | PathError::Separator
                | PathError::TooLong
                | PathError::Foreign => 404,
            },
            reason: error.reason(),
        }
    }
}

impl From<OpenError> for NotServed {
    fn from(error: OpenError) -> Self {
        Self {
            status: match error {
                error if error.is_absence() => 404,
                OpenError::Forbidden => 403,
                OpenError::Exhausted => 503,
                _ => 500,
            },
            reason: error.reason(),
        }
    }
}
