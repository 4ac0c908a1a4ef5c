//! Small tools for plugins that talk to somebody themselves.

pub mod websocket;

pub use websocket::FrameError;
