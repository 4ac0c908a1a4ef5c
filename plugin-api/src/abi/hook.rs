//! One bit per hook, in the order in which they are called; the mask of a declaration tells the host which hooks to
//! call.
//!
//! They are the rows of the contract's table.

pub use plugin_contract::hook::{Hook, Kind, NAMES, Permission};

macro_rules! bits {
    ($($(#[$doc:meta])* $hook:ident $constant:ident $function:ident: $kind:ident $(($twin:ident))? [$($may:ident)*])+) => {
        $($(#[$doc])* pub const $constant: u64 = Hook::$hook.bit();)+
    };
}

plugin_contract::hooks!(bits);
