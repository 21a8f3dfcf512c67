//! A TCP proxy before the API server, whose connections a test can end in mid-stream.
//!
//! What passes is TLS, so a connection is known by how much it carries: the one with megabytes is the
//! exec of the program that has megabytes.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::watch,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Both sides see its end (FIN).
    End,
    /// Both sides see an error (RST).
    Reset,
    /// Both sides still have it, and nothing passes.
    Stall,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the API server.
    Input,
    /// From it.
    Output,
}

/// What becomes of a connection once it has carried so many bytes that way.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    pub way: Way,
    pub bytes: u64,
    pub fault: Fault,
}

/// The proxy. It has threads of its own: a test's may wait for a server to end.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    cluster: SocketAddr,
    /// For the first connection that carries so much, and then for those that come after it.
    trap: Mutex<Option<(Fate, Vec<Fate>)>>,
    /// For connections that are yet to come, one for each.
    planned: Mutex<VecDeque<Fate>>,
    /// For all others that are yet to come.
    every: Mutex<Option<Fate>>,
    all: watch::Sender<Fault>,
}

impl Proxy {
    /// Passes everything on to `cluster`.
    pub fn before(cluster: SocketAddr) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            cluster,
            trap: Mutex::default(),
            planned: Mutex::default(),
            every: Mutex::default(),
            all: watch::Sender::new(Fault::End),
        });
        runtime.spawn(shared.clone().accept(listener));
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Decides about the first connection that carries so much, and about those that are made after that:
    /// then all that there are end, since one of them would be used instead.
    pub fn trap(&self, first: Fate, then: Vec<Fate>) {
        *self.shared.trap.lock().unwrap() = Some((first, then));
    }

    /// Ends all connections that there are.
    pub fn all(&self, fault: Fault) {
        self.shared.all.send_replace(fault);
    }

    /// Decides about every connection that is made from now on.
    pub fn every(&self, fate: Option<Fate>) {
        *self.shared.every.lock().unwrap() = fate;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((server, _)) = listener.accept().await {
            let next = self.planned.lock().unwrap().pop_front();
            let fate = next.or(*self.every.lock().unwrap());
            let told = self.all.subscribe();
            tokio::spawn(self.clone().carry(server, fate, told));
        }
    }

    async fn carry(
        self: Arc<Self>,
        mut server: TcpStream,
        planned: Option<Fate>,
        mut told: watch::Receiver<Fault>,
    ) {
        // Its own end, while a component is down.
        let Ok(mut cluster) = TcpStream::connect(self.cluster).await else {
            return;
        };
        let (mut from_server, mut to_server) = server.split();
        let (mut from_cluster, mut to_cluster) = cluster.split();
        let fault = tokio::select! {
            // An error: the proxy ends.
            _ = told.changed() => *told.borrow(),
            fault = self.pass(&mut from_server, &mut to_cluster, Way::Input, planned) => fault,
            fault = self.pass(&mut from_cluster, &mut to_server, Way::Output, planned) => fault,
        };
        match fault {
            Fault::End => {
                // Closed with something unread, it would be a reset.
                let _ = tokio::join!(to_server.shutdown(), to_cluster.shutdown());
                let (mut nowhere, mut neither) = (sink(), sink());
                let _ = tokio::join!(
                    copy(&mut from_server, &mut nowhere),
                    copy(&mut from_cluster, &mut neither),
                );
            }
            Fault::Reset => {
                let _ = server.set_zero_linger();
                let _ = cluster.set_zero_linger();
            }
            Fault::Stall => std::future::pending().await,
        }
    }

    fn sprung(&self, reached: impl Fn(&Fate) -> bool) -> Option<Fate> {
        let mut trap = self.trap.lock().unwrap();
        let (first, then) = trap.take_if(|(first, _)| reached(first))?;
        if !then.is_empty() {
            self.planned.lock().unwrap().extend(then);
            self.all.send_replace(first.fault);
        }
        Some(first)
    }

    /// Passes on what comes; returns how it ends.
    async fn pass(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        way: Way,
        planned: Option<Fate>,
    ) -> Fault {
        let mut carried = 0;
        let mut buffer = vec![0; 16 << 10];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return Fault::End;
            };
            let reached = |fate: &Fate| fate.way == way && carried + read as u64 >= fate.bytes;
            let fate = planned.filter(reached).or_else(|| self.sprung(reached));
            let passes = match fate {
                // Up to the very byte.
                Some(fate) => fate.bytes.saturating_sub(carried) as usize,
                None => read,
            };
            if to.write_all(&buffer[..passes]).await.is_err() {
                return Fault::End;
            }
            carried += passes as u64;
            if let Some(Fate { fault, .. }) = fate {
                return fault;
            }
        }
    }
}
