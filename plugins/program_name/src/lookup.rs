//! The thread that looks up the programs of clients.
//!
//! Searching all processes takes milliseconds, too long for the thread of an exchange. Requests that arrive during a
//! search are handled together by the next one. A request that waits too long, or whose program is not found, is
//! dropped, which means: unknown. So no exchange waits forever, whatever happens to the thread.

use crate::process::processes;
use crate::rule::sockets;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum number of waiting requests; further ones are unknown at once.
const MAX_REQUESTS: usize = 1024;

/// Sends requests to the thread, which ends when this is dropped.
pub(crate) struct Lookups {
    requests: SyncSender<LookupRequest>,
    max_wait: Duration,
}

impl Lookups {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(max_wait: Duration) -> io::Result<Self> {
        let (requests, incoming) = sync_channel(MAX_REQUESTS);
        thread::Builder::new()
            .name("program_name".to_owned())
            .spawn(move || serve(&incoming))?;
        Ok(Self { requests, max_wait })
    }

    /// The program that has the connection of `client`; none if it cannot be determined.
    pub(crate) fn program(&self, client: SocketAddr) -> PendingName {
        let answer = PendingName(Arc::new(Mutex::new(NameState::Open(None))));
        let request = LookupRequest {
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            deadline: Instant::now() + self.max_wait,
            answer: answer.clone(),
        };
        // A request that does not fit is dropped, which completes it as unknown.
        let _ = self.requests.try_send(request);
        answer
    }
}

/// The pending result: the name of a program, or none. Can be dropped at any time.
#[derive(Clone)]
pub(crate) struct PendingName(Arc<Mutex<NameState>>);

enum NameState {
    Open(Option<Waker>),
    Given(Option<String>),
}

impl PendingName {
    /// Completes the lookup, unless it is complete.
    fn complete(&self, program: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let NameState::Open(waker) = &mut *state else {
            return;
        };
        let waker = waker.take();
        *state = NameState::Given(program);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for PendingName {
    type Output = Option<String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            NameState::Given(program) => Poll::Ready(program.take()),
            NameState::Open(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct LookupRequest {
    /// IPv4 even if it is mapped into IPv6, as in `rule`.
    client: SocketAddr,
    deadline: Instant,
    answer: PendingName,
}

impl Drop for LookupRequest {
    fn drop(&mut self) {
        self.answer.complete(None);
    }
}

fn serve(incoming: &Receiver<LookupRequest>) {
    while let Ok(first) = incoming.recv() {
        let further = incoming.try_iter().take(MAX_REQUESTS);
        answer(by_inode([first].into_iter().chain(further).collect()));
    }
}

/// Completes the requests that can be; drops the rest.
fn answer(mut requests: HashMap<u64, LookupRequest>) {
    for process in processes() {
        let now = Instant::now();
        requests.retain(|_, request| now < request.deadline);
        if requests.is_empty() {
            return;
        }
        for inode in process.sockets() {
            if let Some(request) = requests.remove(&inode) {
                request.answer.complete(process.opener(inode).name());
            }
        }
    }
}

/// The requests by the inode of their sockets; those without one are dropped.
fn by_inode(requests: Vec<LookupRequest>) -> HashMap<u64, LookupRequest> {
    let inodes = inodes_of(&requests);
    let with_inode = |request: LookupRequest| {
        let inode = inodes.get(&request.client).copied().flatten()?;
        Some((inode, request))
    };
    requests.into_iter().filter_map(with_inode).collect()
}

/// Reading the tables is not atomic: while other sockets come and go, the kernel may omit one or list it twice.
const READS: usize = 3;

/// The inodes of the clients' sockets. A client with several sockets has none: one port may have connections to several
/// destinations, of several programs, and no name is better than a wrong one.
fn inodes_of(requests: &[LookupRequest]) -> HashMap<SocketAddr, Option<u64>> {
    let clients: HashSet<SocketAddr> = requests.iter().map(|request| request.client).collect();
    let mut inodes = HashMap::new();
    for _ in 0..READS {
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = fs::read_to_string(table).unwrap_or_default();
            add_inodes(&table, &clients, &mut inodes);
        }
        if inodes.len() == clients.len() {
            break;
        }
    }
    inodes
}

fn add_inodes(
    table: &str,
    clients: &HashSet<SocketAddr>,
    inodes: &mut HashMap<SocketAddr, Option<u64>>,
) {
    for socket in sockets(table).filter(|socket| clients.contains(&socket.local)) {
        let inode = Some(socket.inode);
        let known = inodes.entry(socket.local).or_insert(inode);
        if *known != inode {
            *known = None;
        }
    }
}

#[cfg(test)]
mod table_tests {
    use super::*;

    const CLIENT: &str = "   1: 0100007F:B0E6 0100007F:22C3 01 00000000:00000000 00:00000000 00000000  1000        0 ";

    fn inode(inodes: &[u64]) -> Option<u64> {
        let client = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0xB0E6));
        let lines = inodes.iter().map(|inode| format!("{CLIENT}{inode} 1 0\n"));
        let table = format!("heading\n{}", lines.collect::<String>());
        let mut found = HashMap::new();
        add_inodes(&table, &HashSet::from([client]), &mut found);
        found.get(&client).copied().flatten()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_socket_that_is_listed_twice_is_one() {
        assert_eq!(inode(&[7]), Some(7));
        assert_eq!(inode(&[7, 7]), Some(7));
        assert_eq!(inode(&[7, 8]), None);
        assert_eq!(inode(&[7, 8, 7]), None);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::{Lookups, PendingName};
    use std::fs;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::Duration;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait(mut answer: PendingName) -> Option<String> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Future::poll(std::pin::Pin::new(&mut answer), &mut context) {
                Poll::Ready(program) => return program,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn own_name() -> String {
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        name.trim_end().to_owned()
    }

    #[test]
    fn finds_the_program_of_a_connection_in_either_family() {
        let lookups = Lookups::start(Duration::from_secs(60)).unwrap();
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_accepted, address) = listener.accept().unwrap();
            assert_eq!(wait(lookups.program(address)), Some(own_name()));
            drop(client);
        }
    }

    #[test]
    fn unowned_sockets_are_unknown() {
        let lookups = Lookups::start(Duration::from_secs(60)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(wait(lookups.program(listener.local_addr().unwrap())), None);
    }

    #[test]
    fn a_late_request_is_unknown() {
        let lookups = Lookups::start(Duration::ZERO).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, address) = listener.accept().unwrap();
        assert_eq!(wait(lookups.program(address)), None);
    }

    #[test]
    fn requests_without_a_thread_are_unknown() {
        let (requests, incoming) = std::sync::mpsc::sync_channel(1);
        drop(incoming);
        let max_wait = Duration::from_secs(60);
        let lookups = Lookups { requests, max_wait };
        assert_eq!(
            wait(lookups.program(SocketAddr::from(([127, 0, 0, 1], 9)))),
            None
        );
    }
}
