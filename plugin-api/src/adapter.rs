//! Converts the author's trait to the table of functions that the host calls.
//!
//! Compiled into every plugin, once per filter type. Each function converts the host's pointers to references, guards
//! against panics, and converts the result to a code. The host guarantees that the pointers are valid, see
//! [`abi::FilterTable`](crate::abi::FilterTable).
#![expect(unsafe_code, reason = "the other side of the boundary passes pointers")]

use crate::abi::hook::Hook;
use crate::abi::{
    ConnectionView, ErrorSink, ExchangeView, FilterTable, FilterTableRef, RawWaker, code, flag,
};
use crate::configuration::configure;
use crate::guard::guarded;
use crate::log_origin::LogOrigin;
use crate::message::Editor;
use crate::{
    Chunk, ChunkOutcome, ClientConnection, Direction, EditError, Error, Exchange, Filter, Flow,
    Hooks, Interception, LogLine, MessageKind, Outcome, Reply, WebSocketMessage, connection, waker,
};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::Poll;

/// Whether the host has to keep a state for each exchange: not if the filter's state is `()` and no hook is async.
pub(crate) const fn needs_state<F: Filter>() -> bool {
    F::KEEPS_STATE || !F::ASYNC_HOOKS.is_empty()
}

/// Whether the host has to keep a state for each connection.
pub(crate) const fn needs_connection_state<F: Filter>() -> bool {
    F::KEEPS_CONNECTION
}

/// The state of a filter for one exchange. Only borrowed as shared, because a pending hook uses `state`.
struct FilterState<F: Filter> {
    pending: RefCell<Option<PendingHook>>,
    state: UnsafeCell<F::State>,
}

/// A pending async hook. Its lifetimes are erased: filter, state and exchange stay in place until it is dropped.
struct PendingHook {
    exchange: NonNull<ExchangeView>,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
}

/// The functions of one filter type.
pub(crate) struct Table<F>(PhantomData<F>);

impl<F: Filter> Table<F> {
    abi_stable::staticref!(const TABLE: WithMetadata<FilterTable> = WithMetadata::new(FilterTable {
        create: create::<F>,
        destroy: destroy::<F>,
        connection_new: connection_new::<F>,
        connection_drop: connection_drop::<F>,
        state_new: state_new::<F>,
        state_drop: state_drop::<F>,
        call: call::<F>,
        call_with: call_with::<F>,
        call_connection: call_connection::<F>,
        poll: poll::<F>,
        cancel: cancel::<F>,
    }));

    /// The table as it crosses the boundary.
    pub(crate) const REF: FilterTableRef = FilterTableRef(Self::TABLE.as_prefix());
}

/// Runs a call of plugin `P`; returns message and place of a panic.
#[inline]
pub(crate) fn called<P, T>(body: impl FnOnce() -> T) -> Result<T, String> {
    guarded(|| LogOrigin::of::<P>().during_call(body))
}

// SAFETY, for all functions of the table: the pointers are what `abi::FilterTable` promises.

unsafe extern "C" fn create<F: Filter>(config: RStr<'_>, errors: &ErrorSink) -> *mut c_void {
    unsafe { created(|| configure::<F>(config.as_str()), errors) }
}

/// A boxed plugin of any kind, or null after a report.
///
/// # Safety
/// `errors` must be valid.
pub(crate) unsafe fn created<P>(
    make: impl FnOnce() -> Result<P, Error>,
    errors: &ErrorSink,
) -> *mut c_void {
    let report = |message: &str| unsafe { (errors.report)(errors.context, message.into()) };
    match called::<P, _>(make) {
        Ok(Ok(plugin)) => return Box::into_raw(Box::new(plugin)).cast(),
        Ok(Err(error)) => report(error.message()),
        Err(panic) => report(&format!("panicked while starting: {panic}")),
    }
    ptr::null_mut()
}

/// Drops a plugin of any kind.
///
/// # Safety
/// `plugin` was made by [`created`] for this type, and is not used any more.
pub(crate) unsafe extern "C" fn destroy<P>(plugin: *mut c_void) {
    let ended = called::<P, _>(|| drop(unsafe { Box::from_raw(plugin.cast::<P>()) }));
    report_panicked_end::<P>(ended);
}

unsafe extern "C" fn state_new<F: Filter>(_filter: *mut c_void) -> *mut c_void {
    let made = called::<F, _>(|| {
        let state = UnsafeCell::new(F::State::default());
        Box::into_raw(Box::new(FilterState::<F> {
            pending: RefCell::new(None),
            state,
        }))
    });
    match made {
        Ok(kept) => kept.cast(),
        Err(panic) => {
            crate::error!(
                "{} panicked while creating its state: {panic}",
                std::any::type_name::<F>()
            );
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn state_drop<F: Filter>(state: *mut c_void) {
    unsafe { cancel::<F>(state) };
    let ended = called::<F, _>(|| drop(unsafe { Box::from_raw(state.cast::<FilterState<F>>()) }));
    report_panicked_end::<F>(ended);
}

unsafe extern "C" fn connection_new<F: Filter>(_filter: *mut c_void) -> *mut c_void {
    match called::<F, _>(|| Box::into_raw(Box::new(F::Connection::default()))) {
        Ok(kept) => kept.cast(),
        Err(panic) => {
            crate::error!(
                "{} panicked while creating its connection state: {panic}",
                std::any::type_name::<F>()
            );
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn connection_drop<F: Filter>(kept: *mut c_void) {
    let ended = called::<F, _>(|| drop(unsafe { Box::from_raw(kept.cast::<F::Connection>()) }));
    report_panicked_end::<F>(ended);
}

/// An expression that runs a hook without data and returns a code; ERROR for the other kinds.
macro_rules! run_plain {
    ($lent:ident $constant:ident $function:ident Decides $twin:ident) => {
        decided::<F>(
            $lent,
            Hooks::$constant,
            F::$function,
            |filter, mut exchange| Box::pin(async move { filter.$twin(&mut exchange).await }),
        )
    };
    ($lent:ident $constant:ident $function:ident Intercepts) => {
        $lent.run(F::$function, |answer| match answer {
            Interception::Default => code::PROCEED,
            Interception::Intercept => code::INTERCEPT,
            Interception::Tunnel => code::TUNNEL,
        })
    };
    ($lent:ident $constant:ident $function:ident PassesTrailers) => {
        $lent.run(F::$function, |answer| $lent.settle_observed(answer))
    };
    ($lent:ident $constant:ident $function:ident Observes) => {
        $lent.run(F::$function, |()| code::PROCEED)
    };
    ($lent:ident $constant:ident $function:ident Logs) => {
        $lent.run(F::$function, |line| match line {
            LogLine::Write => code::PROCEED,
            LogLine::Suppress => code::SUPPRESS,
        })
    };
    ($lent:ident $constant:ident $function:ident $other:ident) => {
        code::ERROR
    };
}

/// An expression that runs a hook with data and returns a code; ERROR for the other kinds.
macro_rules! run_with_data {
    ($lent:ident $data:ident $function:ident PassesContent) => {
        $lent.run(
            |filter: &F, exchange| filter.$function(exchange, $data.bytes, $data.is_end()),
            |outcome| settle_chunk($lent.exchange, outcome),
        )
    };
    ($lent:ident $data:ident $function:ident PassesBytes) => {
        $lent.run(
            |filter: &F, exchange| filter.$function(exchange, $data.from(), $data.bytes),
            |outcome| settle_chunk($lent.exchange, outcome),
        )
    };
    ($lent:ident $data:ident $function:ident PassesMessage) => {
        match $data.message() {
            Some(message) => $lent.run(
                |filter: &F, exchange| filter.$function(exchange, &message),
                |outcome| settle_chunk($lent.exchange, outcome),
            ),
            None => {
                let unknown = "this plugin does not support that kind of message";
                fail($lent.exchange, code::ERROR, unknown)
            }
        }
    };
    ($lent:ident $data:ident $function:ident $other:ident $($twin:ident)?) => {
        code::ERROR
    };
}

/// An expression that runs a hook of a connection and returns an outcome; an error for the other kinds.
macro_rules! run_of_connection {
    ($filter:ident $connection:ident $function:ident BeginsConnection) => {
        $filter.$function($connection)
    };
    ($filter:ident $connection:ident $function:ident EndsConnection) => {{
        $filter.$function($connection);
        crate::proceed()
    }};
    ($filter:ident $connection:ident $function:ident $other:ident $($twin:ident)?) => {
        Err(Error::new("this is not a hook of a connection"))
    };
}

macro_rules! dispatch {
    ($(
        $(#[$doc:meta])*
        $hook:ident $constant:ident $function:ident: $kind:ident $(($twin:ident))? [$($may:ident)*]
    )+) => {
        /// # Safety
        /// As for the functions of the table.
        #[inline]
        unsafe fn plain<F: Filter>(lent: LentPointers, hook: Hook) -> u32 {
            unsafe {
                match hook {
                    $(Hook::$hook => run_plain!(lent $constant $function $kind $($twin)?),)+
                }
            }
        }

        /// # Safety
        /// As for the functions of the table.
        #[inline]
        unsafe fn with_data<F: Filter>(lent: LentPointers, hook: Hook, data: HookData<'_>) -> u32 {
            unsafe {
                match hook {
                    $(Hook::$hook => run_with_data!(lent data $function $kind $($twin)?),)+
                }
            }
        }

        #[inline]
        fn of_connection<F: Filter>(
            filter: &F,
            connection: &mut ClientConnection<'_, F>,
            hook: Hook,
        ) -> Outcome {
            match hook {
                $(Hook::$hook => run_of_connection!(filter connection $function $kind $($twin)?),)+
            }
        }
    };
}

plugin_contract::hooks!(dispatch);

/// The data of a hook.
struct HookData<'x> {
    bytes: &'x [u8],
    /// A combination of [`flag`].
    flags: u32,
}

impl<'x> HookData<'x> {
    fn is_end(&self) -> bool {
        self.flags & flag::END != 0
    }

    fn from(&self) -> Direction {
        match self.flags & flag::FROM_UPSTREAM {
            0 => Direction::Client,
            _ => Direction::Upstream,
        }
    }

    /// `None` if this version does not know its kind.
    fn message(&self) -> Option<WebSocketMessage<'x>> {
        let kind = MessageKind::from_number(self.flags >> flag::MESSAGE_SHIFT & 0xf)?;
        Some(WebSocketMessage::new(self.from(), kind, self.bytes))
    }
}

unsafe extern "C" fn call<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    let lent = LentPointers {
        filter,
        state,
        exchange,
    };
    match unsafe { lent.hook() } {
        Some(hook) => unsafe { plain::<F>(lent, hook) },
        None => code::ERROR,
    }
}

unsafe extern "C" fn call_with<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
    data: RSlice<'_, u8>,
    flags: u32,
) -> u32 {
    let lent = LentPointers {
        filter,
        state,
        exchange,
    };
    let bytes = data.as_slice();
    match unsafe { lent.hook() } {
        Some(hook) => unsafe { with_data::<F>(lent, hook, HookData { bytes, flags }) },
        None => code::ERROR,
    }
}

unsafe extern "C" fn call_connection<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    connection: *mut ConnectionView,
) -> u32 {
    let view = unsafe { &*connection };
    let called = called::<F, _>(|| {
        let filter = unsafe { &*filter.cast::<F>() };
        let state = unsafe { connection::state::<F>(state) };
        let mut connection = ClientConnection::<F>::new(view, state);
        match Hook::from_number(view.hook) {
            Some(hook) => of_connection(filter, &mut connection, hook),
            None => Err(Error::new("this plugin does not support that hook")),
        }
    });
    let (kind, message) = match called {
        Ok(Ok(Flow::Proceed)) => return code::PROCEED,
        Ok(Ok(Flow::Close)) => return code::CLOSE,
        Ok(Ok(_)) => (
            code::ERROR,
            "this hook may only proceed or close the connection".to_owned(),
        ),
        Ok(Err(error)) => (code::ERROR, error.message().to_owned()),
        Err(panic) => (code::PANIC, panic),
    };
    unsafe { (view.fail)(view.host, kind, message.as_str().into()) };
    kind
}

unsafe extern "C" fn poll<F: Filter>(state: *mut c_void, waker: &RawWaker) -> u32 {
    let kept = unsafe { &*state.cast::<FilterState<F>>() };
    let Ok(mut pending) = kept.pending.try_borrow_mut() else {
        return code::ERROR;
    };
    let Some(PendingHook { exchange, future }) = pending.as_mut() else {
        return code::ERROR;
    };
    let exchange = *exchange;
    let polled = called::<F, _>(|| {
        #[cfg(feature = "tokio")]
        let _entered = crate::runtime::enter();
        waker::poll_with(waker, |cx| future.as_mut().poll(cx))
    });
    if let Ok(Poll::Pending) = polled {
        return code::PENDING;
    }
    let finished = pending.take();
    drop(pending);
    let dropped = called::<F, _>(|| drop(finished));
    let settled = polled.and_then(|polled| dropped.map(|()| polled));
    match settled {
        Ok(Poll::Ready(outcome)) => unsafe { settle(exchange.as_ptr(), outcome) },
        Ok(Poll::Pending) => code::PENDING,
        Err(panic) => unsafe { fail(exchange.as_ptr(), code::PANIC, &panic) },
    }
}

unsafe extern "C" fn cancel<F: Filter>(state: *mut c_void) {
    let kept = unsafe { &*state.cast::<FilterState<F>>() };
    let Ok(pending) = kept
        .pending
        .try_borrow_mut()
        .map(|mut pending| pending.take())
    else {
        return;
    };
    report_panicked_end::<F>(called::<F, _>(|| drop(pending)));
}

/// The pointers that the host lends for one call.
#[derive(Clone, Copy)]
struct LentPointers {
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
}

// SAFETY, for all functions: as for the functions of the table.
impl LentPointers {
    /// The hook to run, if this version knows it.
    unsafe fn hook(self) -> Option<Hook> {
        Hook::from_number(unsafe { (*self.exchange).hook })
    }

    /// Runs a hook and converts its result to a code with `settle`; both are guarded.
    #[inline]
    unsafe fn run<F: Filter, A>(
        self,
        hook: impl FnOnce(&F, &mut Exchange<'_, F>) -> A,
        settle: impl FnOnce(A) -> u32,
    ) -> u32 {
        let called = called::<F, _>(|| {
            let filter = unsafe { &*self.filter.cast::<F>() };
            let view = unsafe { NonNull::new_unchecked(self.exchange) };
            let answer = match unsafe { self.state.cast::<FilterState<F>>().as_ref() } {
                Some(kept) => {
                    // No hook is pending while another one is called, so the state is not borrowed.
                    let state = unsafe { &mut *kept.state.get() };
                    hook(filter, &mut unsafe { Exchange::new(view, state) })
                }
                // `needs_state` says that there is no state.
                None => {
                    let mut nothing = ();
                    let Some(state) = (&mut nothing as &mut dyn Any).downcast_mut() else {
                        panic!("KEEPS_STATE is false, but State is not ()");
                    };
                    hook(filter, &mut unsafe { Exchange::new(view, state) })
                }
            };
            settle(answer)
        });
        match called {
            Ok(code) => code,
            Err(panic) => unsafe { fail(self.exchange, code::PANIC, &panic) },
        }
    }

    /// The code for a hook that returns nothing but an error.
    unsafe fn settle_observed(self, answer: Result<(), Error>) -> u32 {
        match answer {
            Ok(()) => code::PROCEED,
            Err(error) => unsafe { fail(self.exchange, code::ERROR, error.message()) },
        }
    }
}

type Twin<F> = fn(&'static F, Exchange<'static, F>) -> Pin<Box<dyn Future<Output = Outcome>>>;

/// Runs a hook that returns an outcome; if that is `Async`, its async version is started and the code is PENDING.
///
/// # Safety
/// As for the functions of the table.
#[inline]
unsafe fn decided<F: Filter>(
    lent: LentPointers,
    hook: Hooks,
    decide: impl FnOnce(&F, &mut Exchange<'_, F>) -> Outcome,
    twin: Twin<F>,
) -> u32 {
    let settle = |outcome| {
        // The usual case; it owns nothing, so its destructor need not be called.
        if let Ok(Flow::Proceed) = outcome {
            std::mem::forget(outcome);
            return code::PROCEED;
        }
        let kept = unsafe { lent.state.cast::<FilterState<F>>().as_ref() };
        let (true, Ok(Flow::Async), Some(kept)) = (F::ASYNC_HOOKS.has(hook), &outcome, kept) else {
            return unsafe { settle(lent.exchange, outcome) };
        };
        // SAFETY: the lifetimes end when `pending` is taken, and until then the host keeps all three in place.
        let (filter, own) = unsafe { (&*lent.filter.cast::<F>(), &mut *kept.state.get()) };
        let view = unsafe { NonNull::new_unchecked(lent.exchange) };
        let future = twin(filter, unsafe { Exchange::new(view, own) });
        *kept.pending.borrow_mut() = Some(PendingHook {
            exchange: view,
            future,
        });
        code::PENDING
    };
    unsafe { lent.run(decide, settle) }
}

/// # Safety
/// `exchange` must be valid.
unsafe fn settle(exchange: *mut ExchangeView, outcome: Outcome) -> u32 {
    let sent = match outcome {
        Ok(Flow::Proceed) => return code::PROCEED,
        Ok(Flow::Close) => return code::CLOSE,
        Ok(Flow::Retry) => return code::RETRY,
        Ok(Flow::Reply(reply)) => send(unsafe { editor(exchange) }, &reply).map(|()| code::RESPOND),
        Ok(Flow::Async) => Err(Error::new(
            "the hook returned Flow::Async but has no async version",
        )),
        Err(error) => Err(error),
    };
    sent.unwrap_or_else(|error| unsafe { fail(exchange, code::ERROR, error.message()) })
}

/// # Safety
/// `exchange` must be valid.
#[inline]
unsafe fn settle_chunk(exchange: *mut ExchangeView, outcome: ChunkOutcome) -> u32 {
    // As in `decided`.
    if let Ok(Chunk::Pass) = outcome {
        std::mem::forget(outcome);
        return code::PROCEED;
    }
    let sent = match outcome {
        Ok(Chunk::Pass) => return code::PROCEED,
        Ok(Chunk::Drop) => return code::REPLACED,
        Ok(Chunk::Close) => return code::CLOSE,
        Ok(Chunk::Replace(content)) => unsafe { editor(exchange) }
            .emit_chunk(&content)
            .map_err(Error::from),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => code::REPLACED,
        Err(error) => unsafe { fail(exchange, code::ERROR, error.message()) },
    }
}

fn send(mut editor: Editor<'_>, reply: &Reply) -> Result<(), Error> {
    let refused =
        |part: &str, error: EditError| Error::new(format!("invalid reply: {part}: {error}"));
    editor
        .reply(reply.status, &reply.reason)
        .map_err(|error| refused("status or reason", error))?;
    for (name, value) in &reply.fields {
        editor
            .reply_field(name, value)
            .map_err(|error| refused(name, error))?;
    }
    if !reply.body.is_empty() {
        editor
            .reply_body(&reply.body)
            .map_err(|error| refused("body", error))?;
    }
    Ok(())
}

/// # Safety
/// `exchange` must be valid.
#[cold]
unsafe fn fail(exchange: *mut ExchangeView, kind: u32, message: &str) -> u32 {
    unsafe { editor(exchange) }.fail(kind, message);
    kind
}

/// # Safety
/// `exchange` must be valid for as long as the editor is used.
unsafe fn editor<'x>(exchange: *mut ExchangeView) -> Editor<'x> {
    unsafe { Editor::new((*exchange).host, (*exchange).callbacks) }
}

/// Logs the panic of a destructor (of a state, a filter or a dropped hook), which no caller waits for.
pub(crate) fn report_panicked_end<F>(ended: Result<(), String>) {
    if let Err(panic) = ended {
        let plugin = std::any::type_name::<F>();
        crate::error!("{plugin} panicked while cleaning up: {panic}");
    }
}
