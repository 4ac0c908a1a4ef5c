//! The phases of an exchange before it goes anywhere.
//!
//! Each is a value that only the one before leads to, so that none can be left out: nothing is forwarded that plugins have
//! not been asked about, and plugins are not asked about what is refused.

use std::ops::ControlFlow;

use super::{Exchange, Persistence};
use crate::error::{ExchangeError, Peer, Step};
use crate::http1;
use crate::stream::MessageStream;

/// The request can be understood, and is for its connection.
pub(super) struct Settled(());

/// The request's client may use the proxy.
pub(super) struct Admitted(());

/// Plugins have let the request pass.
pub(super) struct Decided(());

/// Whoever wants the request's content whole has seen it.
pub(super) struct Ready(());

/// The next phase; or the end, with an answer.
pub(super) type Advance<T> = Result<ControlFlow<Persistence, T>, ExchangeError>;

impl Exchange {
    /// Completes the request by what is known of its connection.
    pub(super) fn settle(&mut self) -> Result<Settled, ExchangeError> {
        self.framing = http1::request_framing(&self.head)
            .map_err(|error| ExchangeError::new(Peer::Client, Step::ReadHead, error))?;
        self.settle_origin()?;
        self.settle_own_tunnel()?;
        self.settle_timeouts(None);
        Ok(Settled(()))
    }

    /// Asks who the client is, and answers what goes no further.
    pub(super) async fn admit(
        &mut self,
        _: Settled,
        client: &mut MessageStream,
    ) -> Advance<Admitted> {
        self.refuse_loop()?;
        if let Some(answered) = self.authenticate(client).await? {
            return Ok(ControlFlow::Break(answered));
        }
        if let Some(reply) = self.own_answer()? {
            let answered = self.answer(client, &reply).await;
            return Ok(ControlFlow::Break(answered));
        }
        Ok(ControlFlow::Continue(Admitted(())))
    }

    /// A request that a route of the web server has sent on: who its client is was that route's to ask.
    pub(super) fn admit_forwarded(&mut self) -> Result<Admitted, ExchangeError> {
        self.refuse_loop()?;
        Ok(Admitted(()))
    }

    /// Asks the plugins about the request.
    pub(super) async fn decide(
        &mut self,
        _: Admitted,
        client: &mut MessageStream,
    ) -> Advance<Decided> {
        Ok(match self.ask_plugins(client).await? {
            Some(answered) => ControlFlow::Break(answered),
            None => ControlFlow::Continue(Decided(())),
        })
    }

    /// Reads the request's content, if somebody wants it whole; what was read for an earlier try is still there.
    pub(super) async fn prepare(
        &mut self,
        _: Decided,
        client: &mut MessageStream,
    ) -> Advance<Ready> {
        let is_taken = self.upload.collected.is_some();
        if self.has_content() && !is_taken {
            // Boxed: it would make every idle client connection larger.
            let taken = Box::pin(self.take_content(client));
            if let Some(answered) = taken.await? {
                return Ok(ControlFlow::Break(answered));
            }
        }
        Ok(ControlFlow::Continue(Ready(())))
    }
}
