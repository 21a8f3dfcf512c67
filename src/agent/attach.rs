//! `sandpool-agent attach`: started from outside the sandbox, it hands its stdin and stdout to
//! the agent and waits until the agent is done with them.

use std::{
    io::{self, IoSlice, Read},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt::set_socket_passcred,
};

use super::SOCKET;

/// How long the agent may take to be there: a container counts as running before its program has
/// done anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for. Its socket is a file that appears, and gVisor's inotify would have to
/// watch a directory that may not be there yet either.
const PAUSE: Duration = Duration::from_millis(5);

/// Brings the agent a connection.
///
/// # Errors
/// When the agent cannot be reached or does not take it.
pub fn attach() -> io::Result<()> {
    let mut agent = connect()?;
    // Whether the message carries who sent it is decided when it is sent. The agent asks for that
    // too, but it may only have come to its accept by then.
    set_socket_passcred(&agent, true)?;
    {
        let stdin = rustix::stdio::stdin();
        let stdout = rustix::stdio::stdout();
        let descriptors = [stdin.as_fd(), stdout.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            &agent,
            &[IoSlice::new(&[1])],
            &mut control,
            SendFlags::empty(),
        )?;
    }
    // The agent never writes here: it closes when the connection has ended.
    agent.read_to_end(&mut Vec::new()).map(drop)
}

fn connect() -> io::Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(SOCKET) {
            Err(error)
                if Instant::now() < deadline
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) =>
            {
                thread::sleep(PAUSE);
            }
            connected => return connected,
        }
    }
}
