//! Requests from a file in place of the network: OpenAI's batch files.
//!
//! A line asks for what a request over HTTP would, and is answered by the same handlers; so the answer is the same.
//!
//! ```text
//!   IN.jsonl ──── read ─────► Line ─┐ those that OUT has no answer to
//!                                   ▼
//!                              answer_all ──► router ──► Queue ──► Worker
//!                                   │
//!   OUT.jsonl ◄─ Output::append ◄───┘ as they come
//! ```

mod input;
mod output;

pub use input::{InputError, Line, read};
pub use output::{Output, OutputError};

use crate::http::{Access, router, runtime};
use crate::service::Service;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long a line rests that the others leave no memory for.
const REST: Duration = Duration::from_millis(100);

/// Answers lines on this thread, some at once, and shows each answer in the form of OpenAI's batch output, in the order in
/// which they come.
///
/// # Errors
/// Those of `show`; or the system refuses threads.
pub fn answer_all(
    service: &Arc<Service>,
    lines: Vec<Line>,
    at_once: usize,
    mut show: impl FnMut(&Value) -> io::Result<()>,
) -> io::Result<()> {
    let app = router(Arc::clone(service), Arc::new(Access::default()));
    runtime()?.block_on(async {
        let (mut lines, mut running) = (lines.into_iter(), JoinSet::new());
        loop {
            while running.len() < at_once.max(1)
                && let Some(line) = lines.next()
            {
                running.spawn(answer(app.clone(), line));
            }
            match running.join_next().await {
                Some(answer) => show(&answer.map_err(io::Error::other)?)?,
                None => return Ok(()),
            }
        }
    })
}

async fn answer(app: Router, line: Line) -> Value {
    let Line { number, custom_id, url, body } = line;
    let (name, body) = (format!("batch_req_{number}"), Bytes::from(body.to_string()));
    let done = loop {
        let request = Request::post(&url).header("content-type", "application/json");
        match request.body(Body::from(body.clone())) {
            Err(error) => break Err(error.to_string()),
            Ok(request) => match respond(app.clone(), request).await {
                // Others have the memory for now.
                Ok((StatusCode::TOO_MANY_REQUESTS, _)) => tokio::time::sleep(REST).await,
                done => break done,
            },
        }
    };
    let (response, error) = match done {
        Ok((status, body)) => {
            (json!({"status_code": status.as_u16(), "request_id": name, "body": body}), Value::Null)
        }
        Err(message) => (Value::Null, json!({"code": "server_error", "message": message})),
    };
    json!({"id": name, "custom_id": custom_id, "response": response, "error": error})
}

/// Status and body of an answer.
async fn respond(app: Router, request: Request<Body>) -> Result<(StatusCode, Value), String> {
    let Ok(response) = app.oneshot(request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&body).map(|body| (status, body)).map_err(|e| e.to_string())
}
