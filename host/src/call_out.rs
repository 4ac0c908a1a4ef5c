//! HTTP requests of plugins: sent directly to their URL, with the connection pool of the worker.
//!
//! Other plugins do not see them. The whole response is buffered, within the limits that the plugin has set; redirects
//! are not followed, and nothing is decoded or cached.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::buffers;
use crate::collect::Collected;
use crate::config::Config;
use crate::error::{ExchangeError, Peer};
use crate::http1::{
    self, BodyDecoder, BodyFraming, RequestForward, RequestHead, ResponseHead, Scheme, check_field,
};
use crate::stream::{MessageStream, ReadHeadError};
use crate::upstream::{self, Connector, Freshness, Route, Upstream};

/// The maximum number of interim responses that are skipped for a request.
const MAX_INTERIM: usize = 20;

/// A request by a plugin.
#[derive(Debug)]
pub(crate) struct CallRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// The time limit for the whole call.
    pub(crate) timeout: Duration,
    /// The maximum content of the response, in bytes.
    pub(crate) max_body: u64,
}

/// The response.
#[derive(Debug)]
pub(crate) struct CallResponse {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

thread_local! {
    static CALLER: RefCell<Option<Rc<Caller>>> = const { RefCell::new(None) };
}

/// What calls need: configuration and connections.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: Rc<Connector>,
}

impl Caller {
    /// From now on, calls on this thread, which must be a worker's, use these.
    pub(crate) fn install(self) {
        CALLER.set(Some(Rc::new(self)));
    }

    /// The caller of this thread; `None` if it is not a worker's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CALLER
            .try_with(|caller| caller.borrow().clone())
            .ok()
            .flatten()
    }
}

/// Sends the request and waits for the whole response.
///
/// Cancel safe: a dropped call closes its connection.
///
/// # Errors
/// A message for the plugin: an invalid URL, no connection, or no response within the limits.
pub(crate) async fn send(caller: &Caller, request: CallRequest) -> Result<CallResponse, String> {
    let within = request.timeout;
    let head = head(caller, &request)?;
    let attempts = async {
        let is_repeatable = http1::is_idempotent(&request.method);
        let freshness = match is_repeatable && request.body.is_empty() {
            true => Freshness::Any,
            false => Freshness::Verified,
        };
        match attempt(caller, &head, &request, freshness).await {
            Err(CallFailure { is_stale: true, .. }) if is_repeatable => {
                attempt(caller, &head, &request, Freshness::New).await
            }
            result => result,
        }
    };
    let result = tokio::time::timeout(within, attempts).await;
    buffers::give_back_head(head.into_buffers());
    match result {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failure)) => Err(failure.reason),
        Err(_) => Err(format!(
            "{}: no response within {} s",
            request.url,
            within.as_secs_f32()
        )),
    }
}

/// Why an attempt failed.
struct CallFailure {
    reason: String,
    /// A reused connection had been closed before the request.
    is_stale: bool,
}

/// The head of the request, parsed by the same rules as a client's.
fn head(caller: &Caller, request: &CallRequest) -> Result<RequestHead, String> {
    let bad = |reason: &dyn std::fmt::Display| format!("{}: {reason}", request.url.escape_debug());
    // Either would end its part of the request line and start something that the plugin did not intend.
    let ends_early = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    if ends_early(&request.method) || ends_early(&request.url) {
        return Err(bad(
            &"the method or the URL contains a space or a control character",
        ));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| request.url.strip_prefix(scheme))
        .ok_or_else(|| bad(&"is not an http or https URL"))?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if request.method.eq_ignore_ascii_case("CONNECT") {
        return Err(bad(&"CONNECT is not supported in calls"));
    }
    let url = request.url.split('#').next().unwrap_or_default();
    let mut text =
        format!("{} {url} HTTP/1.1\r\nHost: {authority}\r\n", request.method).into_bytes();
    for (name, value) in &request.fields {
        check_field(name, value).map_err(|_| bad(&format_args!("{name} is not a valid field")))?;
        let is_ours = ["host", "content-length", "transfer-encoding", "expect"]
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours));
        if !is_ours {
            http1::write_field(&mut text, name, value);
        }
    }
    text.extend_from_slice(b"\r\n");
    RequestHead::parse(text, 0, buffers::lines(), &caller.config.limits.head()).map_err(|refused| {
        let reason = bad(&refused.error);
        buffers::give_back_head((refused.text, refused.lines));
        reason
    })
}

async fn attempt(
    caller: &Caller,
    head: &RequestHead,
    request: &CallRequest,
    freshness: Freshness,
) -> Result<CallResponse, CallFailure> {
    let route = Route {
        scheme: head.target().scheme.unwrap_or(Scheme::Http),
        ..caller.connector.route(head.host(), head.port())
    };
    let Upstream {
        mut stream,
        is_reused,
        ..
    } = upstream::obtain(&caller.connector, &route, freshness)
        .await
        .map_err(|error| CallFailure {
            reason: error.to_string(),
            is_stale: false,
        })?;
    match converse(caller, head, request, &mut stream).await {
        Ok((response, is_reusable)) => {
            if is_reusable {
                caller.connector.pool().put(&route, stream);
            }
            Ok(response)
        }
        Err(ConverseError { reason, is_silent }) => Err(CallFailure {
            reason: format!("{}: {reason}", request.url),
            is_stale: is_reused && is_silent,
        }),
    }
}

/// Why an exchange with the upstream failed.
struct ConverseError {
    reason: String,
    /// No part of the response had arrived.
    is_silent: bool,
}

async fn converse(
    caller: &Caller,
    head: &RequestHead,
    request: &CallRequest,
    stream: &mut MessageStream,
) -> Result<(CallResponse, bool), ConverseError> {
    let timeouts = caller.config.timeouts;
    let mut out = buffers::small();
    let options = RequestForward {
        via: "",
        drop_fields: &[],
        framing: match request.body.is_empty() {
            true => BodyFraming::Empty,
            false => BodyFraming::Length(request.body.len() as u64),
        },
        upgrade: None,
        form: http1::RequestForm::Origin,
    };
    http1::forward_request(head, &options, &mut out);
    out.extend_from_slice(&request.body);
    let (mut reader, mut writer) = stream.split();
    let sent = writer.write_all(&out, timeouts.stall).await;
    buffers::give_back(out);
    sent.map_err(|error| ConverseError {
        reason: error.to_string(),
        is_silent: true,
    })?;
    let mut is_relaxed = false;
    for _ in 0..=MAX_INTERIM {
        reader.deadline().arm(timeouts.upstream_response);
        let may_relax = || caller.config.compatibility.is_relaxed(head.host());
        let received = reader
            .read_response(&caller.config.limits.head(), may_relax, || ())
            .await;
        let is_late = matches!(&received, Err(ReadHeadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut);
        let is_malformed = matches!(&received, Err(ReadHeadError::Head(_)));
        let is_silent = !is_late && !is_malformed && reader.buffered().is_empty();
        let mut response = received.map_err(|error| ConverseError {
            reason: format!(
                "invalid response: {}",
                ExchangeError::head(Peer::Upstream, error).cause
            ),
            is_silent,
        })?;
        is_relaxed |= response.is_relaxed();
        response.set_relaxed(is_relaxed);
        if response.status() >= 200 {
            return take(caller, head, request, response, &mut reader).await;
        }
    }
    Err(ConverseError {
        reason: "too many interim responses".to_owned(),
        is_silent: false,
    })
}

async fn take(
    caller: &Caller,
    head: &RequestHead,
    request: &CallRequest,
    response: ResponseHead,
    reader: &mut crate::stream::Reader<'_>,
) -> Result<(CallResponse, bool), ConverseError> {
    let broken = |reason: String| ConverseError {
        reason,
        is_silent: false,
    };
    let framing = http1::response_framing(&response, head.method())
        .map_err(|error| broken(error.to_string()))?;
    let mut collected = Collected::new(BodyDecoder::of_response(framing));
    let patience = caller.config.timeouts.upstream_idle;
    let is_whole = collected
        .read(reader, request.max_body, patience)
        .await
        .map_err(|error| broken(format!("the response was cut off: {error}")))?;
    if !is_whole {
        let limit = request.max_body;
        return Err(broken(format!("the response is longer than {limit} bytes")));
    }
    let is_reusable = framing != BodyFraming::UntilClose
        && http1::is_persistent(&response)
        && !http1::is_connection_bound(head)
        && reader.buffered().is_empty();
    let fields = response.fields().iter();
    let call_response = CallResponse {
        status: response.status(),
        fields: fields
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
        body: collected.content,
    };
    buffers::give_back_head(response.into_buffers());
    Ok((call_response, is_reusable))
}
