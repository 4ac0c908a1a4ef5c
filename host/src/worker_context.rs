//! What everything on a worker's thread shares, regardless of the generation: deadlines, the date, the access log, the
//! ids of connections and exchanges, and the stage of the shutdown.
//!
//! Nothing here is shared with other threads, except for the two counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::deadline::Deadlines;
use crate::telemetry::{AccessLog, AccessRecord, LogSink};

/// How often access lines are passed to the writer.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

/// A counter that all workers share, alone on its cache line.
#[repr(align(128))]
struct SharedCounter(AtomicU64);

static CONNECTIONS: SharedCounter = SharedCounter(AtomicU64::new(0));
static EXCHANGES: SharedCounter = SharedCounter(AtomicU64::new(0));

/// The id of the next client connection: 1, 2, 3 within the process, in the order of their start.
pub(crate) fn next_connection_id() -> u64 {
    CONNECTIONS.0.fetch_add(1, Ordering::Relaxed) + 1
}

/// The id of the next exchange, like [`next_connection_id`].
pub(crate) fn next_exchange_id() -> u64 {
    EXCHANGES.0.fetch_add(1, Ordering::Relaxed) + 1
}

/// What the connections and exchanges of a worker share.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) deadlines: Rc<Deadlines>,
    access_log: AccessLog,
    access_lines: Notify,
    is_draining: Cell<bool>,
    abort_reason: Cell<Option<AbortReason>>,
    aborted: Cell<Aborted>,
    connections: Cell<usize>,
    date: RefCell<DateText>,
}

/// Why a worker aborts its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbortReason {
    /// The process ends.
    Shutdown,
    /// The worker has panicked.
    Panic,
}

/// What a worker aborted at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) exchanges: usize,
    /// Client connections, idle ones included.
    pub(crate) connections: usize,
}

impl WorkerContext {
    pub(crate) fn new(log: LogSink) -> Rc<Self> {
        Rc::new(Self {
            deadlines: Deadlines::new(),
            access_log: AccessLog::new(log),
            access_lines: Notify::new(),
            is_draining: Cell::new(false),
            abort_reason: Cell::new(None),
            aborted: Cell::default(),
            connections: Cell::new(0),
            date: RefCell::default(),
        })
    }

    /// From now on, each exchange is the last of its connection.
    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
    }

    /// Whether each exchange is the last of its connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// From now on, open connections and exchanges are aborted and counted.
    pub(crate) fn abort(&self, why: AbortReason) {
        self.abort_reason.set(Some(why));
        self.aborted.set(Aborted {
            exchanges: 0,
            connections: self.connections.get(),
        });
    }

    /// Why exchanges are aborted; `None` if they are not.
    pub(crate) fn abort_reason(&self) -> Option<AbortReason> {
        self.abort_reason.get()
    }

    /// Counts an exchange that did not complete.
    pub(crate) fn count_aborted_exchange(&self) {
        let aborted = self.aborted.get();
        self.aborted.set(Aborted {
            exchanges: aborted.exchanges + usize::from(self.abort_reason().is_some()),
            ..aborted
        });
    }

    /// What has been aborted since [`abort`](Self::abort).
    pub(crate) fn aborted(&self) -> Aborted {
        self.aborted.get()
    }

    /// The number of open client connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Counts a client connection while the returned value exists.
    pub(crate) fn open_connection(self: &Rc<Self>) -> OpenConnection {
        self.connections.set(self.connections.get() + 1);
        OpenConnection(Rc::clone(self))
    }

    /// Calls `use_date` with the current date in the format of fields (RFC 9110 §5.6.7).
    pub(crate) fn with_date<R>(&self, use_date: impl FnOnce(&str) -> R) -> R {
        let mut date = self.date.borrow_mut();
        date.refresh();
        use_date(&date.text)
    }

    /// Whether the access log is enabled.
    pub(crate) fn logs_access(&self) -> bool {
        self.access_log.is_enabled()
    }

    /// Writes a line to the access log.
    pub(crate) fn log_access(&self, record: &AccessRecord<'_>) {
        self.access_log.record(record);
        if self.access_log.is_batch_full() {
            self.access_log.flush();
        } else {
            self.access_lines.notify_one();
        }
    }

    /// Passes access lines to the writer, batch by batch. Never returns.
    pub(crate) async fn write_access_log(&self) {
        loop {
            self.access_lines.notified().await;
            tokio::time::sleep(LOG_INTERVAL).await;
            self.access_log.flush();
        }
    }

    /// Passes the remaining lines of the access log.
    pub(crate) fn flush_access_log(&self) {
        self.access_log.flush();
    }
}

/// An open client connection that is counted.
#[derive(Debug)]
pub(crate) struct OpenConnection(Rc<WorkerContext>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

#[derive(Debug, Default)]
struct DateText {
    second: u64,
    text: String,
}

impl DateText {
    fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = httpdate::fmt_http_date(now);
        }
    }
}
