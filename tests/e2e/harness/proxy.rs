//! A TCP proxy before the server, whose connection can be cut, reset or silenced.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Takes one connection and passes it on.
pub struct Proxy {
    pub address: SocketAddr,
    command: mpsc::Sender<End>,
    task: JoinHandle<()>,
}

enum End {
    Reset(oneshot::Sender<()>),
    Silence(oneshot::Sender<()>),
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (command, mut commands) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let end = tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                end = commands.recv() => end,
            };
            match end {
                Some(End::Reset(done)) => {
                    // Closing without lingering sends RST.
                    #[allow(deprecated)]
                    server.set_linger(Some(Duration::ZERO)).unwrap();
                    drop(server);
                    let _ = done.send(());
                }
                Some(End::Silence(done)) => {
                    let _ = done.send(());
                    // Both connections stay open, and nothing passes.
                    commands.recv().await;
                }
                None => {}
            }
        });
        Self {
            address,
            command,
            task,
        }
    }

    /// Resets the server's connection.
    pub async fn reset(&self) {
        let (done, is_done) = oneshot::channel();
        self.command.send(End::Reset(done)).await.unwrap();
        is_done.await.unwrap();
    }

    /// From now on nothing passes, though the connections stay open.
    pub async fn silence(&self) {
        let (done, is_done) = oneshot::channel();
        self.command.send(End::Silence(done)).await.unwrap();
        is_done.await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
