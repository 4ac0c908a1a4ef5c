//! Records exchanges as an HTTP Archive, which browsers and many tools can open.
//!
//! ```toml
//! [[plugins]]
//! library = "librecord_har.so"
//! name = "RecordHar"
//! config = { file = "proxy.har" }   # the default
//! ```
//!
//! ```text
//! {"log":{"version":"1.2","creator":{…},"entries":[
//! {"startedDateTime":"2026-01-02T03:04:05.678Z","time":12.5,"request":{"method":"GET","url":"http://…
//! ]}}
//! ```
//!
//! Requests are recorded as clients sent them, before plugins change them in `handle_client_request`; responses as they
//! arrive from the upstream, with the changes of the plugins listed before this one. Bodies are forwarded unchanged, and
//! their beginning is copied. The times are the proxy's. The content of requests and of tunnels is not recorded; in an intercepted tunnel, each
//! request has its own entry.

mod archive;
mod config;
mod har;
mod recording;
mod redaction;
mod spans;

use archive::Archive;
use config::Config;
use har::Finished;
use plugin_api::AnsweredBy;
use plugin_api::prelude::*;
use recording::Recording;
use redaction::Redaction;
use spans::Spans;

struct RecordHar {
    archive: Archive,
    redaction: Redaction,
    max_body: usize,
}

#[filter]
impl Filter for RecordHar {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    const UPSTREAM_BODY: BodyMode = BodyMode::WATCH;
    type Config = Config;
    type State = Recording;

    fn new(config: Config) -> Result<Self, Error> {
        let queue_len = config.queue_len()?;
        Ok(Self {
            redaction: Redaction::new(config.redact_fields)?,
            archive: Archive::start(config.file, queue_len)?,
            max_body: config.max_body,
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        self.note_heads(exchange);
        proceed()
    }

    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        self.note_heads(exchange);
        proceed()
    }

    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        exchange.state.content.add(chunk, end, self.max_body);
        Ok(Chunk::Pass)
    }

    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        // An earlier plugin may have answered before this one was called.
        self.note_heads(exchange);
        self.note_own_answer(exchange);
        let server_ip = exchange.upstream_address().map(|address| address.ip());
        let spans = exchange.summary().map(Spans::of).unwrap_or_default();
        let recording = std::mem::take(exchange.state);
        self.archive.put(Finished {
            spans,
            recording,
            connection_id: exchange.connection_id(),
            upstream_host: exchange.upstream().host().to_owned(),
            server_ip,
        });
        LogLine::Write
    }
}

impl RecordHar {
    /// Records the heads that are available and not recorded yet.
    fn note_heads(&self, exchange: &mut Exchange<'_, Self>) {
        let mut recording = std::mem::take(exchange.state);
        recording.note_request(exchange.request(), &self.redaction);
        if let Some(response) = exchange.response() {
            recording.note_response(response, &self.redaction);
        }
        *exchange.state = recording;
    }

    /// Records the answer of a plugin or of the proxy, even if it replaced that of the upstream.
    fn note_own_answer(&self, exchange: &mut Exchange<'_, Self>) {
        let mut recording = std::mem::take(exchange.state);
        if let (Some(summary), Some(response)) = (exchange.summary(), exchange.response())
            && let AnsweredBy::Plugin(_) | AnsweredBy::Proxy(_) = summary.answered_by()
        {
            recording.replace_response(response, &self.redaction);
        }
        *exchange.state = recording;
    }
}

export_plugins!(RecordHar);

#[cfg(test)]
mod tests {
    use super::RecordHar;
    use plugin_api::AnsweredBy;
    use plugin_api::testing::{configured, get, request};
    use serde_json::Value;
    use std::fs;
    use std::time::Duration;

    /// Calls `play` with a filter; returns the entries that it recorded.
    fn recorded(name: &str, config: &str, play: impl FnOnce(&RecordHar)) -> Vec<Value> {
        let path = std::env::temp_dir().join(format!("har-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        let filter: RecordHar =
            configured(&format!("file = '{}'\n{config}", path.display())).unwrap();
        play(&filter);
        drop(filter);
        let mut har: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        match har["log"]["entries"].take() {
            Value::Array(entries) => entries,
            other => panic!("no entries but {other}"),
        }
    }

    #[test]
    fn records_both_heads_and_the_content() {
        let entries = recorded("whole", "", |filter| {
            let mut run = get("http://A.example:8080/x?q=1")
                .field("Cookie", "secret")
                .run(filter);
            let fields = [("Content-Type", "text/plain"), ("Location", "/y")];
            run.response(200, &fields);
            assert_eq!(run.chunk(b"hel", false).unwrap(), b"hel");
            assert_eq!(run.chunk(b"lo", true).unwrap(), b"lo");
            run.access_log().unwrap();
        });
        let [entry] = &entries[..] else {
            panic!("{entries:?}");
        };
        let (request, response) = (&entry["request"], &entry["response"]);
        assert_eq!(request["method"], "GET");
        assert_eq!(request["url"], "http://a.example:8080/x?q=1");
        assert_eq!(request["queryString"][0]["name"], "q");
        assert_eq!(request["headers"][1]["value"], "[redacted]");
        assert_eq!(response["status"], 200);
        assert_eq!(response["redirectURL"], "/y");
        assert_eq!(response["content"]["text"], "hello");
        assert_eq!(response["content"]["mimeType"], "text/plain");
        assert_eq!(response["bodySize"], 5);
        assert_eq!(response.get("comment"), None);
        let timings = &entry["timings"];
        let sum: f64 = ["blocked", "send", "wait", "receive"]
            .iter()
            .map(|&name| timings[name].as_f64().unwrap())
            .sum();
        assert!((sum - entry["time"].as_f64().unwrap()).abs() < 0.01);
    }

    #[test]
    fn records_requests_without_response() {
        let entries = recorded("none", "", |filter| {
            request("CONNECT", "a.example:443")
                .run(filter)
                .access_log()
                .unwrap();
        });
        assert_eq!(entries[0]["request"]["url"], "a.example:443");
        assert_eq!(entries[0]["response"]["status"], 0);
    }

    #[test]
    fn records_answers_that_replace_the_upstreams() {
        let entries = recorded("replaced", "", |filter| {
            let mut run = get("http://a.example/").run(filter);
            run.response(200, &[("Content-Length", "5")]);
            run.chunk(b"hello", true).unwrap();
            run.response(403, &[("X-Own", "1")]);
            let by = AnsweredBy::Plugin("Other");
            run.end_as(Some(403), by, 20, 30, Duration::from_millis(1));
            run.set_upstream_address("192.0.2.7:80".parse().unwrap());
            run.access_log().unwrap();
        });
        let response = &entries[0]["response"];
        assert_eq!(response["status"], 403);
        assert_eq!(response["headers"][0]["name"], "X-Own");
        assert_eq!(response["content"]["size"], 0);
        assert_eq!(entries[0]["serverIPAddress"], "192.0.2.7");
    }

    #[test]
    fn truncates_content_and_marks_it() {
        let entries = recorded("cut", "max_body = 2\nredact_fields = []", |filter| {
            let mut run = get("http://a.example/")
                .field("Cookie", "shown")
                .run(filter);
            run.response(200, &[]);
            run.chunk(b"hello", false).unwrap();
            run.access_log().unwrap();
        });
        let response = &entries[0]["response"];
        assert_eq!(response["content"]["text"], "he");
        assert_eq!(
            response["content"]["comment"],
            "only the first 2 bytes were kept"
        );
        assert_eq!(response["comment"], "the response was cut off");
        assert_eq!(entries[0]["request"]["headers"][1]["value"], "shown");
    }

    #[test]
    fn a_queue_of_length_zero_prevents_startup() {
        let refused = configured::<RecordHar>("queue = 0").err().unwrap();
        assert_eq!(
            refused.message(),
            "queue: must be between 1 and 65536 exchanges"
        );
    }

    #[test]
    fn an_unusable_file_prevents_startup() {
        let refused = configured::<RecordHar>("file = '/no/such/directory/a.har'")
            .err()
            .unwrap();
        assert!(
            refused
                .message()
                .starts_with("file: cannot use /no/such/directory/a.har: ")
        );
    }
}
