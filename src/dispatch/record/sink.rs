//! Where an execution's updates go.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::Record;
use crate::{
    dispatch::{Finished, Update},
    sandbox::{Event, Events},
};

/// Where an execution's updates go.
pub enum Sink {
    /// To its caller, with whom it ends. What is little is kept, too.
    Caller(mpsc::Sender<Update>, Arc<Record>),
    /// To whoever attaches.
    Kept(Arc<Record>),
}

impl Events for Sink {
    async fn gone(&self) {
        match self {
            Self::Caller(updates, _) => updates.closed().await,
            Self::Kept(record) => record.abandoned().await,
        }
    }

    async fn room(&self) {
        match self {
            Self::Caller(updates, _) => Events::room(updates).await,
            Self::Kept(record) => record.room().await,
        }
    }

    fn give(&self, event: Event) {
        match self {
            Self::Caller(updates, record) => {
                record.add_small(&event);
                updates.give(event);
            }
            Self::Kept(record) => record.add(event),
        }
    }
}

impl Sink {
    /// What is left, and then the end.
    pub(in crate::dispatch) async fn finish(
        &self,
        rest: Vec<Event>,
        finished: Box<Finished>,
        patience: Duration,
    ) {
        match self {
            Self::Kept(record) => {
                rest.into_iter().for_each(|event| record.add(event));
                record.finish(finished);
            }
            Self::Caller(updates, record) => {
                rest.iter().for_each(|event| record.add_small(event));
                record.finish(finished.clone());
                let last = Update::Finished(finished);
                for update in rest.into_iter().map(Update::Event).chain([last]) {
                    match timeout(patience, updates.send(update)).await {
                        Ok(Ok(())) => {}
                        // It has gone, or takes nothing.
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            }
        }
    }
}
