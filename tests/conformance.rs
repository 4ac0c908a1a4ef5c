//! RFC 9110 and RFC 9112 as a table of raw messages.
//!
//! Each row states what the client sends, what the origin sends, and what both must receive. The proxy refuses
//! ambiguous messages and repairs nothing, so most rows state exactly one outcome; where the RFCs and our rules leave a
//! choice, the row lists the safe outcomes. All rows run against one proxy, which must still serve after each.

mod case;
mod chunked;
mod connect;
mod connections;
mod field_syntax;
mod hop_by_hop;
mod request_framing;
mod responses;
mod targets;
mod upgrade;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::Proxy;
use case::Case;

/// Rows that run concurrently: enough to hide the waits, few enough for a small machine.
const PARALLEL: usize = 4;

#[test]
fn every_row_of_the_table_holds() {
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_response = 5\nupstream_idle = 5\nidle = 5")
        .start();
    let cases = table();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(reason) = case.run(&proxy) {
                        let failure = format!("{} (RFC {}): {reason}", case.id, case.rule);
                        failures
                            .lock()
                            .expect("no row panics while it holds the lock")
                            .push(failure);
                    }
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .expect("no row panics while it holds the lock");
    let summary = format!(
        "{} of {} rows fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    assert!(failures.is_empty(), "{summary}");
}

#[test]
fn rows_have_names_of_their_own() {
    let cases = table();
    let names: HashSet<_> = cases.iter().map(|case| case.id).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 120, "{} rows", cases.len());
}

fn table() -> Vec<Case> {
    let groups = [
        request_framing::cases(),
        chunked::cases(),
        field_syntax::cases(),
        targets::cases(),
        hop_by_hop::cases(),
        responses::cases(),
        connections::cases(),
        connect::cases(),
        upgrade::cases(),
    ];
    groups.into_iter().flatten().collect()
}
