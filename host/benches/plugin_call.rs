//! What one call of a hook costs: through the table of a loaded library, the author's layer included.
//!
//! The hook is `before_upstream_connection` of the bundled `filter_by_upstream_host`, which compares the host with its
//! list and lets the request pass. Build the library first: `cargo build --release -p filter_by_upstream_host`.

#![expect(unsafe_code, reason = "plays the host's part of the plugin boundary")]

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RSlice, RStr};
use criterion::{Criterion, criterion_group, criterion_main};
use plugin_api::abi::{
    Address, ExchangeCallbacks, ExchangeCallbacksRef, ExchangeView, FieldSlot, HostTable,
    HostTableRef, RequestView, code, edit,
};
use proxy_host::plugins::load::{LoadRequest, LoadedPlugin, load};
use proxy_host::plugins::spec::PluginSpec;

const PLUGIN: &str = "filter_by_upstream_host:FilterByUpstreamHost";

fn plugin_call(c: &mut Criterion) {
    let plugins = match load_plugin() {
        Ok(plugins) => plugins,
        Err(error) => {
            eprintln!("plugin_call is left out: {error}");
            return;
        }
    };
    let plugin = &plugins[0];
    let hook = plugin.table.before_upstream_connection();
    let fields = [FieldSlot {
        name: RStr::from("Accept"),
        value: RSlice::from_slice(b"*/*"),
    }; 12];
    let request = request_view(&fields);
    let mut exchange = exchange_view(&request);
    c.bench_function("plugin_call/filter_by_upstream_host", |bencher| {
        bencher.iter(|| {
            // SAFETY: the plugin keeps no state, and the view outlives the call.
            let answer = unsafe { hook(plugin.object, ptr::null_mut(), &raw mut exchange) };
            assert_eq!(answer, code::PROCEED);
        });
    });
}

fn load_plugin() -> Result<Vec<LoadedPlugin>, Box<dyn std::error::Error>> {
    // Benches run from target/PROFILE/deps; libraries are one directory up.
    let dirs: Vec<PathBuf> = std::env::current_exe()?
        .ancestors()
        .skip(1)
        .take(2)
        .map(PathBuf::from)
        .collect();
    let spec = PluginSpec::parse(PLUGIN)?;
    let request = LoadRequest {
        spec,
        config: String::new(),
        config_origin: "the bench".to_owned(),
    };
    Ok(load(&[request], &dirs, HOST_TABLE)?)
}

fn request_view(fields: &[FieldSlot]) -> RequestView {
    RequestView {
        method: RStr::from("GET"),
        target: RStr::from("http://www.example.com/"),
        scheme: RStr::from("http"),
        host: RStr::from("www.example.com"),
        path: RStr::from("/"),
        port: 80,
        version: 11,
        fields: fields.as_ptr(),
        field_count: fields.len(),
        reserved: [0; 4],
    }
}

fn exchange_view(request: &RequestView) -> ExchangeView {
    ExchangeView {
        host: ptr::null_mut(),
        callbacks: CALLBACKS,
        request,
        response: ptr::null(),
        upstream_host: request.host,
        upstream_port: request.port,
        hook: 0,
        connection_id: 1,
        exchange_id: 1,
        client: Address {
            ip: [0; 16],
            port: 0,
            family: 0,
            reserved: 0,
        },
        reserved: [0; 4],
    }
}

const HOST_TABLE: HostTableRef = HostTableRef(Tables::HOST.as_prefix());
const CALLBACKS: ExchangeCallbacksRef = ExchangeCallbacksRef(Tables::EXCHANGE.as_prefix());

/// A host that refuses every edit and logs nothing: the measured hook asks for neither.
struct Tables;

impl Tables {
    staticref!(const HOST: WithMetadata<HostTable> = WithMetadata::new(HostTable { log_enabled, log }));
    staticref!(const EXCHANGE: WithMetadata<ExchangeCallbacks> = WithMetadata::new(ExchangeCallbacks {
        set_field: edit_field,
        append_field: edit_field,
        remove_field,
        set_path: edit_text,
        set_status: edit_number_and_text,
        set_upstream: edit_text_and_number,
        reply: edit_number_and_text,
        reply_field: edit_pair,
        reply_body: edit_bytes,
        emit_chunk: edit_bytes,
        add_log_field: edit_texts,
        fail: edit_nothing,
    }));
}

unsafe extern "C" fn log_enabled(_: u32) -> u32 {
    0
}
unsafe extern "C" fn log(_: u32, _: RStr<'_>, _: RStr<'_>, _: RStr<'_>, _: u32) {}
unsafe extern "C" fn edit_field(_: *mut c_void, _: u32, _: RStr<'_>, _: RSlice<'_, u8>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn remove_field(_: *mut c_void, _: u32, _: RStr<'_>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_text(_: *mut c_void, _: RStr<'_>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_number_and_text(_: *mut c_void, _: u32, _: RStr<'_>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_text_and_number(_: *mut c_void, _: RStr<'_>, _: u32) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_pair(_: *mut c_void, _: RStr<'_>, _: RSlice<'_, u8>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_bytes(_: *mut c_void, _: RSlice<'_, u8>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_texts(_: *mut c_void, _: RStr<'_>, _: RStr<'_>) -> u32 {
    edit::STALE
}
unsafe extern "C" fn edit_nothing(_: *mut c_void, _: u32, _: RStr<'_>) {}

criterion_group!(benches, plugin_call);
criterion_main!(benches);
