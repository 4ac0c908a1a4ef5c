//! Passes events of the proxy to the plugins that subscribe to them.
//!
//! Workers put events into a bounded queue and never wait; a separate thread takes them out in batches and calls the
//! subscribers. Events that do not fit are counted, and subscribers get the count. Without subscribers, no events are
//! created.
#![expect(unsafe_code, reason = "lends what subscribers see")]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use plugin_api::abi::{ClientTlsView, Event, SummaryView, TimelineView, event};

use crate::plugins::call::Visible;
use crate::plugins::instance::{Instance, Subscriber};
use crate::plugins::marks::Role;
use crate::plugins::summary;
use crate::plugins::views;
use crate::plugins::{AnsweredBy, Summary};
use crate::transport::TlsFacts;

/// The maximum number of queued events; further ones are dropped and counted.
const QUEUE_LEN: usize = 8192;
/// The maximum number of events passed to subscribers at a time.
const BATCH_LEN: usize = 512;
/// How long subscribers may take to handle the last events when the proxy stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

type Subscribers = Vec<Arc<Instance<Subscriber>>>;

/// What the queue contains.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events, which should not be allocated"
)]
enum QueueItem {
    Event(QueuedEvent),
    /// Reply once all earlier events have been handled.
    Flush(SyncSender<()>),
}

/// An event.
#[derive(Debug)]
pub(crate) struct QueuedEvent {
    pub(crate) kind: EventKind,
    pub(crate) connection_id: u64,
    /// 0 for events of connections.
    pub(crate) exchange_id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) request: Option<EventRequest>,
    pub(crate) status: u16,
    pub(crate) note: String,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) time: SystemTime,
    pub(crate) local: Option<SocketAddr>,
    /// The end of an exchange.
    pub(crate) ended: Option<Box<ExchangeEnd>>,
}

/// The end of an exchange, in addition to status, bytes and time.
#[derive(Debug)]
pub(crate) struct ExchangeEnd {
    pub(crate) answered_by: AnsweredBy,
    pub(crate) from_client: u64,
    pub(crate) to_client: u64,
    pub(crate) timeline: TimelineView,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// The request of an event.
#[derive(Debug)]
pub(crate) struct EventRequest {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    ConnectionOpened,
    RequestStarted,
    ResponseStarted,
    ExchangeEnded,
    ConnectionClosed,
}

impl QueuedEvent {
    pub(crate) fn new(kind: EventKind, connection_id: u64, client: SocketAddr) -> Self {
        Self {
            kind,
            connection_id,
            exchange_id: 0,
            client,
            request: None,
            status: 0,
            note: String::new(),
            bytes: 0,
            elapsed: Duration::ZERO,
            time: SystemTime::now(),
            local: None,
            ended: None,
        }
    }
}

/// The queue, as workers use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    queue: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    sender: SyncSender<QueueItem>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Queues the event that `event` creates, if there are subscribers.
    pub(crate) fn publish(&self, event: impl FnOnce() -> QueuedEvent) {
        if let Some(queue) = &self.queue
            && queue.sender.try_send(QueueItem::Event(event())).is_err()
        {
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        self.queue.is_some()
    }

    /// Waits until the subscribers have handled all events so far, within their limit.
    pub(crate) fn flush(&self) {
        let Some(queue) = &self.queue else {
            return;
        };
        let (flushed, is_flushed) = sync_channel(1);
        if queue.sender.send(QueueItem::Flush(flushed)).is_ok() {
            wait_for_flush(&is_flushed);
        }
    }
}

/// The thread that calls the subscribers. Generations with the same subscribers share it, so that each subscriber gets
/// events in their order and on one thread.
#[derive(Debug)]
pub(crate) struct EventDispatcher {
    subscribers: Subscribers,
    /// `None` without subscribers. The lock only makes it `Sync`.
    over: Option<Mutex<Receiver<()>>>,
}

impl EventDispatcher {
    /// Starts the thread if there are subscribers.
    pub(crate) fn start(subscribers: Subscribers) -> io::Result<(Arc<Self>, Events)> {
        if subscribers.is_empty() {
            let nobody = Self {
                subscribers,
                over: None,
            };
            return Ok((Arc::new(nobody), Events::default()));
        }
        let (sender, items) = sync_channel(QUEUE_LEN);
        let (end, over) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let own_subscribers = subscribers.clone();
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let _visible = Visible::new(Role::Background);
                dispatch_all(&own_subscribers, &items, &counted);
                drop(own_subscribers);
                // The proxy may have stopped waiting.
                let _ = end.send(());
            })?;
        let queue = Some(Queue { sender, lost });
        let over = Some(Mutex::new(over));
        let dispatcher = Self { subscribers, over };
        Ok((Arc::new(dispatcher), Events { queue }))
    }

    /// Whether it serves exactly these subscribers, in this order.
    pub(crate) fn serves(&self, subscribers: &Subscribers) -> bool {
        let (own, others) = (self.subscribers.iter(), subscribers.iter());
        self.subscribers.len() == subscribers.len()
            && own.zip(others).all(|(own, other)| Arc::ptr_eq(own, other))
    }

    /// Waits until the subscribers have handled all events; every [`Events`] must have been dropped.
    pub(crate) fn finish(self) {
        drop(self.subscribers);
        if let Some(over) = self.over.map(Mutex::into_inner) {
            wait_for_flush(&over.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn wait_for_flush(over: &Receiver<()>) {
    if over.recv_timeout(FLUSH_LIMIT) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("plugins did not handle the last events within {FLUSH_LIMIT:?}");
    }
}

fn dispatch_all(subscribers: &Subscribers, items: &Receiver<QueueItem>, lost: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH_LEN);
    let mut flushes = Vec::new();
    while let Ok(first) = items.recv() {
        let rest = items.try_iter().take(BATCH_LEN - 1);
        for item in std::iter::once(first).chain(rest) {
            match item {
                QueueItem::Event(event) => batch.push(event),
                QueueItem::Flush(flushed) => flushes.push(flushed),
            }
        }
        dispatch(subscribers, &batch, lost);
        batch.clear();
        for flushed in flushes.drain(..) {
            // The caller may have stopped waiting.
            let _ = flushed.send(());
        }
    }
}

fn dispatch(subscribers: &Subscribers, batch: &[QueuedEvent], lost: &AtomicU64) {
    if batch.is_empty() {
        return;
    }
    let ends: Vec<Option<EndView>> = batch.iter().map(end).collect();
    let shown = batch.iter().zip(&ends);
    let events: Vec<Event> = shown
        .map(|(event, end)| view(event, end.as_ref()))
        .collect();
    let lost = lost.swap(0, Ordering::Relaxed);
    for subscriber in subscribers {
        subscriber.handle_events(&events, lost);
    }
}

/// The end of an exchange, as subscribers see it.
struct EndView {
    summary: SummaryView,
    tls: Option<ClientTlsView>,
}

fn end(event: &QueuedEvent) -> Option<EndView> {
    let ended = event.ended.as_deref()?;
    Some(EndView {
        summary: summary::view(&Summary {
            status: event.status,
            answered_by: &ended.answered_by,
            note: &event.note,
            from_client: ended.from_client,
            to_client: ended.to_client,
            elapsed: event.elapsed,
            timeline: &ended.timeline,
        }),
        tls: ended.tls.as_deref().map(views::tls_view),
    })
}

/// Extends the lifetime of a part of an [`EndView`].
fn extend_lifetime<T>(part: &T) -> &'static T {
    // SAFETY: subscribers use it only during the call, and the ends outlive the events.
    unsafe { &*std::ptr::from_ref(part) }
}

fn view(event: &QueuedEvent, end: Option<&EndView>) -> Event {
    let address = |address: Option<SocketAddr>| address.map_or(views::NO_ADDRESS, views::address);
    let request = event.request.as_ref();
    let text = |text: Option<&str>| views::text(text.unwrap_or_default().as_bytes());
    Event {
        kind: match event.kind {
            EventKind::ConnectionOpened => event::CONNECTION_OPENED,
            EventKind::RequestStarted => event::REQUEST_STARTED,
            EventKind::ResponseStarted => event::RESPONSE_STARTED,
            EventKind::ExchangeEnded => event::EXCHANGE_ENDED,
            EventKind::ConnectionClosed => event::CONNECTION_CLOSED,
        },
        status: u32::from(event.status),
        time: event
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
        connection_id: event.connection_id,
        exchange_id: event.exchange_id,
        client: views::address(event.client),
        method: text(request.map(|request| request.method.as_str())),
        host: text(request.map(|request| request.host.as_str())),
        port: request.map_or(0, |request| u32::from(request.port)),
        padding: 0,
        path: views::text(request.map_or(&[][..], |request| &request.path)),
        note: views::text(event.note.as_bytes()),
        bytes: event.bytes,
        elapsed: u64::try_from(event.elapsed.as_micros()).unwrap_or(u64::MAX),
        reserved: [0; 4],
        local: address(event.local),
        upstream_address: address(event.ended.as_ref().and_then(|ended| ended.upstream)),
        client_tls: end.and_then(|end| end.tls.as_ref()).map(extend_lifetime),
        summary: end.map(|end| extend_lifetime(&end.summary)),
    }
}
