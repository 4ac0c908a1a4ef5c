//! Messages with file descriptors, over a Unix socket (SCM_RIGHTS).
//!
//! One call of [`send`] or [`receive`] is one system call. Descriptors arrive with the first byte that was sent with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors of one message; the system allows 253.
pub(crate) const MAX_DESCRIPTORS: usize = 64;

/// Sends bytes, and with the first of them at most [`MAX_DESCRIPTORS`] descriptors; returns how many bytes were sent.
///
/// # Errors
/// As sendmsg(2).
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes into `buffer`, and descriptors that came with them, which no child inherits; returns how many bytes
/// were received, 0 at the end.
///
/// # Errors
/// As recvmsg(2); or the sender has sent more descriptors than [`MAX_DESCRIPTORS`] or than this process may open.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "not all descriptors fit: raise the limit of open files",
        ));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut passed, mut kept) = UnixStream::pair().unwrap();
        assert_eq!(
            send(&one, b"with", &[kept.as_fd(), passed.as_fd()]).unwrap(),
            4
        );
        assert_eq!(send(&one, b"without", &[]).unwrap(), 7);
        let (mut buffer, mut received) = ([0; 64], Vec::new());
        let len = receive(&other, &mut buffer, &mut received).unwrap();
        assert_eq!((&buffer[..len], received.len()), (&b"with"[..], 2));
        let len = receive(&other, &mut buffer, &mut received).unwrap();
        assert_eq!((&buffer[..len], received.len()), (&b"without"[..], 2));
        passed.write_all(b"!").unwrap();
        let mut copy = UnixStream::from(received.remove(0));
        copy.read_exact(&mut buffer[..1]).unwrap();
        assert_eq!(buffer[0], b'!');
        drop(one);
        assert_eq!(receive(&other, &mut buffer, &mut received).unwrap(), 0);
        drop(kept.write_all(b"?"));
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (one, _other) = UnixStream::pair().unwrap();
        let many = vec![one.as_fd(); MAX_DESCRIPTORS + 1];
        let error = send(&one, b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
