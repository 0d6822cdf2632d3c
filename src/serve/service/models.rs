//! Several models by name, of which one is loaded at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// How long a model that could not be loaded is not tried again.
const REST: Duration = Duration::from_secs(10);

/// The models that a service has. A request holds a lease on the loaded one until its answer has gone out; a request for
/// another waits until nobody has any, and then has the models exchanged, before those who came later.
#[derive(Debug)]
pub struct Models {
    names: Vec<String>,
    /// Which one is loaded.
    loaded: Arc<RwLock<usize>>,
    exchange: Mutex<Option<Exchange>>,
    failed: Mutex<HashMap<usize, (Instant, String)>>,
}

/// Whoever has one is answered by the model that is loaded.
pub(crate) type Lease = OwnedRwLockReadGuard<usize>;

/// Another model is to be loaded; nobody is answered as long as this is held.
#[derive(Debug)]
pub struct Exchange {
    loaded: OwnedRwLockWriteGuard<usize>,
    before: usize,
}

/// Why there is no lease on a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLease {
    /// No model has this name.
    Unknown(String),
    /// It could not be loaded.
    Failed(String),
}

impl Models {
    /// Models of these names, of which the first one is loaded.
    pub fn new(names: Vec<String>) -> Models {
        let loaded = Arc::new(RwLock::new(0));
        Models { names, loaded, exchange: Mutex::default(), failed: Mutex::default() }
    }

    /// Their names.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Which one is asked for by this name; `None` where any will do.
    fn find(&self, name: Option<&str>) -> Result<Option<usize>, NoLease> {
        let name = name.map(base).filter(|name| !name.is_empty());
        let Some(name) = name.filter(|_| self.names.len() > 1) else { return Ok(None) };
        let found = self.names.iter().position(|known| base(known) == name);
        found.map(Some).ok_or_else(|| NoLease::Unknown(name.into()))
    }

    /// A lease on the model of this name, once it is loaded.
    pub(crate) async fn lease(&self, name: Option<&str>) -> Result<Lease, NoLease> {
        let wanted = self.find(name)?;
        loop {
            let lease = Arc::clone(&self.loaded).read_owned().await;
            let Some(wanted) = wanted.filter(|wanted| *wanted != *lease) else { return Ok(lease) };
            drop(lease);
            self.check(wanted)?;
            let mut loaded = Arc::clone(&self.loaded).write_owned().await;
            self.check(wanted)?;
            let before = std::mem::replace(&mut *loaded, wanted);
            if before != wanted {
                *lock(&self.exchange) = Some(Exchange { loaded, before });
            }
        }
    }

    /// Fails where a model could not be loaded just now.
    fn check(&self, wanted: usize) -> Result<(), NoLease> {
        match lock(&self.failed).get(&wanted) {
            Some((when, reason)) if when.elapsed() < REST => Err(NoLease::Failed(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Whether another model is to be loaded.
    pub fn is_exchanged(&self) -> bool {
        lock(&self.exchange).is_some()
    }

    /// What is to be loaded, if anything is.
    pub fn exchange(&self) -> Option<Exchange> {
        lock(&self.exchange).take()
    }

    /// A model could not be loaded: the one before is to be loaded again.
    pub fn fail(&self, exchange: &mut Exchange, reason: String) {
        lock(&self.failed).insert(*exchange.loaded, (Instant::now(), reason));
        *exchange.loaded = exchange.before;
    }
}

impl Exchange {
    /// Which model is to be loaded.
    pub fn model(&self) -> usize {
        *self.loaded
    }

    /// Whether it is another one than before.
    pub fn is_forward(&self) -> bool {
        *self.loaded != self.before
    }
}

/// A model's name without the tag that Ollama's clients add.
pub(crate) fn base(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Arc<Models> {
        Arc::new(Models::new(vec!["small".into(), "big".into()]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_is_exchanged_once_nobody_uses_it_and_before_who_comes_later() {
        let models = models();
        let first = models.lease(Some("small:latest")).await.unwrap();
        let any = models.lease(None).await.unwrap();
        let ask = |name: &'static str| {
            let models = Arc::clone(&models);
            tokio::spawn(async move { models.lease(Some(name)).await.map(|lease| *lease) })
        };
        let big = ask("big");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let later = ask("small");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!models.is_exchanged() && !big.is_finished() && !later.is_finished());
        drop((first, any));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let exchange = models.exchange().unwrap();
        assert_eq!((exchange.model(), big.is_finished()), (1, false));
        drop(exchange);
        assert_eq!(big.await.unwrap(), Ok(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(models.exchange().unwrap().model(), 0);
        assert_eq!(later.await.unwrap(), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_what_cannot_be_loaded_is_told_so() {
        let models = models();
        let none = models.lease(Some("none")).await.unwrap_err();
        assert_eq!(none, NoLease::Unknown("none".into()));
        let other = Arc::clone(&models);
        let asked = tokio::spawn(async move { other.lease(Some("big")).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut exchange = models.exchange().unwrap();
        assert!(exchange.is_forward());
        models.fail(&mut exchange, "too large".into());
        assert!(!exchange.is_forward());
        drop(exchange);
        assert_eq!(asked.await.unwrap().unwrap_err(), NoLease::Failed("too large".into()));
        assert_eq!(*models.lease(Some("small")).await.unwrap(), 0);
        assert!(models.lease(Some("big")).await.is_err() && !models.is_exchanged());
    }
}
