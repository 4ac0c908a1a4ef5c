//! Runs hooks in unit tests, without a proxy.
//!
//! ```
//! use plugin_api::prelude::*;
//! use plugin_api::testing;
//!
//! #[derive(Deserialize)]
//! struct Stamp { text: String }
//!
//! #[filter]
//! impl Filter for Stamp {
//!     fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         exchange.request_mut().set("X-Stamp", &self.text)?;
//!         proceed()
//!     }
//! }
//!
//! let filter: Stamp = testing::configured("text = 'seen'").unwrap();
//! let run = testing::get("http://a.example/").field("Accept", "*/*").run(&filter);
//! assert_eq!(run.outcome(), &Ok(Flow::Proceed));
//! assert_eq!(run.request_field("x-stamp"), Some("seen"));
//! ```
//!
//! Hooks run behind the same table of functions that the proxy calls, so panics become errors here, too, and an
//! async hook is polled to its end. Edits are refused as the proxy refuses them.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

mod block_on;
mod fake;

use crate::abi::{FilterTableRef, code, hook};
use crate::adapter::{self, Table};
use crate::configuration::configure;
use crate::{Error, Filter, Flow, LogLine, Outcome, Reply};
use core::ffi::c_void;
use fake::{Fake, FakeRequest, FakeResponse};
use std::net::SocketAddr;
use std::ptr;

/// Makes a filter as the proxy does, from the text of its table.
///
/// # Errors
/// What the proxy would report at its start.
pub fn configured<F: Filter>(config: &str) -> Result<F, Error> {
    configure(config)
}

/// A GET request for `url`.
pub fn get(url: &str) -> Call {
    request("GET", url)
}

/// A request as a client would send it; for CONNECT, `url` is `host:port`.
pub fn request(method: &str, url: &str) -> Call {
    Call {
        request: FakeRequest::new(method, url),
        client: SocketAddr::from(([127, 0, 0, 1], 50000)),
    }
}

/// A request that is about to be run.
pub struct Call {
    request: FakeRequest,
    client: SocketAddr,
}

impl Call {
    /// With one more field line.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.request
            .fields
            .push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// From this client instead of 127.0.0.1.
    #[must_use]
    pub fn client(mut self, client: SocketAddr) -> Self {
        self.client = client;
        self
    }

    /// Runs `before_upstream_connection` and, if that proceeds, `handle_client_request`.
    pub fn run<F: Filter>(self, filter: &F) -> Run<'_, F> {
        let mut run = Run::new(filter, Fake::new(self.request, self.client));
        run.decide(
            hook::BEFORE_UPSTREAM_CONNECTION,
            run.table.before_upstream_connection(),
        );
        if run.outcome == Ok(Flow::Proceed) {
            run.decide(
                hook::HANDLE_CLIENT_REQUEST,
                run.table.handle_client_request(),
            );
        }
        run
    }
}

type DecidingHook =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut crate::abi::ExchangeView) -> u32;

/// An exchange under test, after its request hooks have run.
pub struct Run<'f, F: Filter> {
    filter: &'f F,
    table: FilterTableRef,
    state: *mut c_void,
    // A pointer, since a pending hook keeps pointers into it.
    fake: *mut Fake,
    outcome: Outcome,
}

// SAFETY, for all blocks below: `fake` and `state` live until the run is dropped, and calls go one after another.
impl<'f, F: Filter> Run<'f, F> {
    fn new(filter: &'f F, fake: Fake) -> Self {
        let table = Table::<F>::REF;
        let state = match adapter::needs_state::<F>() {
            true => unsafe { table.state_new()(ptr::from_ref(filter).cast_mut().cast()) },
            false => ptr::null_mut(),
        };
        let fake = Box::into_raw(Box::new(fake));
        Self {
            filter,
            table,
            state,
            fake,
            outcome: Ok(Flow::Proceed),
        }
    }

    /// What the last hook answered that answers an outcome.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The reply, if that was the outcome.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.outcome {
            Ok(Flow::Reply(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Where the exchange would go.
    pub fn upstream(&self) -> (&str, u16) {
        let (host, port) = &self.fake().upstream;
        (host, *port)
    }

    /// Path and query of the request.
    pub fn path(&self) -> &str {
        &self.fake().request.path
    }

    /// The request's first field of this name.
    pub fn request_field(&self, name: &str) -> Option<&str> {
        fake::find(&self.fake().request.fields, name)
    }

    /// The status of the response, once there is one.
    pub fn status(&self) -> Option<u16> {
        self.fake()
            .response
            .as_ref()
            .map(|response| response.status)
    }

    /// The response's first field of this name.
    pub fn response_field(&self, name: &str) -> Option<&str> {
        fake::find(&self.fake().response.as_ref()?.fields, name)
    }

    /// What was added to the line in the access log.
    pub fn log_fields(&self) -> &[(String, String)] {
        &self.fake().log_fields
    }

    /// Lets the response arrive and runs `handle_upstream_response`.
    pub fn response(&mut self, status: u16, fields: &[(&str, &str)]) -> &Outcome {
        unsafe { (*self.fake).response = Some(FakeResponse::new(status, fields)) };
        self.decide(
            hook::HANDLE_UPSTREAM_RESPONSE,
            self.table.handle_upstream_response(),
        );
        &self.outcome
    }

    /// Lets a piece of content arrive; gives what would go on to the client.
    ///
    /// # Errors
    /// What the hook failed with.
    pub fn chunk(&mut self, chunk: &[u8], end: bool) -> Result<Vec<u8>, Error> {
        if !self.is_wanted(hook::HANDLE_UPSTREAM_CHUNK) {
            return Ok(chunk.to_vec());
        }
        let view = unsafe { Fake::lend(self.fake, hook::HANDLE_UPSTREAM_CHUNK) };
        let handle = self.table.handle_upstream_chunk();
        let answer = unsafe { handle(self.filter(), self.state, view, chunk.into(), end.into()) };
        let emitted = std::mem::take(unsafe { &mut (*self.fake).emitted });
        match answer {
            code::PROCEED => Ok(chunk.to_vec()),
            code::REPLACED => Ok(emitted),
            _ => Err(self.failure()),
        }
    }

    /// Ends the exchange: runs `on_access_log`.
    ///
    /// # Errors
    /// What the hook panicked with.
    pub fn access_log(&mut self) -> Result<LogLine, Error> {
        match self.ask(hook::ON_ACCESS_LOG, self.table.on_access_log()) {
            code::PROCEED => Ok(LogLine::Write),
            code::SUPPRESS => Ok(LogLine::Suppress),
            _ => Err(self.failure()),
        }
    }

    /// Lets go of the upstream connection: runs `on_upstream_connection_close`.
    ///
    /// # Errors
    /// What the hook panicked with.
    pub fn upstream_connection_close(&mut self) -> Result<(), Error> {
        let close = self.table.on_upstream_connection_close();
        match self.ask(hook::ON_UPSTREAM_CONNECTION_CLOSE, close) {
            code::PROCEED => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn decide(&mut self, bit: u64, call: DecidingHook) {
        let mut answer = self.ask(bit, call);
        if answer == code::PENDING {
            answer = block_on::poll_to_end(self.table, self.state);
        }
        self.outcome = match answer {
            code::PROCEED => Ok(Flow::Proceed),
            code::CLOSE => Ok(Flow::Close),
            code::RESPOND => match unsafe { (*self.fake).reply.take() } {
                Some(reply) => Ok(Flow::Reply(reply)),
                None => Err(Error::new("the hook answered without a reply")),
            },
            _ => Err(self.failure()),
        };
    }

    fn ask(&mut self, bit: u64, call: DecidingHook) -> u32 {
        if !self.is_wanted(bit) {
            return code::PROCEED;
        }
        unsafe { call(self.filter(), self.state, Fake::lend(self.fake, bit)) }
    }

    fn is_wanted(&self, bit: u64) -> bool {
        F::HOOKS.bits() & bit != 0
    }

    fn filter(&self) -> *mut c_void {
        ptr::from_ref(self.filter).cast_mut().cast()
    }

    fn fake(&self) -> &Fake {
        unsafe { &*self.fake }
    }

    fn failure(&mut self) -> Error {
        let failure = unsafe { (*self.fake).failure.take() };
        failure.map_or_else(|| Error::new("the hook failed without a word"), Error::new)
    }
}

impl<F: Filter> Drop for Run<'_, F> {
    fn drop(&mut self) {
        if !self.state.is_null() {
            unsafe { self.table.state_drop()(self.state) };
        }
        drop(unsafe { Box::from_raw(self.fake) });
    }
}
