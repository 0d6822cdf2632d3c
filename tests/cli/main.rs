//! The binary as its users meet it: what it prints, what it says when something is wrong, how it ends.
//!
//! A file per verb, what all verbs refuse in `refusals`, what runs them in `program`, and what
//! `fetch` asks in `hub`.

mod bench;
mod changes;
mod chat;
mod convert;
mod damage;
mod doctor;
mod eval;
mod fetch;
mod flags;
mod folder;
mod foreign;
mod hub;
mod inspect;
mod killed;
mod limits;
mod logits;
mod manual;
mod memory;
mod network;
mod pack;
mod person;
mod plan;
mod program;
mod quantize;
mod refusals;
mod run;
mod signals;
mod synth;
mod templates;
mod terminal;
mod tokenize;
mod writing;
