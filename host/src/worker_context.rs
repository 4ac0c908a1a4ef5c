//! What everything on a worker's thread shares, whatever is in force: deadlines, the date, the access log, the numbers of
//! connections and exchanges, and how far the end of the process has come.
//!
//! Nothing here is shared with other threads, except for the two counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::deadline::Deadlines;
use crate::telemetry::{AccessLog, AccessRecord, LogSink};

/// How often access lines are handed to the writer.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

/// A count that all workers share, alone on its cache lines.
#[repr(align(128))]
struct Count(AtomicU64);

static CONNECTIONS: Count = Count(AtomicU64::new(0));
static EXCHANGES: Count = Count(AtomicU64::new(0));

/// The number of the next client connection: 1, 2, 3 in the process, in the order of their beginnings.
pub(crate) fn next_connection_id() -> u64 {
    CONNECTIONS.0.fetch_add(1, Ordering::Relaxed) + 1
}

/// The number of the next exchange, as [`next_connection_id`].
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
    gives_up: Cell<Option<GivesUp>>,
    cut: Cell<Cut>,
    connections: Cell<usize>,
    date: RefCell<DateText>,
}

/// Why a worker gives up what is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivesUp {
    /// The process ends.
    Shutdown,
    /// The worker has panicked.
    Panic,
}

/// What a worker has given up at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
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
            gives_up: Cell::new(None),
            cut: Cell::default(),
            connections: Cell::new(0),
            date: RefCell::default(),
        })
    }

    /// Exchanges are the last of their connection from now on.
    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
    }

    /// Whether exchanges shall be the last of their connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// What is still open is given up from now on, and counted.
    pub(crate) fn give_up(&self, why: GivesUp) {
        self.gives_up.set(Some(why));
        self.cut.set(Cut {
            exchanges: 0,
            connections: self.connections.get(),
        });
    }

    /// Why exchanges are given up; `None` if they are not.
    pub(crate) fn gives_up(&self) -> Option<GivesUp> {
        self.gives_up.get()
    }

    /// Counts an exchange that did not come to its end.
    pub(crate) fn count_cut_exchange(&self) {
        let cut = self.cut.get();
        self.cut.set(Cut {
            exchanges: cut.exchanges + usize::from(self.gives_up().is_some()),
            ..cut
        });
    }

    /// What has been given up since [`give_up`](Self::give_up).
    pub(crate) fn cut(&self) -> Cut {
        self.cut.get()
    }

    /// Client connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Counts a client connection for as long as the returned value lives.
    pub(crate) fn count_connection(self: &Rc<Self>) -> Counted {
        self.connections.set(self.connections.get() + 1);
        Counted(Rc::clone(self))
    }

    /// Runs `use_date` with the time as fields give it (RFC 9110 §5.6.7).
    pub(crate) fn with_date<R>(&self, use_date: impl FnOnce(&str) -> R) -> R {
        let mut date = self.date.borrow_mut();
        date.refresh();
        use_date(&date.text)
    }

    /// Whether anybody reads the access log.
    pub(crate) fn logs_access(&self) -> bool {
        self.access_log.is_enabled()
    }

    /// Puts one line into the access log.
    pub(crate) fn log_access(&self, record: &AccessRecord<'_>) {
        self.access_log.record(record);
        if self.access_log.is_batch_full() {
            self.access_log.flush();
        } else {
            self.access_lines.notify_one();
        }
    }

    /// Hands access lines to the writer, batch after batch. Never returns.
    pub(crate) async fn write_access_log(&self) {
        loop {
            self.access_lines.notified().await;
            tokio::time::sleep(LOG_INTERVAL).await;
            self.access_log.flush();
        }
    }

    /// Hands over what is left of the access log.
    pub(crate) fn flush_access_log(&self) {
        self.access_log.flush();
    }
}

/// A client connection that is open, counted.
#[derive(Debug)]
pub(crate) struct Counted(Rc<WorkerContext>);

impl Drop for Counted {
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
