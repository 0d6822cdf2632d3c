//! Answers that take long, kept alive: a prompt on a small board takes minutes, and clients and proxies give up where they hear
//! nothing.

use super::answer::Answer;
use super::error::ApiError;
use crate::service::Event;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

/// How often white space goes ahead of a plain answer, once it does.
const SPACE: Duration = Duration::from_secs(10);
/// How often a stream says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(5);

/// How long a client may read nothing of what waits for it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Parts of a body that wait for the client.
const ROOM: usize = 64;

/// A body that is being written.
#[derive(Clone)]
pub(crate) struct Sink(Sender<io::Result<Bytes>>);

/// The client has gone.
pub(crate) struct Gone;

impl Sink {
    pub(crate) async fn send(&self, part: impl Into<Bytes>) -> Result<(), Gone> {
        match tokio::time::timeout(PATIENCE, self.0.send(Ok(part.into()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }

    /// Ends the body as one that is not whole.
    async fn abort(&self, error: &ApiError) {
        let _gone = self.0.send(Err(io::Error::other(error.message.clone()))).await;
    }

    /// The next event of an answer; `None` where there was none for a while.
    pub(crate) async fn next(&self, answer: &mut Answer) -> Result<Option<Event>, Gone> {
        tokio::select! {
            biased;
            () = self.0.closed() => Err(Gone),
            event = tokio::time::timeout(BEAT, answer.next()) => Ok(event.ok()),
        }
    }
}

/// A response whose body `write` writes as it comes.
pub(crate) fn stream<F>(kind: &'static str, write: impl FnOnce(Sink) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = channel(ROOM);
    tokio::spawn(write(Sink(sender)));
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold the stream back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A plain answer in JSON, kept alive by white space once it has taken `silence`, if that is anything. What goes wrong
/// after that ends the body unfinished, since the status has gone out.
pub(crate) async fn plain<F>(silence: Option<Duration>, work: F) -> Response
where
    F: Future<Output = Result<serde_json::Value, ApiError>> + Send + 'static,
{
    let mut work = Box::pin(work);
    let soon = match silence {
        Some(silence) => tokio::time::timeout(silence, &mut work).await.ok(),
        None => Some((&mut work).await),
    };
    match soon {
        Some(Ok(json)) => return Json(json).into_response(),
        Some(Err(error)) => return error.into_response(),
        None => {}
    }
    stream("application/json", move |sink| async move {
        let mut work = pin!(work);
        loop {
            sink.send(" ").await?;
            tokio::select! {
                biased;
                () = sink.0.closed() => return Err(Gone),
                done = &mut work => return match done {
                    Ok(json) => sink.send(json.to_string()).await,
                    Err(error) => {
                        sink.abort(&error).await;
                        Ok(())
                    }
                },
                () = tokio::time::sleep(SPACE) => {}
            }
        }
    })
}
