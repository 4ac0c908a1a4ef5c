//! Replaces the content of POST requests.
//!
//! ```toml
//! [[plugins]]
//! library = "libmodify_post_data.so"
//! name = "ModifyPostData"
//! config = { methods = ["POST"], body = '{"key": "modified"}', content_type = "application/json" }   # the default
//! ```
//!
//! ```text
//! > POST http://a.example/post HTTP/1.1                      a.example gets: POST /post HTTP/1.1
//! > Content-Type: application/x-www-form-urlencoded                          Content-Type: application/json
//! > Content-Length: 16                                                       Content-Length: 19
//! > {"key": "value"}                                                         {"key": "modified"}
//! ```
//!
//! A POST without content is not affected. The whole content is buffered before it is replaced, because the head has to
//! contain the new length; hence the limit `max_body`. It is never parsed, so its content coding does not matter: the new
//! content is not encoded, and fields that describe the old content are removed.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::{OF_THE_OLD_CONTENT, Replacement};

struct ModifyPostData {
    replacement: Replacement,
}

#[filter]
impl Filter for ModifyPostData {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    /// Nothing is buffered until the method is known.
    const CLIENT_BODY: BodyMode = BodyMode::SKIP;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let replacement = Replacement::new(config)?;
        Ok(Self { replacement })
    }

    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if self.replacement.is_for(exchange.request().method()) {
            exchange.set_client_body(BodyMode::whole(self.replacement.max_body))?;
        }
        proceed()
    }

    fn handle_client_body(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let mut request = exchange.request_mut();
        for name in OF_THE_OLD_CONTENT {
            request.remove(name)?;
        }
        request.set("Content-Type", &self.replacement.content_type)?;
        exchange.set_body(&self.replacement.body)?;
        proceed()
    }
}

export_plugins!(ModifyPostData);

#[cfg(test)]
mod tests {
    use super::ModifyPostData;
    use plugin_api::BodyMode;
    use plugin_api::testing::{configured, request};

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn replaces_posted_content_and_its_type() {
        let filter: ModifyPostData = configured("").unwrap();
        let run = request("POST", "http://a.example/post")
            .field("Content-Type", FORM)
            .body(r#"{"key": "value"}"#)
            .run(&filter);
        assert_eq!(run.body(), br#"{"key": "modified"}"#);
        assert_eq!(run.request_field("content-type"), Some("application/json"));
        assert_eq!(run.client_body_mode(), Some(BodyMode::whole(1024 * 1024)));
    }

    #[test]
    fn removes_fields_of_the_old_content() {
        let filter: ModifyPostData = configured("body = 'x'").unwrap();
        let run = request("POST", "http://a.example/")
            .field("content-encoding", "gzip")
            .field("Digest", "sha-256=abc")
            .field("Accept-Encoding", "gzip")
            .body([0x1f, 0x8b])
            .run(&filter);
        assert_eq!(run.body(), b"x");
        for name in ["Content-Encoding", "Digest"] {
            assert_eq!(run.request_field(name), None, "{name}");
        }
        assert_eq!(run.request_field("Accept-Encoding"), Some("gzip"));
    }

    #[test]
    fn other_methods_and_requests_without_content_are_unchanged() {
        let filter: ModifyPostData = configured("").unwrap();
        let put = request("PUT", "http://a.example/").run(&filter);
        assert_eq!(put.client_body_mode(), None, "not collected");
        let empty = request("POST", "http://a.example/")
            .field("Content-Type", FORM)
            .run(&filter);
        assert_eq!(empty.request_field("content-type"), Some(FORM));
    }

    #[test]
    fn methods_content_and_limit_are_configurable() {
        let table = "methods = ['PUT']\nbody = 'é'\ncontent_type = 'text/plain'\nmax_body = 10";
        let filter: ModifyPostData = configured(table).unwrap();
        let run = request("PUT", "http://a.example/").body("a").run(&filter);
        assert_eq!(run.client_body_mode(), Some(BodyMode::whole(10)));
        assert_eq!(run.body(), "é".as_bytes());
        assert_eq!(run.request_field("content-type"), Some("text/plain"));
    }

    #[test]
    fn refuses_unusable_settings() {
        for (table, reason) in [
            ("methods = ['P OST']", "methods: `P OST` is not a method"),
            (
                r#"content_type = "a\r\nb""#,
                r"content_type: `a\r\nb` is not a media type",
            ),
            (
                "max_body = 0",
                "max_body: 0 would refuse every request with content",
            ),
            (
                "content = 'x'",
                "unknown field `content`, expected one of `methods`, `body`, `content_type`, `max_body`",
            ),
        ] {
            let refused = configured::<ModifyPostData>(table).err().unwrap();
            assert_eq!(refused.message(), reason);
        }
    }
}
