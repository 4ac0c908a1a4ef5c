//! Write a filter for the proxy: a trait, an attribute and a macro, over a stable binary interface.

pub mod abi;
