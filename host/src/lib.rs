//! Placeholder.
pub mod config;
pub mod telemetry;
