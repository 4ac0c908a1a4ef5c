//! What everything on a worker's thread shares, regardless of the generation: deadlines, the date, the access log, the
//! ids of connections and exchanges, and the stage of the shutdown.
//!
//! Nothing here is shared with other threads, except for the two counters and the number of connections, by which workers
//! are compared.

use std::cell::{Cell, RefCell};
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::balance::{Counted, Loads};
use crate::deadline::Deadlines;
use crate::in_flight::{ExchangeKind, InFlight, KindCounts};
use crate::telemetry::{AccessLog, AccessNeeds, AccessOutput, AccessRecord, LogSink};

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
    closes_idle: Cell<bool>,
    abort_reason: Cell<Option<AbortReason>>,
    tally: Cell<Tally>,
    connections: Cell<usize>,
    /// The exchanges that are open.
    pub(crate) in_flight: InFlight,
    /// Where the connections are counted for other workers, and the number of this one; `None` with a single worker.
    load: Option<(Arc<Loads>, usize)>,
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

/// What became of a worker's exchanges since it began to drain, or was aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Those that ended while the worker drained.
    pub(crate) finished: KindCounts,
    /// Those that were cut off.
    pub(crate) cut_off: KindCounts,
    /// Client connections that were cut off, idle ones included.
    pub(crate) connections: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.finished += other.finished;
        self.cut_off += other.cut_off;
        self.connections += other.connections;
    }
}

impl WorkerContext {
    /// `load` is where connections are counted for other workers, and the number of this one.
    pub(crate) fn new(log: LogSink, load: Option<(Arc<Loads>, usize)>) -> Rc<Self> {
        Rc::new(Self {
            deadlines: Deadlines::new(),
            access_log: AccessLog::new(log),
            access_lines: Notify::new(),
            is_draining: Cell::new(false),
            closes_idle: Cell::new(false),
            abort_reason: Cell::new(None),
            tally: Cell::default(),
            connections: Cell::new(0),
            in_flight: InFlight::default(),
            load,
            date: RefCell::default(),
        })
    }

    /// From now on, each exchange is the last of its connection.
    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
    }

    /// From now on, idle client connections are closed.
    pub(crate) fn close_idle(&self) {
        self.closes_idle.set(true);
    }

    /// Whether idle client connections are closed, rather than left to send another request.
    pub(crate) fn closes_idle(&self) -> bool {
        self.closes_idle.get()
    }

    /// Whether each exchange is the last of its connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// From now on, open connections and exchanges are aborted and counted.
    pub(crate) fn abort(&self, why: AbortReason) {
        self.abort_reason.set(Some(why));
        self.tally.set(Tally {
            connections: self.connections.get(),
            ..self.tally.get()
        });
    }

    /// Why exchanges are aborted; `None` if they are not.
    pub(crate) fn abort_reason(&self) -> Option<AbortReason> {
        self.abort_reason.get()
    }

    /// An exchange of this kind has ended by itself.
    pub(crate) fn end_exchange(&self, kind: ExchangeKind) {
        self.in_flight.end(kind);
        if self.is_draining.get() {
            self.count(|tally| tally.finished.add(kind));
        }
    }

    /// An exchange of this kind was dropped: by the worker, which aborts, or because its client has disconnected.
    pub(crate) fn drop_exchange(&self, kind: ExchangeKind) {
        match self.abort_reason.get() {
            None => self.end_exchange(kind),
            Some(_) => {
                self.in_flight.end(kind);
                self.count(|tally| tally.cut_off.add(kind));
            }
        }
    }

    fn count(&self, one: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        one(&mut tally);
        self.tally.set(tally);
    }

    /// What has been counted since [`drain`](Self::drain) or [`abort`](Self::abort).
    pub(crate) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// The number of open client connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Counts a client connection while the returned value exists.
    pub(crate) fn open_connection(self: &Rc<Self>, counted: Option<Counted>) -> OpenConnection {
        self.connections.set(self.connections.get() + 1);
        match (counted, &self.load) {
            (Some(counted), _) => counted.keep(),
            (None, Some((loads, worker))) => loads.add(*worker),
            (None, None) => {}
        }
        OpenConnection(Rc::clone(self))
    }

    /// Calls `use_date` with the current date in the format of fields (RFC 9110 §5.6.7).
    pub(crate) fn with_date<R>(&self, use_date: impl FnOnce(&str) -> R) -> R {
        let mut date = self.date.borrow_mut();
        date.refresh();
        use_date(&date.text)
    }

    /// From now on, access lines are written as a generation has configured them.
    pub(crate) fn switch_access_log(&self, output: &Arc<AccessOutput>) {
        self.access_log.switch(output);
    }

    /// Whether the access log is enabled.
    pub(crate) fn logs_access(&self) -> bool {
        self.access_log.is_enabled()
    }

    /// What the access log needs to know at the end of an exchange.
    pub(crate) fn access_needs(&self) -> AccessNeeds {
        self.access_log.needs()
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
        if let Some((loads, worker)) = &self.0.load {
            loads.remove(*worker);
        }
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
