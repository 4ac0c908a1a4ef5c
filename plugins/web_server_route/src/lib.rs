//! Answers a few requests addressed to the proxy itself: a starting point for your own routes.
//!
//! ```toml
//! [[plugins]]
//! library = "libweb_server_route.so"
//! name = "WebServerPlugin"
//! ```
//!
//! ```text
//! > GET /http-route-example HTTP/1.1        over plain HTTP
//! < HTTP/1.1 200 OK
//! <
//! < HTTP route response
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `/http-route-example` over plain HTTP | `HTTP route response` |
//! | `/https-route-example` over TLS | `HTTPS route response` |
//! | `/hello-route-example/{name}` | a greeting with that name |
//! | `/stream-route-example/{count}` | that number of lines, sent one by one |
//! | `/ws-route-example`, a WebSocket | echoes every message and logs it at INFO |
//!
//! It has no settings. [`routes`](WebRoutes::routes) lists the routes; the other functions identify the route of a
//! request by its position in that list.

use plugin_api::prelude::*;
use plugin_api::{Route, SocketMessage, WebExchange, WebRoutes, WebSocket};

struct WebServerPlugin;

const HTTP: usize = 0;
const HTTPS: usize = 1;
const HELLO: usize = 2;
const STREAM: usize = 3;

/// The maximum number of lines that `/stream-route-example` sends; more get 400.
const MAX_LINES: u32 = 100_000;

/// The maximum number of characters of a WebSocket message that are logged.
const MAX_LOGGED: usize = 200;

impl WebRoutes for WebServerPlugin {
    const CONFIG_SCHEMA: &'static str = r#"{"type": "object", "additionalProperties": false}"#;
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self)
    }

    fn routes(&self) -> Vec<Route> {
        vec![
            Route::http("/http-route-example"),
            Route::https("/https-route-example"),
            Route::new("/hello-route-example/{name}").methods("GET"),
            Route::new("/stream-route-example/{count}").methods("GET"),
            Route::websocket("/ws-route-example"),
        ]
    }

    async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
        match exchange.route() {
            HTTP => exchange.reply(text(200, "HTTP route response")),
            HTTPS => exchange.reply(text(200, "HTTPS route response")),
            HELLO => {
                let name = exchange.capture("name").unwrap_or_default();
                exchange.reply(text(200, format!("Hello, {name}\n")))
            }
            STREAM => stream(exchange).await,
            other => Err(Error::new(format!("there is no route {other}"))),
        }
    }

    async fn on_websocket_message(
        &self,
        socket: &mut WebSocket,
        message: SocketMessage,
    ) -> Result<(), Error> {
        info!("WebSocket message: {}", shown(&message));
        socket.send(message.kind, message.data).await
    }
}

/// Sends its lines as it creates them: `send` waits for a client that reads slowly.
async fn stream(exchange: &mut WebExchange) -> Result<(), Error> {
    let count = exchange
        .capture("count")
        .and_then(|count| count.parse().ok());
    let Some(count) = count.filter(|&count: &u32| count <= MAX_LINES) else {
        let why = format!("How many lines? A number up to {MAX_LINES}\n");
        return exchange.reply(text(400, why));
    };
    exchange.start(text(200, ""))?;
    for number in 1..=count {
        exchange.send(format!("line {number}\n")).await?;
    }
    Ok(())
}

fn text(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::new(status)
        .field("Content-Type", "text/plain; charset=utf-8")
        .body(body)
}

/// A message on one line of the log, whatever it contains.
fn shown(message: &SocketMessage) -> String {
    let Some(text) = message.text() else {
        return format!("{} bytes", message.data.len());
    };
    text.chars()
        .take(MAX_LOGGED)
        .flat_map(char::escape_debug)
        .collect()
}

export_plugins!(; web: WebServerPlugin);

#[cfg(test)]
mod tests {
    use super::WebServerPlugin;
    use plugin_api::MessageKind::{Binary, Text};
    use plugin_api::testing::web::{configured, get};

    fn plugin() -> WebServerPlugin {
        configured("").unwrap()
    }

    fn body(path: &str, route: u32, captures: &[(&str, &str)]) -> (u16, String) {
        let run = get(path).route(route).captures(captures).run(&plugin());
        let reply = run.reply().unwrap();
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        (run.status(), body)
    }

    #[test]
    fn answers_with_the_texts_of_its_routes() {
        let (http, https) = ("HTTP route response", "HTTPS route response");
        assert_eq!(body("/http-route-example", 0, &[]), (200, http.to_owned()));
        assert_eq!(
            body("/https-route-example", 1, &[]),
            (200, https.to_owned())
        );
        let hello = body("/hello-route-example/Eve", 2, &[("name", "Eve")]);
        assert_eq!(hello, (200, "Hello, Eve\n".to_owned()));
    }

    #[test]
    fn streams_the_requested_number_of_lines() {
        let lines = |count| body("/stream-route-example/x", 3, &[("count", count)]);
        assert_eq!(lines("2"), (200, "line 1\nline 2\n".to_owned()));
        assert_eq!(lines("0"), (200, String::new()));
        for count in ["100001", "-1", "x", ""] {
            assert_eq!(lines(count).0, 400, "{count}");
        }
    }

    #[test]
    fn messages_are_echoed() {
        let sent = [(Text, &b"hello"[..]), (Binary, &b"\0\xff"[..])];
        let run = get("/ws-route-example")
            .route(4)
            .websocket(&sent)
            .run(&plugin());
        assert_eq!(run.status(), 101);
        let messages = run.messages().iter();
        assert!(messages.map(|(kind, data)| (*kind, &**data)).eq(sent));
    }

    #[test]
    fn has_no_settings() {
        assert!(configured::<WebServerPlugin>("path = '/'").is_err());
    }
}
