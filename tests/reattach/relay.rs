//! A backend whose connections a test can cut, reset, stall and refuse.
//!
//! Each byte stream of the real backend goes through a relay with small buffers. What is in them
//! when a connection ends is lost, in both directions, as it is on a network.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use sandpool::backend::{
    Backend, BoxedByteStream, ConnectError, DeleteError, SandboxId, StartError, StartedSandbox,
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        WriteHalf, duplex, split,
    },
    sync::watch,
};

/// What the relay holds of each direction.
const BUFFER: usize = 64 * 1024;

/// More than an h2 connection begins with, and less than with a call: preface, SETTINGS,
/// WINDOW_UPDATE; HEADERS.
const BEFORE_A_CALL: u64 = 100;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both ends see the end of the stream.
    Cut,
    /// The server sees an error.
    Reset,
    /// Nothing passes any more, and nobody is told.
    Stall,
}

/// When it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Once so many bytes have come from the agent.
    FromAgent(u64),
    /// Once so many bytes have gone to the agent.
    ToAgent(u64),
    /// Once the agent has ended the execution's stream. What it says in it after these bytes,
    /// wherever they come, does not arrive.
    EndAfter(&'static [u8]),
    /// When the test says so.
    Told,
}

/// What becomes of the connections, and how many there have been.
pub(crate) struct Faults {
    planned: Mutex<VecDeque<(When, Fault)>>,
    refusing: AtomicBool,
    refused: watch::Sender<usize>,
    /// Whether the program's output goes to the server beside the relay, and not through it.
    direct_output: AtomicBool,
    connections: watch::Sender<usize>,
    /// What the server has said over connections that stall, in bytes.
    unheard: watch::Sender<u64>,
    told: watch::Sender<Option<(usize, Fault)>>,
}

impl Faults {
    fn new() -> Self {
        Self {
            planned: Mutex::default(),
            refusing: AtomicBool::new(false),
            refused: watch::Sender::new(0),
            direct_output: AtomicBool::new(false),
            connections: watch::Sender::new(0),
            unheard: watch::Sender::new(0),
            told: watch::Sender::new(None),
        }
    }

    /// Waits until so many attempts to connect have been refused.
    pub(crate) async fn has_refused(&self, attempts: usize) {
        let mut refused = self.refused.subscribe();
        // The sender is held by this very value.
        let _ = refused.wait_for(|count| *count >= attempts).await;
    }

    pub(crate) fn let_output_pass_beside(&self) {
        self.direct_output.store(true, Ordering::SeqCst);
    }

    /// What ends the next connection of which nothing was planned yet. Further ones last.
    pub(crate) fn plan(&self, when: When, fault: Fault) {
        self.planned.lock().unwrap().push_back((when, fault));
    }

    /// Ends the present connection.
    pub(crate) fn now(&self, fault: Fault) {
        let connection = *self.connections.borrow();
        self.told.send_replace(Some((connection, fault)));
    }

    /// Whether new connections fail.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until there have been so many connections.
    pub(crate) async fn connected(&self, times: usize) {
        let mut connections = self.connections.subscribe();
        connections.wait_for(|now| *now >= times).await.unwrap();
    }

    /// Waits until the server has made a call over a connection that stalls from its beginning.
    pub(crate) async fn called_in_vain(&self) {
        let mut unheard = self.unheard.subscribe();
        unheard.wait_for(|now| *now > BEFORE_A_CALL).await.unwrap();
    }
}

/// One sandbox's backend, behind relays.
pub(crate) struct Relayed {
    inner: Arc<dyn Backend>,
    pub(crate) faults: Arc<Faults>,
}

impl Relayed {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Self {
        Self {
            inner,
            faults: Arc::new(Faults::new()),
        }
    }

    fn relay(&self, agent: BoxedByteStream) -> BoxedByteStream {
        let (server, relay) = duplex(BUFFER);
        let (when, fault) = self
            .faults
            .planned
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or((When::Told, Fault::Cut));
        self.faults.connections.send_modify(|count| *count += 1);
        let reset = Arc::new(AtomicBool::new(false));
        let connection = Connection {
            number: self.faults.connections(),
            told: self.faults.told.subscribe(),
            when,
            fault,
            reset: reset.clone(),
            unheard: self.faults.unheard.clone(),
        };
        tokio::spawn(connection.carry(relay, agent));
        Box::pin(ServerEnd {
            stream: server,
            reset,
        })
    }
}

#[async_trait]
impl Backend for Relayed {
    async fn start(&self, id: &SandboxId, outputs: u32) -> Result<StartedSandbox, StartError> {
        let direct = self.faults.direct_output.load(Ordering::SeqCst);
        let started = self
            .inner
            .start(id, if direct { outputs } else { 0 })
            .await?;
        Ok(StartedSandbox {
            channel: self.relay(started.channel),
            death: started.death,
            outputs: started.outputs,
            must_not_reach: started.must_not_reach,
        })
    }

    async fn connect(&self, id: &SandboxId) -> Result<BoxedByteStream, ConnectError> {
        if self.faults.refusing.load(Ordering::SeqCst) {
            self.faults.refused.send_modify(|count| *count += 1);
            return Err(ConnectError {
                id: id.clone(),
                reason: "refused by the test".into(),
            });
        }
        Ok(self.relay(self.inner.connect(id).await?))
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), DeleteError> {
        self.inner.delete(id).await
    }
}

struct Connection {
    number: usize,
    told: watch::Receiver<Option<(usize, Fault)>>,
    when: When,
    fault: Fault,
    reset: Arc<AtomicBool>,
    unheard: watch::Sender<u64>,
}

impl Connection {
    async fn carry(mut self, server: DuplexStream, agent: BoxedByteStream) {
        let (mut from_server, mut to_server) = split(server);
        let (from_agent, to_agent) = split(agent);
        let limit = |bytes: Option<u64>| bytes.unwrap_or(u64::MAX);
        let up = match self.when {
            When::ToAgent(bytes) => Some(bytes),
            _ => None,
        };
        let down = match self.when {
            When::FromAgent(bytes) => Some(bytes),
            _ => None,
        };
        let marker = match self.when {
            When::EndAfter(marker) => Some(marker),
            _ => None,
        };
        let number = self.number;
        let fault = tokio::select! {
            biased;
            told = self.told.wait_for(|told| told.is_some_and(|(n, _)| n == number)) =>
                // An error: the test has ended.
                told.ok().and_then(|told| *told).map_or(self.fault, |(_, fault)| fault),
            // First: a connection that says nothing from its beginning hears nothing, either.
            () = async {
                match marker {
                    None => pass(from_agent, &mut to_server, limit(down)).await,
                    Some(marker) => pass_until_end(from_agent, &mut to_server, marker).await,
                }
            } => self.fault,
            () = pass(&mut from_server, to_agent, limit(up)) => self.fault,
        };
        tracing::info!(number, ?fault, when = ?self.when, "connection ends");
        match fault {
            Fault::Cut => {}
            Fault::Reset => self.reset.store(true, Ordering::SeqCst),
            Fault::Stall => {
                // Until the server gives it up.
                let mut buffer = vec![0; BUFFER];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    self.unheard.send_modify(|bytes| *bytes += read as u64);
                }
            }
        }
    }
}

/// Copies at most `limit` bytes.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) {
    let mut left = limit;
    let mut buffer = vec![0; BUFFER];
    while left > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else {
            return;
        };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read as u64;
    }
}

/// Copies h2 frames (RFC 9113, 4.1). After one that holds `marker`, those of the execution's stream
/// are swallowed until the stream ends.
async fn pass_until_end(
    mut from: ReadHalf<BoxedByteStream>,
    to: &mut WriteHalf<DuplexStream>,
    marker: &[u8],
) {
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    // Of the streams that a client opens, 1 is the preparation and 3 the rehearsal.
    const EXECUTION: [u8; 4] = 5u32.to_be_bytes();
    let mut swallowing = false;
    loop {
        let mut frame = vec![0; 9];
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        let execution = frame[5..9] == EXECUTION;
        let ends = execution && frame[3] == HEADERS && frame[4] & END_STREAM != 0;
        frame.resize(9 + length, 0);
        if from.read_exact(&mut frame[9..]).await.is_err() || ends {
            return;
        }
        if !(swallowing && execution) && to.write_all(&frame).await.is_err() {
            return;
        }
        swallowing |= frame.windows(marker.len()).any(|window| window == marker);
    }
}

/// The server's end. A reset is no end of the stream but an error.
struct ServerEnd {
    stream: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() == before && self.reset.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
