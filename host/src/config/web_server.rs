//! The configuration of the web server.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::DirectRule;
use super::settings::{StaticFilesSettings, WebServerSettings};

/// How requests addressed to the proxy itself are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebServerConfig {
    /// Whether they are answered at all; without content, by 404. Static files, a PAC file and plugins with routes
    /// enable it as well. Default: no.
    pub is_enabled: bool,
    /// Static files. Default: none.
    pub static_files: Option<StaticFilesConfig>,
    /// The PAC file. Default: none.
    pub pac: Option<PacConfig>,
    /// Hosts that clients reach directly according to `proxy pac generate`. Default: none.
    pub pac_direct: Vec<DirectRule>,
}

/// The static files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFilesConfig {
    /// The directory; `None`: `public` beside the executable, which may be missing.
    pub dir: Option<PathBuf>,
    /// The index files of a directory, in order of preference. Default: `index.html`.
    pub index: Vec<String>,
    /// Whether a directory without an index file is listed; otherwise 404. Default: no.
    pub has_listing: bool,
    /// Which symbolic links are followed. Default [`Symlinks::Inside`].
    pub symlinks: Symlinks,
    /// Whether `name.br` and `name.gz` are sent for `name` to clients that accept them. Default: yes.
    pub has_precompressed: bool,
    /// The minimum length of text that is compressed on the fly, in bytes; `None`: never. Default 1024.
    pub compress_from: Option<u64>,
    /// The `Cache-Control` of every file; none if empty. Default: empty.
    pub cache_control: String,
}

/// Which symbolic links in the served directory are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Symlinks {
    /// Those that lead to a file inside the directory.
    #[default]
    Inside,
    /// None.
    None,
    /// All, wherever they lead.
    All,
}

/// The PAC file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacConfig {
    /// A file path, or the text itself.
    pub file_or_text: String,
    /// The path where it is served, in addition to `/wpad.dat`. Default `/`.
    pub url_path: String,
}

pub(super) fn web_server(settings: WebServerSettings) -> WebServerConfig {
    let pac_direct = settings.pac.direct;
    let static_files = static_files(settings.static_files);
    let url_path = settings.pac.url_path;
    let pac = settings.pac.file.map(|file_or_text| PacConfig {
        file_or_text,
        url_path: url_path.0,
    });
    WebServerConfig {
        is_enabled: settings.enable || static_files.is_some() || pac.is_some(),
        static_files,
        pac,
        pac_direct,
    }
}

fn static_files(settings: StaticFilesSettings) -> Option<StaticFilesConfig> {
    settings.enable.then(|| StaticFilesConfig {
        dir: settings.dir,
        index: settings.index.into_iter().map(|name| name.0).collect(),
        has_listing: settings.listing,
        symlinks: settings.symlinks,
        has_precompressed: settings.precompressed,
        compress_from: match settings.compress_from.0 {
            0 => None,
            len => Some(len as u64),
        },
        cache_control: settings.cache_control.0,
    })
}
