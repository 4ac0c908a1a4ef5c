//! Filters by an author who renames the `plugin_api` dependency and logs with the usual crates.

#![forbid(unsafe_code)]

use filters_api::prelude::*;
use std::thread;

/// Answers every request.
#[derive(Deserialize)]
pub struct Answers {}

#[filter]
impl Filter for Answers {
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let path = exchange.request().path().to_owned();
        reply(Reply::new(200).body(format!("answered {path}")))
    }
}

/// Logs in a hook, in a task that outlives it, and on its own thread.
#[derive(Deserialize)]
pub struct Logs {}

#[filter]
impl Filter for Logs {
    async fn before_upstream_connection(&self, _: &mut Exchange<'_, Self>) -> Outcome {
        log::error!("log error");
        log::debug!("log debug");
        log::trace!("log trace");
        tracing::warn!(answer = 42, who = "me", "tracing warn");
        tracing::warn!(agent = "curl plugin=Answers", "tracing peer");
        tracing::debug!("tracing debug");
        tracing::info_span!("a span").in_scope(|| tracing::info!("tracing info"));
        filters_api::spawn(async { log::info!("log task") })?;
        filters_api::run_blocking(|| log::info!("log work")).await?;
        if thread::spawn(|| log::info!("log thread")).join().is_err() {
            return reject(500, "a thread panicked");
        }
        proceed()
    }
}

/// Logs as well; its lines carry its own name.
#[derive(Deserialize)]
pub struct LogsToo {}

#[filter]
impl Filter for LogsToo {
    fn on_access_log(&self, _: &mut Exchange<'_, Self>) -> LogLine {
        log::info!("at the end");
        LogLine::Write
    }
}

export_plugins!(Answers, Logs, LogsToo as "LogsAsWell");
