//! The exports of a library: its root, and a declaration for each of its plugins.

use super::web::WebTableRef;
use super::{BodyMode, FilterTableRef, HostTableRef, ProtocolTableRef, SubscriberTableRef};
use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr};

/// A plugin of a library, before it is configured.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginDeclarationRef)))]
pub struct PluginDeclaration {
    /// The name after the colon of `library:Name`; unique in its library.
    pub name: RStr<'static>,
    /// The version of its crate.
    pub version: RStr<'static>,
    /// The description of its crate, possibly empty.
    pub description: RStr<'static>,
    /// JSON Schema of its configuration, possibly empty.
    pub config_schema: RStr<'static>,
    /// The [`hook`](super::hook) bits to call.
    pub hooks: u64,
    /// Those of them that may answer PENDING.
    pub async_hooks: u64,
    /// 0: pass a null state and never call `state_new`.
    pub needs_state: u32,
    /// 0: pass a null connection state and never call `connection_new`.
    pub needs_connection_state: u32,
    /// Its default mode for request bodies.
    pub client_body: BodyMode,
    /// Its default mode for response bodies.
    pub upstream_body: BodyMode,
    /// A value of [`kind`](super::kind): which of the tables it has. The entries from `hooks` to here apply to filters
    /// only.
    pub kind: u32,
    /// A filter's functions.
    pub filter: ROption<FilterTableRef>,
    /// A subscriber's functions.
    pub subscriber: ROption<SubscriberTableRef>,
    /// A protocol's functions.
    pub protocol: ROption<ProtocolTableRef>,
    /// The functions of a plugin with routes.
    #[sabi(last_prefix_field)]
    pub web: ROption<WebTableRef>,
    // Other kinds of plugin get their own tables, as optional fields below the last one of the released version.
}

/// The root of a library.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginLibraryRef)))]
pub struct PluginLibrary {
    /// [`API_MAJOR`](super::API_MAJOR) of the library's plugin-api.
    pub api_major: u16,
    /// [`API_MINOR`](super::API_MINOR) of the library's plugin-api.
    pub api_minor: u16,
    /// 1 if a panic can be caught, 0 if it ends the process.
    pub panic_unwind: u16,
    /// 1 if built with debug assertions.
    pub debug_build: u16,
    /// `rustc --version` of the build.
    pub rustc: RStr<'static>,
    /// Target triple of the build.
    pub target: RStr<'static>,
    /// Called once, before anything else; 0 means success.
    pub init: unsafe extern "C" fn(HostTableRef) -> u32,
    /// The plugins of the library.
    #[sabi(last_prefix_field)]
    pub plugins: unsafe extern "C" fn() -> RSlice<'static, PluginDeclarationRef>,
    /// The text that identifies the library before it is loaded. Referenced here so that no linker drops it.
    pub note: RSlice<'static, u8>,
}

impl RootModule for PluginLibraryRef {
    abi_stable::declare_root_module_statics! {PluginLibraryRef}
    const BASE_NAME: &'static str = "proxy_plugin";
    const NAME: &'static str = "proxy_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}
