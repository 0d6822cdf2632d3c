//! `wick serve` as its clients see it.

mod access;
mod client;
mod load;
mod ollama;
mod openai;
mod page;
mod service;
