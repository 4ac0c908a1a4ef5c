//! One exchange on its way through the plugin chain.
//!
//! A session owns what plugins see of the exchange and what they ask for: edits, a reply, another upstream, log
//! fields. It exists only when the chain is not empty. While a hook runs, nothing of the host touches the heads that
//! the hook works on; a hook that waits keeps them borrowed, and dropping the wait cancels it first.
#![expect(unsafe_code, reason = "calls plugins through their tables")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::RSlice;
use plugin_api::abi::{
    ExchangeView, FieldSlot, FilterTableRef, RawWaker, RequestView, ResponseView, WakerTable,
    WakerTableRef, code,
};

use super::callbacks::CALLBACKS;
use super::load::LoadedPlugin;
use super::{Chain, Hook, views};
use crate::buffers;
use crate::deadline::Deadlines;
use crate::error::{PluginFailure, PluginFailureKind};
use crate::http1::{RequestHead, ResponseHead};
use crate::relay::{ContentHook, Seen};

/// Sessions kept for reuse per worker.
const SPARE_KEPT: usize = 128;

/// Boxed, because plugins are given the address while one is in use.
type Spare = Vec<Box<Inner>>;

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Vec::new()) };
}

/// How long an asynchronous hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(5);

/// A response that a plugin has made.
#[derive(Debug, Default)]
pub(crate) struct PluginReply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// What a walk through the chain came to.
#[derive(Debug)]
pub(crate) enum Verdict {
    Proceed,
    /// Answer with this; the name is the plugin's.
    Reply(PluginReply, String),
    /// Close without an answer.
    Close(String),
    Failed(PluginFailure),
}

/// The heads that a hook works on.
pub(crate) struct Subject<'a> {
    pub(crate) request: &'a mut RequestHead,
    pub(crate) response: Option<&'a mut ResponseHead>,
}

/// What plugins may know of an exchange besides its messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeFacts {
    pub(crate) connection_id: u64,
    pub(crate) exchange_id: u64,
    pub(crate) client: SocketAddr,
}

/// One exchange in the chain.
#[derive(Debug)]
pub(crate) struct Session {
    chain: Arc<Chain>,
    deadlines: Rc<Deadlines>,
    /// Plugins hold this address while a hook waits, hence no `Box`: moving one would claim sole access.
    inner: NonNull<Inner>,
}

/// What the callbacks of a running hook reach.
pub(super) struct Inner {
    pub(super) view: ExchangeView,
    pub(super) hook: Hook,
    /// Set while a hook runs, null otherwise.
    pub(super) request: *mut RequestHead,
    pub(super) response: *mut ResponseHead,
    pub(super) reply: Option<PluginReply>,
    pub(super) emitted: Vec<u8>,
    pub(super) failure: String,
    pub(super) log_fields: Vec<(String, String)>,
    pub(super) redirected_to: Option<(String, u16)>,
    request_view: RequestView,
    response_view: ResponseView,
    request_slots: Vec<FieldSlot>,
    response_slots: Vec<FieldSlot>,
    states: Vec<PluginState>,
    /// The final response, once the exchange is done with it.
    kept_response: Option<ResponseHead>,
}

/// A plugin's own state for this exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PluginState {
    NotMade,
    /// Made; null where the plugin keeps none.
    Made(*mut c_void),
    /// The plugin panicked: it is not called again in this exchange.
    Lost,
}

impl Session {
    pub(crate) fn new(chain: &Arc<Chain>, deadlines: &Rc<Deadlines>, facts: ExchangeFacts) -> Self {
        let mut inner = SPARE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| Box::new(Inner::new()));
        inner.begin(chain.plugins.len(), facts);
        let inner = NonNull::from(Box::leak(inner));
        Self {
            chain: Arc::clone(chain),
            deadlines: Rc::clone(deadlines),
            inner,
        }
    }

    /// Calls `hook` of every plugin that listens to it, until one of them ends the walk.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run(&mut self, hook: Hook, subject: Subject<'_>) -> Verdict {
        self.inner().attach(hook, subject);
        let _detached_at_the_end = Detach(self.inner);
        self.walk(hook).await
    }

    /// As [`run`](Self::run), for the hooks that end an exchange and cannot wait. `false`: suppress the log line.
    pub(crate) fn run_at_end(&mut self, hook: Hook, request: &mut RequestHead) -> bool {
        if !self.chain.has_listeners(hook) {
            return true;
        }
        let mut kept = self.inner().kept_response.take();
        self.inner().attach(
            hook,
            Subject {
                request,
                response: kept.as_mut(),
            },
        );
        let mut may_log = true;
        for position in 0..self.chain.listeners[hook as usize].len() {
            let index = self.chain.listeners[hook as usize][position];
            let Some(state) = self.state(index) else {
                continue;
            };
            match self.call(index, hook, state) {
                code::PROCEED => {}
                code::SUPPRESS => may_log = false,
                result => report(&self.failure(index, hook, result)),
            }
        }
        self.inner().detach();
        self.inner().kept_response = kept;
        may_log
    }

    /// Where plugins have sent the exchange instead of the request's own host and port.
    pub(crate) fn redirected_to(&mut self) -> Option<(String, u16)> {
        self.inner().redirected_to.clone()
    }

    /// What plugins want to be in the access log.
    pub(crate) fn log_fields(&mut self) -> &[(String, String)] {
        &self.inner().log_fields
    }

    /// Keeps the final response for the hooks that come last.
    pub(crate) fn keep_response(&mut self, head: ResponseHead) {
        self.inner().kept_response = Some(head);
    }

    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        self.chain.has_listeners(hook)
    }

    async fn walk(&mut self, hook: Hook) -> Verdict {
        for position in 0..self.chain.listeners[hook as usize].len() {
            let index = self.chain.listeners[hook as usize][position];
            let Some(state) = self.state(index) else {
                continue;
            };
            let result = match self.call(index, hook, state) {
                code::PENDING => match self.wait(index, state).await {
                    Some(result) => result,
                    None => return Verdict::Failed(self.late(index, hook)),
                },
                result => result,
            };
            let name = || self.chain.plugins[index].name.clone();
            match result {
                code::PROCEED => {}
                code::RESPOND => {
                    let name = name();
                    return match self.inner().reply.take() {
                        Some(reply) => Verdict::Reply(reply, name),
                        None => Verdict::Failed(self.failure(index, hook, code::ERROR)),
                    };
                }
                code::CLOSE => return Verdict::Close(name()),
                result => return Verdict::Failed(self.failure(index, hook, result)),
            }
        }
        Verdict::Proceed
    }

    fn call(&mut self, index: usize, hook: Hook, state: *mut c_void) -> u32 {
        let LoadedPlugin { object, table, .. } = &self.chain.plugins[index];
        let function = match hook {
            Hook::BeforeUpstreamConnection => table.before_upstream_connection(),
            Hook::HandleClientRequest => table.handle_client_request(),
            Hook::HandleUpstreamResponse => table.handle_upstream_response(),
            Hook::OnAccessLog => table.on_access_log(),
            Hook::OnUpstreamConnectionClose => table.on_upstream_connection_close(),
            Hook::HandleUpstreamChunk => return code::ERROR,
        };
        // SAFETY: object and state are this plugin's own, the view lives as long as the session, and the heads that
        // its callbacks reach were attached by the caller and stay borrowed until they are detached.
        unsafe { function(*object, state, &raw mut (*self.inner.as_ptr()).view) }
    }

    fn call_with_chunk(
        &mut self,
        index: usize,
        state: *mut c_void,
        chunk: &[u8],
        is_end: bool,
    ) -> u32 {
        let LoadedPlugin { object, table, .. } = &self.chain.plugins[index];
        let chunk = RSlice::from_slice(chunk);
        // SAFETY: as in `call`; the chunk is borrowed for the call only.
        unsafe {
            let view = &raw mut (*self.inner.as_ptr()).view;
            (table.handle_upstream_chunk())(*object, state, view, chunk, u32::from(is_end))
        }
    }

    /// Polls a hook that waits; `None` when it took too long, after which it is cancelled.
    async fn wait(&mut self, index: usize, state: *mut c_void) -> Option<u32> {
        let deadline = self.deadlines.slot();
        deadline.arm(HOOK_LIMIT);
        let waiting = WaitingHook {
            table: self.chain.plugins[index].table,
            state,
            is_over: false,
        };
        deadline.bound(waiting).await
    }

    /// The plugin's state, made at first use; `None` when the plugin is out of this exchange.
    fn state(&mut self, index: usize) -> Option<*mut c_void> {
        match self.inner().states[index] {
            PluginState::Made(state) => return Some(state),
            PluginState::Lost => return None,
            PluginState::NotMade => {}
        }
        let LoadedPlugin {
            object,
            table,
            needs_state,
            ..
        } = &self.chain.plugins[index];
        let made = if *needs_state == 0 {
            PluginState::Made(std::ptr::null_mut())
        } else {
            // SAFETY: the object is this plugin's own.
            let state = unsafe { (table.state_new())(*object) };
            if state.is_null() {
                PluginState::Lost
            } else {
                PluginState::Made(state)
            }
        };
        self.inner().states[index] = made;
        match made {
            PluginState::Made(state) => Some(state),
            _ => None,
        }
    }

    fn failure(&mut self, index: usize, hook: Hook, result: u32) -> PluginFailure {
        if result == code::PANIC {
            self.drop_state(index);
            self.inner().states[index] = PluginState::Lost;
        }
        let said = std::mem::take(&mut self.inner().failure);
        let message = match result {
            code::PANIC => format!("it panicked: {said}"),
            code::ERROR if !said.is_empty() => said,
            code::ERROR => "it failed without saying why".to_owned(),
            code::CLOSE => "it closed the exchange in the middle of the body".to_owned(),
            unknown => format!("it returned {unknown}, which this proxy does not know"),
        };
        PluginFailure {
            plugin: self.chain.plugins[index].name.clone(),
            hook: hook.name(),
            message,
            kind: PluginFailureKind::Broken,
        }
    }

    fn late(&self, index: usize, hook: Hook) -> PluginFailure {
        PluginFailure {
            plugin: self.chain.plugins[index].name.clone(),
            hook: hook.name(),
            message: format!("it did not end within {} s", HOOK_LIMIT.as_secs()),
            kind: PluginFailureKind::Late,
        }
    }

    fn drop_state(&mut self, index: usize) {
        let made = std::mem::replace(&mut self.inner().states[index], PluginState::NotMade);
        if let PluginState::Made(state) = made
            && !state.is_null()
        {
            // SAFETY: made by this plugin's `state_new`, dropped once.
            unsafe { (self.chain.plugins[index].table.state_drop())(state) }
        }
    }

    fn inner(&mut self) -> &mut Inner {
        // SAFETY: allocated in `new`, freed in `drop`. Callbacks reach it only while a hook runs, and no reference
        // made here is alive then.
        unsafe { self.inner.as_mut() }
    }
}

fn report(failure: &PluginFailure) {
    tracing::error!(
        plugin = failure.plugin,
        hook = failure.hook,
        "{}",
        failure.message
    );
}

impl Drop for Session {
    fn drop(&mut self) {
        for index in 0..self.chain.plugins.len() {
            self.drop_state(index);
        }
        // SAFETY: a box until `new`; plugins have no state of this exchange any more.
        let mut inner = unsafe { Box::from_raw(self.inner.as_ptr()) };
        inner.end();
        // While the thread ends the pool may be gone already.
        let _ = SPARE.try_with(|spare| {
            let spare = &mut *spare.borrow_mut();
            if spare.len() < SPARE_KEPT {
                spare.push(inner);
            }
        });
    }
}

impl Inner {
    fn new() -> Self {
        let empty = views::text(b"");
        Self {
            view: ExchangeView {
                host: std::ptr::null_mut(),
                callbacks: CALLBACKS,
                request: std::ptr::null(),
                response: std::ptr::null(),
                upstream_host: empty,
                upstream_port: 0,
                hook: 0,
                connection_id: 0,
                exchange_id: 0,
                client: views::NO_ADDRESS,
                reserved: [0; 4],
            },
            hook: Hook::BeforeUpstreamConnection,
            request: std::ptr::null_mut(),
            response: std::ptr::null_mut(),
            reply: None,
            emitted: Vec::new(),
            failure: String::new(),
            log_fields: Vec::new(),
            redirected_to: None,
            request_view: RequestView {
                method: empty,
                target: empty,
                scheme: empty,
                host: empty,
                path: empty,
                port: 0,
                version: 0,
                fields: std::ptr::null(),
                field_count: 0,
                reserved: [0; 4],
            },
            response_view: ResponseView {
                status: 0,
                version: 0,
                reason: empty,
                fields: std::ptr::null(),
                field_count: 0,
                reserved: [0; 4],
            },
            request_slots: Vec::new(),
            response_slots: Vec::new(),
            states: Vec::new(),
            kept_response: None,
        }
    }

    /// Makes it the part of a new exchange.
    fn begin(&mut self, plugins: usize, facts: ExchangeFacts) {
        self.view.host = std::ptr::from_mut(self).cast();
        self.view.connection_id = facts.connection_id;
        self.view.exchange_id = facts.exchange_id;
        self.view.client = views::address(facts.client);
        self.states.resize(plugins, PluginState::NotMade);
    }

    /// Forgets the exchange, keeps the allocations.
    fn end(&mut self) {
        self.detach();
        self.reply = None;
        self.emitted.clear();
        self.failure.clear();
        self.log_fields.clear();
        self.redirected_to = None;
        self.states.clear();
        if let Some(head) = self.kept_response.take() {
            buffers::give_back_head(head.into_buffers());
        }
    }

    fn attach(&mut self, hook: Hook, subject: Subject<'_>) {
        self.hook = hook;
        self.view.hook = hook.bit().trailing_zeros();
        self.request = subject.request;
        self.response = subject
            .response
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        self.refresh_request();
        self.refresh_response();
    }

    fn detach(&mut self) {
        self.request = std::ptr::null_mut();
        self.response = std::ptr::null_mut();
    }

    /// Makes plugins see the request, and where it goes, as they are now.
    pub(super) fn refresh_request(&mut self) {
        // SAFETY: set by `attach`, whose caller keeps the head borrowed until `detach`.
        let Some(head) = (unsafe { self.request.as_ref() }) else {
            return;
        };
        self.request_view = views::request_view(head, &mut self.request_slots);
        self.view.request = &raw const self.request_view;
        let (host, port) = match &self.redirected_to {
            Some((host, port)) => (views::text(host.as_bytes()), *port),
            None => (self.request_view.host, head.port()),
        };
        self.view.upstream_host = host;
        self.view.upstream_port = u32::from(port);
    }

    /// Makes plugins see the response as it is now.
    pub(super) fn refresh_response(&mut self) {
        // SAFETY: as in `refresh_request`.
        match unsafe { self.response.as_ref() } {
            Some(head) => {
                self.response_view = views::response_view(head, &mut self.response_slots);
                self.view.response = &raw const self.response_view;
            }
            None => self.view.response = std::ptr::null(),
        }
    }
}

/// Detaches the heads when a walk ends, also when it is dropped while a hook waits.
struct Detach(NonNull<Inner>);

impl Drop for Detach {
    fn drop(&mut self) {
        // SAFETY: lives inside of a call on the session that owns it; a waiting hook has been cancelled before.
        unsafe { self.0.as_mut() }.detach();
    }
}

/// The chunk hooks of a session, while one body passes.
pub(crate) struct ChunkHooks<'a> {
    session: &'a mut Session,
}

impl<'a> ChunkHooks<'a> {
    /// The heads stay borrowed while the body passes.
    pub(crate) fn new(session: &'a mut Session, subject: Subject<'a>) -> Self {
        session.inner().attach(Hook::HandleUpstreamChunk, subject);
        Self { session }
    }
}

impl Drop for ChunkHooks<'_> {
    fn drop(&mut self) {
        self.session.inner().detach();
    }
}

impl ContentHook for ChunkHooks<'_> {
    fn see(
        &mut self,
        content: &[u8],
        is_end: bool,
        replacement: &mut Vec<u8>,
    ) -> Result<Seen, PluginFailure> {
        let hook = Hook::HandleUpstreamChunk;
        let session = &mut *self.session;
        let mut seen = Seen::Unchanged;
        for position in 0..session.chain.listeners[hook as usize].len() {
            let index = session.chain.listeners[hook as usize][position];
            let Some(state) = session.state(index) else {
                continue;
            };
            let current: &[u8] = match seen {
                Seen::Unchanged => content,
                Seen::Replaced => replacement,
            };
            session.inner().emitted.clear();
            match session.call_with_chunk(index, state, current, is_end) {
                code::PROCEED => {}
                code::REPLACED => {
                    *replacement = std::mem::take(&mut session.inner().emitted);
                    seen = Seen::Replaced;
                }
                result => return Err(session.failure(index, hook, result)),
            }
        }
        Ok(seen)
    }
}

/// A hook that waits; cancelled when dropped before its end.
struct WaitingHook {
    table: FilterTableRef,
    state: *mut c_void,
    is_over: bool,
}

impl Future for WaitingHook {
    type Output = u32;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        let waker = RawWaker {
            data: std::ptr::from_ref(cx.waker()).cast(),
            table: WAKER_TABLE,
        };
        // SAFETY: the state belongs to this plugin, which said that its hook waits; the waker is borrowed for the call.
        match unsafe { (self.table.poll())(self.state, &waker) } {
            code::PENDING => Poll::Pending,
            result => {
                self.is_over = true;
                Poll::Ready(result)
            }
        }
    }
}

impl Drop for WaitingHook {
    fn drop(&mut self) {
        if !self.is_over {
            // SAFETY: as in `poll`.
            unsafe { (self.table.cancel())(self.state) }
        }
    }
}

const WAKER_TABLE: WakerTableRef = WakerTableRef(HostWaker::TABLE.as_prefix());

struct HostWaker;

impl HostWaker {
    staticref!(const TABLE: WithMetadata<WakerTable> = WithMetadata::new(WakerTable {
        clone: clone_waker,
        wake_by_ref: wake,
        drop: drop_waker,
    }));
}

unsafe extern "C" fn clone_waker(waker: *const c_void) -> *const c_void {
    // SAFETY: points to a `Waker`, lent by `poll` or made here.
    let waker = unsafe { &*waker.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

unsafe extern "C" fn wake(waker: *const c_void) {
    // SAFETY: as in `clone_waker`.
    unsafe { &*waker.cast::<Waker>() }.wake_by_ref();
}

unsafe extern "C" fn drop_waker(waker: *const c_void) {
    // SAFETY: made by `clone_waker`, dropped once.
    drop(unsafe { Box::from_raw(waker.cast::<Waker>().cast_mut()) });
}
