//! Connections, and how they end.

use super::guard::NoBrowser;
use super::{Access, router};
use crate::service::Service;
use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

/// How long the head of a request may take, and how large it may be.
const HEAD_TIME: Duration = Duration::from_secs(15);
const HEAD_BYTES: usize = 64 << 10;
/// How long nothing is accepted after that failed, as it does where there are no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Where requests come from.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A name in the file system.
    Unix(UnixListener),
}

/// Ends a server from another thread.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// From here on no connection is accepted; requests that are being answered are still.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

/// A service over HTTP.
#[derive(Debug)]
pub struct Server {
    /// What answers.
    pub service: Arc<Service>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Where requests come from.
    pub listeners: Vec<Listener>,
    /// How long requests may still be answered after the end has begun.
    pub grace: Duration,
    shutdown: Shutdown,
}

impl Server {
    /// A server, and what ends it.
    pub fn new(
        service: Arc<Service>,
        access: Arc<Access>,
        listeners: Vec<Listener>,
        grace: Duration,
    ) -> (Server, Shutdown) {
        let shutdown = Shutdown(watch::channel(false).0);
        (Server { service, access, listeners, grace, shutdown: shutdown.clone() }, shutdown)
    }

    /// Answers on this thread until it is ended.
    ///
    /// # Errors
    /// There is no listening, or the system refuses what that takes.
    pub fn run(self) -> io::Result<()> {
        runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        // More wait until one ends.
        let room = Arc::new(Semaphore::new(self.service.room.connections()));
        let app = router(self.service, self.access);
        let graceful = Arc::new(GracefulShutdown::new());
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let connections = Connections {
                app: app.clone(),
                graceful: Arc::clone(&graceful),
                room: Arc::clone(&room),
            };
            let mut ending = self.shutdown.0.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    result = connections.accept(listener) => result,
                    _ = ending.wait_for(|is_ending| *is_ending) => Ok(()),
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        if let Ok(graceful) = Arc::try_unwrap(graceful).map_err(|_| "nobody else holds it") {
            let _cut_off = tokio::time::timeout(self.grace, graceful.shutdown()).await;
        }
        Ok(())
    }
}

/// What requests are answered on: this thread.
///
/// # Errors
/// The system refuses what that takes.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        // Templates are rendered there.
        .max_blocking_threads(2)
        .build()
}

/// What connections are answered with.
struct Connections {
    app: axum::Router,
    graceful: Arc<GracefulShutdown>,
    room: Arc<Semaphore>,
}

impl Connections {
    async fn accept(mut self, listener: Listener) -> io::Result<()> {
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let permit = Arc::clone(&self.room).acquire_owned().await;
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            // Tokens go out as they come.
                            let _slower_without = stream.set_nodelay(true);
                            self.answer(stream, permit);
                        }
                        Err(error) => rest(&error).await,
                    }
                }
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                self.app = self.app.layer(Extension(NoBrowser));
                loop {
                    let permit = Arc::clone(&self.room).acquire_owned().await;
                    match listener.accept().await {
                        Ok((stream, _)) => self.answer(stream, permit),
                        Err(error) => rest(&error).await,
                    }
                }
            }
        }
    }

    /// Answers the requests of a connection; `permit` is its place among those that there may be.
    fn answer<S>(&self, stream: S, permit: impl Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.app.clone()));
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection: {error}");
            }
            drop(permit);
        });
    }
}

async fn rest(error: &io::Error) {
    log::warn!("a connection is not accepted: {error}");
    tokio::time::sleep(REST).await;
}
