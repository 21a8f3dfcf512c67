//! Whether the network is as closed as it is to be, tried from inside.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Policies come into force some time after a pod has started.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one address may take to answer; where packets are dropped there is no answer. The first
/// packet is sent again after one second.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A silent round may be a lost packet.
const SILENT_ROUNDS: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);

/// Which of the addresses are reached, once none is or the patience is over. Nothing is tried where
/// none is named.
pub(super) async fn reached(mut addresses: Vec<String>) -> Vec<String> {
    if addresses.is_empty() {
        return addresses;
    }
    // As pods are told where their API server is.
    if let (Ok(host), Ok(port)) = (
        std::env::var("KUBERNETES_SERVICE_HOST"),
        std::env::var("KUBERNETES_SERVICE_PORT"),
    ) {
        addresses.push(format!("{host}:{port}"));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut silent = 0;
    loop {
        let mut attempts = JoinSet::new();
        for address in addresses.clone() {
            attempts.spawn(async move { is_reached(&address).await.then_some(address) });
        }
        let reached: Vec<_> = attempts.join_all().await.into_iter().flatten().collect();
        silent = if reached.is_empty() { silent + 1 } else { 0 };
        if silent >= SILENT_ROUNDS || (silent == 0 && Instant::now() >= deadline) {
            return reached;
        }
        sleep(PAUSE).await;
    }
}

async fn is_reached(address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else {
        // What cannot be tried is not proven to be closed.
        return true;
    };
    match timeout(ATTEMPT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        // A refusal is an answer.
        Ok(Err(error)) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
        ),
        Err(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_any_kind_is_reaching() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().to_string();
        assert!(is_reached(&open).await);
        drop(listener);
        assert!(is_reached(&open).await, "it is refused now");
        assert!(is_reached("no address").await);
        assert_eq!(reached(vec![open.clone()]).await, [open]);
    }

    #[tokio::test]
    async fn silence_and_no_route_are_not() {
        // A multicast address takes no connection.
        assert!(!is_reached("224.0.0.1:80").await);
        assert!(reached(Vec::new()).await.is_empty());
    }
}
