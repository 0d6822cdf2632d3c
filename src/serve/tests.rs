//! What templates may take, and what users' texts cannot become.

mod bounds;
mod origin;
