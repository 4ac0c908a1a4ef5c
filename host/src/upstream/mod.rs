//! The next hop of an exchange: a pooled connection or a new one.

pub(crate) mod dial;
pub(crate) mod pool;
pub(crate) mod resolve;

use std::rc::Rc;

use crate::stream::MessageStream;
use crate::worker::Worker;

pub(crate) use dial::{DialError, DialFailure};

/// A connection to an upstream, in use by one exchange.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: MessageStream,
    /// It has served before: its peer may have closed it in the very moment of the request.
    pub(crate) is_reused: bool,
}

/// Which connections an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Any that looks open: the request may be sent again on another one.
    Any,
    /// One that the kernel says is open: the request may not be sent twice.
    Verified,
    /// A new one.
    New,
}

/// A connection to `host` and `port`: an idle one if there is one and `freshness` allows it, else a new one.
pub(crate) async fn obtain(
    worker: &Rc<Worker>,
    host: &str,
    port: u16,
    freshness: Freshness,
) -> Result<Upstream, DialError> {
    let pooled = match freshness {
        Freshness::Any => worker.pool.take(host, port, MessageStream::is_quiet),
        Freshness::Verified => worker.pool.take(host, port, MessageStream::is_quiet_now),
        Freshness::New => None,
    };
    if let Some(stream) = pooled {
        return Ok(Upstream {
            stream,
            is_reused: true,
        });
    }
    // Boxed: dialling is rare, and its future would make every idle connection larger.
    let limit = worker.config.timeouts.connect;
    let socket = Box::pin(dial::dial(&worker.resolver, host, port, limit)).await?;
    let stream = MessageStream::new(
        crate::transport::Transport::Plain(socket),
        &worker.deadlines,
        worker.config.limits.server_read_len,
    );
    Ok(Upstream {
        stream,
        is_reused: false,
    })
}
