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
/// Silence may be a lost packet.
const SILENT_ROUNDS: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);

/// What trying an address told.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Reached,
    /// There is no way to it.
    Unreachable,
    Silent,
}

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
            attempts.spawn(async move { (attempt(&address).await, address) });
        }
        let answers = attempts.join_all().await;
        let is_silent = answers.iter().any(|(answer, _)| *answer == Attempt::Silent);
        let reached: Vec<_> = answers
            .into_iter()
            .filter_map(|(answer, address)| (answer == Attempt::Reached).then_some(address))
            .collect();
        let is_over = if reached.is_empty() {
            silent += 1;
            !is_silent || silent >= SILENT_ROUNDS
        } else {
            silent = 0;
            Instant::now() >= deadline
        };
        if is_over {
            return reached;
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(address: &str) -> Attempt {
    let Ok(address) = address.parse::<SocketAddr>() else {
        // What cannot be tried is not proven to be closed.
        return Attempt::Reached;
    };
    match timeout(ATTEMPT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Attempt::Reached,
        Ok(Err(error)) => match error.kind() {
            // A refusal is an answer.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Attempt::Reached,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Attempt::Unreachable
            }
            _ => Attempt::Silent,
        },
        Err(_) => Attempt::Silent,
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
        assert_eq!(attempt(&open).await, Attempt::Reached);
        drop(listener);
        assert_eq!(attempt(&open).await, Attempt::Reached, "it is refused now");
        assert_eq!(attempt("no address").await, Attempt::Reached);
        assert_eq!(reached(vec![open.clone()]).await, [open]);
    }

    /// A sandbox without a network has no packets to lose, and is not to be kept waiting.
    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_way_nothing_is_tried_again() {
        // No TCP connection goes to a group: ENETUNREACH, with a network and without.
        let group = "224.0.0.1:9".to_owned();
        assert_eq!(attempt(&group).await, Attempt::Unreachable);
        let begun = Instant::now();
        assert!(reached(vec![group]).await.is_empty());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn where_nothing_is_named_nothing_is_tried() {
        assert!(reached(Vec::new()).await.is_empty());
    }
}
