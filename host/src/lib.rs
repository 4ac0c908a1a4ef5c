//! Placeholder.
pub mod config;
pub mod telemetry;
pub mod cli;
pub mod open_files;
pub mod pid_file;
