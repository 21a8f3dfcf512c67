//! The program's pipes, read and written as fast as the other side takes it.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Execution, index};
use crate::{
    agent::{
        contexts::Unread,
        pipes::{Stdin, enlarge},
        terminal::Terminal,
    },
    proto::agent::Stream,
};

/// The smallest buffer that a pipe is read into, and the largest. The first is a small one, since fresh
/// memory costs the agent more than anything: gVisor maps it in steps that wait for a processor, up to
/// milliseconds where few are shared by many, and just when the program starts.
const SMALLEST_BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 256 * 1024;
/// The least room that is worth a system call.
const MIN_READ: usize = 4096;

impl Execution {
    /// Gives the input to the program, as fast as it takes it.
    pub(super) async fn feed(self: Arc<Self>, stdin: Stdin) {
        let mut unused = match stdin {
            Stdin::Pipe(pipe) => Some(pipe),
            Stdin::Terminal(terminal) => return self.type_in(terminal).await,
        };
        let mut stdin = None;
        while let Some(data) = self.take_input().await {
            // Most programs get no input: registering their pipe, and taking it back, would be two
            // system calls for nothing.
            if let Some(pipe) = unused.take() {
                enlarge(&pipe);
                stdin = pipe::Sender::from_owned_fd(pipe.into()).ok();
            }
            if let Some(pipe) = &stdin
                && write_all(pipe, &data).await.is_err()
            {
                // It closed its stdin: what else comes is dropped, and acknowledged.
                stdin = None;
            }
            self.has_taken(data.len());
        }
    }

    /// Types the input, as fast as it is taken.
    async fn type_in(self: Arc<Self>, terminal: Terminal) {
        while let Some(data) = self.take_input().await {
            // What cannot be typed, since nobody has the terminal any more, is dropped.
            let _ = terminal.write_all(&data).await;
            self.has_taken(data.len());
        }
        let _ = terminal.write_all(Terminal::END_OF_FILE).await;
    }

    /// Reads what a terminal shows, as fast as there is credit, until nobody has it any more or, after the
    /// program's end, `ended` says.
    pub(super) async fn watch_terminal(
        self: Arc<Self>,
        terminal: Terminal,
        mut ended: watch::Receiver<Option<Instant>>,
    ) {
        // What it has shown when the program ended is read, however long that takes.
        let mut left_at_exit: Option<u64> = None;
        loop {
            let room = self.room(0).await;
            let deadline = *ended.borrow_and_update();
            if deadline.is_some() {
                left_at_exit.get_or_insert_with(|| terminal.unread());
            }
            let over = async {
                match deadline {
                    Some(deadline) if left_at_exit == Some(0) => sleep_until(deadline).await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                () = over => return,
                read = terminal.read(room.min(LARGEST_BUFFER)) => read,
                _ = ended.changed(), if deadline.is_none() => continue,
            };
            match read {
                Ok(piece) if !piece.is_empty() => {
                    if let Some(left) = &mut left_at_exit {
                        *left = left.saturating_sub(piece.len() as u64);
                    }
                    self.change(|state| state.push(0, piece));
                }
                // Linux says EIO once nobody has it any more.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Reads a pipe to its end, as fast as there is credit. After the program's end, what was left
    /// in the pipe is still read, and what its children write until `ended` says.
    pub(super) async fn pump(
        self: Arc<Self>,
        stream: Stream,
        mut pipe: pipe::Receiver,
        mut ended: watch::Receiver<Option<Instant>>,
    ) {
        let index = index(stream);
        let mut left_at_exit: Option<u64> = None;
        let mut buffer = BytesMut::new();
        let mut last_read = 0;
        loop {
            let room = self.room(index).await;
            make_room(&mut buffer, last_read);
            let deadline = *ended.borrow_and_update();
            let over = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            if deadline.is_some() {
                left_at_exit.get_or_insert_with(|| rustix::io::ioctl_fionread(&pipe).unwrap_or(0));
            }
            let drained = left_at_exit == Some(0);
            let mut within_room = (&mut buffer).limit(room);
            let read = pipe.read_buf(&mut within_room);
            let read = if drained {
                tokio::select! {
                    biased;
                    () = over => return,
                    read = read => read,
                }
            } else {
                tokio::select! {
                    biased;
                    read = read => read,
                    // Someone else read what was left: a pipe is open to everyone in the sandbox.
                    () = over => return,
                    _ = ended.changed(), if deadline.is_none() => continue,
                }
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    if let Some(left) = &mut left_at_exit {
                        *left = left.saturating_sub(read as u64);
                    }
                    last_read = read;
                    let piece = buffer.split().freeze();
                    self.change(|state| state.push(index, piece));
                }
            }
        }
    }

    /// Reads a context's pipe for one of its cells, as fast as there is credit: until the cell has ended and the stream
    /// has come as far as `ended` says, or nothing is left in the pipe.
    pub(super) async fn pump_cell(
        &self,
        index: usize,
        pipe: &mut pipe::Receiver,
        unread: &Unread,
        mut ended: watch::Receiver<Option<[u64; 2]>>,
    ) {
        let mut buffer = BytesMut::new();
        let mut last_read = 0;
        loop {
            let mut room = self.room(index).await;
            let end = ended.borrow_and_update().map(|ends| ends[index]);
            if let Some(end) = end {
                let left = end.saturating_sub(self.state().streams[index].end());
                // Someone else may have read it: a pipe is open to everyone in the sandbox.
                if left == 0 || unread.bytes(index) == 0 {
                    return;
                }
                room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            make_room(&mut buffer, last_read);
            let mut within_room = (&mut buffer).limit(room);
            tokio::select! {
                biased;
                read = pipe.read_buf(&mut within_room) => match read {
                    Ok(0) | Err(_) => {
                        // Nobody can write any more: its context has ended.
                        let _ = ended.wait_for(Option::is_some).await;
                        return;
                    }
                    Ok(read) => {
                        last_read = read;
                        let piece = buffer.split().freeze();
                        self.change(|state| state.push(index, piece));
                    }
                },
                _ = ended.changed(), if end.is_none() => {}
            }
        }
    }

    /// The next bytes of stdin; none at its end.
    pub(in crate::agent) async fn take_input(&self) -> Option<Bytes> {
        loop {
            let (next, ended) = {
                let mut state = self.state();
                (state.input.pop_front(), state.input_ended)
            };
            if next.is_some() || ended {
                return next;
            }
            self.input.notified().await;
        }
    }

    /// So many bytes of stdin need not be kept any more.
    pub(in crate::agent) fn has_taken(&self, length: usize) {
        self.change(|state| state.acknowledged.input_offset += length as u64);
    }

    /// Adds to a stream, as fast as there is credit.
    pub(super) async fn fill(&self, index: usize, mut data: Bytes) {
        while !data.is_empty() {
            let now = data.split_to(self.room(index).await.min(data.len()));
            self.change(|state| state.push(index, now));
        }
    }

    /// Waits until a stream may have more bytes, and tells how many.
    pub(super) async fn room(&self, index: usize) -> usize {
        loop {
            // Created before the look, so that no credit is missed.
            let credited = self.room.notified();
            let room = {
                let state = self.state();
                if state.abandoned {
                    usize::MAX
                } else {
                    state.streams[index].room()
                }
            };
            if room > 0 {
                return room;
            }
            credited.await;
        }
    }
}

/// Makes room for the next read, though not for each small one, since pieces of one buffer keep all of it. What is
/// given up here is less than what the last read took; what comes instead takes a few such reads.
fn make_room(buffer: &mut BytesMut, last_read: usize) {
    if buffer.capacity() < last_read.max(MIN_READ) {
        buffer.reserve((4 * last_read).clamp(SMALLEST_BUFFER, LARGEST_BUFFER));
    }
}

async fn write_all(pipe: &pipe::Sender, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        pipe.writable().await?;
        match pipe.try_write(data) {
            // Short writes are usual in gVisor.
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
