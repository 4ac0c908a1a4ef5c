//! Writes a copy of every response, and of the bytes received through tunnels, to files.
//!
//! ```toml
//! [[plugins]]
//! library = "libcache_responses.so"
//! name = "CacheResponses"
//! config = { directory = "/var/tmp/responses", prefix = "", max_file = 67108864, max_waiting = 16777216 }
//! ```
//!
//! ```text
//! the client gets: HTTP/1.1 200 OK       …/httpbin.org-1569378301.407512.txt has: HTTP/1.1 200 OK
//!                  Content-Length: 3                                              Content-Length: 3
//!
//!                  abc                                                            abc
//! ```
//!
//! A response is stored as this plugin sees it: with the edits of the plugins before it, and in its content coding. A
//! tunnel is stored as the upstream sent it, which is usually encrypted; if it is intercepted, its responses are stored.
//! The files are for inspection; the proxy never serves them. Incomplete responses leave no file. A file is named after
//! the host of the request; inside a tunnel to an address, after the address unless the certificate of the upstream
//! proves that host. A second plugin, `CacheTunnels`, does the same for tunnels only. A separate thread writes the
//! files: no exchange waits for the disk, and a response that arrives faster than the disk can write is not stored.

mod config;
mod recording;
mod rule;
#[cfg(test)]
mod scratch;
mod writer;

use config::Config;
use plugin_api::prelude::*;
use recording::{Recorder, Recording};
use rule::{has_content, head, shown};

/// Stores responses, and the bytes that upstreams send through tunnels that are not intercepted.
struct CacheResponses {
    recorder: Recorder,
}

/// The state of one exchange: its file, if any.
#[derive(Default)]
struct ExchangeFile {
    recording: Option<Recording>,
    /// It contains the bytes of a tunnel, which has no other end than its own.
    is_tunnel: bool,
}

#[filter]
impl Filter for CacheResponses {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    const UPSTREAM_BODY: BodyMode = BodyMode::WATCH;
    type Config = Config;
    type State = ExchangeFile;

    fn new(config: Config) -> Result<Self, Error> {
        let recorder = Recorder::new(config)?;
        Ok(Self { recorder })
    }

    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let request = exchange.request();
        if let Some(response) = exchange.response() {
            // A server at an address must not be stored under the host that the client claims.
            let host = match exchange.upstream().is_redirected() {
                true => request.host(),
                false => exchange.proven_host(),
            };
            let mut recording = self.recorder.begin(host, head(response));
            if !has_content(request, response) {
                recording.finish();
            }
            exchange.state.recording = Some(recording);
        }
        proceed()
    }

    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        if let Some(recording) = &mut exchange.state.recording {
            recording.append(chunk);
            if end {
                recording.finish();
            }
        }
        Ok(Chunk::Pass)
    }

    fn handle_tunnel_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        from: Direction,
        chunk: &[u8],
    ) -> ChunkOutcome {
        store_tunnel(&self.recorder, exchange, from, chunk);
        Ok(Chunk::Pass)
    }

    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        conclude(exchange)
    }
}

/// Stores what upstreams send through tunnels, and no responses.
struct CacheTunnels {
    recorder: Recorder,
}

#[filter]
impl Filter for CacheTunnels {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;
    type State = ExchangeFile;

    fn new(config: Config) -> Result<Self, Error> {
        let recorder = Recorder::new(config)?;
        Ok(Self { recorder })
    }

    fn handle_tunnel_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        from: Direction,
        chunk: &[u8],
    ) -> ChunkOutcome {
        store_tunnel(&self.recorder, exchange, from, chunk);
        Ok(Chunk::Pass)
    }

    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        conclude(exchange)
    }
}

/// Adds bytes from the upstream, without decoding them.
fn store_tunnel<F: Filter<State = ExchangeFile>>(
    recorder: &Recorder,
    exchange: &mut Exchange<'_, F>,
    from: Direction,
    chunk: &[u8],
) {
    if from == Direction::Client {
        return;
    }
    if !exchange.state.is_tunnel {
        let recording = recorder.begin(exchange.request().host(), Vec::new());
        *exchange.state = ExchangeFile {
            recording: Some(recording),
            is_tunnel: true,
        };
    }
    if let Some(recording) = &mut exchange.state.recording {
        recording.append(chunk);
    }
}

/// Adds the file's name to the access log line of the exchange.
fn conclude<F: Filter<State = ExchangeFile>>(exchange: &mut Exchange<'_, F>) -> LogLine {
    let ExchangeFile {
        recording,
        is_tunnel,
    } = &mut *exchange.state;
    // A tunnel has no framing, so everything that arrived is its content.
    if let Some(recording) = recording.as_mut().filter(|_| *is_tunnel) {
        recording.finish();
    }
    let file = recording.as_ref().and_then(Recording::file).map(shown);
    if let Some(file) = file {
        exchange.add_log_field("cache_file", file);
    }
    LogLine::Write
}

export_plugins!(CacheResponses, CacheTunnels);

#[cfg(test)]
mod tests {
    use super::{CacheResponses, CacheTunnels};
    use crate::scratch::Scratch;
    use plugin_api::testing::{configured, get, request};
    use plugin_api::{Direction, Filter};

    fn recording_to(scratch: &Scratch, more: &str) -> CacheResponses {
        configured(&(scratch.table() + more)).unwrap()
    }

    #[test]
    fn a_response_is_stored_with_its_head() {
        let scratch = Scratch::new();
        let filter = recording_to(&scratch, "prefix = 'seen-'");
        let mut run = get("http://httpbin.org/get").run(&filter);
        let fields = [("Server", "nginx"), ("Transfer-Encoding", "chunked")];
        assert!(run.response(404, &fields).is_ok());
        assert_eq!(run.chunk(b"not ", false).unwrap(), b"not ");
        assert_eq!(run.chunk(b"here", true).unwrap(), b"here");
        run.access_log().unwrap();
        let (key, logged) = run.log_fields()[0].clone();
        drop(run);
        drop(filter);
        let (name, content) = scratch.only_file();
        assert_eq!(content, b"HTTP/1.1 404 \r\nServer: nginx\r\n\r\nnot here");
        assert!(name.starts_with("seen-httpbin.org-") && name.ends_with(".txt"));
        assert_eq!(key, "cache_file");
        assert!(logged.ends_with(&name), "{logged}");
    }

    #[test]
    fn a_response_without_content_is_stored_at_once() {
        for (method, status, fields) in [
            ("HEAD", 200, [("Content-Length", "9")]),
            ("GET", 304, [("ETag", "\"x\"")]),
            ("GET", 200, [("Content-Length", "0")]),
        ] {
            let scratch = Scratch::new();
            let filter = recording_to(&scratch, "");
            let mut run = request(method, "http://a.example/").run(&filter);
            assert!(run.response(status, &fields).is_ok());
            drop(run);
            drop(filter);
            let (_, content) = scratch.only_file();
            assert!(content.ends_with(b"\r\n\r\n"), "{method} {status}");
        }
    }

    #[test]
    fn a_response_that_breaks_off_leaves_no_file() {
        let scratch = Scratch::new();
        let filter = recording_to(&scratch, "");
        let mut run = get("http://a.example/").run(&filter);
        assert!(run.response(200, &[("Content-Length", "9")]).is_ok());
        run.chunk(b"part", false).unwrap();
        run.access_log().unwrap();
        assert_eq!(run.log_fields(), []);
        drop(run);
        drop(filter);
        assert_eq!(scratch.names(), [""; 0]);
    }

    #[test]
    fn a_response_above_a_limit_leaves_no_file() {
        for limit in ["max_file = 40", "max_waiting = 170"] {
            let scratch = Scratch::new();
            let filter = recording_to(&scratch, limit);
            let mut run = get("http://a.example/").run(&filter);
            assert!(run.response(200, &[]).is_ok());
            let long = [b'x'; 100];
            assert_eq!(run.chunk(&long, false).unwrap(), long);
            assert_eq!(run.chunk(b"", true).unwrap(), b"");
            run.access_log().unwrap();
            assert_eq!(run.log_fields(), [], "{limit}");
            drop(run);
            drop(filter);
            assert_eq!(scratch.names(), [""; 0], "{limit}");
        }
    }

    #[test]
    fn concurrent_responses_get_separate_files() {
        let scratch = Scratch::new();
        let filter = recording_to(&scratch, "");
        for _ in 0..20 {
            let mut run = get("http://a.example/").run(&filter);
            assert!(run.response(204, &[]).is_ok());
        }
        drop(filter);
        assert_eq!(scratch.names().len(), 20);
    }

    #[test]
    fn a_tunnel_is_stored_as_the_upstream_sent_it() {
        assert_stores_tunnels::<CacheTunnels>();
        assert_stores_tunnels::<CacheResponses>();
    }

    fn assert_stores_tunnels<F: Filter>() {
        let scratch = Scratch::new();
        let filter: F = configured(&scratch.table()).unwrap();
        let mut run = request("CONNECT", "a.example:443").run(&filter);
        for (from, bytes) in [
            (Direction::Client, b"hello"),
            (Direction::Upstream, b"\x16\x03\x01ab"),
            (Direction::Client, b"again"),
            (Direction::Upstream, b"\x17\x03\x01cd"),
        ] {
            assert_eq!(run.tunnel_chunk(from, bytes).unwrap(), bytes);
        }
        run.access_log().unwrap();
        assert_eq!(run.log_fields().len(), 1);
        drop(run);
        drop(filter);
        let (name, content) = scratch.only_file();
        assert!(name.starts_with("a.example-"), "{name}");
        assert_eq!(content, b"\x16\x03\x01ab\x17\x03\x01cd");
    }

    #[test]
    fn a_tunnel_without_an_answer_leaves_no_file() {
        let scratch = Scratch::new();
        let filter: CacheTunnels = configured(&scratch.table()).unwrap();
        let mut run = request("CONNECT", "a.example:443").run(&filter);
        run.tunnel_chunk(Direction::Client, b"hello").unwrap();
        run.access_log().unwrap();
        assert_eq!(run.log_fields(), []);
        drop(run);
        drop(filter);
        assert_eq!(scratch.names(), [""; 0]);
    }

    #[test]
    fn refuses_settings_that_would_store_nothing() {
        for (table, reason) in [
            (
                "directory = '/no/such/place'",
                "directory: `/no/such/place` is not a directory",
            ),
            (
                "prefix = '../a'",
                "prefix: `../a` is not the beginning of a file name",
            ),
            ("max_file = 0", "max_file: must be greater than 0"),
            ("max_waiting = 0", "max_waiting: must be greater than 0"),
            (
                "dir = '/tmp'",
                "unknown field `dir`, expected one of `directory`, `prefix`, `max_file`, `max_waiting`",
            ),
        ] {
            let refused = configured::<CacheResponses>(table).err().unwrap();
            assert_eq!(refused.message(), reason);
        }
    }
}
