//! The connections to the API server are cut and stalled between the two, in mid-stream.

use std::time::Duration;

use crate::{
    POOLS, cluster,
    harness::*,
    proxied::Proxied,
    proxy::{Fate, Fault, Way},
    traffic::Traffic,
};

const MIB: usize = 1 << 20;

/// Megabytes one way, and little the other.
fn mostly(way: Way) -> Traffic {
    let (much, little) = (8 * MIB, MIB);
    let (input, output) = match way {
        Way::Input => (much, little),
        Way::Output => (little, much),
    };
    Traffic {
        output,
        input,
        piece: MIB / 16,
        pause: Duration::from_millis(20),
    }
}

/// In the midst of [`mostly`] that way.
fn amid(way: Way, fault: Fault) -> Fate {
    Fate {
        way,
        bytes: 3 * MIB as u64,
        fault,
    }
}

/// A program that streams meets its fate in mid-stream, and then those that try to go on with it.
async fn costs_no_byte(fate: Fate, then: Vec<Fate>) {
    // However busy the machine is.
    let server = Server::with(POOLS).env("SANDPOOL_BACKEND__REATTACH_TIMEOUT", "2m".into());
    let it = Proxied::start(server).await;
    let attempts_fail = !then.is_empty();
    it.proxy.trap(fate, then);
    let flow = mostly(fate.way).start(&it.client).await;
    cluster::cut(&it.server, &flow.sandbox).await;
    flow.whole().await;
    if attempts_fail {
        let failed = |line: &str| line.contains("agent was not reached");
        it.server.logged("a failed attempt", failed).await;
    }
    cluster::settled(&it.client).await;
}

#[tokio::test]
async fn a_websocket_that_ends_in_mid_output_costs_no_byte() {
    costs_no_byte(amid(Way::Output, Fault::End), Vec::new()).await;
}

#[tokio::test]
async fn a_websocket_that_ends_in_mid_input_costs_no_byte() {
    costs_no_byte(amid(Way::Input, Fault::End), Vec::new()).await;
}

#[tokio::test]
async fn a_websocket_that_is_reset_in_mid_output_costs_no_byte() {
    costs_no_byte(amid(Way::Output, Fault::Reset), Vec::new()).await;
}

#[tokio::test]
async fn a_websocket_that_is_reset_in_mid_input_costs_no_byte() {
    costs_no_byte(amid(Way::Input, Fault::Reset), Vec::new()).await;
}

#[tokio::test]
async fn a_websocket_that_stalls_in_mid_output_costs_no_byte() {
    costs_no_byte(amid(Way::Output, Fault::Stall), Vec::new()).await;
}

#[tokio::test]
async fn a_websocket_that_stalls_in_mid_input_costs_no_byte() {
    costs_no_byte(amid(Way::Input, Fault::Stall), Vec::new()).await;
}

/// Connections that end after more and more bytes: before TLS, in its handshake, at the request, at the
/// upgrade, and in the first words of the agent.
fn ever_later(way: Way, fault: Fault) -> Vec<Fate> {
    let fate = |bytes| Fate { way, bytes, fault };
    (0..4500).step_by(300).map(fate).collect()
}

#[tokio::test]
async fn a_cut_while_it_is_attached_again_costs_no_byte() {
    let later = ever_later(Way::Output, Fault::End);
    costs_no_byte(amid(Way::Output, Fault::Reset), later).await;
}

#[tokio::test]
async fn a_reset_while_it_is_attached_again_costs_no_byte() {
    let later = ever_later(Way::Input, Fault::Reset);
    costs_no_byte(amid(Way::Input, Fault::End), later).await;
}
