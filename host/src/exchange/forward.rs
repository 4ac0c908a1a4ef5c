//! Forwards a request: one attempt on an upstream connection, or several.

use std::rc::Rc;

use super::client::Binding;
use super::conclusion::{Conclusion, Failure, Tunnel};
use super::decide::Ready;
use super::destination::Destination;
use super::progress::Progress;
use super::reach::Connected;
use super::response::Delivered;
use super::state::Exchange;
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1;
use crate::stream::MessageStream;
use crate::upstream::{Freshness, PinnedClosed};

impl Exchange {
    /// Forwards the request and delivers the response. Retries on a second connection if a reused one turns out to be
    /// closed or the upstream reports that it has not processed the request, and on a third if a GOAWAY excludes the
    /// request from the second, too; only if the part of the content that was sent is kept.
    pub(super) async fn forward(
        &mut self,
        ready: Ready,
        client: &mut MessageStream,
    ) -> Result<Tunnel, Conclusion> {
        let has_all = self.request.is_whole();
        let is_idempotent = http1::is_idempotent(self.request.head.method());
        self.note_decided();
        let mut freshness = if has_all && is_idempotent {
            Freshness::Any
        } else {
            Freshness::Verified
        };
        loop {
            // Boxed: most requests find a connection in the pool.
            let mut connected = Box::pin(self.reach(ready.decided(), client, freshness)).await?;
            let upstream = &connected.upstream;
            let (is_pinned, is_reused) = (upstream.is_pinned, upstream.is_reused);
            let is_channel = upstream.stream.is_channel();
            let is_bound = is_pinned || http1::is_connection_bound(&self.request.head);
            self.client.binding = match is_bound {
                true => Binding::Bound,
                false => Binding::Free,
            };
            self.select_timeouts(Some(&connected.destination));
            let may_be_stale = is_reused && is_idempotent && !is_pinned;
            let mut progress = Progress::new(is_channel || may_be_stale);
            let delivered = self.attempt(client, &mut connected, &mut progress).await;
            let error = match delivered {
                Ok(delivered) => return self.after(delivered, connected),
                Err(error) => error,
            };
            let failure = Failure { error, progress };
            let error = &failure.error;
            let is_repeatable = has_all || self.request.upload.kept.is_some();
            if is_pinned && failure.is_stale() {
                let error = ExchangeError::new(Peer::Upstream, Step::SendHead, PinnedClosed);
                return Err(Failure { error, ..failure }.into());
            }
            if is_channel && failure.requires_http1() {
                let route = self.route(&connected.destination);
                self.generation.connector.http1_hosts().remember(&route);
                if !is_repeatable {
                    return Err(failure.into());
                }
                // Once: the next connection does not speak HTTP/2.
                tracing::debug!(%error, "the upstream requires HTTP/1.1 for this request: retrying");
            } else if may_be_stale && is_repeatable && failure.is_stale() {
                tracing::debug!(%error, "the reused connection was closed: retrying on a new one");
                freshness = Freshness::New;
            } else if let Some(fresher) = fresher(freshness, &failure)
                && is_repeatable
            {
                tracing::debug!(%error, "the upstream did not process the request: retrying on a new connection");
                freshness = fresher;
            } else {
                if error.peer == Peer::Upstream && matches!(error.cause, Cause::TimedOut) {
                    connected.upstream.retire();
                }
                return Err(failure.into());
            }
        }
    }

    /// What happens to both connections after the response.
    fn after(&mut self, delivered: Delivered, connected: Connected) -> Result<Tunnel, Conclusion> {
        let upstream = connected.upstream.stream;
        let Some(persistence) = delivered.persistence() else {
            return Ok(Tunnel::Relay(upstream));
        };
        if delivered.is_upstream_reusable() && !self.generation.is_draining() {
            self.keep(upstream, &connected.destination);
        }
        Err(Conclusion::Answered(self.persistence_at_end(persistence)))
    }

    /// Keeps a connection for further requests, of any client or of this one only.
    fn keep(&mut self, upstream: MessageStream, destination: &Destination) {
        if self.client.binding == Binding::Free {
            self.generation
                .connector
                .pool()
                .put(&self.route(destination), upstream);
        } else if !upstream.is_channel() {
            let pinned = Rc::clone(self.client.pinned.get_or_insert_default());
            pinned.put(&self.route(destination), upstream);
        }
    }
}

/// The connection for the next attempt at a request that was not processed on one of this freshness; None: it fails.
fn fresher(freshness: Freshness, failure: &Failure) -> Option<Freshness> {
    match freshness {
        _ if !failure.is_unprocessed() => None,
        Freshness::Any | Freshness::Verified => Some(Freshness::New),
        // All excluded requests share the new connection, and the upstream may accept as few streams on it.
        Freshness::New if failure.is_left_out() => Some(Freshness::Own),
        Freshness::New | Freshness::Own => None,
    }
}
