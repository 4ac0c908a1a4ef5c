//! The lines of a process's output.
//!
//! A test waits for a line instead of sleeping. Nothing is printed unless the test fails.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// An output stream of a child process, read to its end in the background.
#[derive(Clone)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Starts reading.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Log {
        let log = Log(Arc::default());
        let writer = log.clone();
        thread::spawn(move || writer.fill(stream));
        log
    }

    fn fill(&self, stream: impl Read) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text =
                String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            self.lock().lines.push(text);
            self.0.1.notify_all();
            line.clear();
        }
        self.lock().ended = true;
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line that `wanted` accepts; `None` if the stream ends or no such line appears in time.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + super::HANG;
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(found.clone());
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self
                .0
                .1
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// All lines, once the stream has ended.
    pub(crate) fn wait_for_end(&self) -> String {
        let state = self.lock();
        let waiting = self
            .0
            .1
            .wait_timeout_while(state, super::HANG, |state| !state.ended);
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .lines
            .join("\n")
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }
}
