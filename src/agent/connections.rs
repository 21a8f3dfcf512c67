//! The byte streams that the server comes in by.
//!
//! The first may be the agent's own stdin and stdout. All others are brought by `sandpool-agent
//! attach`, which is started from outside the sandbox and hands over its stdin and stdout.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    time::sleep,
};

use super::{First, SOCKET, attached::Attached, processes, server::Agent, stream::DescriptorPair};
use crate::proto::agent::agent_service_server::AgentServiceServer;

/// Larger than what one stream may have under way (see the server's `sandbox::channel`), so that
/// h2's windows never bind before the protocol's own credit does.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_FRAME: u32 = 128 * 1024;
/// The largest start: a source, arguments and environment as the server takes them in a request of its own
/// (32 MiB), and what it adds.
const MAX_MESSAGE: usize = 33 << 20;
/// Programs at once, their reconnects, and the preparation.
const MAX_STREAMS: u32 = 1024;
/// How long nobody is let in after it was not possible.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The server asks every 15 s; one that has not been heard for longer than this has gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves all connections for as long as the sandbox lives.
pub(super) async fn serve(agent: Agent, attached: Attached, first: First) -> io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    // Each connection's task ends with the connection.
    if first == First::Stdio {
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
        tokio::spawn(serve_connection(agent.clone(), stdin, stdout, None));
    }
    loop {
        let Ok((attach, _)) = listener.accept().await else {
            // Too many files are open: the next one may find fewer.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (agent, attached) = (agent.clone(), attached.clone());
        tokio::spawn(async move {
            // Whoever is not let in is not answered.
            if let Ok((stdin, stdout)) = admit(&attach).await {
                let _attachment = attached.one_more();
                serve_connection(agent, stdin, stdout, Some(attach)).await;
            }
        });
    }
}

/// `attach` is held until the connection ends: its other end waits for that.
async fn serve_connection(agent: Agent, read: OwnedFd, write: OwnedFd, attach: Option<UnixStream>) {
    let Ok(stream) = DescriptorPair::new(read, write) else {
        return;
    };
    let agent = AgentServiceServer::new(agent).max_decoding_message_size(MAX_MESSAGE);
    let service = TowerToHyperService::new(agent);
    // How it ended does not matter: the server comes back or deletes the sandbox.
    let _ = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(attach.is_some().then_some(KEEPALIVE))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    drop(attach);
}

/// Takes two descriptors from a peer that was started from outside the sandbox.
async fn admit(attach: &UnixStream) -> io::Result<(OwnedFd, OwnedFd)> {
    // SO_PEERCRED names PID 1 itself in gVisor, whoever it is; SCM_CREDENTIALS tells the truth.
    set_socket_passcred(attach, true)?;
    loop {
        attach.readable().await?;
        match attach.try_io(Interest::READABLE, || receive(attach)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

fn receive(attach: &UnixStream) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        attach.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    let mut from_outside = false;
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
            RecvAncillaryMessage::ScmCredentials(peer) => {
                from_outside = processes::comes_from_outside(peer.pid);
            }
            _ => {}
        }
    }
    match <[OwnedFd; 2]>::try_from(descriptors) {
        Ok([read, write]) if from_outside => Ok((read, write)),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}
