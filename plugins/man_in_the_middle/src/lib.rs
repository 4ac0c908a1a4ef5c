//! Replaces every response that has content with a fixed text.
//!
//! ```toml
//! [[plugins]]
//! library = "libman_in_the_middle.so"
//! name = "ManInTheMiddle"
//! config = { body = "Hello from man in the middle" }   # the default
//! ```
//!
//! ```text
//! the origin answers: HTTP/1.1 301 Moved Permanently      the client gets: HTTP/1.1 200 OK
//!                     Location: http://www.google.com/                     Content-Length: 28
//!                     Content-Length: 219
//!                     <HTML><HEAD>…                                        Hello from man in the middle
//! ```
//!
//! The request is sent to the origin, and the response is replaced as soon as its head has arrived. Editing the response
//! instead would keep its fields, most of which describe the original content (`Content-Encoding`, `ETag`,
//! `Content-Range`) or let caches and browsers store the replacement as content of the origin (`Cache-Control`,
//! `Set-Cookie`); and all content would have to be read first to set the new length. Responses without content are
//! forwarded unchanged.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::has_content;

struct ManInTheMiddle {
    body: String,
}

#[filter]
impl Filter for ManInTheMiddle {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    const UPSTREAM_BODY: BodyMode = BodyMode::SKIP;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        Ok(Self { body: config.body })
    }

    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let method = exchange.request().method();
        match exchange.response() {
            Some(response) if has_content(method, response.status()) => {
                reply(Reply::new(200).body(self.body.as_str()))
            }
            _ => proceed(),
        }
    }
}

export_plugins!(ManInTheMiddle);

#[cfg(test)]
mod tests {
    use super::ManInTheMiddle;
    use plugin_api::testing::{configured, get, request};
    use plugin_api::{Flow, Reply};

    #[test]
    fn replaces_responses_with_content() {
        let filter: ManInTheMiddle = configured("").unwrap();
        let expected = Reply::new(200).body("Hello from man in the middle");
        for status in [200, 206, 301, 404, 500] {
            let mut run = get("http://google.com/").run(&filter);
            run.response(status, &[("ETag", "\"x\""), ("Set-Cookie", "a=b")]);
            assert_eq!(run.reply(), Some(&expected), "{status}");
        }
    }

    #[test]
    fn responses_without_content_are_unchanged() {
        let filter: ManInTheMiddle = configured("").unwrap();
        for (method, status) in [("HEAD", 200), ("GET", 304), ("DELETE", 204)] {
            let mut run = request(method, "http://a.example/").run(&filter);
            let fields = [("ETag", "\"x\"")];
            assert_eq!(run.response(status, &fields), &Ok(Flow::Proceed));
            assert_eq!(run.response_field("ETag"), Some("\"x\""));
        }
    }

    #[test]
    fn the_text_is_configurable() {
        let filter: ManInTheMiddle = configured("body = ''").unwrap();
        let mut run = get("http://a.example/").run(&filter);
        run.response(200, &[]);
        assert_eq!(run.reply(), Some(&Reply::new(200)));
        let misspelt = configured::<ManInTheMiddle>("text = 'a'").err().unwrap();
        assert_eq!(misspelt.message(), "unknown field `text`, expected `body`");
    }
}
