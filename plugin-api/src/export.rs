//! How a library shows its plugins: one symbol, which leads to a list of declarations.
//!
//! The symbol is the one abi_stable looks for, but written out, so that an author's crate need not depend on
//! abi_stable itself.
#![expect(
    unsafe_code,
    reason = "hands functions and statics across the boundary"
)]

use crate::abi::{
    API_MAJOR, API_MINOR, HostTableRef, PluginDeclarationRef, PluginLibrary, PluginLibraryRef,
};
use crate::{guard, host};
use abi_stable::library::RootModuleResult;
use abi_stable::prefix_type::{PrefixRefTrait, PrefixTypeTrait};
use abi_stable::std_types::{RResult, RSlice};

/// Makes the plugins of a `cdylib` crate known to the proxy.
///
/// Takes types that implement [`Filter`](crate::Filter). Each is listed under its own name, or another one:
/// `export_plugins!(DenyHosts, rules::Rewrite as "Rewrite");`. Once per library.
#[macro_export]
macro_rules! export_plugins {
    ($($filter:ty $(as $name:literal)?),+ $(,)?) => {
        const _: () = {
            unsafe extern "C" fn plugins()
            -> $crate::abi_stable::std_types::RSlice<'static, $crate::abi::PluginDeclarationRef> {
                static PLUGINS: &[$crate::abi::PluginDeclarationRef] =
                    &[$($crate::plugin_declaration!($filter, $crate::plugin_name!($filter $(, $name)?))),+];
                $crate::abi_stable::std_types::RSlice::from_slice(PLUGINS)
            }

            extern "C" fn root() -> $crate::abi_stable::library::RootModuleResult {
                $crate::private::root(plugins)
            }

            // SAFETY: the name is that of `abi::EXPORT`, the static is what abi_stable expects behind it.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: $crate::abi_stable::library::LibHeader = unsafe {
                $crate::abi_stable::library::LibHeader::from_constructor::<$crate::abi::PluginLibraryRef>(
                    root,
                    $crate::abi_stable::library::CheckTypeLayout::Yes,
                )
            };

            const TEXT: &str = ::core::concat!(
                "proxy-plugin-note:crate=", ::core::env!("CARGO_PKG_NAME"),
                ";version=", ::core::env!("CARGO_PKG_VERSION"),
                ";plugins=" $(, $crate::plugin_name!($filter $(, $name)?), ",")+, ";",
            );
            #[used]
            static NOTE: $crate::private::Note<{ TEXT.len() }> = $crate::private::Note::new(TEXT);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! plugin_name {
    ($filter:ty) => {
        ::core::stringify!($filter)
    };
    ($filter:ty, $name:literal) => {
        $name
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! plugin_declaration {
    ($filter:ty, $name:expr) => {{
        struct Declared;
        impl Declared {
            $crate::abi_stable::staticref!(
                const DECLARATION: $crate::abi_stable::prefix_type::WithMetadata<
                    $crate::abi::PluginDeclaration,
                > = $crate::abi_stable::prefix_type::WithMetadata::new(
                    $crate::abi::PluginDeclaration {
                        name: $crate::abi_stable::std_types::RStr::from_str(
                            $crate::private::checked_name($name),
                        ),
                        version: $crate::abi_stable::std_types::RStr::from_str(::core::env!(
                            "CARGO_PKG_VERSION"
                        )),
                        description: $crate::abi_stable::std_types::RStr::from_str(::core::env!(
                            "CARGO_PKG_DESCRIPTION"
                        )),
                        config_schema: $crate::abi_stable::std_types::RStr::from_str(
                            <$filter as $crate::Filter>::CONFIG_SCHEMA,
                        ),
                        hooks: <$filter as $crate::Filter>::HOOKS.bits(),
                        async_hooks: <$filter as $crate::Filter>::ASYNC_HOOKS.bits(),
                        needs_state: $crate::private::needs_state::<$filter>() as u32,
                        needs_connection_state: $crate::private::needs_connection_state::<$filter>() as u32,
                        client_body: $crate::private::raw_mode(<$filter as $crate::Filter>::CLIENT_BODY),
                        upstream_body: $crate::private::raw_mode(<$filter as $crate::Filter>::UPSTREAM_BODY),
                        filter: $crate::private::Table::<$filter>::REF,
                    },
                )
            );
        }
        $crate::abi::PluginDeclarationRef(Declared::DECLARATION.as_prefix())
    }};
}

/// The root of a library with these plugins.
pub fn root(
    plugins: unsafe extern "C" fn() -> RSlice<'static, PluginDeclarationRef>,
) -> RootModuleResult {
    let library = PluginLibrary {
        api_major: API_MAJOR,
        api_minor: API_MINOR,
        panic_unwind: cfg!(panic = "unwind").into(),
        debug_build: cfg!(debug_assertions).into(),
        rustc: env!("PLUGIN_API_RUSTC").into(),
        target: env!("PLUGIN_API_TARGET").into(),
        init,
        plugins,
    };
    let library: PluginLibraryRef = library.leak_into_prefix();
    // SAFETY: abi_stable carries every root module as this opaque type and checks its layout separately.
    RResult::ROk(unsafe { library.to_prefix_ref().cast() })
}

/// `name`, if it can stand behind the colon of `library:Name`; otherwise the library does not compile.
pub const fn checked_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        assert!(
            bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_',
            "a plugin's name is letters, digits and underscores: `export_plugins!(path::Type as \"Name\")`"
        );
        at += 1;
    }
    name
}

unsafe extern "C" fn init(table: HostTableRef) -> u32 {
    let ready = guard::guarded(|| {
        host::connect(table);
        guard::watch();
    });
    ready.is_err().into()
}
