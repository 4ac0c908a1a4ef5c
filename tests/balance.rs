//! Connections that stay open are spread over the workers.

use crate::support::{Client, Proxy};

/// The open connections of each worker, as `proxy status` shows them.
fn per_worker(proxy: &Proxy) -> Vec<usize> {
    let status = proxy.order(&["status"]).stdout;
    let count = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "running", connections, ..] => connections.parse().ok(),
            _ => None,
        }
    };
    status.lines().filter_map(count).collect()
}

/// Sends a request that the proxy answers itself.
fn use_it(client: &mut Client) {
    let answer = client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 200);
}

/// A proxy with this many workers.
fn start(workers: usize) -> Proxy {
    let command = Proxy::bare().args(["--hostname", "127.0.0.1", "--port", "0"]);
    let count = workers.to_string();
    command.args(["--num-workers", &count]).start()
}

#[test]
fn connections_that_are_opened_one_after_the_other_are_on_all_workers() {
    for (workers, connections) in [(2, 8), (2, 16), (4, 8), (4, 16)] {
        let proxy = start(workers);
        let opened = |_| {
            let mut client = proxy.client();
            use_it(&mut client);
            client
        };
        let _open: Vec<_> = (0..connections).map(opened).collect();
        assert_eq!(per_worker(&proxy), vec![connections / workers; workers]);
    }
}

#[test]
fn connections_that_are_opened_at_once_are_on_all_workers() {
    for (workers, connections) in [(2, 8), (2, 16), (4, 16)] {
        let proxy = start(workers);
        let mut open: Vec<_> = (0..connections).map(|_| proxy.client()).collect();
        open.iter_mut().for_each(use_it);
        let found = per_worker(&proxy);
        assert!(
            is_even(&found, &vec![connections / workers; workers]),
            "{found:?}"
        );
    }
}

/// Workers that accept at the same moment may not see each other's connection.
fn is_even(found: &[usize], even: &[usize]) -> bool {
    let mut pairs = found.iter().zip(even);
    found.len() == even.len() && pairs.all(|(found, even)| found.abs_diff(*even) <= 1)
}
