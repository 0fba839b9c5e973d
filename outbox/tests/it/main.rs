//! The relay on real servers, with producers that know nothing but SQL.

mod parking;
mod producers;
mod program;
mod repair;
mod streams;
mod support;
