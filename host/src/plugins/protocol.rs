//! Client connections that a plugin's own protocol serves: which plugin claims one, and its bytes both ways.
#![expect(unsafe_code, reason = "lends a connection across the binary boundary")]

use std::ffi::c_void;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use abi_stable::std_types::RSlice;
use plugin_api::abi::{RawWaker, StreamView, claim, code};
use plugin_api::waker;

use super::chain::Chain;
use super::facts::ClientFacts;
use super::guard::guarded;
use super::instance::{Instance, Protocol};
use super::views;
use crate::stream::{MessageStream, Reader, Writer};

/// First bytes that a protocol may ask for before it decides.
const MAX_FIRST_BYTES: usize = 64;

impl Chain {
    /// The protocol that claims a connection by its first bytes, of which there is at least one. Waits for more of them for
    /// `within` at most.
    pub(crate) async fn claimed(
        &self,
        stream: &mut MessageStream,
        within: Duration,
    ) -> Option<Arc<Instance<Protocol>>> {
        let mut reader = stream.reader();
        reader.deadline().arm(within);
        loop {
            let first = reader.buffered();
            let mut is_undecided = false;
            for protocol in self.protocols() {
                match protocol.claims(first) {
                    claim::YES => return Some(Arc::clone(protocol)),
                    claim::MORE => is_undecided = true,
                    _ => {}
                }
            }
            let may_wait = is_undecided && first.len() < MAX_FIRST_BYTES;
            // HTTP decides about a client that sends no more.
            if !may_wait || !reader.fill().await.is_ok_and(|len| len > 0) {
                return None;
            }
        }
    }

    pub(crate) fn has_protocols(&self) -> bool {
        !self.protocols().is_empty()
    }
}

/// Lets `protocol` serve the connection to its end. A client that sends nothing for `idle`, or takes nothing for
/// `stall`, ends it.
pub(crate) async fn serve(
    protocol: &Arc<Instance<Protocol>>,
    stream: &mut MessageStream,
    facts: ClientFacts,
    idle: Duration,
    stall: Duration,
) {
    let (reader, writer) = stream.split();
    let mut connection = Box::new(ServedConnection {
        reader,
        writer,
        idle,
        stall,
        is_reading: false,
        is_writing: false,
    });
    let view = StreamView {
        host: (&raw mut *connection).cast(),
        read,
        write,
        shutdown,
        connection_id: facts.id,
        client: views::address(facts.client),
        local: facts.local.map_or(views::NO_ADDRESS, views::address),
        reserved: [0; 4],
    };
    // SAFETY: what the view leads to outlives the task, which is dropped first.
    let Some(mut task) = (unsafe { protocol.serve(&view) }) else {
        tracing::error!(
            plugin = protocol.name(),
            "a protocol handler panicked before it served a connection"
        );
        return;
    };
    poll_fn(|cx| match task.poll(&waker::lend(cx.waker())) {
        code::PENDING => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
    drop(task);
    drop(connection);
}

/// A connection while a protocol serves it.
struct ServedConnection<'a> {
    reader: Reader<'a>,
    writer: Writer<'a>,
    idle: Duration,
    stall: Duration,
    /// A read waits, and its deadline is set.
    is_reading: bool,
    is_writing: bool,
}

/// Runs `step` on the connection.
///
/// # Safety
/// `host` is the pointer of a view whose task is alive.
unsafe fn with_connection<T>(
    host: *mut c_void,
    waker: &RawWaker,
    step: impl FnOnce(&mut ServedConnection<'_>, &mut Context<'_>) -> Poll<io::Result<T>>,
    done: impl FnOnce(T),
) -> u32 {
    // SAFETY: as above, and one thread uses it.
    let connection = unsafe { &mut *host.cast::<ServedConnection<'_>>() };
    // SAFETY: lent for this call.
    let waker = unsafe { waker::lent(waker) };
    guarded(code::ERROR, || {
        match step(connection, &mut Context::from_waker(&waker)) {
            Poll::Pending => code::PENDING,
            Poll::Ready(Ok(value)) => {
                done(value);
                code::PROCEED
            }
            Poll::Ready(Err(_)) => code::ERROR,
        }
    })
}

unsafe extern "C" fn read(
    host: *mut c_void,
    room: *mut u8,
    room_len: usize,
    waker: &RawWaker,
    len: &mut usize,
) -> u32 {
    let step = |connection: &mut ServedConnection<'_>, cx: &mut Context<'_>| {
        if connection.reader.buffered().is_empty() && room_len > 0 {
            if !std::mem::replace(&mut connection.is_reading, true) {
                connection.reader.deadline().arm(connection.idle);
            }
            match connection.reader.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) => connection.is_reading = false,
            }
        }
        let len = connection.reader.buffered().len().min(room_len);
        // SAFETY: the plugin lends room of this length for the call.
        unsafe { std::ptr::copy_nonoverlapping(connection.reader.buffered().as_ptr(), room, len) };
        connection.reader.consume(len);
        Poll::Ready(Ok(len))
    };
    // SAFETY: called by a living task.
    unsafe { with_connection(host, waker, step, |read| *len = read) }
}

unsafe extern "C" fn write(
    host: *mut c_void,
    bytes: RSlice<'_, u8>,
    waker: &RawWaker,
    len: &mut usize,
) -> u32 {
    let step = |connection: &mut ServedConnection<'_>, cx: &mut Context<'_>| {
        if !std::mem::replace(&mut connection.is_writing, true) {
            connection.writer.deadline().arm(connection.stall);
        }
        let polled = connection.writer.poll_write(cx, bytes.as_slice());
        connection.is_writing = polled.is_pending();
        polled
    };
    // SAFETY: called by a living task.
    unsafe { with_connection(host, waker, step, |written| *len = written) }
}

unsafe extern "C" fn shutdown(host: *mut c_void, waker: &RawWaker) -> u32 {
    let step = |connection: &mut ServedConnection<'_>, cx: &mut Context<'_>| {
        connection.writer.poll_shutdown(cx)
    };
    // SAFETY: called by a living task.
    unsafe { with_connection(host, waker, step, |()| {}) }
}
