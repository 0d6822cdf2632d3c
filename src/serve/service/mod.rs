//! A model that answers several people at once.
//!
//! Requests wait in a [`Queue`]; one thread, the [`Worker`], has the engine and steps all of those together that have
//! a sequence. What becomes of each is told by [`Event`]s.

mod activity;
mod chunk;
mod job;
mod metrics;
mod models;
mod queue;
mod usual;
mod worker;

pub use activity::Activity;
pub use job::{Event, Job, Outcome};
pub use metrics::{Conditions, Metrics};
pub use models::{Exchange, Models};
pub(crate) use models::{Lease, NoLease, base};
pub use queue::{Queue, Refused};
pub use usual::{SamplingDefaults, Usual};
pub use worker::Worker;

use crate::chat::Chat;
use crate::constraint::Forms;
use crate::room::Room;
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use wick_core::HeadRows;
use wick_text::Tokenizer;

/// What stands between clients and the engine's thread.
#[derive(Debug)]
pub struct Service {
    /// Where requests wait.
    pub queue: Queue,
    /// What was done so far.
    pub metrics: Metrics,
    /// Memory that requests share.
    pub room: Arc<Room>,
    /// How tokens are drawn where a request does not say.
    pub usual: Arc<Usual>,
    /// The models, of which one is loaded at a time.
    pub models: Models,
    /// When it was asked for something last.
    pub activity: Activity,
    /// How long a request waits for the model.
    pub load_timeout: Duration,
    state: watch::Sender<State>,
}

/// How far the service is.
#[derive(Clone, Debug)]
pub enum State {
    /// The model is being loaded.
    Loading,
    /// It answers.
    Ready(Arc<Ready>),
    /// It does not, and will not.
    Failed(String),
}

/// A model that answers.
#[derive(Debug)]
pub struct Ready {
    /// What clients call it.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Memory that requests share.
    pub room: Arc<Room>,
    /// How tokens are drawn where a request does not say.
    pub usual: Arc<Usual>,
    /// What answers can be made to look like.
    pub forms: Forms,
    /// How conversations are written; or why they cannot be.
    pub chat: Result<Chat, String>,
    /// What every conversation begins with, unless it has a system message of its own.
    pub system: Option<String>,
    /// Positions of a sequence.
    pub context: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Values of a hidden state, and so of an embedding.
    pub hidden: usize,
    /// Sequences side by side.
    pub sequences: usize,
    /// Which logits are computed.
    pub head_rows: HeadRows,
    /// Most tokens of an answer where a request does not say.
    pub most: usize,
    /// How long a plain answer may take before white space goes ahead of it; `None` for ever.
    pub silence: Option<Duration>,
    /// When it was ready, in seconds since 1970.
    pub created: u64,
    /// Model, kernels and plan, to be shown.
    pub facts: Json,
}

impl Service {
    /// A service whose model is still to be loaded, in which `most` requests may wait, and share all else.
    pub fn new(
        most: usize,
        load_timeout: Duration,
        room: Room,
        models: Models,
        usual: SamplingDefaults,
    ) -> Service {
        let (state, _) = watch::channel(State::Loading);
        let (metrics, activity) = (Metrics::default(), Activity::default());
        let (queue, room, usual) = (Queue::new(most), Arc::new(room), Arc::new(Usual::new(usual)));
        Service { queue, metrics, room, usual, models, activity, load_timeout, state }
    }

    /// The model is there, or will never be.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until it is ready or has failed, or for as long as requests do.
    pub async fn loaded(&self) -> State {
        let mut state = self.state.subscribe();
        let loaded = state.wait_for(|state| !matches!(state, State::Loading));
        match tokio::time::timeout(self.load_timeout, loaded).await {
            Ok(Ok(state)) => state.clone(),
            _ => State::Loading,
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
