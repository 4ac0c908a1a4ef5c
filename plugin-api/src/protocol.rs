//! Plugins that serve clients of other protocols, on the port of the proxy.
#![expect(unsafe_code, reason = "the other side of the boundary passes pointers")]

use crate::abi::{ErrorSink, ProtocolTable, ProtocolTableRef, RawWaker, StreamView, claim, code};
use crate::adapter::{called, created, destroy, report_panicked_end};
use crate::exchange::socket_address;
use crate::{Error, configuration, waker};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use serde::de::DeserializeOwned;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::ptr;
use std::task::Poll;

/// A plugin that serves client connections that do not speak HTTP.
///
/// The first bytes of each new connection are passed to the loaded protocols, in the order of the command line; the
/// first one that claims the connection serves it until it closes. Connections that no protocol claims are served as
/// HTTP.
///
/// ```
/// use plugin_api::prelude::*;
/// use plugin_api::{Claim, ClientStream, Protocol};
///
/// /// Sends back what it gets, to clients that begin with `ECHO`.
/// struct Echo;
///
/// impl Protocol for Echo {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
///
///     fn claims(&self, first: &[u8]) -> Claim {
///         Claim::by_prefix(first, b"ECHO\r\n")
///     }
///
///     async fn serve(&self, stream: &mut ClientStream) -> Result<(), Error> {
///         let mut buffer = [0; 4096];
///         loop {
///             let len = stream.read(&mut buffer).await?;
///             if len == 0 { return Ok(()); }
///             stream.write_all(&buffer[..len]).await?;
///         }
///     }
/// }
/// export_plugins!(; protocols: Echo);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    note = "`export_plugins!(; protocols: …)` takes types that implement `Protocol`; filters come before the first semicolon, and other plugins after the name of their kind"
)]
pub trait Protocol: Sized + Send + Sync + 'static {
    /// As [`Filter::CONFIG_SCHEMA`](crate::Filter::CONFIG_SCHEMA).
    const CONFIG_SCHEMA: &'static str = "";
    /// As [`Filter::Config`](crate::Filter::Config).
    type Config: DeserializeOwned;

    /// Called once, before the first connection; may block.
    ///
    /// # Errors
    /// An error prevents startup, with its message.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Whether a connection that begins with these bytes, at least one, belongs to this protocol. A protocol that needs
    /// more than 64 bytes is not called again.
    fn claims(&self, first: &[u8]) -> Claim;

    /// Serves a connection, from its first byte on, including those that [`claims`](Self::claims) has seen. The
    /// connection is closed when this returns. Runs on the thread of the connection, like an async hook, and must not
    /// block; if the client sends nothing within `timeouts.idle`, or stops reading for `timeouts.stall`, reading or
    /// writing fails.
    ///
    /// # Errors
    /// Are logged.
    fn serve(&self, stream: &mut ClientStream) -> impl Future<Output = Result<(), Error>>;
}

/// The answer of a protocol to the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The connection belongs to another protocol.
    No,
    /// The connection belongs to this protocol.
    Yes,
    /// More bytes are needed.
    More,
}

impl Claim {
    /// For protocols that begin with fixed bytes.
    pub fn by_prefix(first: &[u8], prefix: &[u8]) -> Self {
        if first.starts_with(prefix) {
            Self::Yes
        } else if prefix.starts_with(first) {
            Self::More
        } else {
            Self::No
        }
    }
}

/// A client connection.
pub struct ClientStream {
    view: StreamView,
}

// SAFETY, for the calls below: the host keeps everything behind the view until it drops the task that has it.
impl ClientStream {
    /// Counts client connections since the proxy started.
    pub fn connection_id(&self) -> u64 {
        self.view.connection_id
    }

    /// The address of the client; none if it has no IP address, as on a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view.client)
    }

    /// The local address that the client connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        socket_address(&self.view.local)
    }

    /// Reads the available bytes, waiting for the first; 0 if the client has closed its direction. Cancel safe.
    ///
    /// # Errors
    /// The connection failed, or the client sent nothing for too long.
    pub async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let view = self.view;
        poll_fn(|cx| {
            let mut len = 0;
            let waker = waker::lend(cx.waker());
            let (first, room_len) = (room.as_mut_ptr(), room.len());
            let answer = unsafe { (view.read)(view.host, first, room_len, &waker, &mut len) };
            polled(answer, len.min(room_len))
        })
        .await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The connection failed, or the client stopped reading for too long.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let view = self.view;
        while !bytes.is_empty() {
            let written = poll_fn(|cx| {
                let mut len = 0;
                let waker = waker::lend(cx.waker());
                let answer = unsafe { (view.write)(view.host, bytes.into(), &waker, &mut len) };
                polled(answer, len.min(bytes.len()))
            })
            .await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Closes the direction to the client.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        let view = self.view;
        poll_fn(|cx| {
            let waker = waker::lend(cx.waker());
            polled(unsafe { (view.shutdown)(view.host, &waker) }, ())
        })
        .await
    }
}

fn polled<T>(answer: u32, value: T) -> Poll<io::Result<T>> {
    match answer {
        code::PENDING => Poll::Pending,
        code::PROCEED => Poll::Ready(Ok(value)),
        _ => Poll::Ready(Err(io::Error::other(
            "the connection of the client is closed",
        ))),
    }
}

/// The functions of one protocol type.
pub(crate) struct Table<P>(PhantomData<P>);

impl<P: Protocol> Table<P> {
    abi_stable::staticref!(const TABLE: WithMetadata<ProtocolTable> = WithMetadata::new(ProtocolTable {
        create: create::<P>,
        destroy: destroy::<P>,
        claims: claims::<P>,
        serve: serve::<P>,
        poll: poll::<P>,
        drop: end::<P>,
    }));

    /// The table as it crosses the boundary.
    pub(crate) const REF: ProtocolTableRef = ProtocolTableRef(Self::TABLE.as_prefix());
}

type ServeFuture = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

// SAFETY, for all functions of the table: the pointers are what `abi::ProtocolTable` promises.

unsafe extern "C" fn create<P: Protocol>(config: RStr<'_>, errors: &ErrorSink) -> *mut c_void {
    let make = || P::new(configuration::read(config.as_str())?);
    unsafe { created(make, errors) }
}

unsafe extern "C" fn claims<P: Protocol>(protocol: *mut c_void, first: RSlice<'_, u8>) -> u32 {
    let claimed = called::<P, _>(|| unsafe { &*protocol.cast::<P>() }.claims(first.as_slice()));
    match claimed {
        Ok(Claim::Yes) => claim::YES,
        Ok(Claim::More) => claim::MORE,
        Ok(Claim::No) => claim::NO,
        Err(panic) => {
            let plugin = std::any::type_name::<P>();
            crate::error!("{plugin} panicked while inspecting a connection: {panic}");
            claim::NO
        }
    }
}

unsafe extern "C" fn serve<P: Protocol>(protocol: *mut c_void, view: &StreamView) -> *mut c_void {
    // The protocol outlives its tasks.
    let protocol: &'static P = unsafe { &*protocol.cast::<P>() };
    let mut stream = ClientStream { view: *view };
    let made = called::<P, _>(|| {
        let serving: ServeFuture = Box::pin(async move { protocol.serve(&mut stream).await });
        Box::into_raw(Box::new(serving))
    });
    made.map_or(ptr::null_mut(), <*mut ServeFuture>::cast)
}

unsafe extern "C" fn poll<P: Protocol>(task: *mut c_void, raw: &RawWaker) -> u32 {
    let serving = unsafe { &mut *task.cast::<ServeFuture>() };
    let served = called::<P, _>(|| {
        #[cfg(feature = "tokio")]
        let _entered = crate::runtime::enter();
        waker::poll_with(raw, |cx| serving.as_mut().poll(cx))
    });
    match served {
        Ok(Poll::Pending) => code::PENDING,
        Ok(Poll::Ready(Ok(()))) => code::PROCEED,
        Ok(Poll::Ready(Err(error))) => {
            crate::warn!("serving a connection failed: {error}");
            code::ERROR
        }
        Err(panic) => {
            crate::error!("a protocol handler panicked: {panic}");
            code::PANIC
        }
    }
}

unsafe extern "C" fn end<P: Protocol>(task: *mut c_void) {
    report_panicked_end::<P>(called::<P, _>(|| {
        drop(unsafe { Box::from_raw(task.cast::<ServeFuture>()) });
    }));
}

#[cfg(test)]
mod tests {
    use super::Claim;

    #[test]
    fn a_prefix_is_distinguished_from_its_beginnings_and_others() {
        for (first, claimed) in [
            ("E", Claim::More),
            ("ECHO", Claim::More),
            ("ECHO\n", Claim::Yes),
            ("ECHO\nmore", Claim::Yes),
            ("GET / HTTP/1.1", Claim::No),
        ] {
            let claim = Claim::by_prefix(first.as_bytes(), b"ECHO\n");
            assert_eq!(claim, claimed, "{first:?}");
        }
    }
}
