//! What systemd is told of a service, and its watchdog.

use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::thread::sleep;

/// Bytes of the stack of the thread that feeds the watchdog.
const STACK: usize = 128 << 10;
/// How often progress is looked for in the time that the watchdog waits.
const LOOKS: u32 = 4;

/// The service answers, as `status` says.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What the service does, for people.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The service is ending.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Whoever runs no service by systemd is told nothing.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        log::warn!("systemd: {error}");
    }
}

/// Feeds the watchdog, if there is one, as long as anything goes on.
pub(crate) fn watch() {
    let Some(patience) = watchdog_enabled() else { return };
    let feed = move || {
        let mut seen = None;
        loop {
            let progress = wick_linux::progress();
            if seen.replace(progress) != Some(progress) {
                tell(&[NotifyState::Watchdog]);
            }
            sleep(patience / LOOKS);
        }
    };
    if let Err(error) = wick_linux::spawn("watchdog", STACK, feed) {
        log::warn!("the watchdog is not fed: {error}");
    }
}
