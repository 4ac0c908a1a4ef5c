//! Replaces the content of chunked responses.
//!
//! ```toml
//! [[plugins]]
//! library = "libmodify_chunk_response.so"
//! name = "ModifyChunkResponse"
//! config = { chunks = ["modify", "chunk", "response", "plugin"] }   # the default
//! ```
//!
//! ```text
//! the origin answers: HTTP/1.1 200 OK                  the client gets: HTTP/1.1 200 OK
//!                     Transfer-Encoding: chunked                        Transfer-Encoding: chunked
//!
//!                     {"a": 1} …                                        modify⏎chunk⏎response⏎plugin⏎
//! ```
//!
//! Content is replaced as it streams and never buffered: the first piece becomes the new content, all further pieces are
//! dropped, and the response ends when the response of the origin does. Other responses are not affected.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::{OF_THE_OLD_CONTENT, is_chunked, lines};

struct ModifyChunkResponse {
    content: Vec<u8>,
}

#[derive(Default)]
struct ResponseState {
    /// The new content has been sent.
    is_replaced: bool,
}

#[filter]
impl Filter for ModifyChunkResponse {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    /// No body hook is called until the head shows that the response is chunked.
    const UPSTREAM_BODY: BodyMode = BodyMode::SKIP;
    type Config = Config;
    type State = ResponseState;

    fn new(config: Config) -> Result<Self, Error> {
        let content = lines(&config.chunks);
        Ok(Self { content })
    }

    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let Some(response) = exchange.response().filter(|head| is_chunked(*head)) else {
            return proceed();
        };
        let is_partial = response.status() == 206;
        exchange.set_upstream_body(BodyMode::STREAM)?;
        let mut response = exchange.response_mut();
        for name in OF_THE_OLD_CONTENT {
            response.remove(name)?;
        }
        if is_partial {
            response.set_status(200, "OK")?;
        }
        proceed()
    }

    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        _chunk: &[u8],
        _end: bool,
    ) -> ChunkOutcome {
        if exchange.state.is_replaced {
            return Ok(Chunk::Drop);
        }
        exchange.state.is_replaced = true;
        Ok(Chunk::replace(self.content.as_slice()))
    }
}

export_plugins!(ModifyChunkResponse);

#[cfg(test)]
mod tests {
    use super::ModifyChunkResponse;
    use plugin_api::BodyMode;
    use plugin_api::testing::{configured, get};

    const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

    #[test]
    fn the_first_piece_becomes_the_new_content() {
        let filter: ModifyChunkResponse = configured("").unwrap();
        let mut run = get("http://a.example/").run(&filter);
        run.response(200, &[CHUNKED]);
        assert_eq!(run.upstream_body_mode(), Some(BodyMode::STREAM));
        let first = run.chunk(b"{\"a\":", false).unwrap();
        assert_eq!(first, b"modify\nchunk\nresponse\nplugin\n");
        assert_eq!(run.chunk(b" 1}", false).unwrap(), b"");
        assert_eq!(run.chunk(b"", true).unwrap(), b"");
    }

    #[test]
    fn empty_content_is_replaced_too() {
        let filter: ModifyChunkResponse = configured("chunks = ['é']").unwrap();
        let mut run = get("http://a.example/").run(&filter);
        run.response(200, &[CHUNKED]);
        assert_eq!(run.chunk(b"", true).unwrap(), "é\n".as_bytes());
    }

    #[test]
    fn fields_of_the_old_content_are_removed() {
        let filter: ModifyChunkResponse = configured("").unwrap();
        let mut run = get("http://a.example/").run(&filter);
        let head = [
            CHUNKED,
            ("Content-Encoding", "gzip"),
            ("ETag", "\"x\""),
            ("Content-Range", "bytes 0-4/9"),
            ("Content-Type", "text/plain"),
        ];
        assert!(run.response(206, &head).is_ok());
        for name in ["Content-Encoding", "ETag", "Content-Range"] {
            assert_eq!(run.response_field(name), None, "{name}");
        }
        assert_eq!(run.response_field("Content-Type"), Some("text/plain"));
        assert_eq!(run.status(), Some(200));
    }

    #[test]
    fn other_responses_are_not_observed() {
        let filter: ModifyChunkResponse = configured("").unwrap();
        let mut run = get("http://a.example/").run(&filter);
        run.response(200, &[("Content-Length", "3"), ("ETag", "\"x\"")]);
        assert_eq!(run.upstream_body_mode(), None);
        assert_eq!(run.response_field("ETag"), Some("\"x\""));
    }

    #[test]
    fn refuses_unknown_keys() {
        let misspelt = configured::<ModifyChunkResponse>("words = []")
            .err()
            .unwrap();
        assert_eq!(
            misspelt.message(),
            "unknown field `words`, expected `chunks`"
        );
    }
}
