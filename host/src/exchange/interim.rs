//! Interim responses, and waiting for the final one.
//!
//! They are forwarded while the next head is awaited. Meanwhile the client may reset its connection, or read slowly while
//! the upstream sends more of them.

use super::state::unless_gone;
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::{HeadLimits, ResponseHead};
use crate::stream::{ReadHeadError, Reader, Writer};

/// Bytes of responses that may arrive while an interim one is on its way to the client.
const MAX_UNREAD_INTERIM: usize = 256 * 1024;
/// Reads a head, unless the client resets its connection before one is here.
pub(super) async fn unless_reset(
    from: &mut Reader<'_>,
    to: &Writer<'_>,
    limits: &HeadLimits,
    may_relax: impl Fn() -> bool,
    on_begun: impl Fn(),
) -> Result<Result<ResponseHead, ReadHeadError>, ExchangeError> {
    let received = async { Ok(from.read_response(limits, may_relax, on_begun).await) };
    unless_gone(to.reset(), received).await
}

/// Continues to read while an interim response is sent to a slow client: heads in HTTP/2 have no flow control, and would
/// accumulate.
pub(super) async fn unless_flooded(
    sent: impl Future<Output = Result<(), ExchangeError>>,
    from: &mut Reader<'_>,
) -> Result<(), ExchangeError> {
    let mut sent = std::pin::pin!(sent);
    let mut may_come_more = true;
    loop {
        tokio::select! {
            biased;
            sent = &mut sent => return sent,
            filled = from.fill(), if may_come_more => {
                // An error shows again when the next head is read.
                may_come_more = matches!(filled, Ok(len) if len > 0);
                if from.buffered().len() <= MAX_UNREAD_INTERIM {
                    continue;
                }
                // The final response has flow control.
                may_come_more &= !holds_final(from.buffered());
                if may_come_more {
                    return Err(ExchangeError::new(
                        Peer::Upstream,
                        Step::ReadHead,
                        Refusal::TooManyInterim,
                    ));
                }
            }
        }
    }
}

/// Whether a final response has begun in what was received, which is a series of heads until then.
fn holds_final(mut received: &[u8]) -> bool {
    while let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
        if !received.starts_with(b"HTTP/1.1 1") {
            return true;
        }
        received = &received[end + 4..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::holds_final;

    #[test]
    fn a_final_response_is_found_behind_interim_ones() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(3);
        assert!(!holds_final(&interim));
        let with_final = [&interim[..], b"HTTP/1.1 200 OK\r\n\r\nbody"].concat();
        assert!(holds_final(&with_final));
        assert!(!holds_final(&with_final[..interim.len() + 10]));
    }
}
