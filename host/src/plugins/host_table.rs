//! Services of the process for plugin libraries, outside exchanges: logging, and the jobs of `job`.
#![expect(
    unsafe_code,
    reason = "functions that plugins call across the binary boundary"
)]

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::RStr;
use plugin_api::abi::{HostTable, HostTableRef};
use tracing::Level;

use super::guard::guarded;
use super::{job, last_words};

/// The table that every library gets when it is loaded.
pub(crate) const HOST_TABLE: HostTableRef = HostTableRef(Table::VALUE.as_prefix());

struct Table;

impl Table {
    staticref!(const VALUE: WithMetadata<HostTable> = WithMetadata::new(HostTable {
        log_enabled,
        log,
        sleep: job::sleep,
        call_out: job::call_out,
        run_blocking: job::run_blocking,
        poll_job: job::poll_job,
        call_out_answer: job::call_out_answer,
        release_job: job::release_job,
        spawn: job::spawn,
        note_panic: last_words::note_panic,
    }));
}

unsafe extern "C" fn log_enabled(level: u32) -> u32 {
    guarded(0, || {
        u32::from(tracing_level(level) <= tracing::level_filters::LevelFilter::current())
    })
}

unsafe extern "C" fn log(
    level: u32,
    target: RStr<'_>,
    message: RStr<'_>,
    file: RStr<'_>,
    line: u32,
) {
    let (target, message, file) = (target.as_str(), message.as_str(), file.as_str());
    // The line is shown where the plugin wrote it, not here.
    guarded((), || match tracing_level(level) {
        Level::ERROR => tracing::error!(log.target = target, log.line = line, file, "{message}"),
        Level::WARN => tracing::warn!(log.target = target, log.line = line, file, "{message}"),
        Level::INFO => tracing::info!(log.target = target, log.line = line, "{message}"),
        Level::DEBUG => tracing::debug!(log.target = target, log.line = line, "{message}"),
        Level::TRACE => tracing::trace!(log.target = target, log.line = line, "{message}"),
    });
}

fn tracing_level(level: u32) -> Level {
    match level {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    }
}
