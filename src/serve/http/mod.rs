//! The service over HTTP: OpenAI's API, Ollama's, and what a person who looks after a device asks for.

mod answer;
mod calls;
mod cors;
mod embedding;
mod error;
mod extract;
mod fields;
mod format;
mod guard;
mod health;
mod hermes;
mod keep_alive;
mod ollama;
mod openai;
mod page;
mod prompt;
mod server;
mod texts;
mod tokens;
mod tools;
mod warm;

pub use calls::{CallReader, Piece};
pub use cors::{Origin, OriginError};
pub use guard::{Access, Keys};
pub(crate) use server::runtime;
pub use server::{Listener, Server, Shutdown};
pub use warm::{WarmError, Warming};

use crate::service::Service;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Bytes of a body at most: a conversation of a whole context, with room for JSON's escapes.
const LARGEST_BODY: usize = 8 << 20;

/// All that the handlers know.
type App = Arc<Service>;

/// What is answered at which path.
pub fn router(service: App, access: Arc<Access>) -> Router {
    let cors = cors::layer(&access.origins);
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .route("/v1/wick", get(health::facts))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*name}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat::complete))
        .route("/v1/completions", post(openai::completions::complete))
        .route("/v1/responses", post(openai::responses::respond))
        .route("/v1/embeddings", post(openai::embeddings::embeddings))
        .route("/", get(page::root))
        .route("/page/{file}", get(page::file))
        .route("/api/version", get(ollama::models::version))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/ps", get(ollama::models::running))
        .route("/api/show", post(ollama::models::show))
        .route("/api/pull", post(ollama::models::pull))
        .route("/api/chat", post(ollama::chat::chat))
        .route("/api/generate", post(ollama::generate::generate))
        .route("/api/embed", post(ollama::embed::embed_all))
        .route("/api/embeddings", post(ollama::embed::embed_one))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn(extract::hold))
        .layer(from_fn_with_state((access, Arc::clone(&service)), guard::guard))
        .layer(tower::util::option_layer(cors))
        .with_state(service)
}
