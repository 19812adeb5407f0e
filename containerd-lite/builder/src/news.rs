//! What a build tells while it goes on.

use std::time::Duration;

use tokio::sync::mpsc;

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A step begins.
    Begun {
        /// Its number, from one.
        step: u32,
        /// What it is, for a person: `[build 2/5] RUN make`.
        name: String,
    },
    /// Its result was there already.
    Cached {
        /// Its number.
        step: u32,
    },
    /// Its process wrote something.
    Output {
        /// Its number.
        step: u32,
        /// To standard error.
        stderr: bool,
        /// What.
        bytes: Vec<u8>,
    },
    /// It is done.
    Done {
        /// Its number.
        step: u32,
        /// How long it took.
        took: Duration,
    },
    /// It failed; why is the build's error.
    Failed {
        /// Its number.
        step: u32,
    },
    /// Something is questionable.
    Warning(String),
}

/// Where news go. A receiver that is away is no error; one that is slow is waited for, so that no output is lost.
#[derive(Debug, Clone)]
pub struct Teller(mpsc::Sender<News>);

impl Teller {
    /// Tells `news` to the other end of `sender`.
    #[must_use]
    pub fn new(sender: mpsc::Sender<News>) -> Self {
        Self(sender)
    }

    /// Tells one thing.
    pub async fn tell(&self, news: News) {
        let _ = self.0.send(news).await;
    }
}
