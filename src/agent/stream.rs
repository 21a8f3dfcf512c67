//! Two descriptors, which may be one socket or two pipes, as one stream that wakes the agent seldom.
//!
//! What epoll watches for room wakes the agent each time that the other side has read, for nothing, and just then when
//! that side wants the processor. So a descriptor is tried first, and watched from when it could not go on.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// A stream of two descriptors.
pub(super) struct DescriptorPair {
    read: Tried,
    write: Tried,
}

impl DescriptorPair {
    pub(super) fn new(read: OwnedFd, write: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            read: Tried::new(read, Interest::READABLE)?,
            write: Tried::new(write, Interest::WRITABLE)?,
        })
    }

    pub(super) fn of_socket(socket: OwnedFd) -> io::Result<Self> {
        // epoll watches a descriptor once.
        Self::new(socket.try_clone()?, socket)
    }

    /// Nothing is expected of the other side: what it does wakes nobody, until the next read.
    pub(super) fn rest(&mut self) {
        self.read.watch = None;
    }

    /// Writes by `attempt`, which is given the descriptor, returns how many bytes it has written, and has `length` of
    /// them.
    pub(super) fn poll_write_by(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.write.poll(cx, length, attempt)
    }
}

/// A descriptor that is tried first.
struct Tried {
    /// Dropped before the descriptor is closed.
    watch: Option<AsyncFd<RawFd>>,
    descriptor: OwnedFd,
    interest: Interest,
}

impl Tried {
    fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self {
            watch: None,
            descriptor,
            interest,
        })
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(watch) = &self.watch else {
                match attempt(self.descriptor.as_fd()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.watch = Some(watch(&self.descriptor, self.interest)?);
                        continue;
                    }
                    done => return Poll::Ready(done),
                }
            };
            let mut guard = ready!(if self.interest.is_readable() {
                watch.poll_read_ready(cx)
            } else {
                watch.poll_write_ready(cx)
            })?;
            if let Ok(result) = guard.try_io(|_| attempt(self.descriptor.as_fd())) {
                let done = result?;
                // There was no more, or no more room: that there is again comes with a new event (epoll(7),
                // "partial" reads of streams), so another call just to hear that is saved.
                if 0 < done && done < length {
                    guard.clear_ready();
                }
                return Poll::Ready(Ok(done));
            }
        }
    }
}

fn watch(descriptor: &OwnedFd, interest: Interest) -> io::Result<AsyncFd<RawFd>> {
    // SAFETY: the descriptor stays open while it is registered, since the AsyncFd is dropped before it.
    unsafe {
        Ok(AsyncFd::register_with_interest(
            descriptor.as_raw_fd(),
            interest,
        )?)
    }
}

impl AsyncRead for DescriptorPair {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: nothing but what the kernel has written is made of it.
        let unfilled = unsafe { buf.unfilled_mut() };
        let length = unfilled.len();
        let read = |descriptor: BorrowedFd<'_>| {
            let (read, _) = rustix::io::read(descriptor, &mut *unfilled)?;
            Ok(read.len())
        };
        let read = ready!(self.read.poll(cx, length, read))?;
        // SAFETY: the kernel has written so many bytes from the beginning.
        unsafe { buf.assume_init(read) };
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DescriptorPair {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_by(cx, length, |descriptor| {
            Ok(rustix::io::writev(descriptor, bufs)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        future::ready,
        io::{Read, Write},
        net::Shutdown,
        os::unix::net::UnixStream,
        pin::pin,
        thread,
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (DescriptorPair, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (DescriptorPair::of_socket(ours.into()).unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_is_there_is_read_unwatched_and_what_is_not_is_awaited() {
        let (mut stream, mut theirs) = pair();
        theirs.write_all(b"a").unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        assert!(stream.read.watch.is_none());
        let later = async {
            theirs.write_all(b"bc").unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
        };
        let (read, ()) = tokio::join!(biased; stream.read_u8(), later);
        assert_eq!(read.unwrap(), b'b');
        assert!(stream.read.watch.is_some(), "it could not go on");
        stream.rest();
        assert_eq!(stream.read_u8().await.unwrap(), b'c');
        assert!(stream.read.watch.is_none());
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the end");
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_written_later() {
        let (mut stream, mut theirs) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n as u8).collect();
        let mut got = vec![0; sent.len()];
        let mut writing = pin!(stream.write_all(&sent));
        tokio::select! {
            biased;
            _ = &mut writing => panic!("there was room for all of it"),
            () = ready(()) => {}
        }
        let reader = thread::spawn(move || {
            theirs.read_exact(&mut got).unwrap();
            got
        });
        writing.await.unwrap();
        assert!(reader.join().unwrap() == sent);
    }
}
