//! Channels against the `h2` crate as the other side, over loopback sockets.

mod client;
mod host;
mod message;
mod server;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};

use crate::deadline::Deadlines;
use crate::transport::{Channel, ChannelError};

/// Runs as a worker does.
fn on_worker(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime")
        .block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(20), future)
                .await
                .expect("the test to end");
        });
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap().0);
    connected.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (connected, accepted)
}

fn deadlines() -> Rc<Deadlines> {
    let deadlines = Deadlines::new();
    let ticker = Rc::clone(&deadlines);
    tokio::task::spawn_local(async move { ticker.run(|| ()).await });
    deadlines
}

/// A channel as a test uses it.
#[derive(Clone)]
struct Stream {
    channel: Rc<dyn Channel>,
    /// What was read behind what was asked for.
    rest: Rc<RefCell<Vec<u8>>>,
}

impl Stream {
    fn new(channel: Rc<dyn Channel>) -> Self {
        Self {
            channel,
            rest: Rc::default(),
        }
    }

    /// Reads once; `Ok(empty)` at the end.
    async fn read(&self) -> Result<Vec<u8>, ChannelError> {
        let rest = self.rest.take();
        if !rest.is_empty() {
            return Ok(rest);
        }
        let mut room = vec![0; 64 * 1024];
        poll_fn(|cx| {
            let mut out = ReadBuf::new(&mut room);
            let polled = self.channel.poll_read(cx, &mut out);
            polled.map_ok(|()| out.filled().to_vec())
        })
        .await
    }

    /// Reads up to and with `end`.
    async fn read_until(&self, end: &str) -> String {
        let mut text = Vec::new();
        loop {
            let found = text
                .windows(end.len())
                .position(|part| part == end.as_bytes());
            if let Some(at) = found {
                *self.rest.borrow_mut() = text.split_off(at + end.len());
                return String::from_utf8(text).unwrap();
            }
            let more = self.read().await.unwrap();
            assert!(!more.is_empty(), "ended after {}", text.escape_ascii());
            text.extend(more);
        }
    }

    async fn read_head(&self) -> String {
        self.read_until("\r\n\r\n").await
    }

    async fn read_exactly(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let more = self.read().await.unwrap();
            assert!(!more.is_empty());
            bytes.extend(more);
        }
        *self.rest.borrow_mut() = bytes.split_off(len);
        bytes
    }

    async fn read_error(&self) -> ChannelError {
        loop {
            match self.read().await {
                Ok(bytes) => assert!(!bytes.is_empty(), "a clean end"),
                Err(error) => return error,
            }
        }
    }

    async fn try_write(&self, bytes: &[u8]) -> Result<(), ChannelError> {
        let mut at = 0;
        while at < bytes.len() {
            at += poll_fn(|cx| self.channel.poll_write(cx, &bytes[at..])).await?;
        }
        Ok(())
    }

    async fn write(&self, text: impl AsRef<[u8]>) {
        self.try_write(text.as_ref()).await.unwrap();
    }

    async fn shutdown(&self) {
        poll_fn(|cx| self.channel.poll_shutdown(cx)).await.unwrap();
    }

    async fn reset(&self) {
        poll_fn(|cx| self.channel.poll_reset(cx)).await;
    }

    /// Writes until the peer accepts no more; returns how much it was.
    async fn fill(&self, piece: &[u8]) -> usize {
        let mut written = 0;
        let mut quiet_turns = 0;
        while quiet_turns < 100 {
            let polled = poll_fn(|cx| {
                std::task::Poll::Ready(match self.channel.poll_write(cx, piece) {
                    std::task::Poll::Ready(len) => len.unwrap(),
                    std::task::Poll::Pending => 0,
                })
            })
            .await;
            written += polled;
            quiet_turns = if polled == 0 { quiet_turns + 1 } else { 0 };
            turn().await;
        }
        written
    }
}

/// Lets sockets and other tasks have their turn.
async fn turn() {
    tokio::time::sleep(std::time::Duration::from_micros(200)).await;
}

/// The content and trailers of a message that `h2` receives.
async fn collect(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut content = Vec::new();
    while let Some(data) = body.data().await {
        let data: Bytes = data?;
        body.flow_control().release_capacity(data.len())?;
        content.extend_from_slice(&data);
    }
    Ok((content, body.trailers().await?))
}
