//! The thread that finds out which programs clients are, and the way to ask it.
//!
//! To look through all processes takes milliseconds, too long for the thread of an exchange. Questions that come
//! meanwhile are answered together by the next look. A question that waits too long, or whose answer cannot be
//! found, is dropped, and that is an answer: unknown. So nobody waits forever, whatever becomes of the thread.

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

/// Questions that may wait for the thread; past it, they are answered as unknown at once.
const MAX_QUESTIONS: usize = 1024;

/// The way to ask. The thread ends with it.
pub(crate) struct Lookups {
    questions: SyncSender<Question>,
    max_wait: Duration,
}

impl Lookups {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(max_wait: Duration) -> io::Result<Self> {
        let (questions, asked) = sync_channel(MAX_QUESTIONS);
        thread::Builder::new()
            .name("program_name".to_owned())
            .spawn(move || answer_all(&asked))?;
        Ok(Self {
            questions,
            max_wait,
        })
    }

    /// Which program is at the other end of the connection from `client`; none if that cannot be told.
    pub(crate) fn program(&self, client: SocketAddr) -> Answer {
        let answer = Answer(Arc::new(Mutex::new(State::Open(None))));
        let question = Question {
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            late_at: Instant::now() + self.max_wait,
            answer: answer.clone(),
        };
        // A question that is not taken is dropped, which answers it.
        let _ = self.questions.try_send(question);
        answer
    }
}

/// The name of a program, or none, once it is known; can be dropped at any time.
#[derive(Clone)]
pub(crate) struct Answer(Arc<Mutex<State>>);

enum State {
    Open(Option<Waker>),
    Given(Option<String>),
}

impl Answer {
    /// Gives the answer, unless one was given before.
    fn give(&self, program: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Open(waker) = &mut *state else {
            return;
        };
        let waker = waker.take();
        *state = State::Given(program);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Answer {
    type Output = Option<String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Given(program) => Poll::Ready(program.take()),
            State::Open(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct Question {
    /// IPv4 also when it is mapped into IPv6, as in `rule`.
    client: SocketAddr,
    late_at: Instant,
    answer: Answer,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer.give(None);
    }
}

fn answer_all(asked: &Receiver<Question>) {
    while let Ok(first) = asked.recv() {
        let further = asked.try_iter().take(MAX_QUESTIONS);
        answer(by_inode([first].into_iter().chain(further).collect()));
    }
}

/// Answers what can be answered; the rest is dropped.
fn answer(mut questions: HashMap<u64, Question>) {
    for process in processes() {
        let now = Instant::now();
        questions.retain(|_, question| now < question.late_at);
        if questions.is_empty() {
            return;
        }
        for inode in process.sockets() {
            if let Some(question) = questions.remove(&inode) {
                question.answer.give(process.opener(inode).name());
            }
        }
    }
}

/// The questions by the inode of the socket that each asks for; what has none is dropped.
fn by_inode(questions: Vec<Question>) -> HashMap<u64, Question> {
    let inodes = inodes_of(&questions);
    let with_inode = |question: Question| {
        let inode = inodes.get(&question.client).copied().flatten()?;
        Some((inode, question))
    };
    questions.into_iter().filter_map(with_inode).collect()
}

/// The inodes of the clients' sockets. A client that seems to have several has none: one port may serve connections
/// to several places, of several programs, and no name is better than a wrong one.
fn inodes_of(questions: &[Question]) -> HashMap<SocketAddr, Option<u64>> {
    let clients: HashSet<SocketAddr> = questions.iter().map(|question| question.client).collect();
    let mut inodes = HashMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        for socket in sockets(&table).filter(|socket| clients.contains(&socket.local)) {
            inodes
                .entry(socket.local)
                .and_modify(|inode| *inode = None)
                .or_insert(Some(socket.inode));
        }
    }
    inodes
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::{Answer, Lookups};
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

    fn wait(mut answer: Answer) -> Option<String> {
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
    fn answers_unknown_for_what_is_nobodys() {
        let lookups = Lookups::start(Duration::from_secs(60)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(wait(lookups.program(listener.local_addr().unwrap())), None);
    }

    #[test]
    fn a_question_that_waits_too_long_is_answered_unknown() {
        let lookups = Lookups::start(Duration::ZERO).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, address) = listener.accept().unwrap();
        assert_eq!(wait(lookups.program(address)), None);
    }

    #[test]
    fn a_thread_that_is_gone_answers_unknown() {
        let (questions, asked) = std::sync::mpsc::sync_channel(1);
        drop(asked);
        let max_wait = Duration::from_secs(60);
        let lookups = Lookups {
            questions,
            max_wait,
        };
        assert_eq!(
            wait(lookups.program(SocketAddr::from(([127, 0, 0, 1], 9)))),
            None
        );
    }
}
