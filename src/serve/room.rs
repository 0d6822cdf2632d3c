//! Memory that requests share: what one needs beside the engine is taken here before it is there.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a permit.
const UNIT: usize = 1 << 10;
/// What a connection takes: its buffers and those of its socket.
const CONNECTION: usize = 48 << 10;
/// What the states of a form take at most.
pub(crate) const FORM: usize = 8 << 20;
/// Of a budget, one byte in so many is for requests, within these bounds.
const REQUESTS_SHARE: usize = 96;
const LEAST: usize = 4 << 20;
const MOST: usize = 128 << 20;
/// For so many bytes of requests there may be a connection, within these bounds.
const BYTES_PER_CONNECTION: usize = 128 << 10;
const LEAST_CONNECTIONS: usize = 48;
const MOST_CONNECTIONS: usize = 256;
/// Of a budget, one byte in so many is for forms, of which there may be at least one at a time and so many at most.
const FORMS_SHARE: usize = 64;
const MOST_FORMS: usize = 8;
/// How long a form waits at most until others are done with theirs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The memory of requests: bodies, prompts, the states of forms, answers that nobody has read yet.
#[derive(Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
    connections: usize,
    free_forms: Arc<Semaphore>,
    forms: usize,
}

/// A part of a [`Room`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    free: Arc<Semaphore>,
    bytes: usize,
    permit: OwnedSemaphorePermit,
}

/// Memory for the states of a form, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct FormShare {
    _permit: OwnedSemaphorePermit,
}

/// A room has not so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Even if nobody had any of it: it has so many bytes.
    Never(usize),
    /// As long as others have theirs.
    Now,
}

impl Room {
    /// What a process gives to requests that may take `budget` bytes; as much as is of use if nobody knows.
    pub fn within(budget: Option<usize>) -> Room {
        let bytes =
            budget.map_or(MOST, |bytes| bytes / REQUESTS_SHARE).clamp(LEAST, MOST) / UNIT * UNIT;
        let connections = bytes / BYTES_PER_CONNECTION;
        let forms = budget.map_or(MOST_FORMS, |bytes| bytes / FORMS_SHARE / FORM);
        let forms = forms.clamp(1, MOST_FORMS);
        Room {
            free: Arc::new(Semaphore::new(bytes / UNIT)),
            bytes,
            connections: connections.clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS),
            free_forms: Arc::new(Semaphore::new(forms)),
            forms,
        }
    }

    /// Connections that there may be at a time.
    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Bytes that requests have at the moment.
    pub(crate) fn taken(&self) -> usize {
        let forms = self.forms - self.free_forms.available_permits();
        self.bytes - self.free.available_permits() * UNIT + forms * FORM
    }

    /// Bytes of all of it: what a plan leaves free.
    pub fn total(&self) -> usize {
        self.bytes + self.connections * CONNECTION + self.forms * FORM
    }

    /// A part of so many bytes.
    ///
    /// # Errors
    /// There are not so many, or others have them.
    pub(crate) fn take(&self, bytes: usize) -> Result<Share, Crowded> {
        let permits = permits(bytes, self.bytes)?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(permits);
        let permit = permit.map_err(|_| Crowded::Now)?;
        Ok(Share { free: Arc::clone(&self.free), bytes: self.bytes, permit })
    }

    /// Memory for the states of a form, once there is any.
    ///
    /// # Errors
    /// Others have had it for too long.
    pub(crate) async fn take_form(&self) -> Result<FormShare, Crowded> {
        let permit = Arc::clone(&self.free_forms).acquire_owned();
        match tokio::time::timeout(PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(FormShare { _permit: permit }),
            _ => Err(Crowded::Now),
        }
    }
}

impl Share {
    /// Takes more, up to so many bytes in all.
    ///
    /// # Errors
    /// There are not so many, or others have them.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Crowded> {
        let more = permits(bytes, self.bytes)?.saturating_sub(self.permit.num_permits() as u32);
        if more > 0 {
            let permit = Arc::clone(&self.free).try_acquire_many_owned(more);
            self.permit.merge(permit.map_err(|_| Crowded::Now)?);
        }
        Ok(())
    }
}

/// Permits for so many bytes, of `all`.
fn permits(bytes: usize, all: usize) -> Result<u32, Crowded> {
    let fits = bytes <= all;
    fits.then(|| bytes.div_ceil(UNIT) as u32).ok_or(Crowded::Never(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_budget_within_bounds() {
        let total = |bytes| Room::within(Some(bytes)).total();
        assert_eq!(total(0), (4 << 20) + 48 * CONNECTION + FORM);
        assert_eq!(total(1 << 30), (10_922 << 10) + 85 * CONNECTION + 2 * FORM);
        assert_eq!(total(1 << 40), Room::within(None).total());
        assert_eq!(Room::within(None).total(), (128 << 20) + 256 * CONNECTION + 8 * FORM);
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let room = Room::within(Some(0));
        let half = LEAST / 2;
        let mut first = room.take(half).unwrap();
        let second = room.take(half).unwrap();
        assert_eq!(room.taken(), LEAST);
        assert_eq!(room.take(1).unwrap_err(), Crowded::Now);
        assert_eq!(first.grow_to(half + 1), Err(Crowded::Now));
        assert_eq!(first.grow_to(half), Ok(()));
        drop(second);
        assert_eq!(first.grow_to(half + 1), Ok(()));
        assert_eq!(room.taken(), half + UNIT);
        assert_eq!(first.grow_to(LEAST + 1), Err(Crowded::Never(LEAST)));
        drop(first);
        assert_eq!((room.taken(), room.take(LEAST).is_ok()), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn forms_wait_for_each_other_and_for_nothing_else() {
        let room = Arc::new(Room::within(Some(0)));
        let first = room.take_form().await.unwrap();
        assert_eq!(room.taken(), FORM);
        assert_eq!(room.take_form().await.unwrap_err(), Crowded::Now);
        let other = Arc::clone(&room);
        let waiting = tokio::spawn(async move { other.take_form().await.is_ok() });
        tokio::task::yield_now().await;
        assert!(room.take(LEAST).is_ok());
        drop(first);
        assert!(waiting.await.unwrap());
        assert_eq!(room.taken(), 0);
    }
}
