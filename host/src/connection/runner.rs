//! Memory for exchanges, which idle connections do not hold.
//!
//! The future of an exchange takes about 2.5 KiB, several times as much as an idle connection needs otherwise. A worker
//! therefore keeps a pool of [`Runner`]s. A runner is one such future, which serves exchange after exchange, of any
//! connection; a connection borrows it from the head of a request to the end of the response. So no request allocates
//! this memory, and a worker holds as much of it as exchanges run at the same time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::exchange::{self, Connection, Next};
use crate::stream::MessageStream;

/// Unused runners that a worker keeps, some 300 KiB. Further ones are freed.
const KEPT: usize = 128;

thread_local! {
    static IDLE: RefCell<Vec<Runner>> = RefCell::default();
}

/// A client, lent to a runner for one exchange. Boxed by its connection, as it moves there and back with each request.
pub(super) struct Client {
    pub(super) stream: MessageStream,
    pub(super) connection: Connection,
}

impl Client {
    /// Serves its next exchange. Dropped before it is ready, it gives the exchange up and closes the connection.
    pub(super) fn serve_exchange(self: Box<Self>) -> impl Future<Output = (Box<Self>, Next)> {
        let mut runner = Runner::take();
        runner.slot.replace(Slot::Lent(self));
        async move {
            let served = poll_fn(|cx| runner.poll_served(cx)).await;
            runner.give_back();
            served
        }
    }
}

/// A future that serves the client in its slot.
struct Runner {
    slot: Rc<RefCell<Slot>>,
    future: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// What a connection and its runner pass to each other.
#[derive(Default)]
enum Slot {
    /// The runner serves the client, or has none.
    #[default]
    Empty,
    Lent(Box<Client>),
    Served(Box<Client>, Next),
}

impl Slot {
    fn poll_lent(&mut self) -> Poll<Box<Client>> {
        match self {
            Self::Lent(_) => match std::mem::take(self) {
                Self::Lent(client) => Poll::Ready(client),
                _ => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }

    fn poll_served(&mut self) -> Poll<(Box<Client>, Next)> {
        match self {
            Self::Served(..) => match std::mem::take(self) {
                Self::Served(client, next) => Poll::Ready((client, next)),
                _ => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }
}

impl Runner {
    fn take() -> Self {
        // While the thread ends, the list may be gone already.
        let idle = IDLE.try_with(|idle| idle.borrow_mut().pop());
        idle.ok().flatten().unwrap_or_else(|| {
            let slot = Rc::new(RefCell::new(Slot::Empty));
            let future = Box::pin(run(Rc::clone(&slot)));
            Self { slot, future }
        })
    }

    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<(Box<Client>, Next)> {
        let Poll::Pending = self.future.as_mut().poll(cx);
        self.slot.borrow_mut().poll_served()
    }

    fn give_back(self) {
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < KEPT {
                idle.push(self);
            }
        });
    }
}

/// Serves the client in the slot and puts it back, again and again. Nothing wakes it when the slot is filled: whoever fills
/// it polls.
async fn run(slot: Rc<RefCell<Slot>>) -> Infallible {
    loop {
        let mut client = poll_fn(|_| slot.borrow_mut().poll_lent()).await;
        let Client { stream, connection } = &mut *client;
        let next = exchange::serve(stream, connection).await;
        slot.replace(Slot::Served(client, next));
    }
}
