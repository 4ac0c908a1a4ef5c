//! A cache of the programs of recent connections.
//!
//! Connections are numbered in the order of their acceptance, so a ring of slots by number contains the youngest ones.
//! A connection whose slot was taken by a later one is looked up again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of cached connections.
const SLOTS: usize = 4096;

/// Programs by connection.
pub(crate) struct ProgramCache {
    slots: Mutex<Vec<Slot>>,
}

/// A connection and its program.
type Slot = Option<(u64, Arc<str>)>;

impl ProgramCache {
    /// An empty cache.
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::new(vec![None; SLOTS]),
        }
    }

    /// The program of a connection.
    pub(crate) fn program(&self, connection: u64) -> Option<Arc<str>> {
        let slots = self.lock();
        let (of, program) = slots[slot(connection)].as_ref()?;
        (*of == connection).then(|| program.clone())
    }

    /// Stores the program of a connection.
    pub(crate) fn remember(&self, connection: u64, program: Arc<str>) {
        self.lock()[slot(connection)] = Some((connection, program));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(connection: u64) -> usize {
    (connection % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::{ProgramCache, SLOTS};

    #[test]
    fn caches_the_youngest_connections() {
        let seen = ProgramCache::new();
        seen.remember(1, "curl".into());
        seen.remember(2, "wget".into());
        assert_eq!(seen.program(1).as_deref(), Some("curl"));
        assert_eq!(seen.program(3), None);
        let later = 1 + SLOTS as u64;
        assert_eq!(seen.program(later), None);
        seen.remember(later, "lynx".into());
        assert_eq!(seen.program(later).as_deref(), Some("lynx"));
        assert_eq!(seen.program(1), None);
        assert_eq!(seen.program(2).as_deref(), Some("wget"));
    }
}
