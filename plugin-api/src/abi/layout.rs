//! The layout of everything that crosses the boundary, as in libraries that are already built.
//!
//! A plain struct never changes. A table grows at its end: then its size and a line for the new entry change here, but
//! no existing line.
#![cfg(target_pointer_width = "64")]

use super::web::{
    Capture, ForwardView, ForwardedView, MessageView, RouteSink, RouteView, WebCallbacks, WebTable,
    WebView,
};
use super::{
    Address, BodyMode, CallOut, CallOutAnswer, ClientTlsView, ConnectionView, ErrorSink, Event,
    ExchangeCallbacks, ExchangeView, FieldSlot, FilterTable, HostTable, PluginDeclaration,
    PluginLibrary, ProtocolTable, RawWaker, RequestView, ResponseView, StreamView, SubscriberTable,
    SummaryView, Task, TimelineView, TlsHelloView, WakerTable, Work,
};
use std::mem::offset_of;

/// Asserts the size of each type and the offset of each field, in bytes.
macro_rules! layout {
    ($($type:ident: $size:literal { $($field:ident: $offset:literal,)+ })+) => {
        $(
            assert_eq!(size_of::<$type>(), $size, stringify!($type));
            $(assert_eq!(offset_of!($type, $field), $offset, stringify!($type.$field));)+
        )+
    };
}

#[test]
fn plain_structs_never_change() {
    layout! {
        FieldSlot: 32 {
            name: 0, value: 16,
        }
        Address: 24 {
            ip: 0, port: 16, family: 18, reserved: 20,
        }
        BodyMode: 24 {
            delivery: 0, over: 4, limit: 8, decode: 16, reserved: 20,
        }
        TlsHelloView: 64 {
            server_name: 0, protocols: 16, reserved: 32,
        }
        ClientTlsView: 112 {
            version: 0, cipher: 16, server_name: 32, protocol: 48, certificate: 64, reserved: 80,
        }
        SummaryView: 96 {
            status: 0, answered_by: 4, answerer: 8, note: 24, from_client: 40, to_client: 48, elapsed: 56,
            reserved: 64,
        }
        TimelineView: 136 {
            head_read: 0, decided: 8, dial_begun: 16, resolved: 24, connected: 32, secured: 40, sent: 48,
            answer_begun: 56, is_reused: 64, padding: 68, reserved: 72,
        }
        ConnectionView: 112 {
            host: 0, fail: 8, connection_id: 16, client: 24, local: 48, hook: 72, reserved: 80,
        }
        RequestView: 136 {
            method: 0, target: 16, scheme: 32, host: 48, path: 64, port: 80, version: 84, fields: 88, field_count: 96,
            reserved: 104,
        }
        ResponseView: 72 {
            status: 0, version: 4, reason: 8, fields: 24, field_count: 32, reserved: 40,
        }
        ExchangeView: 344 {
            host: 0, callbacks: 8, request: 16, response: 24, upstream_host: 32, upstream_scheme: 48,
            upstream_port: 64, hook: 68, connection_id: 72, exchange_id: 80, client: 88, connection_state: 112,
            user: 120, body: 136, trailers: 152, trailer_count: 160, failure: 168, tls_hello: 184, reserved: 192,
            local: 256, upstream_address: 280, upstream_local: 304, client_tls: 328, summary: 336,
        }
        CallOut: 112 {
            method: 0, url: 16, fields: 32, field_count: 40, body: 48, timeout: 64, max_body: 72, reserved: 80,
        }
        CallOutAnswer: 56 {
            status: 0, error: 8, fields: 24, field_count: 32, body: 40,
        }
        Work: 16 {
            data: 0, run: 8,
        }
        Task: 24 {
            data: 0, poll: 8, drop: 16,
        }
        RawWaker: 16 {
            data: 0, table: 8,
        }
        ErrorSink: 16 {
            context: 0, report: 8,
        }
        Event: 240 {
            kind: 0, status: 4, time: 8, connection_id: 16, exchange_id: 24, client: 32, method: 56, host: 72,
            port: 88, padding: 92, path: 96, note: 112, bytes: 128, elapsed: 136, reserved: 144, local: 176,
            upstream_address: 200, client_tls: 224, summary: 232,
        }
        StreamView: 120 {
            host: 0, read: 8, write: 16, shutdown: 24, connection_id: 32, client: 40, local: 64, reserved: 88,
        }
        RouteView: 72 {
            protocols: 0, syntax: 4, pattern: 8, methods: 24, reserved: 40,
        }
        RouteSink: 16 {
            context: 0, add: 8,
        }
        Capture: 32 {
            name: 0, value: 16,
        }
        WebView: 144 {
            host: 0, callbacks: 8, request: 16, captures: 24, capture_count: 32, route: 40, is_websocket: 44,
            connection_id: 48, exchange_id: 56, client: 64, local: 88, reserved: 112,
        }
        ForwardView: 56 {
            url: 0, host: 16, padding: 20, reserved: 24,
        }
        ForwardedView: 64 {
            status: 0, is_answered: 4, fault: 8, padding: 12, error: 16, reserved: 32,
        }
        MessageView: 24 {
            kind: 0, padding: 4, data: 8,
        }
    }
}

#[test]
fn tables_grow_at_their_end_only() {
    layout! {
        ExchangeCallbacks: 184 {
            set_field: 0, append_field: 8, remove_field: 16, set_path: 24, set_status: 32, set_upstream: 40,
            set_upstream_scheme: 48, set_parent: 56, add_address: 64, set_source_address: 72, set_user: 80,
            set_body_mode: 88, set_body: 96, reply: 104, reply_field: 112, reply_body: 120, emit_chunk: 128,
            send_message: 136, add_log_field: 144, fail: 152, holds: 160, set_method: 168, set_host: 176,
        }
        HostTable: 80 {
            log_enabled: 0, log: 8, sleep: 16, call_out: 24, run_blocking: 32, poll_job: 40, call_out_answer: 48,
            release_job: 56, spawn: 64, note_panic: 72,
        }
        WakerTable: 24 {
            clone: 0, wake_by_ref: 8, drop: 16,
        }
        FilterTable: 88 {
            create: 0, destroy: 8, connection_new: 16, connection_drop: 24, state_new: 32, state_drop: 40, call: 48,
            call_with: 56, call_connection: 64, poll: 72, cancel: 80,
        }
        SubscriberTable: 24 {
            create: 0, destroy: 8, handle_events: 16,
        }
        ProtocolTable: 48 {
            create: 0, destroy: 8, claims: 16, serve: 24, poll: 32, drop: 40,
        }
        PluginDeclaration: 208 {
            name: 0, version: 16, description: 32, config_schema: 48, hooks: 64, async_hooks: 72, needs_state: 80,
            needs_connection_state: 84, client_body: 88, upstream_body: 112, kind: 136, filter: 144, subscriber: 160,
            protocol: 176, web: 192,
        }
        PluginLibrary: 72 {
            api_major: 0, api_minor: 2, panic_unwind: 4, debug_build: 6, rustc: 8, target: 24, init: 40, plugins: 48,
            note: 56,
        }
        WebCallbacks: 144 {
            set_field: 0, append_field: 8, remove_field: 16, read: 24, reply: 32, reply_field: 40, reply_body: 48,
            start: 56, write: 64, flush: 72, forward: 80, poll_forward: 88, accept: 96, receive: 104,
            send_message: 112, add_log_field: 120, fail: 128, cancel_forward: 136,
        }
        WebTable: 48 {
            create: 0, destroy: 8, routes: 16, serve: 24, poll: 32, drop: 40,
        }
    }
}
