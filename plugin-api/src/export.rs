//! Exports the plugins of a library: one symbol, which leads to a list of declarations.
//!
//! It is the symbol that abi_stable looks for, but spelled out, so that the author's crate does not depend on
//! abi_stable.
#![expect(
    unsafe_code,
    reason = "hands functions and statics across the boundary"
)]

use crate::abi::{
    API_MAJOR, API_MINOR, HostTableRef, PluginDeclaration, PluginDeclarationRef, PluginLibrary,
    PluginLibraryRef, kind,
};
use crate::log_origin::{self, Library};
use crate::note::Note;
use crate::{
    BodyMode, Filter, Protocol, Subscriber, WebRoutes, adapter, guard, host, protocol, subscriber,
    web,
};
use abi_stable::library::{RootModuleError, RootModuleResult};
use abi_stable::prefix_type::{PrefixRefTrait, PrefixTypeTrait};
use abi_stable::std_types::{ROption, RResult, RSlice, RStr};

/// Exports the plugins of a `cdylib` crate to the proxy. Used once per library.
///
/// Takes types that implement [`Filter`](crate::Filter), then those that implement [`Subscriber`](crate::Subscriber),
/// [`Protocol`](crate::Protocol) and [`WebRoutes`](crate::WebRoutes), in this order. Each is listed under the name of
/// its type, or another one:
/// `export_plugins!(DenyHosts, rules::Rewrite as "Rewrite"; subscribers: Counter; protocols: Echo; web: Pages);`
#[macro_export]
macro_rules! export_plugins {
    (
        $($filter:ty $(as $name:literal)?),* $(,)?
        $(; subscribers: $($subscriber:ty $(as $subscriber_name:literal)?),+ $(,)?)?
        $(; protocols: $($protocol:ty $(as $protocol_name:literal)?),+ $(,)?)?
        $(; web: $($web:ty $(as $web_name:literal)?),+ $(,)?)?
        $(;)?
    ) => {
        const _: () = {
            unsafe extern "C" fn plugins()
            -> $crate::abi_stable::std_types::RSlice<'static, $crate::abi::PluginDeclarationRef> {
                static PLUGINS: &[$crate::abi::PluginDeclarationRef] = &[
                    $($crate::plugin_declaration!(
                        $crate::private::filter::<$filter>,
                        $crate::plugin_name!($filter $(, $name)?)
                    ),)*
                    $($($crate::plugin_declaration!(
                        $crate::private::subscriber::<$subscriber>,
                        $crate::plugin_name!($subscriber $(, $subscriber_name)?)
                    ),)+)?
                    $($($crate::plugin_declaration!(
                        $crate::private::protocol::<$protocol>,
                        $crate::plugin_name!($protocol $(, $protocol_name)?)
                    ),)+)?
                    $($($crate::plugin_declaration!(
                        $crate::private::web::<$web>,
                        $crate::plugin_name!($web $(, $web_name)?)
                    ),)+)?
                ];
                $crate::abi_stable::std_types::RSlice::from_slice(PLUGINS)
            }

            extern "C" fn root() -> $crate::abi_stable::library::RootModuleResult {
                static LIBRARY: $crate::private::Library = $crate::private::Library {
                    name: ::core::env!("CARGO_PKG_NAME"),
                    plugins: &[
                        $((::core::any::type_name::<$filter>, $crate::plugin_name!($filter $(, $name)?)),)*
                        $($((
                            ::core::any::type_name::<$subscriber>,
                            $crate::plugin_name!($subscriber $(, $subscriber_name)?)
                        ),)+)?
                        $($((
                            ::core::any::type_name::<$protocol>,
                            $crate::plugin_name!($protocol $(, $protocol_name)?)
                        ),)+)?
                        $($((
                            ::core::any::type_name::<$web>,
                            $crate::plugin_name!($web $(, $web_name)?)
                        ),)+)?
                    ],
                };
                $crate::private::root(plugins, &NOTE, &LIBRARY)
            }

            // SAFETY: the name is that of `abi::EXPORT`, and abi_stable expects this static under it.
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
                ";plugins="
                $(, $crate::plugin_name!($filter $(, $name)?), ",")*
                $($(, $crate::plugin_name!($subscriber $(, $subscriber_name)?), ",")+)?
                $($(, $crate::plugin_name!($protocol $(, $protocol_name)?), ",")+)?
                $($(, $crate::plugin_name!($web $(, $web_name)?), ",")+)?,
                ";",
            );
            // Referenced by the exported symbol, because some linkers drop what is only `#[used]`.
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
    ($declare:expr, $name:expr) => {{
        struct Declared;
        impl Declared {
            $crate::abi_stable::staticref!(
                const DECLARATION: $crate::abi_stable::prefix_type::WithMetadata<
                    $crate::abi::PluginDeclaration,
                > = $crate::abi_stable::prefix_type::WithMetadata::new($declare(
                    $crate::private::checked_name($name),
                    ::core::env!("CARGO_PKG_VERSION"),
                    ::core::env!("CARGO_PKG_DESCRIPTION"),
                ))
            );
        }
        $crate::abi::PluginDeclarationRef(Declared::DECLARATION.as_prefix())
    }};
}

/// The declaration of a filter.
pub const fn filter<F: Filter>(
    name: &'static str,
    version: &'static str,
    description: &'static str,
) -> PluginDeclaration {
    PluginDeclaration {
        config_schema: RStr::from_str(F::CONFIG_SCHEMA),
        hooks: F::HOOKS.bits(),
        async_hooks: F::ASYNC_HOOKS.bits(),
        needs_state: adapter::needs_state::<F>() as u32,
        needs_connection_state: adapter::needs_connection_state::<F>() as u32,
        client_body: F::CLIENT_BODY.0,
        upstream_body: F::UPSTREAM_BODY.0,
        kind: kind::FILTER,
        filter: ROption::RSome(adapter::Table::<F>::REF),
        ..bare(name, version, description)
    }
}

/// The declaration of a subscriber.
pub const fn subscriber<S: Subscriber>(
    name: &'static str,
    version: &'static str,
    description: &'static str,
) -> PluginDeclaration {
    PluginDeclaration {
        config_schema: RStr::from_str(S::CONFIG_SCHEMA),
        kind: kind::SUBSCRIBER,
        subscriber: ROption::RSome(subscriber::Table::<S>::REF),
        ..bare(name, version, description)
    }
}

/// The declaration of a protocol.
pub const fn protocol<P: Protocol>(
    name: &'static str,
    version: &'static str,
    description: &'static str,
) -> PluginDeclaration {
    PluginDeclaration {
        config_schema: RStr::from_str(P::CONFIG_SCHEMA),
        kind: kind::PROTOCOL,
        protocol: ROption::RSome(protocol::Table::<P>::REF),
        ..bare(name, version, description)
    }
}

/// The declaration of a plugin with routes.
pub const fn web<W: WebRoutes>(
    name: &'static str,
    version: &'static str,
    description: &'static str,
) -> PluginDeclaration {
    PluginDeclaration {
        config_schema: RStr::from_str(W::CONFIG_SCHEMA),
        kind: kind::WEB,
        web: ROption::RSome(web::Table::<W>::REF),
        ..bare(name, version, description)
    }
}

const fn bare(
    name: &'static str,
    version: &'static str,
    description: &'static str,
) -> PluginDeclaration {
    PluginDeclaration {
        name: RStr::from_str(name),
        version: RStr::from_str(version),
        description: RStr::from_str(description),
        config_schema: RStr::from_str(""),
        hooks: 0,
        async_hooks: 0,
        needs_state: 0,
        needs_connection_state: 0,
        client_body: BodyMode::SKIP.0,
        upstream_body: BodyMode::SKIP.0,
        kind: 0,
        filter: ROption::RNone,
        subscriber: ROption::RNone,
        protocol: ROption::RNone,
        web: ROption::RNone,
    }
}

/// The root of a library with these plugins.
pub fn root<const N: usize>(
    plugins: unsafe extern "C" fn() -> RSlice<'static, PluginDeclarationRef>,
    note: &'static Note<N>,
    library: &'static Library,
) -> RootModuleResult {
    log_origin::set_library(library);
    let made = guard::guarded(|| {
        let library = PluginLibrary {
            api_major: API_MAJOR,
            api_minor: API_MINOR,
            panic_unwind: cfg!(panic = "unwind").into(),
            debug_build: cfg!(debug_assertions).into(),
            rustc: env!("PLUGIN_API_RUSTC").into(),
            target: env!("PLUGIN_API_TARGET").into(),
            init,
            plugins,
            // SAFETY: a note is bytes from its first to its last.
            note: unsafe {
                RSlice::from_raw_parts(std::ptr::from_ref(note).cast(), size_of_val(note))
            },
        };
        let library: PluginLibraryRef = library.leak_into_prefix();
        // SAFETY: abi_stable carries every root module as this opaque type and checks its layout separately.
        unsafe { library.to_prefix_ref().cast() }
    });
    made.map_or(RResult::RErr(RootModuleError::Unwound), RResult::ROk)
}

/// Returns `name` if it is valid after the colon of `library:Name`; otherwise the library does not compile.
pub const fn checked_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        assert!(
            bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_',
            "the name of a plugin may contain letters, digits and underscores: `export_plugins!(path::Type as \
             \"Name\")`"
        );
        at += 1;
    }
    name
}

unsafe extern "C" fn init(table: HostTableRef) -> u32 {
    let ready = guard::guarded(|| {
        host::connect(table);
        guard::watch();
        #[cfg(any(feature = "log", feature = "tracing"))]
        crate::log::crates::install();
    });
    ready.is_err().into()
}
