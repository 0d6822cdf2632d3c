//! How far something is, for whoever waits at a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Time after which what is not done is worth a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr, if that is a terminal and there is a second to wait. It goes when this is dropped.
pub(crate) struct Progress {
    start: Instant,
    all: u64,
    /// How the bar is drawn.
    template: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of `all` bytes.
    pub(crate) fn bytes(what: &str, all: u64) -> Progress {
        Progress::new(format!("{what} {{bar:30}} {{bytes}} of {{total_bytes}}, {{eta}} left"), all)
    }

    /// Of so many things, whose `name` is in the plural.
    pub(crate) fn count(what: &str, all: usize, name: &str) -> Progress {
        let template = format!("{what} {{bar:30}} {{pos}} of {{len}} {name}, {{eta}} left");
        Progress::new(template, all as u64)
    }

    fn new(template: String, all: u64) -> Progress {
        Progress { start: Instant::now(), all, template, bar: None }
    }

    /// So much of it is done.
    pub(crate) fn set(&mut self, done: u64) {
        if self.bar.is_none() && self.start.elapsed() >= PATIENCE {
            let style = ProgressStyle::with_template(&self.template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(self.all).with_elapsed(self.start.elapsed());
            self.bar = Some(bar.with_style(style));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.take().inspect(ProgressBar::finish_and_clear);
    }
}
