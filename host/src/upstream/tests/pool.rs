//! What the pool keeps, hands out and closes.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{HANG, on_worker};
use crate::deadline::Deadlines;
use crate::stream::MessageStream;
use crate::transport::Transport;
use crate::upstream::pool::{Pool, PoolLimits};
use crate::upstream::route::Route;

const MANY: PoolLimits = PoolLimits {
    per_host: usize::MAX,
    total: usize::MAX,
    idle: Duration::from_secs(60),
    descriptors: None,
};

struct Scene {
    listener: TcpListener,
    deadlines: Rc<Deadlines>,
    pool: Pool,
}

impl Scene {
    async fn new(limits: PoolLimits) -> Self {
        let deadlines = Deadlines::new();
        Self {
            listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap(),
            pool: Pool::new(limits, &deadlines),
            deadlines,
        }
    }

    /// A connection, and its other end.
    async fn connection(&self) -> (MessageStream, TcpStream) {
        let to = self.listener.local_addr().unwrap();
        let (ours, accepted) = tokio::join!(TcpStream::connect(to), self.listener.accept());
        let stream = MessageStream::new(Transport::Plain(ours.unwrap()), &self.deadlines, 1024);
        (stream, accepted.unwrap().0)
    }

    /// Keeps a new connection to `host`; its other end.
    async fn keep(&self, host: &str) -> TcpStream {
        let (stream, peer) = self.connection().await;
        self.pool.put(&Route::direct(host, 80), stream);
        peer
    }

    fn take(&self, host: &str) -> Option<MessageStream> {
        self.pool
            .take(&Route::direct(host, 80), MessageStream::is_quiet)
    }
}

async fn ends(mut peer: TcpStream) {
    let read = tokio::time::timeout(HANG, peer.read(&mut [0])).await;
    assert_eq!(read.expect("it is closed").unwrap_or(0), 0);
}

fn is_open(peer: &TcpStream) -> bool {
    peer.try_read(&mut [0]).is_err()
}

#[test]
fn the_newest_connection_of_a_host_is_reused() {
    on_worker(async {
        let scene = Scene::new(MANY).await;
        let _first = scene.keep("a").await;
        let second = scene.keep("a").await;
        let _other = scene.keep("b").await;
        let taken = scene.take("a").unwrap().addresses().unwrap();
        assert_eq!(taken.1, second.peer_addr().unwrap());
        assert!(scene.take("a").is_some() && scene.take("a").is_none());
        assert!(scene.take("c").is_none());
    });
}

#[test]
fn the_oldest_of_all_hosts_is_closed_at_the_limit() {
    on_worker(async {
        let scene = Scene::new(PoolLimits { total: 3, ..MANY }).await;
        let oldest = scene.keep("a").await;
        let mut kept = Vec::new();
        for host in ["b", "c", "a"] {
            kept.push(scene.keep(host).await);
        }
        ends(oldest).await;
        assert!(kept.iter().all(is_open));
        assert_eq!(scene.pool.close_idle(2), 2);
        let last = kept.pop().unwrap();
        for peer in kept {
            ends(peer).await;
        }
        assert!(is_open(&last));
        assert_eq!((scene.pool.close_idle(2), scene.pool.close_idle(2)), (1, 0));
    });
}

#[test]
fn connections_are_closed_for_a_descriptor_above_the_threshold() {
    on_worker(async {
        let scene = Scene::new(PoolLimits {
            descriptors: Some(1024),
            ..MANY
        })
        .await;
        let mut kept = Vec::new();
        for _ in 0..4 {
            kept.push(scene.keep("a").await);
        }
        scene.pool.report_descriptor(991);
        assert!(kept.iter().all(is_open));
        scene.pool.report_descriptor(993);
        let newest = kept.split_off(2);
        for peer in kept {
            ends(peer).await;
        }
        assert!(newest.iter().all(is_open));
    });
}

#[test]
fn the_oldest_of_a_host_is_closed_at_its_limit() {
    on_worker(async {
        let scene = Scene::new(PoolLimits {
            per_host: 1,
            ..MANY
        })
        .await;
        let other = scene.keep("b").await;
        let oldest = scene.keep("a").await;
        let newest = scene.keep("a").await;
        ends(oldest).await;
        assert!(is_open(&newest) && is_open(&other));
    });
}

#[test]
fn a_limit_of_zero_keeps_nothing() {
    on_worker(async {
        for limits in [
            PoolLimits { total: 0, ..MANY },
            PoolLimits {
                per_host: 0,
                ..MANY
            },
        ] {
            let scene = Scene::new(limits).await;
            ends(scene.keep("a").await).await;
        }
    });
}

#[test]
fn connections_that_peers_have_closed_are_removed_over_several_ticks() {
    on_worker(async {
        let scene = Scene::new(MANY).await;
        let mut peers = Vec::new();
        for _ in 0..600 {
            peers.push(scene.keep("a").await);
        }
        peers.clear();
        // Nothing is taken that is closed, and not all of it is closed for one request.
        let (probe, peer) = scene.connection().await;
        drop(peer);
        while probe.is_quiet() {
            tokio::task::yield_now().await;
        }
        assert!(scene.take("a").is_none());
        let mut sweeps = 0;
        while scene.pool.close_idle(1) == 1 {
            scene.pool.sweep();
            sweeps += 1;
        }
        assert!((2..10).contains(&sweeps), "{sweeps}");
    });
}

#[test]
fn connections_that_are_idle_for_too_long_are_closed() {
    on_worker(async {
        let scene = Scene::new(PoolLimits {
            idle: Duration::ZERO,
            ..MANY
        })
        .await;
        let peer = scene.keep("a").await;
        scene.pool.sweep();
        ends(peer).await;
    });
}
