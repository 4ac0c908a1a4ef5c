//! Plugins that receive events, outside the path of exchanges.
#![expect(unsafe_code, reason = "the other side of the boundary passes pointers")]

use crate::abi::{self, ErrorSink, SubscriberTable, SubscriberTableRef, event};
use crate::adapter::{called, created, destroy};
use crate::exchange::socket_address;
use crate::{ClientTls, Error, Summary, configuration};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// A plugin that receives events of the proxy, and cannot change anything.
///
/// Events arrive in batches, in the order in which they occurred, on a thread that no exchange waits for: it may block
/// and use files and sockets. A subscriber that is too slow loses events and gets their number. Without subscribers, no
/// events are created.
///
/// A subscriber whose library and configuration are unchanged is kept by a reload of the proxy. If a reload changes
/// other subscribers, it may receive the last events of older exchanges on another thread, concurrently with the first
/// events of newer ones. A subscriber that a reload adds may receive the end of connections whose start it has not
/// received; one that a reload removes receives the end of its exchanges, but not of their connections.
///
/// ```
/// use plugin_api::prelude::*;
/// use plugin_api::{Event, EventKind, Subscriber};
///
/// struct Counter;
///
/// impl Subscriber for Counter {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
///
///     fn handle_events(&self, events: &[Event<'_>], lost: u64) {
///         let ended = events.iter().filter(|event| event.kind() == EventKind::ExchangeEnded);
///         info!("{} exchanges, {lost} events lost", ended.count());
///     }
/// }
/// export_plugins!(; subscribers: Counter);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a subscriber",
    note = "`export_plugins!(; subscribers: …)` takes types that implement `Subscriber`; filters come before the first semicolon, and other plugins after the name of their kind"
)]
pub trait Subscriber: Sized + Send + Sync + 'static {
    /// As [`Filter::CONFIG_SCHEMA`](crate::Filter::CONFIG_SCHEMA).
    const CONFIG_SCHEMA: &'static str = "";
    /// As [`Filter::Config`](crate::Filter::Config).
    type Config: DeserializeOwned;

    /// Called once, before the first event; may block.
    ///
    /// # Errors
    /// An error prevents startup, with its message.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Handles these events. `lost` is the number of events before them that were dropped because the queue was full.
    fn handle_events(&self, events: &[Event<'_>], lost: u64);
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A client has connected.
    ConnectionOpened,
    /// A request head has arrived.
    RequestStarted,
    /// The head of the final response has arrived from the upstream.
    ResponseStarted,
    /// An exchange has ended, with or without an error.
    ExchangeEnded,
    /// A client connection has ended.
    ConnectionClosed,
    /// A kind that this version does not support.
    Unknown,
}

/// An event.
#[derive(Clone, Copy)]
pub struct Event<'x> {
    view: &'x abi::Event,
}

impl<'x> Event<'x> {
    /// The kind of the event.
    pub fn kind(&self) -> EventKind {
        match self.view.kind {
            event::CONNECTION_OPENED => EventKind::ConnectionOpened,
            event::REQUEST_STARTED => EventKind::RequestStarted,
            event::RESPONSE_STARTED => EventKind::ResponseStarted,
            event::EXCHANGE_ENDED => EventKind::ExchangeEnded,
            event::CONNECTION_CLOSED => EventKind::ConnectionClosed,
            _ => EventKind::Unknown,
        }
    }

    /// The time of the event.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.view.time)
    }

    /// Counts client connections since the proxy started, from 1 and over all workers.
    pub fn connection_id(&self) -> u64 {
        self.view.connection_id
    }

    /// Counts exchanges since the proxy started, from 1 and over all workers; none for events of connections.
    pub fn exchange_id(&self) -> Option<u64> {
        Some(self.view.exchange_id).filter(|&id| id > 0)
    }

    /// The address of the client; none if it has no IP address, as on a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view.client)
    }

    /// The method of the request; empty for events of connections, like host and path.
    pub fn method(&self) -> &'x str {
        self.view.method.as_str()
    }

    /// The host of the request.
    pub fn host(&self) -> &'x str {
        self.view.host.as_str()
    }

    /// The port of the request.
    pub fn port(&self) -> u16 {
        self.view.port as u16
    }

    /// Path and query of the request.
    pub fn path(&self) -> &'x str {
        self.view.path.as_str()
    }

    /// The status of the upstream response, once there is one. After the exchange has ended, the status that was sent
    /// to the client.
    pub fn status(&self) -> Option<u16> {
        u16::try_from(self.view.status)
            .ok()
            .filter(|&status| status > 0)
    }

    /// Who answered instead of the upstream, or why the exchange ended early; may be empty.
    pub fn note(&self) -> &'x str {
        self.view.note.as_str()
    }

    /// Bytes sent to the client, once the exchange has ended.
    pub fn bytes(&self) -> u64 {
        self.view.bytes
    }

    /// How long the exchange took, once it has ended.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.view.elapsed)
    }

    /// The local address that the client connected to; none if unknown.
    pub fn local_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view.local)
    }

    /// The remote address of the upstream connection, once the exchange has ended; see
    /// [`Exchange::upstream_address`](crate::Exchange::upstream_address).
    pub fn upstream_address(&self) -> Option<SocketAddr> {
        socket_address(&self.view.upstream_address)
    }

    /// The TLS session of the client with the proxy, once the exchange has ended; none without TLS.
    pub fn client_tls(&self) -> Option<ClientTls<'x>> {
        self.view.client_tls.map(ClientTls::new)
    }

    /// The summary of the exchange, once it has ended.
    pub fn summary(&self) -> Option<Summary<'x>> {
        self.view.summary.map(Summary::new)
    }
}

/// The functions of one subscriber type.
pub(crate) struct Table<S>(PhantomData<S>);

impl<S: Subscriber> Table<S> {
    abi_stable::staticref!(const TABLE: WithMetadata<SubscriberTable> = WithMetadata::new(SubscriberTable {
        create: create::<S>,
        destroy: destroy::<S>,
        handle_events: handle_events::<S>,
    }));

    /// The table as it crosses the boundary.
    pub(crate) const REF: SubscriberTableRef = SubscriberTableRef(Self::TABLE.as_prefix());
}

// SAFETY, for all functions of the table: the pointers are what `abi::SubscriberTable` promises.

unsafe extern "C" fn create<S: Subscriber>(config: RStr<'_>, errors: &ErrorSink) -> *mut c_void {
    let make = || S::new(configuration::read(config.as_str())?);
    unsafe { created(make, errors) }
}

unsafe extern "C" fn handle_events<S: Subscriber>(
    subscriber: *mut c_void,
    events: RSlice<'_, abi::Event>,
    lost: u64,
) {
    let handled = called::<S, _>(|| {
        let subscriber = unsafe { &*subscriber.cast::<S>() };
        let events: Vec<Event<'_>> = events.iter().map(|view| Event { view }).collect();
        subscriber.handle_events(&events, lost);
    });
    if let Err(panic) = handled {
        let plugin = std::any::type_name::<S>();
        crate::error!("{plugin} panicked while handling events: {panic}");
    }
}
