//! WebSockets in parts: heads of frames and their masks, messages out of frames (RFC 6455).
//!
//! [`FrameHead`] and [`HeadReader`] read and write what comes before a payload, [`apply_mask`] is for the payload.
//! [`Assembly`] makes messages of what comes from one side, piece by piece, and refuses what breaks the protocol; the
//! proxy reads WebSockets with it, too. Nothing in here does input or output.

mod assembly;
mod error;
mod head;

pub use assembly::{Assembly, Message};
pub use error::FrameError;
pub use head::{FrameHead, HeadReader, Opcode, Sender, apply_mask, check_close, check_message};
