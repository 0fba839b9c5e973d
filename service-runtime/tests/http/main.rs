//! What every request meets, against a server that listens.

mod answers;
mod deadlines;
mod limits;
mod support;
mod tokens;
