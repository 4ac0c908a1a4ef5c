//! What the proxy answers to requests that are for itself.

pub mod pac;
