//! One call of the agent's Execute.
//!
//! The next one is made while nothing is asked yet, when the sandbox gets warm and in one that lives on
//! after each program, and waits for its first message like the interpreters wait for their code: a
//! request then wakes the agent once, for one frame, and not for a call before.

use std::{future::Future, pin::Pin};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Channel, words};
use crate::proto::agent::{FromAgent, ToAgent};

/// Messages to the agent that h2 has not taken yet.
const TO_AGENT: usize = 16;

/// Both directions of a call that the agent has answered.
pub(super) struct Link {
    pub(super) to_agent: mpsc::Sender<ToAgent>,
    pub(super) from_agent: Streaming<FromAgent>,
}

/// A call before the agent's answer, which follows the first message. Dropping it ends it.
pub(super) struct Call {
    pub(super) to_agent: mpsc::Sender<ToAgent>,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

type Answer = Result<Response<Streaming<FromAgent>>, Status>;

impl Call {
    /// Hands the call to h2.
    pub(super) async fn begin(channel: &Channel) -> Result<Self, String> {
        let (to_agent, messages) = mpsc::channel(TO_AGENT);
        let mut agent = channel.agent();
        let mut answer: Pin<Box<dyn Future<Output = Answer> + Send>> =
            Box::pin(async move { agent.execute(ReceiverStream::new(messages)).await });
        tokio::select! {
            biased;
            // Nothing was asked yet, so this can only be a refusal.
            early = &mut answer => Err(early.map_or_else(
                |status| words(status.message()),
                |_| "the agent answered before it was asked".into(),
            )),
            () = std::future::ready(()) => Ok(Self { to_agent, answer }),
        }
    }

    /// Waits for the agent's answer. The first message has to be under way.
    pub(super) async fn answered(self) -> Result<Link, String> {
        let answer = self.answer.await;
        Ok(Link {
            to_agent: self.to_agent,
            from_agent: answer
                .map_err(|status| words(status.message()))?
                .into_inner(),
        })
    }
}
