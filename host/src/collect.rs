//! Buffers a whole body, for plugins that cannot decide on a part of it. The caller sets the limit; `held` limits all
//! bodies of a worker together.

use std::time::Duration;

use crate::error::Cause;
use crate::held::HeldBytes;
use crate::http1::BodyDecoder;
use crate::stream::Reader;
use crate::turn::Steps;

/// A body that is being buffered.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) content: Vec<u8>,
    pub(crate) decoder: BodyDecoder,
    /// Counts the content while it exists, whoever owns it.
    held: HeldBytes,
}

impl Collected {
    pub(crate) fn new(decoder: BodyDecoder) -> Self {
        Self {
            content: Vec::new(),
            decoder,
            held: HeldBytes::default(),
        }
    }

    /// Reads until the end of the body (`true`), or until it exceeds `limit` bytes. The sender may pause for
    /// `patience`.
    ///
    /// # Errors
    /// The sender violated the framing, closed the connection or was too slow, or the worker holds too much already.
    pub(crate) async fn read(
        &mut self,
        from: &mut Reader<'_>,
        limit: u64,
        patience: Duration,
    ) -> Result<bool, Cause> {
        let mut steps = Steps::default();
        while !self.take_buffered(from, &mut steps)? {
            self.held.set(self.content.len() as u64)?;
            steps.pay().await;
            if self.content.len() as u64 > limit {
                return Ok(false);
            }
            from.deadline().arm(patience);
            let len = from.fill().await.map_err(Cause::io)?;
            if len == 0 {
                self.decoder.end_of_input().map_err(|_| Cause::Closed)?;
                break;
            }
        }
        Ok(self.content.len() as u64 <= limit)
    }

    fn take_buffered(&mut self, from: &mut Reader<'_>, steps: &mut Steps) -> Result<bool, Cause> {
        loop {
            let step = self.decoder.decode(from.buffered())?;
            steps.add(1);
            self.content
                .extend_from_slice(&from.buffered()[step.content.clone()]);
            from.consume(step.consumed);
            if step.end || step.consumed == 0 {
                return Ok(step.end);
            }
        }
    }
}
