//! What is answered to requests that are for the proxy itself.

#[allow(
    dead_code,
    unused_imports,
    reason = "the router that asks for files is the next piece of the web server"
)]
pub(crate) mod files;
