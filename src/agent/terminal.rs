//! A terminal that a program runs on, as the agent holds it: the master's end of a pair (pty(7)).

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::proto::agent;

/// One terminal. Its program's end of it is gone when all clones are dropped.
#[derive(Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// What is typed to say that nothing follows, unless the program has changed that.
    pub(super) const END_OF_FILE: &[u8] = b"\x04";

    /// A new one of that size.
    pub(super) fn open(size: agent::Terminal) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the AsyncFd owns the descriptor, which therefore stays open while it is registered.
        let master = unsafe { AsyncFd::register_with_interest(master, interest)? };
        let terminal = Self(Arc::new(master));
        terminal.resize(size);
        Ok(terminal)
    }

    /// Makes it the terminal of a program that is about to start, as the leader of a session of its own.
    pub(super) fn attach(&self, command: &mut Command) -> io::Result<()> {
        let name = ptsname(self.0.get_ref(), Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty())?;
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        // SAFETY: only calls setsid and ioctl, which are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// Gives it another size. Whose terminal it is has to be told ([`processes::tell_of_size`]).
    pub(super) fn resize(&self, size: agent::Terminal) {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: cells(size.rows),
            ws_col: cells(size.columns),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // It fails only when nobody has the terminal any more.
        let _ = tcsetwinsize(self.0.get_ref(), size);
    }

    /// How many bytes it has shown that were not read.
    pub(super) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(self.0.get_ref()).unwrap_or(0)
    }

    /// What it shows next, at most so many bytes.
    pub(super) async fn read(&self, most: usize) -> io::Result<Bytes> {
        let mut piece = vec![0; most.min(4096)];
        let read = self
            .0
            .async_io(Interest::READABLE, |master| {
                Ok(rustix::io::read(master, &mut piece[..])?)
            })
            .await?;
        piece.truncate(read);
        Ok(piece.into())
    }

    /// Types all of it.
    pub(super) async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self
                .0
                .async_io(Interest::WRITABLE, |master| {
                    Ok(rustix::io::write(master, data)?)
                })
                .await?;
            data = &data[written..];
        }
        Ok(())
    }
}
