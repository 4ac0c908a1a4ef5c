//! HTTP requests of a plugin, sent by the HTTP client of the proxy.
#![expect(unsafe_code, reason = "calls the host's functions")]

use crate::abi::{CallOut, CallOutAnswer, FieldSlot};
use crate::job::Job;
use crate::testing;
use abi_stable::std_types::{RSlice, RStr};
use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

/// An HTTP request to another service, such as a policy service, a resolver or a webhook.
///
/// It is sent directly to its URL (`http` or `https`, verified), on the worker of the exchange and with its connection
/// pool; other plugins do not see it. Redirects are not followed, and content is not decoded.
///
/// ```
/// # use plugin_api::prelude::*;
/// # use std::time::Duration;
/// use plugin_api::Call;
/// # #[derive(Deserialize)] struct AskFirst { service: String }
/// #[filter]
/// impl Filter for AskFirst {
///     async fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
///         let question = format!("{}?host={}", self.service, exchange.upstream().host());
///         let answer = Call::get(question).timeout(Duration::from_secs(1)).send().await?;
///         if answer.status == 200 { proceed() } else { reject(403, "Not today") }
///     }
/// }
/// # use plugin_api::{CallResponse, testing};
/// # testing::answer_calls(|call| CallResponse::new(if call.url.ends_with("a.example") { 200 } else { 404 }));
/// # let filter: AskFirst = testing::configured("service = 'http://policy.example/'").unwrap();
/// # assert!(testing::get("http://a.example/").run(&filter).reply().is_none());
/// # assert!(testing::get("http://b.example/").run(&filter).reply().is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a call is made by `send`"]
#[non_exhaustive]
pub struct Call {
    /// The method.
    pub method: String,
    /// The absolute URL.
    pub url: String,
    /// Field lines. The proxy sets Host and the framing.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Content.
    pub body: Vec<u8>,
    /// Timeout for the whole call. Default: 3 s.
    pub timeout: Duration,
    /// Maximum length of the response content, in bytes; above it, the call fails. Default: 1 MiB.
    pub max_body: u64,
}

impl Call {
    /// A request without fields and content.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            fields: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(3),
            max_body: 1024 * 1024,
        }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request with this content.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", url).body(body)
    }

    /// With one more field line.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With this content.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Within this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With at most this many bytes of response content.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sends the request and waits for the whole response. Cancel safe: a dropped call is aborted.
    ///
    /// # Errors
    /// There is no response within the limits. A status such as 404 is not an error.
    pub async fn send(self) -> Result<CallResponse, CallError> {
        if let Some(answer) = testing::answer_to(&self) {
            return Ok(answer);
        }
        let Some(mut job) = Job::begin(|host| self.begin(host)) else {
            return Err(CallError::new(
                "calls can be made only in hooks and spawned tasks: this thread is not a worker",
            ));
        };
        poll_fn(|cx| job.poll(cx)).await;
        answer_of(&job)
    }

    fn begin(&self, host: crate::abi::HostTableRef) -> *mut core::ffi::c_void {
        let slot = |(name, value): &(String, Vec<u8>)| FieldSlot {
            name: lent(name),
            value: lent_bytes(value),
        };
        let fields: Vec<FieldSlot> = self.fields.iter().map(slot).collect();
        let call = CallOut {
            method: lent(&self.method),
            url: lent(&self.url),
            fields: fields.as_ptr(),
            field_count: fields.len(),
            body: lent_bytes(&self.body),
            timeout: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            max_body: self.max_body,
            reserved: [0; 4],
        };
        // SAFETY: the host copies what it needs during the call.
        unsafe { host.call_out()(&call) }
    }
}

fn answer_of(job: &Job) -> Result<CallResponse, CallError> {
    let mut answer = CallOutAnswer {
        status: 0,
        error: RStr::from_str("the proxy gave no reason"),
        fields: std::ptr::null(),
        field_count: 0,
        body: RSlice::from_slice(&[]),
    };
    // SAFETY: the job is a call-out and over; what the answer points to lives until it is released.
    unsafe { job.host.call_out_answer()(job.handle, &mut answer) };
    let Some(status) = u16::try_from(answer.status).ok().filter(|&code| code > 0) else {
        return Err(CallError::new(answer.error.as_str()));
    };
    let slots = match answer.field_count {
        0 => &[],
        // SAFETY: as above.
        count => unsafe { std::slice::from_raw_parts(answer.fields, count) },
    };
    let line = |slot: &FieldSlot| (slot.name.to_string(), slot.value.to_vec());
    Ok(CallResponse {
        status,
        fields: slots.iter().map(line).collect(),
        body: answer.body.to_vec(),
    })
}

/// The response to a [`Call`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallResponse {
    /// The status code.
    pub status: u16,
    /// Field lines, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Content.
    pub body: Vec<u8>,
}

impl CallResponse {
    /// A response without fields and content, for unit tests.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    /// With this content.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With one more field line.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The value of the first field of this name, which is case-insensitive.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let is_named = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .find(is_named)
            .map(|field| field.1.as_slice())
    }
}

/// Why a [`Call`] failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    reason: String,
}

impl CallError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for CallError {}

fn lent(text: &str) -> RStr<'static> {
    // SAFETY: only the lifetime changes; the host reads it during the call.
    unsafe { RStr::from_raw_parts(text.as_ptr(), text.len()) }
}

fn lent_bytes(bytes: &[u8]) -> RSlice<'static, u8> {
    // SAFETY: as in `lent`.
    unsafe { RSlice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
}
