//! A filter for tests: it writes down what it is called with.
#![expect(unsafe_code, reason = "functions as a plugin has them")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::{
    BodyMode, ConnectionView, ErrorSink, ExchangeView, FilterTable, FilterTableRef, RawWaker, code,
    hook,
};

use super::{Filter, Instance, Origin};
use crate::plugins::guard::guarded;

thread_local! {
    static CALLED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What the filters of this thread were called with since this was asked last: each its name and what of it.
pub(in crate::plugins) fn called() -> Vec<String> {
    CALLED.take()
}

/// A filter of this name.
pub(in crate::plugins) fn filter(
    name: &str,
    hooks: u64,
    needs_connection_state: bool,
) -> Arc<Instance<Filter>> {
    let table = FilterTableRef(Table::VALUE.as_prefix());
    let origin = Origin {
        library: "libfake.so".to_owned(),
        digest: [0; 32],
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        config: name.to_owned(),
    };
    let body = BodyMode {
        delivery: 0,
        over: 0,
        limit: 0,
        decode: 0,
        reserved: 0,
    };
    let kind = Filter {
        table,
        hooks,
        hook_limit: Duration::from_secs(5),
        needs_state: false,
        needs_connection_state,
        client_body: body,
        upstream_body: body,
    };
    Instance::create(origin, (table.create(), table.destroy()), kind).unwrap()
}

struct Table;

impl Table {
    staticref!(const VALUE: WithMetadata<FilterTable> = WithMetadata::new(FilterTable {
        create,
        destroy,
        connection_new,
        connection_drop,
        state_new,
        state_drop,
        call,
        call_with,
        call_connection,
        poll,
        cancel,
    }));
}

fn note(object: *mut c_void, what: &str) {
    // SAFETY: every object and state is the name of its filter.
    let name = unsafe { &*object.cast::<String>() };
    CALLED.with_borrow_mut(|called| called.push(format!("{name}: {what}")));
}

fn end(object: *mut c_void, what: &str) {
    note(object, what);
    // SAFETY: as in `note`, and dropped once.
    drop(unsafe { Box::from_raw(object.cast::<String>()) });
}

unsafe extern "C" fn create(config: RStr<'_>, _: &ErrorSink) -> *mut c_void {
    let make = || Box::into_raw(Box::new(config.to_string())).cast();
    guarded(std::ptr::null_mut(), make)
}

unsafe extern "C" fn destroy(object: *mut c_void) {
    guarded((), || end(object, "drop"));
}

unsafe extern "C" fn connection_new(object: *mut c_void) -> *mut c_void {
    guarded(std::ptr::null_mut(), || {
        note(object, "Connection::default");
        // SAFETY: as in `note`.
        let name = unsafe { &*object.cast::<String>() };
        Box::into_raw(Box::new(name.clone())).cast()
    })
}

unsafe extern "C" fn connection_drop(state: *mut c_void) {
    guarded((), || end(state, "drop of Connection"));
}

unsafe extern "C" fn state_new(_: *mut c_void) -> *mut c_void {
    guarded(std::ptr::null_mut(), std::ptr::null_mut)
}

unsafe extern "C" fn state_drop(_: *mut c_void) {
    guarded((), || {});
}

unsafe extern "C" fn call(_: *mut c_void, _: *mut c_void, _: *mut ExchangeView) -> u32 {
    guarded(code::PANIC, || code::PROCEED)
}

unsafe extern "C" fn call_with(
    _: *mut c_void,
    _: *mut c_void,
    _: *mut ExchangeView,
    _: RSlice<'_, u8>,
    _: u32,
) -> u32 {
    guarded(code::PANIC, || code::PROCEED)
}

unsafe extern "C" fn call_connection(
    object: *mut c_void,
    _: *mut c_void,
    view: *mut ConnectionView,
) -> u32 {
    guarded(code::PANIC, || {
        // SAFETY: lent for the call.
        let hook = unsafe { (*view).hook };
        note(object, hook::NAMES[hook as usize]);
        code::PROCEED
    })
}

unsafe extern "C" fn poll(_: *mut c_void, _: &RawWaker) -> u32 {
    guarded(code::PANIC, || code::PROCEED)
}

unsafe extern "C" fn cancel(_: *mut c_void) {
    guarded((), || {});
}
