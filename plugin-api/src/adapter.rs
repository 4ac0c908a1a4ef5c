//! From the author's trait to the table of functions that the host calls.
//!
//! Compiled into every plugin, once per filter type. Each function turns the host's pointers into references,
//! guards against panics, and turns the answer into a code. The rules that make the pointers valid are the host's
//! side of the bargain and stand in [`abi::FilterTable`](crate::abi::FilterTable).
#![expect(unsafe_code, reason = "the other side of the boundary passes pointers")]

use crate::abi::{ErrorSink, ExchangeView, FilterTable, FilterTableRef, RawWaker, code};
use crate::configuration::configure;
use crate::guard::guarded;
use crate::message::Editor;
use crate::{
    Chunk, ChunkOutcome, EditError, Error, Exchange, Filter, Flow, Hooks, LogLine, Outcome, Reply,
    waker,
};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use std::cell::{RefCell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

/// Whether the host has to keep something for each exchange: not for a filter whose state is nothing and whose
/// hooks are all decided at once.
pub const fn needs_state<F: Filter>() -> bool {
    size_of::<F::State>() != 0 || std::mem::needs_drop::<F::State>() || !F::ASYNC_HOOKS.is_empty()
}

/// What one filter keeps for one exchange. Only ever borrowed shared: a pending hook holds on to `state`.
struct Kept<F: Filter> {
    pending: RefCell<Option<Pending>>,
    state: UnsafeCell<F::State>,
}

/// An async hook under way. Its lifetimes are erased: filter, state and exchange stay in place until it is gone.
struct Pending {
    exchange: NonNull<ExchangeView>,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
}

/// The functions of one filter type.
pub struct Table<F>(PhantomData<F>);

impl<F: Filter> Table<F> {
    abi_stable::staticref!(const TABLE: WithMetadata<FilterTable> = WithMetadata::new(FilterTable {
        create: create::<F>,
        destroy: destroy::<F>,
        state_new: state_new::<F>,
        state_drop: state_drop::<F>,
        before_upstream_connection: before_upstream_connection::<F>,
        handle_client_request: handle_client_request::<F>,
        handle_upstream_response: handle_upstream_response::<F>,
        handle_upstream_chunk: handle_upstream_chunk::<F>,
        on_access_log: on_access_log::<F>,
        on_upstream_connection_close: on_upstream_connection_close::<F>,
        poll: poll::<F>,
        cancel: cancel::<F>,
    }));

    /// The table as it crosses the boundary.
    pub const REF: FilterTableRef = FilterTableRef(Self::TABLE.as_prefix());
}

// SAFETY, for all functions of the table: the pointers are what `abi::FilterTable` promises.

unsafe extern "C" fn create<F: Filter>(config: RStr<'_>, errors: &ErrorSink) -> *mut c_void {
    let report = |message: &str| unsafe { (errors.report)(errors.context, message.into()) };
    match guarded(|| configure::<F>(config.as_str())) {
        Ok(Ok(filter)) => return Box::into_raw(Box::new(filter)).cast(),
        Ok(Err(error)) => report(error.message()),
        Err(panic) => report(&format!("panicked while starting: {panic}")),
    }
    ptr::null_mut()
}

unsafe extern "C" fn destroy<F: Filter>(filter: *mut c_void) {
    let ended = guarded(|| drop(unsafe { Box::from_raw(filter.cast::<F>()) }));
    report_panicked_end::<F>(ended);
}

unsafe extern "C" fn state_new<F: Filter>(_filter: *mut c_void) -> *mut c_void {
    let made = guarded(|| {
        let state = UnsafeCell::new(F::State::default());
        Box::into_raw(Box::new(Kept::<F> {
            pending: RefCell::new(None),
            state,
        }))
    });
    match made {
        Ok(kept) => kept.cast(),
        Err(panic) => {
            crate::error!(
                "{} cannot make its state: {panic}",
                std::any::type_name::<F>()
            );
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn state_drop<F: Filter>(state: *mut c_void) {
    unsafe { cancel::<F>(state) };
    let ended = guarded(|| drop(unsafe { Box::from_raw(state.cast::<Kept<F>>()) }));
    report_panicked_end::<F>(ended);
}

unsafe extern "C" fn before_upstream_connection<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    const HOOK: Hooks = Hooks::BEFORE_UPSTREAM_CONNECTION;
    unsafe {
        call::<F, _>(
            filter,
            state,
            exchange,
            F::before_upstream_connection,
            |outcome| {
                settle_or_start::<F>(
                    filter,
                    state,
                    exchange,
                    HOOK,
                    outcome,
                    |filter, mut exchange| {
                        Box::pin(async move {
                            filter.before_upstream_connection_async(&mut exchange).await
                        })
                    },
                )
            },
        )
    }
}

unsafe extern "C" fn handle_client_request<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    const HOOK: Hooks = Hooks::HANDLE_CLIENT_REQUEST;
    unsafe {
        call::<F, _>(
            filter,
            state,
            exchange,
            F::handle_client_request,
            |outcome| {
                settle_or_start::<F>(
                    filter,
                    state,
                    exchange,
                    HOOK,
                    outcome,
                    |filter, mut exchange| {
                        Box::pin(
                            async move { filter.handle_client_request_async(&mut exchange).await },
                        )
                    },
                )
            },
        )
    }
}

unsafe extern "C" fn handle_upstream_response<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    const HOOK: Hooks = Hooks::HANDLE_UPSTREAM_RESPONSE;
    unsafe {
        call::<F, _>(
            filter,
            state,
            exchange,
            F::handle_upstream_response,
            |outcome| {
                settle_or_start::<F>(
                    filter,
                    state,
                    exchange,
                    HOOK,
                    outcome,
                    |filter, mut exchange| {
                        Box::pin(async move {
                            filter.handle_upstream_response_async(&mut exchange).await
                        })
                    },
                )
            },
        )
    }
}

unsafe extern "C" fn handle_upstream_chunk<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
    chunk: RSlice<'_, u8>,
    end: u32,
) -> u32 {
    let hook = |filter: &F, exchange: &mut Exchange<'_, F>| {
        filter.handle_upstream_chunk(exchange, chunk.as_slice(), end != 0)
    };
    unsafe {
        call(filter, state, exchange, hook, |outcome| {
            settle_chunk(exchange, outcome)
        })
    }
}

unsafe extern "C" fn on_access_log<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    unsafe {
        call(
            filter,
            state,
            exchange,
            F::on_access_log,
            |line| match line {
                LogLine::Write => code::PROCEED,
                LogLine::Suppress => code::SUPPRESS,
            },
        )
    }
}

unsafe extern "C" fn on_upstream_connection_close<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
) -> u32 {
    unsafe {
        call(
            filter,
            state,
            exchange,
            F::on_upstream_connection_close,
            |()| code::PROCEED,
        )
    }
}

unsafe extern "C" fn poll<F: Filter>(state: *mut c_void, waker: &RawWaker) -> u32 {
    let kept = unsafe { &*state.cast::<Kept<F>>() };
    let Ok(mut pending) = kept.pending.try_borrow_mut() else {
        return code::ERROR;
    };
    let Some(Pending { exchange, future }) = pending.as_mut() else {
        return code::ERROR;
    };
    let exchange = *exchange;
    let polled = guarded(|| {
        #[cfg(feature = "tokio")]
        let _entered = crate::runtime::enter();
        future
            .as_mut()
            .poll(&mut Context::from_waker(&waker::lent(waker)))
    });
    if let Ok(Poll::Pending) = polled {
        return code::PENDING;
    }
    let finished = pending.take();
    drop(pending);
    let dropped = guarded(|| drop(finished));
    let settled = polled.and_then(|polled| dropped.map(|()| polled));
    match settled {
        Ok(Poll::Ready(outcome)) => unsafe { settle(exchange.as_ptr(), outcome) },
        Ok(Poll::Pending) => code::PENDING,
        Err(panic) => unsafe { fail(exchange.as_ptr(), code::PANIC, &panic) },
    }
}

unsafe extern "C" fn cancel<F: Filter>(state: *mut c_void) {
    let kept = unsafe { &*state.cast::<Kept<F>>() };
    let Ok(pending) = kept
        .pending
        .try_borrow_mut()
        .map(|mut pending| pending.take())
    else {
        return;
    };
    report_panicked_end::<F>(guarded(|| drop(pending)));
}

/// Runs a hook and turns its answer into a code by `settle`; both are guarded.
///
/// # Safety
/// As for the functions of the table.
#[inline]
unsafe fn call<F: Filter, A>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
    hook: impl FnOnce(&F, &mut Exchange<'_, F>) -> A,
    settle: impl FnOnce(A) -> u32,
) -> u32 {
    let called = guarded(|| {
        let filter = unsafe { &*filter.cast::<F>() };
        let view = unsafe { NonNull::new_unchecked(exchange) };
        let answer = match unsafe { state.cast::<Kept<F>>().as_ref() } {
            Some(kept) => {
                // No hook is pending while another one is called, so nobody else holds the state.
                let state = unsafe { &mut *kept.state.get() };
                hook(filter, &mut unsafe { Exchange::new(view, state) })
            }
            // `needs_state` says that a fresh one is as good as a kept one.
            None => {
                let mut state = F::State::default();
                hook(filter, &mut unsafe { Exchange::new(view, &mut state) })
            }
        };
        settle(answer)
    });
    match called {
        Ok(code) => code,
        Err(panic) => unsafe { fail(exchange, code::PANIC, &panic) },
    }
}

/// The code for `outcome`; if it asks for the async twin, that is started and the code is PENDING.
///
/// # Safety
/// As for the functions of the table.
#[inline]
unsafe fn settle_or_start<F: Filter>(
    filter: *mut c_void,
    state: *mut c_void,
    exchange: *mut ExchangeView,
    hook: Hooks,
    outcome: Outcome,
    twin: impl FnOnce(&'static F, Exchange<'static, F>) -> Pin<Box<dyn Future<Output = Outcome>>>,
) -> u32 {
    let kept = unsafe { state.cast::<Kept<F>>().as_ref() };
    let (true, Ok(Flow::Async), Some(kept)) = (F::ASYNC_HOOKS.has(hook), &outcome, kept) else {
        return unsafe { settle(exchange, outcome) };
    };
    // SAFETY: the lifetimes end when `pending` is taken, and until then the host keeps all three in place.
    let (filter, own) = unsafe { (&*filter.cast::<F>(), &mut *kept.state.get()) };
    let view = unsafe { NonNull::new_unchecked(exchange) };
    let future = twin(filter, unsafe { Exchange::new(view, own) });
    *kept.pending.borrow_mut() = Some(Pending {
        exchange: view,
        future,
    });
    code::PENDING
}

/// # Safety
/// `exchange` must be valid.
unsafe fn settle(exchange: *mut ExchangeView, outcome: Outcome) -> u32 {
    let sent = match outcome {
        Ok(Flow::Proceed) => return code::PROCEED,
        Ok(Flow::Close) => return code::CLOSE,
        Ok(Flow::Reply(reply)) => send(unsafe { editor(exchange) }, &reply).map(|()| code::RESPOND),
        Ok(Flow::Async) => Err(Error::new(
            "the hook answered Flow::Async and has no async twin",
        )),
        Err(error) => Err(error),
    };
    sent.unwrap_or_else(|error| unsafe { fail(exchange, code::ERROR, error.message()) })
}

/// # Safety
/// `exchange` must be valid.
unsafe fn settle_chunk(exchange: *mut ExchangeView, outcome: ChunkOutcome) -> u32 {
    let sent = match outcome {
        Ok(Chunk::Pass) => return code::PROCEED,
        Ok(Chunk::Drop) => return code::REPLACED,
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
    let refused = |part: &str, error: EditError| Error::new(format!("bad reply: {part}: {error}"));
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

/// Nobody waits for the end of a state, a filter or a dropped hook, so its panic can only be logged.
fn report_panicked_end<F>(ended: Result<(), String>) {
    if let Err(panic) = ended {
        let plugin = std::any::type_name::<F>();
        crate::error!("{plugin} panicked while cleaning up: {panic}");
    }
}
