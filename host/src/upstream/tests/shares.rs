//! Who waits for HTTP/2, and what becomes of it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::on_worker;
use crate::http1::Scheme;
use crate::http2::client::{Client, ClientOptions};
use crate::transport::Transport;
use crate::upstream::shares::{DialTurn, SharedStream, Shares, Turn};

/// A connection that takes so many streams, and never answers.
async fn client(streams: u32) -> Client {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (accepted, _) = listener.accept().await.unwrap();
    tokio::task::spawn_local(async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        let mut connection = builder.handshake::<_, Bytes>(accepted).await.unwrap();
        while connection.accept().await.is_some() {}
    });
    let options = ClientOptions {
        scheme: Scheme::Https,
        max_head_len: 16 * 1024,
    };
    let started = Client::start(Transport::Plain(socket.unwrap()), options);
    started.await.unwrap()
}

type Waiting = Pin<Box<dyn Future<Output = Turn>>>;

fn enter(shares: &Rc<Shares>) -> Waiting {
    Box::pin(Rc::clone(shares).enter(false))
}

/// As [`enter`], for those who want a new connection.
fn enter_for_new(shares: &Rc<Shares>) -> Waiting {
    Box::pin(Rc::clone(shares).enter(true))
}

/// So many that have entered one after the other.
fn queue(shares: &Rc<Shares>, len: usize) -> Vec<Waiting> {
    let mut queue: Vec<Waiting> = (0..len).map(|_| enter(shares)).collect();
    assert!(queue.iter_mut().all(|waiting| poll(waiting).is_none()));
    queue
}

fn poll(waiting: &mut Waiting) -> Option<Turn> {
    match waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(turn) => Some(turn),
        Poll::Pending => None,
    }
}

fn dial(turn: Option<Turn>) -> DialTurn {
    match turn {
        Some(Turn::Granted(turn)) => turn,
        _ => panic!("not our turn"),
    }
}

fn stream(turn: Option<Turn>) -> SharedStream {
    match turn {
        Some(Turn::Stream(stream)) => stream,
        _ => panic!("no stream"),
    }
}

/// Takes those out of the queue that have been granted something; what that is.
fn granted(queue: &mut Vec<Waiting>) -> Vec<Turn> {
    let mut granted = Vec::new();
    queue.retain_mut(|waiting| match poll(waiting) {
        Some(turn) => {
            granted.push(turn);
            false
        }
        None => true,
    });
    granted
}

#[test]
fn as_many_connections_are_made_as_the_queue_needs() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 23);
        let mut streams = vec![first.found_http2(client(4).await)];
        let mut turns = Vec::new();
        for turn in granted(&mut queue) {
            match turn {
                Turn::Stream(stream) => streams.push(stream),
                Turn::Granted(turn) => turns.push(turn),
                Turn::NotNeeded => panic!("it is HTTP/2"),
            }
        }
        // 4 have streams; 20 have not, for whom 5 connections of 4 streams each are made.
        assert_eq!((streams.len(), turns.len(), queue.len()), (4, 5, 15));
        for turn in turns {
            streams.push(turn.found_http2(client(4).await));
        }
        streams.extend(
            granted(&mut queue)
                .into_iter()
                .map(|turn| stream(Some(turn))),
        );
        assert_eq!((streams.len(), queue.len()), (24, 0));
        assert!(shares.open().is_none(), "every stream is in use");
    });
}

#[test]
fn concurrent_dials_are_limited() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 100);
        let _stream = first.found_http2(client(1).await);
        assert_eq!(granted(&mut queue).len(), 8);
    });
}

#[test]
fn a_failed_connection_gives_the_turn_to_exactly_one() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let mut first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 3);
        for left in (0..3).rev() {
            drop(first);
            let mut next = granted(&mut queue);
            assert_eq!((next.len(), queue.len()), (1, left));
            first = dial(next.pop());
        }
        drop(first);
        drop(dial(poll(&mut enter(&shares))));
    });
}

#[test]
fn http1_is_never_waited_for() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 3);
        first.found_http1();
        let granted = granted(&mut queue);
        assert!(granted.iter().all(|turn| matches!(turn, Turn::NotNeeded)));
        assert_eq!(granted.len(), 3);
        assert!(matches!(poll(&mut enter(&shares)), Some(Turn::NotNeeded)));
        // It may change its mind.
        drop(shares.share(client(1).await));
        assert!(shares.open().is_some());
    });
}

#[test]
fn without_tls_every_waiting_tunnel_connects_by_itself() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 3);
        drop(queue.remove(0));
        first.found_no_tls();
        let granted = granted(&mut queue);
        assert!(granted.iter().all(|turn| matches!(turn, Turn::NotNeeded)));
        assert_eq!(granted.len(), 2);
        drop(dial(poll(&mut enter(&shares))));
    });
}

#[test]
fn a_stream_that_ends_serves_the_first_in_the_queue() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let held = first.found_http2(client(1).await);
        let turn = dial(poll(&mut enter(&shares)));
        let mut queue: Vec<Waiting> = (0..16).map(|_| enter(&shares)).collect();
        let _turns = granted(&mut queue);
        assert_eq!(queue.len(), 9);
        drop(held);
        assert!(shares.open().is_none(), "nobody overtakes the queue");
        let mut last = queue.pop().unwrap();
        assert!(poll(&mut last).is_none());
        let next = stream(poll(&mut queue[0]));
        // What the second one is given in vain, the third one gets.
        drop(next);
        drop(queue.remove(1));
        drop(stream(poll(&mut queue[1])));
        drop(turn);
    });
}

#[test]
fn a_request_for_a_new_connection_gets_no_stream_of_an_old_one() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let held = shares.share(client(3).await);
        let _held = shares.open();
        let turn = dial(poll(&mut enter_for_new(&shares)));
        let mut second = enter_for_new(&shares);
        assert!(poll(&mut second).is_none());
        // Others are not held up by that.
        let other = shares.open().expect("the old one has room");
        let mut third = enter(&shares);
        assert!(poll(&mut third).is_none());
        drop(held);
        drop(stream(poll(&mut third)));
        assert!(poll(&mut second).is_none());
        drop(other);
        let _made = turn.found_http2(client(3).await);
        drop(stream(poll(&mut second)));
    });
}

#[test]
fn an_unused_grant_goes_to_the_next_in_the_queue() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let first = dial(poll(&mut enter(&shares)));
        let mut queue = queue(&shares, 4);
        drop(queue.remove(0));
        drop(first);
        // The turn was the second one's, who is gone now without having seen it.
        drop(queue.remove(0));
        let turn = dial(poll(&mut queue[0]));
        let held = turn.found_http2(client(1).await);
        let second = dial(poll(&mut queue[1]));
        drop(second);
        drop(held);
        assert!(shares.open().is_some(), "there is room, and nobody waits");
    });
}

#[test]
fn idle_connections_are_closed_and_those_in_use_are_not() {
    on_worker(async {
        let shares = Rc::<Shares>::default();
        let held = shares.share(client(8).await);
        drop(shares.share(client(8).await));
        assert_eq!(shares.close_idle(), 1);
        let later = Instant::now() + Duration::from_secs(60);
        assert!(
            shares.sweep(later, Duration::from_secs(60)),
            "one is in use"
        );
        drop(held);
        let later = Instant::now() + Duration::from_secs(60);
        assert!(!shares.sweep(later, Duration::from_secs(60)));
        assert!(shares.open().is_none());
    });
}
