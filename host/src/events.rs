//! Events of the proxy, for the plugins that subscribe to them.
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

/// Notes that may wait; beyond it they are lost, and counted.
const QUEUE_LEN: usize = 8192;
/// Notes handed over at once.
const BATCH_LEN: usize = 512;
/// How long subscribers may take to hear the last notes when the proxy stops.
const FAREWELL: Duration = Duration::from_secs(5);

type Subscribers = Vec<Arc<Instance<Subscriber>>>;

/// What waits for the subscribers.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are notes, which are not to be allocated"
)]
enum Message {
    Note(Note),
    /// Everything before has been told: answer.
    Mark(SyncSender<()>),
}

/// What has happened.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) kind: NoteKind,
    pub(crate) connection_id: u64,
    /// 0 for notes about connections.
    pub(crate) exchange_id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) request: Option<NotedRequest>,
    pub(crate) status: u16,
    pub(crate) note: String,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) time: SystemTime,
    pub(crate) local: Option<SocketAddr>,
    /// What an exchange that is over came to.
    pub(crate) ended: Option<Box<NotedEnd>>,
}

/// What an exchange came to, beside its status, its bytes and its time.
#[derive(Debug)]
pub(crate) struct NotedEnd {
    pub(crate) answered_by: AnsweredBy,
    pub(crate) from_client: u64,
    pub(crate) to_client: u64,
    pub(crate) timeline: TimelineView,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// The request that a note is about.
#[derive(Debug)]
pub(crate) struct NotedRequest {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoteKind {
    ConnectionOpened,
    RequestStarted,
    ResponseStarted,
    ExchangeEnded,
    ConnectionClosed,
}

impl Note {
    pub(crate) fn new(kind: NoteKind, connection_id: u64, client: SocketAddr) -> Self {
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

/// Where workers put their notes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    queue: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Puts down what `note` makes, if anybody wants to know.
    pub(crate) fn note(&self, note: impl FnOnce() -> Note) {
        if let Some(queue) = &self.queue
            && queue.sender.try_send(Message::Note(note())).is_err()
        {
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        self.queue.is_some()
    }

    /// Waits until the subscribers have heard everything so far, as long as they may take for that.
    pub(crate) fn flush(&self) {
        let Some(queue) = &self.queue else {
            return;
        };
        let (told, is_told) = sync_channel(1);
        if queue.sender.send(Message::Mark(told)).is_ok() {
            wait_for_farewell(&is_told);
        }
    }
}

/// The thread that tells the subscribers. Generations with the same subscribers share it, so that each of them hears what
/// happens in its order, and in one thread.
#[derive(Debug)]
pub(crate) struct EventDispatcher {
    subscribers: Subscribers,
    /// None where there is nobody to tell. Behind a lock only to be shared.
    over: Option<Mutex<Receiver<()>>>,
}

impl EventDispatcher {
    /// Starts the thread, unless there is nobody to tell.
    pub(crate) fn start(subscribers: Subscribers) -> io::Result<(Arc<Self>, Events)> {
        if subscribers.is_empty() {
            let nobody = Self {
                subscribers,
                over: None,
            };
            return Ok((Arc::new(nobody), Events::default()));
        }
        let (sender, messages) = sync_channel(QUEUE_LEN);
        let (end, over) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let told = subscribers.clone();
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let _visible = Visible::new(Role::Background);
                dispatch_all(&told, &messages, &counted);
                drop(told);
                // The proxy may have given up waiting.
                let _ = end.send(());
            })?;
        let queue = Some(Queue { sender, lost });
        let over = Some(Mutex::new(over));
        let dispatcher = Self { subscribers, over };
        Ok((Arc::new(dispatcher), Events { queue }))
    }

    /// Whether it is for just these, in this order.
    pub(crate) fn serves(&self, subscribers: &Subscribers) -> bool {
        let (own, others) = (self.subscribers.iter(), subscribers.iter());
        self.subscribers.len() == subscribers.len()
            && own.zip(others).all(|(own, other)| Arc::ptr_eq(own, other))
    }

    /// Waits until the subscribers have heard everything; every [`Events`] has to be gone.
    pub(crate) fn finish(self) {
        drop(self.subscribers);
        if let Some(over) = self.over.map(Mutex::into_inner) {
            wait_for_farewell(&over.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn wait_for_farewell(over: &Receiver<()>) {
    if over.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("plugins did not handle the last events within {FAREWELL:?}");
    }
}

fn dispatch_all(subscribers: &Subscribers, messages: &Receiver<Message>, lost: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH_LEN);
    let mut marks = Vec::new();
    while let Ok(first) = messages.recv() {
        let rest = messages.try_iter().take(BATCH_LEN - 1);
        for message in std::iter::once(first).chain(rest) {
            match message {
                Message::Note(note) => batch.push(note),
                Message::Mark(mark) => marks.push(mark),
            }
        }
        dispatch(subscribers, &batch, lost);
        batch.clear();
        for mark in marks.drain(..) {
            // Whoever asked may have given up waiting.
            let _ = mark.send(());
        }
    }
}

fn dispatch(subscribers: &Subscribers, batch: &[Note], lost: &AtomicU64) {
    if batch.is_empty() {
        return;
    }
    let ends: Vec<Option<End>> = batch.iter().map(end).collect();
    let shown = batch.iter().zip(&ends);
    let events: Vec<Event> = shown.map(|(note, end)| view(note, end.as_ref())).collect();
    let lost = lost.swap(0, Ordering::Relaxed);
    for subscriber in subscribers {
        subscriber.handle_events(&events, lost);
    }
}

/// What is shown of the end of an exchange.
struct End {
    summary: SummaryView,
    tls: Option<ClientTlsView>,
}

fn end(note: &Note) -> Option<End> {
    let ended = note.ended.as_deref()?;
    Some(End {
        summary: summary::view(&Summary {
            status: note.status,
            answered_by: &ended.answered_by,
            note: &note.note,
            from_client: ended.from_client,
            to_client: ended.to_client,
            elapsed: note.elapsed,
            timeline: &ended.timeline,
        }),
        tls: ended.tls.as_deref().map(views::tls_view),
    })
}

/// A part of an [`End`] without its lifetime.
fn lasting<T>(part: &T) -> &'static T {
    // SAFETY: subscribers see it for the time of a call, and the ends outlive the events.
    unsafe { &*std::ptr::from_ref(part) }
}

fn view(note: &Note, end: Option<&End>) -> Event {
    let address = |address: Option<SocketAddr>| address.map_or(views::NO_ADDRESS, views::address);
    let request = note.request.as_ref();
    let text = |text: Option<&str>| views::text(text.unwrap_or_default().as_bytes());
    Event {
        kind: match note.kind {
            NoteKind::ConnectionOpened => event::CONNECTION_OPENED,
            NoteKind::RequestStarted => event::REQUEST_STARTED,
            NoteKind::ResponseStarted => event::RESPONSE_STARTED,
            NoteKind::ExchangeEnded => event::EXCHANGE_ENDED,
            NoteKind::ConnectionClosed => event::CONNECTION_CLOSED,
        },
        status: u32::from(note.status),
        time: note
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
        connection_id: note.connection_id,
        exchange_id: note.exchange_id,
        client: views::address(note.client),
        method: text(request.map(|request| request.method.as_str())),
        host: text(request.map(|request| request.host.as_str())),
        port: request.map_or(0, |request| u32::from(request.port)),
        padding: 0,
        path: views::text(request.map_or(&[][..], |request| &request.path)),
        note: views::text(note.note.as_bytes()),
        bytes: note.bytes,
        elapsed: u64::try_from(note.elapsed.as_micros()).unwrap_or(u64::MAX),
        reserved: [0; 4],
        local: address(note.local),
        upstream_address: address(note.ended.as_ref().and_then(|ended| ended.upstream)),
        client_tls: end.and_then(|end| end.tls.as_ref()).map(lasting),
        summary: end.map(|end| lasting(&end.summary)),
    }
}
