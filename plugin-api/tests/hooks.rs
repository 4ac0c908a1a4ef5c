//! Hooks behind the table of functions: what an author may rely on, whatever the proxy's version.

use plugin_api::prelude::*;
use plugin_api::{EditError, testing};
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::thread;
use std::time::Duration;

#[derive(Deserialize)]
struct CountsHooks {}

#[filter]
impl Filter for CountsHooks {
    type State = u32;

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        *exchange.state += 1;
        proceed()
    }

    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        *exchange.state += 1;
        Ok(match chunk {
            b"drop" => Chunk::Drop,
            _ if end => Chunk::replace(format!("{} calls", exchange.state)),
            _ => Chunk::Pass,
        })
    }
}

#[test]
fn state_lasts_from_hook_to_hook() {
    let filter: CountsHooks = testing::configured("").unwrap();
    let mut run = testing::get("http://a/").run(&filter);
    run.response(200, &[]);
    assert_eq!(run.chunk(b"pass", false).unwrap(), b"pass");
    assert_eq!(run.chunk(b"drop", false).unwrap(), b"");
    assert_eq!(run.chunk(b"", true).unwrap(), b"4 calls");
}

#[derive(Deserialize)]
struct Waits {}

#[filter]
impl Filter for Waits {
    type State = Cell<u32>;

    async fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let host = exchange.request().host().to_owned();
        wake_later().await;
        exchange.state.set(7);
        exchange.set_upstream("b.example", 81)?;
        exchange.request_mut().set("X-Waited-For", host)?;
        proceed()
    }

    async fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if exchange.request().host() == "panics" {
            wake_later().await;
            panic!("late");
        }
        reject(500 + exchange.state.get() as u16, "done")
    }
}

/// Pending once, and woken by a clone of the waker on another thread.
async fn wake_later() {
    let mut is_woken = false;
    poll_fn(|context| {
        if is_woken {
            return Poll::Ready(());
        }
        is_woken = true;
        let waker = context.waker().clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        Poll::Pending
    })
    .await;
}

#[test]
fn async_hooks_wait_and_then_edit() {
    let filter: Waits = testing::configured("").unwrap();
    let run = testing::get("http://a.example/").run(&filter);
    assert_eq!(run.reply().map(|reply| reply.status), Some(507));
    assert_eq!(run.upstream(), ("b.example", 81));
    assert_eq!(run.request_field("X-Waited-For"), Some("a.example"));
}

#[test]
fn a_panic_after_waiting_fails_the_exchange_alone() {
    let filter: Waits = testing::configured("").unwrap();
    let failed = testing::get("http://panics/").run(&filter);
    assert!(
        failed
            .outcome()
            .as_ref()
            .unwrap_err()
            .message()
            .starts_with("panicked: late")
    );
    let next = testing::get("http://a/").run(&filter);
    assert_eq!(next.reply().map(|reply| reply.status), Some(507));
}

#[derive(Deserialize)]
struct Decides {
    on: String,
}

#[filter]
impl Filter for Decides {
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if exchange.request().path() == "/cached" {
            return proceed();
        }
        Ok(Flow::Async)
    }

    async fn before_upstream_connection_async(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        reject(403, exchange.request().path().to_owned())
    }

    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        match self.on.as_str() {
            "panic" => panic!("boom"),
            "error" => {
                "x".parse::<u8>()?;
            }
            "async" => return Ok(Flow::Async),
            "status" => return reply(Reply::new(99)),
            "field" => exchange.request_mut().set("Content-Length", "1")?,
            "response" => exchange.response_mut().set("Server", "s")?,
            _ => {}
        }
        proceed()
    }
}

#[test]
fn the_async_version_runs_only_if_the_sync_one_requests_it() {
    let filter: Decides = testing::configured("on = ''").unwrap();
    assert_eq!(
        testing::get("http://a/cached").run(&filter).outcome(),
        &Ok(Flow::Proceed)
    );
    let denied = testing::get("http://a/other").run(&filter);
    assert_eq!(denied.reply().map(|reply| &*reply.reason), Some("/other"));
}

#[test]
fn failures_have_a_reason() {
    for (on, expected) in [
        ("panic", "panicked: boom"),
        ("error", "invalid digit found in string"),
        (
            "async",
            "the hook returned Flow::Async but has no async version",
        ),
        (
            "status",
            "invalid reply: status or reason: not a valid value",
        ),
        ("field", "the proxy itself sets this field"),
        ("response", "this hook may not change that"),
    ] {
        let filter: Decides = testing::configured(&format!("on = '{on}'")).unwrap();
        let failed = testing::get("http://a/cached").run(&filter);
        assert_eq!(failed.outcome(), &Err(Error::new(expected)), "{on}");
    }
}

#[derive(Deserialize)]
struct Edits {}

#[filter]
impl Filter for Edits {
    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let mut response = exchange.response_mut();
        response.set("Server", "plugin")?;
        response.append("Via", "1.1 plugin")?;
        response.remove("Set-Cookie")?;
        response.set_status(203, "Edited")?;
        assert_eq!(response.set("Bad Name", "x"), Err(EditError::BadName));
        assert_eq!(
            response.set("Name", "line\r\nbreak"),
            Err(EditError::BadValue)
        );
        let names: Vec<_> = exchange
            .response()
            .expect("has arrived")
            .fields()
            .map(|field| field.0)
            .collect();
        assert_eq!(names, ["Server", "Date", "Via"]);
        proceed()
    }

    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        exchange.add_log_field(
            "edited",
            exchange
                .response()
                .expect("has arrived")
                .status()
                .to_string(),
        );
        LogLine::Suppress
    }
}

#[test]
fn sees_its_own_edits() {
    let filter: Edits = testing::configured("").unwrap();
    let mut run = testing::get("http://a/").run(&filter);
    let fields = [
        ("server", "a"),
        ("Date", "d"),
        ("SERVER", "b"),
        ("Set-Cookie", "c"),
    ];
    assert_eq!(run.response(200, &fields), &Ok(Flow::Proceed));
    assert_eq!(
        (run.status(), run.response_field("server")),
        (Some(203), Some("plugin"))
    );
    assert_eq!(run.access_log(), Ok(LogLine::Suppress));
    assert_eq!(run.log_fields(), [("edited".to_owned(), "203".to_owned())]);
}

#[derive(Deserialize)]
struct Unconfigured {}

#[filter]
impl Filter for Unconfigured {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self {})
    }
}

#[test]
fn a_plugin_without_configuration_refuses_one() {
    assert!(testing::configured::<Unconfigured>("").is_ok());
    let refused = testing::configured::<Unconfigured>("x = 1").err().unwrap();
    assert!(
        refused.message().starts_with("unknown field `x`"),
        "{refused}"
    );
}

#[test]
fn reads_the_target_of_connect() {
    let filter: CountsHooks = testing::configured("").unwrap();
    let run = testing::request("CONNECT", "[::1]:8443").run(&filter);
    assert_eq!((run.upstream(), run.path()), (("::1", 8443), ""));
}

#[derive(Deserialize)]
struct Chatters {}

#[filter]
impl Filter for Chatters {
    fn handle_websocket_message(
        &self,
        exchange: &mut Exchange<'_, Self>,
        message: &WebSocketMessage<'_>,
    ) -> ChunkOutcome {
        match (message.kind, message.data) {
            (MessageKind::Text, b"drop") => Ok(Chunk::Drop),
            (MessageKind::Text, b"empty") => Ok(Chunk::replace("")),
            (MessageKind::Text, b"close") => Ok(Chunk::Close),
            (MessageKind::Text, b"bad") => Ok(Chunk::replace(*b"\xff")),
            (MessageKind::Ping, data) => {
                exchange.send_message(message.from, MessageKind::Pong, data)?;
                Ok(Chunk::Drop)
            }
            (MessageKind::Close, _) => {
                let said = format!("{:?}", message.close_code());
                Ok(Chunk::replace(plugin_api::close_data(4000, &said)))
            }
            (MessageKind::Binary, data) => {
                exchange.send_message(Direction::Upstream, MessageKind::Text, data)?;
                Ok(Chunk::Pass)
            }
            _ => Ok(Chunk::Pass),
        }
    }
}

#[test]
fn messages_pass_are_replaced_and_dropped() {
    let filter: Chatters = testing::configured("").unwrap();
    let mut run = testing::get("http://a/").run(&filter);
    let mut say = |kind, data: &[u8]| run.websocket_message(Direction::Upstream, kind, data);
    let passed = |data: &[u8]| Ok(Some(data.to_vec()));
    assert_eq!(say(MessageKind::Text, b"hello"), passed(b"hello"));
    assert_eq!(say(MessageKind::Text, b"drop"), Ok(None));
    assert_eq!(say(MessageKind::Text, b"empty"), passed(b""));
    assert_eq!(
        say(MessageKind::Close, b"\x03\xe8"),
        passed(b"\x0f\xa0Some(1000)")
    );
    for failing in [&b"close"[..], b"bad"] {
        assert!(say(MessageKind::Text, failing).is_err());
    }
}

#[test]
fn messages_of_its_own_are_kept_in_order() {
    let filter: Chatters = testing::configured("").unwrap();
    let mut run = testing::get("http://a/").run(&filter);
    let mut say = |kind, data: &[u8]| run.websocket_message(Direction::Client, kind, data);
    assert_eq!(say(MessageKind::Ping, b"1"), Ok(None));
    assert_eq!(say(MessageKind::Binary, b"2"), Ok(Some(b"2".to_vec())));
    let refused = say(MessageKind::Binary, b"\xff");
    assert_eq!(
        refused,
        Err(Error::new("not a valid value")),
        "a text is UTF-8"
    );
    assert_eq!(
        run.sent_messages(),
        [
            (Direction::Client, MessageKind::Pong, b"1".to_vec()),
            (Direction::Upstream, MessageKind::Text, b"2".to_vec()),
        ]
    );
}

#[derive(Deserialize)]
struct Readdresses {}

#[filter]
impl Filter for Readdresses {
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if exchange.request().method() == "CONNECT" {
            assert_eq!(exchange.set_method("GET"), Err(EditError::Stale));
            assert_eq!(exchange.set_host("b.example", 80), Err(EditError::Stale));
            return proceed();
        }
        assert_eq!(exchange.set_method("G T"), Err(EditError::BadValue));
        assert_eq!(exchange.set_method("CONNECT"), Err(EditError::Stale));
        assert_eq!(exchange.set_host("a b", 80), Err(EditError::BadName));
        assert_eq!(exchange.set_host("b.example", 0), Err(EditError::BadValue));
        exchange.set_upstream("c.example", 82)?;
        assert!(exchange.upstream().is_redirected() && !exchange.upstream().is_proven());
        assert_eq!(exchange.proven_host(), "c.example");
        exchange.set_method("HEAD")?;
        exchange.set_host("[2001:DB8::1]", 81)?;
        assert!(exchange.upstream().is_proven());
        assert_eq!(exchange.hosts().collect::<Vec<_>>(), ["2001:db8::1"]);
        proceed()
    }

    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        assert_eq!(exchange.set_method("GET"), Err(EditError::Stale));
        assert_eq!(exchange.set_host("b.example", 80), Err(EditError::Stale));
        proceed()
    }
}

#[test]
fn a_request_becomes_one_for_another_host_by_another_method() {
    let filter: Readdresses = testing::configured("").unwrap();
    let inside = testing::get("https://a.example/x").inside_tunnel_to("192.0.2.1");
    for call in [testing::get("http://a.example/x"), inside] {
        let mut run = call.run(&filter);
        assert_eq!(run.outcome(), &proceed());
        assert_eq!(run.method(), "HEAD");
        assert_eq!(run.request_host(), ("2001:db8::1", 81));
        assert_eq!(run.upstream(), ("2001:db8::1", 81));
        assert_eq!(run.request_field("Host"), Some("[2001:db8::1]:81"));
        assert_eq!(run.response(200, &[]), &proceed());
    }
    let tunnel = testing::request("CONNECT", "a.example:443").run(&filter);
    assert_eq!(tunnel.outcome(), &proceed());
}
