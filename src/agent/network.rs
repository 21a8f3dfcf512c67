//! Whether the network is as closed as it is to be, tried from inside.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Policies come into force some time after a pod has started.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one address may take to answer; where packets are dropped there is no answer.
const ATTEMPT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(500);

/// Which of the addresses are reached, once none is or the patience is over.
pub(super) async fn reached(addresses: Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut attempts = JoinSet::new();
        for address in addresses.clone() {
            attempts.spawn(async move { is_reached(&address).await.then_some(address) });
        }
        let reached: Vec<_> = attempts.join_all().await.into_iter().flatten().collect();
        if reached.is_empty() || Instant::now() >= deadline {
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
