//! The access log: one line per exchange.
//!
//! Lines are added to a batch of the worker without a lock, a system call or an allocation. The worker passes the batch
//! on, and so does every diagnostic of the same thread, so that lines stay in chronological order. `line` is the line of
//! an exchange, `layout` puts it into the layout of the log, `output` is what a generation has configured.

mod layout;
mod line;
mod output;
mod record;
mod selection;
mod template;
mod value;

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::LogSink;
use super::clock::Clock;
use super::writer::LineQueue;

pub(crate) use output::AccessOutput;
pub use record::{AccessDetails, AccessNeeds, AccessRecord, AccessTls};
use selection::Random;

/// The access log of a worker. Dropping it sends the rest of the batch to the sink.
#[derive(Debug)]
pub struct AccessLog {
    sink: LogSink,
    /// What is in force; `None` before the first generation.
    output: RefCell<Option<Arc<AccessOutput>>>,
    is_enabled: Cell<bool>,
    needs: Cell<AccessNeeds>,
    random: Random,
    /// Lines for the log.
    batch: Rc<RefCell<Vec<u8>>>,
    /// Lines for a file of their own, and its queue.
    own_batch: RefCell<Vec<u8>>,
    own_queue: RefCell<Option<LineQueue>>,
    clock: RefCell<Clock>,
    scratch: RefCell<Vec<u8>>,
}

thread_local! {
    /// The batch of the worker on this thread.
    static BATCH: RefCell<Weak<RefCell<Vec<u8>>>> = const { RefCell::new(Weak::new()) };
}

/// The lines of this thread's batch, followed by `line`: a diagnostic must not precede earlier lines.
pub(super) fn behind_batch(line: &[u8]) -> Vec<u8> {
    // The batch may already be gone if the thread is ending.
    let batch = BATCH.try_with(|batch| batch.borrow().upgrade());
    let mut lines = match batch.ok().flatten() {
        Some(batch) => batch
            .try_borrow_mut()
            .map_or_else(|_| Vec::new(), |mut batch| mem::take(&mut *batch)),
        None => Vec::new(),
    };
    lines.extend_from_slice(line);
    lines
}

/// The size from which a batch should be passed on, and the capacity of a new one, in bytes.
const BATCH_LEN: usize = 32 * 1024;

impl AccessLog {
    /// A log that sends batches to `sink`. There is at most one per thread.
    pub fn new(sink: LogSink) -> Self {
        let batch = Rc::default();
        BATCH.set(Rc::downgrade(&batch));
        AccessLog {
            sink,
            output: RefCell::default(),
            is_enabled: Cell::new(false),
            needs: Cell::default(),
            random: Random::new(),
            batch,
            own_batch: RefCell::default(),
            own_queue: RefCell::default(),
            clock: RefCell::new(Clock::local()),
            scratch: RefCell::default(),
        }
    }

    /// From now on, lines are written as this generation has configured them.
    pub(crate) fn switch(&self, output: &Arc<AccessOutput>) {
        self.flush();
        let own_queue = output.queue();
        let is_connected = own_queue.is_some() || self.sink.is_connected();
        self.is_enabled.set(output.is_on && is_connected);
        self.own_queue.replace(own_queue);
        self.needs.set(output.needs());
        self.output.replace(Some(Arc::clone(output)));
    }

    /// Whether access lines are enabled; if not, callers need not create records.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled.get()
    }

    /// What has to be known at the end of an exchange.
    pub(crate) fn needs(&self) -> AccessNeeds {
        self.needs.get()
    }

    /// Adds the line of an exchange to the batch, if it has one.
    pub fn record(&self, record: &AccessRecord<'_>) {
        let output = self.output.borrow();
        let Some(output) = output.as_ref().filter(|output| output.is_on) else {
            return;
        };
        let selection = &output.selection;
        if !selection.is_everything() && !selection.has_line(record, &self.random) {
            return;
        }
        let mut batch = match self.own_queue.borrow().is_some() {
            true => self.own_batch.borrow_mut(),
            false => self.batch.borrow_mut(),
        };
        if batch.capacity() == 0 {
            batch.reserve(BATCH_LEN + 1024);
        }
        let (mut clock, mut scratch) = (self.clock.borrow_mut(), self.scratch.borrow_mut());
        output
            .layout
            .write(record, &mut clock, &mut batch, &mut scratch);
    }

    /// Whether the batch should be passed on now.
    pub fn is_batch_full(&self) -> bool {
        self.batch.borrow().len() >= BATCH_LEN || self.own_batch.borrow().len() >= BATCH_LEN
    }

    /// Passes the lines since the last call on.
    pub fn flush(&self) {
        if let Some(batch) = take(&self.batch) {
            self.sink.send(batch);
        }
        if let Some(queue) = &*self.own_queue.borrow()
            && let Some(batch) = take(&self.own_batch)
        {
            queue.send(batch);
        }
    }
}

/// The lines of a batch, which is empty then; `None` if there are none.
fn take(batch: &RefCell<Vec<u8>>) -> Option<Vec<u8>> {
    let lines = mem::take(&mut *batch.borrow_mut());
    (!lines.is_empty()).then_some(lines)
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_flushes_earlier_lines() {
        let log = AccessLog::new(LogSink::discard());
        log.batch.borrow_mut().extend_from_slice(b"first\n");
        assert_eq!(behind_batch(b"second\n"), b"first\nsecond\n");
        assert_eq!(take(&log.batch), None);
        drop(log);
        assert_eq!(behind_batch(b"third\n"), b"third\n");
    }
}
