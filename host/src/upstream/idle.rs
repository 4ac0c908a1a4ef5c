//! Idle connections, in the order in which they became idle: over all hosts, and for each host.
//!
//! One table, whose entries are in two doubly linked lists. Removing any entry, such as the newest of a host or the
//! oldest of all, takes constant time, and nothing is allocated once the table has its final size.

/// No entry.
const NONE: u32 = u32::MAX;

/// The list over all hosts.
const ALL: usize = 0;
/// The list of one host.
const HOST: usize = 1;

/// All idle connections of a worker.
#[derive(Debug)]
pub(super) struct IdleTable<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    all: List,
    /// The next entry to be checked.
    next_check: usize,
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None` in a free entry, whose `links[ALL].older` is the next free one.
    value: Option<T>,
    since: u32,
    host: u32,
    links: [Links; 2],
}

#[derive(Clone, Copy, Debug)]
struct Links {
    older: u32,
    newer: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn newest(&self) -> Option<u32> {
        (self.newest != NONE).then_some(self.newest)
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }
}

impl<T> Default for IdleTable<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            all: List::default(),
            next_check: 0,
        }
    }
}

impl<T> IdleTable<T> {
    pub(super) fn len(&self) -> usize {
        self.all.len
    }

    /// The entry that has been idle for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.all.oldest()
    }

    pub(super) fn host_of(&self, at: u32) -> u32 {
        self.entries[at as usize].host
    }

    pub(super) fn since(&self, at: u32) -> u32 {
        self.entries[at as usize].since
    }

    /// Adds a connection that becomes idle now, at the tick `since`, to both lists.
    pub(super) fn push(&mut self, host: u32, list: &mut List, value: T, since: u32) {
        let entry = Entry {
            value: Some(value),
            since,
            host,
            links: [Links {
                older: NONE,
                newer: NONE,
            }; 2],
        };
        let at = match self.free {
            NONE => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            at => {
                let place = &mut self.entries[at as usize];
                self.free = place.links[ALL].older;
                *place = entry;
                at
            }
        };
        let mut all = self.all;
        self.link(ALL, &mut all, at);
        self.all = all;
        self.link(HOST, list, at);
    }

    /// Removes an entry from both lists.
    pub(super) fn remove(&mut self, at: u32, list: &mut List) -> Option<T> {
        let value = self.entries[at as usize].value.take()?;
        let mut all = self.all;
        self.unlink(ALL, &mut all, at);
        self.all = all;
        self.unlink(HOST, list, at);
        self.entries[at as usize].links[ALL].older = self.free;
        self.free = at;
        Some(value)
    }

    /// The next entry for which `holds` is true, among at most `checks` places after the last one. Decreases `checks`.
    pub(super) fn check(&mut self, checks: &mut usize, holds: impl Fn(&T) -> bool) -> Option<u32> {
        let len = self.entries.len();
        while *checks > 0 {
            *checks -= 1;
            let at = match self.next_check {
                at if at < len => at,
                _ => 0,
            };
            self.next_check = at + 1;
            if self.entries.get(at)?.value.as_ref().is_some_and(&holds) {
                return Some(at as u32);
            }
        }
        None
    }

    /// The number of places, and so of checks for all entries.
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    fn link(&mut self, which: usize, list: &mut List, at: u32) {
        self.entries[at as usize].links[which].older = list.newest;
        match list.newest {
            NONE => list.oldest = at,
            newest => self.entries[newest as usize].links[which].newer = at,
        }
        list.newest = at;
        list.len += 1;
    }

    fn unlink(&mut self, which: usize, list: &mut List, at: u32) {
        let Links { older, newer } = self.entries[at as usize].links[which];
        match older {
            NONE => list.oldest = newer,
            older => self.entries[older as usize].links[which].newer = newer,
        }
        match newer {
            NONE => list.newest = older,
            newer => self.entries[newer as usize].links[which].older = older,
        }
        list.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the table, oldest first, and each list, newest first, by following the links.
    fn drain(table: &mut IdleTable<u32>, lists: &mut [List]) -> Vec<u32> {
        let mut values = Vec::new();
        while let Some(at) = table.oldest() {
            let host = table.host_of(at) as usize;
            values.extend(table.remove(at, &mut lists[host]));
        }
        assert!(
            lists
                .iter()
                .all(|list| list.len() == 0 && list.newest().is_none())
        );
        values
    }

    #[test]
    fn the_oldest_of_all_and_the_newest_of_a_host_are_found() {
        let (mut table, mut lists) = (IdleTable::default(), [List::default(); 3]);
        for value in 0..9 {
            let host = value % 3;
            table.push(host, &mut lists[host as usize], value, value);
        }
        assert_eq!((table.len(), lists[1].len()), (9, 3));
        let newest = lists[1].newest().unwrap();
        assert_eq!(table.remove(newest, &mut lists[1]), Some(7));
        let oldest = lists[2].oldest().unwrap();
        assert_eq!(table.remove(oldest, &mut lists[2]), Some(2));
        table.push(1, &mut lists[1], 9, 9);
        assert_eq!(table.places(), 9, "places are used again");
        assert_eq!(drain(&mut table, &mut lists), [0, 1, 3, 4, 5, 6, 8, 9]);
    }

    #[test]
    fn random_use_keeps_both_orders() {
        let (mut table, mut lists) = (IdleTable::default(), vec![List::default(); 5]);
        let mut model: Vec<(u32, u32)> = Vec::new();
        let mut random = 12345_u32;
        for value in 0..5000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let host = (random >> 8) % 5;
            let list = &mut lists[host as usize];
            match (random >> 16) % 5 {
                0 => {
                    let newest = list.newest().and_then(|at| table.remove(at, list));
                    let expected = model.iter().rposition(|(of, _)| *of == host);
                    assert_eq!(newest, expected.map(|at| model.remove(at).1));
                }
                1 => {
                    let oldest = table.oldest();
                    let removed = oldest.and_then(|at| {
                        let host = table.host_of(at) as usize;
                        table.remove(at, &mut lists[host])
                    });
                    let expected = (!model.is_empty()).then(|| model.remove(0).1);
                    assert_eq!(removed, expected);
                }
                _ => {
                    table.push(host, list, value, 0);
                    model.push((host, value));
                }
            }
        }
        let expected: Vec<u32> = model.iter().map(|(_, value)| *value).collect();
        assert_eq!(drain(&mut table, &mut lists), expected);
    }

    #[test]
    fn checks_go_round_and_are_limited() {
        let (mut table, mut list) = (IdleTable::default(), List::default());
        for value in 0..10 {
            table.push(0, &mut list, value, 0);
        }
        let mut found = Vec::new();
        for _ in 0..5 {
            let mut checks = 4;
            while let Some(at) = table.check(&mut checks, |value| value % 2 == 1) {
                found.push(at);
            }
            assert_eq!(checks, 0);
        }
        assert_eq!(found, [1, 3, 5, 7, 9, 1, 3, 5, 7, 9]);
        assert_eq!(IdleTable::<u32>::default().check(&mut 3, |_| true), None);
    }
}
