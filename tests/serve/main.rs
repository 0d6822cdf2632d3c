//! `wick serve` as its clients see it.

mod access;
mod batch;
mod client;
mod constraint;
mod embeddings;
mod heat;
mod killed;
mod life;
mod load;
mod models;
mod ollama;
mod openai;
mod page;
mod responses;
mod saved;
mod service;
mod settings;
mod tools;
